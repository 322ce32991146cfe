"""From models to instances, and from a quant to its files."""

from __future__ import annotations

import pytest
from builders import all_files, desired

from reconciler.core.resolve import (
    QuantError,
    instance_name,
    instance_names,
    model_of,
    pick_files,
    resolve,
    tcp_port,
)
from reconciler.core.words import InstanceName, ModelName


def test_instances_have_a_name_each_and_one_spec() -> None:
    state = desired(
        {"b": {"replicas": 3}, "a": {}, "c": {"state": "present"}, "d": {"replicas": 0}}
    )
    found = resolve(state, all_files(state))
    assert [one.name for one in found] == ["a", "b", "b[1]", "b[2]"]
    assert len({one.spec.hash for one in found if one.model_name == "b"}) == 1
    assert {one.address for one in found} == {"socket"}
    assert instance_names(ModelName("c"), state.models["c"]) == ()


def test_without_a_gateway_the_port_is_the_address() -> None:
    state = desired({"a": {"port": 8001}}, gateway=False)
    (one,) = resolve(state, {})
    assert one.address == one.spec.listen == "127.0.0.1:8001"
    assert one.spec.files == ""


@pytest.mark.parametrize("replica", [0, 1, 63])
def test_a_name_leads_back_to_its_model(replica: int) -> None:
    assert model_of(instance_name(ModelName("a.b-c_d"), replica)) == "a.b-c_d"
    assert model_of(InstanceName("a")) == "a"


@pytest.mark.parametrize(
    ("address", "port"),
    [("socket", None), ("unix:/s/a:80.sock", None), ("127.0.0.1:8001", 8001), ("[::1]:9", 9)],
)
def test_ports(address: str, port: int | None) -> None:
    assert tcp_port(address) == port


GLM = [
    "README.md",
    "UD-IQ2_XXS/GLM-5-UD-IQ2_XXS-00002-of-00002.gguf",
    "UD-IQ2_XXS/GLM-5-UD-IQ2_XXS-00001-of-00002.gguf",
    "UD-TQ1_0/GLM-5-UD-TQ1_0-00001-of-00001.gguf",
    "mmproj-F16.gguf",
]
NONE = "no file for quant"
SMALL = ["x-Q4_K_M.gguf", "x.Q8_0.gguf", "x-UD-Q4_K_XL.gguf", "BF16.gguf", "other.gguf"]


@pytest.mark.parametrize(
    ("names", "quant", "files"),
    [
        (GLM, "UD-IQ2_XXS", GLM[2:0:-1]),
        (GLM, "ud-iq2_xxs", GLM[2:0:-1]),
        (GLM, "UD-TQ1_0", [GLM[3]]),
        (SMALL, "Q4_K_M", [SMALL[0]]),
        (SMALL, "q8_0", [SMALL[1]]),
        (SMALL, "Q4_K_XL", [SMALL[2]]),
        (SMALL, "BF16", [SMALL[3]]),
        (["Q4/a.GGUF"], "Q4", ["Q4/a.GGUF"]),
        (["deep/Q4/a.gguf"], "Q4", ["deep/Q4/a.gguf"]),
        (["x-IQ2_XXS.gguf", "x-UD-IQ2_XXS.gguf"], "IQ2_XXS", ["x-IQ2_XXS.gguf"]),
        (["x-IQ2_XXS.gguf", "x-UD-IQ2_XXS.gguf"], "UD-IQ2_XXS", ["x-UD-IQ2_XXS.gguf"]),
    ],
)
def test_a_quant_picks_its_files(names: list[str], quant: str, files: list[str]) -> None:
    assert pick_files(names, quant) == tuple(files)
    assert pick_files(reversed(names), quant) == tuple(files)


@pytest.mark.parametrize(
    ("names", "quant", "said"),
    [
        (
            SMALL,
            "Q2_K",
            f"{NONE} Q2_K; the repository has: BF16.gguf, Q4_K_M, Q8_0, UD-Q4_K_XL, other.gguf",
        ),
        (GLM, "Q2_K", f"{NONE} Q2_K; the repository has: UD-IQ2_XXS, UD-TQ1_0"),
        (
            ["mmproj-F16.gguf", "a.bin"],
            "F16",
            f"{NONE} F16; the repository has: no GGUF file",
        ),
        (["a-Q4.gguf", "b-Q4.gguf"], "Q4", "quant Q4 fits several files: a-Q4.gguf, b-Q4.gguf"),
        (
            ["Q4/a.gguf", "Q4/b-00001-of-00002.gguf", "Q4/b-00002-of-00002.gguf"],
            "Q4",
            "quant Q4 fits several files: Q4/a.gguf, Q4/b-00001-of-00002.gguf",
        ),
        (
            ["a-Q4-00001-of-00002.gguf", "a-Q4-00001-of-00003.gguf"],
            "Q4",
            "quant Q4 fits several files: a-Q4-00001-of-00002.gguf, a-Q4-00001-of-00003.gguf",
        ),
        (GLM[:2], "UD-IQ2_XXS", "quant UD-IQ2_XXS has 1 of its 2 shards"),
    ],
)
def test_none_or_several_candidates(names: list[str], quant: str, said: str) -> None:
    with pytest.raises(QuantError) as caught:
        pick_files(names, quant)
    assert str(caught.value) == said
