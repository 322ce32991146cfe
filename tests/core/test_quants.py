"""From a quant to its files, its projector and its draft; or to what there is instead."""

from __future__ import annotations

import pytest
from hub_models import asked

from reconciler.core.lockfile import FileRole
from reconciler.core.quants import QuantError, choose, pick_files, quant_sizes


def sizes(names: list[str]) -> dict[str, int]:
    """Each file a KiB larger than the one before it by name."""
    return {name: 1024 * (sorted(names).index(name) + 1) for name in names}


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
    assert pick_files(sizes(names), quant) == tuple(files)
    assert pick_files(sizes(names[::-1]), quant) == tuple(files)


@pytest.mark.parametrize(
    ("names", "quant", "said"),
    [
        (
            SMALL,
            "Q3_K_M",
            (
                f"{NONE} Q3_K_M (nearest: Q4_K_M); the repository has: BF16.gguf (1.0 KiB), "
                "Q4_K_M (3.0 KiB), Q8_0 (5.0 KiB), UD-Q4_K_XL (4.0 KiB), other.gguf (2.0 KiB)"
            ),
        ),
        (GLM, "Z", f"{NONE} Z; the repository has: UD-IQ2_XXS (5.0 KiB), UD-TQ1_0 (4.0 KiB)"),
        (["mmproj-F16.gguf", "a.bin"], "F16", f"{NONE} F16; the repository has: no GGUF file"),
        (
            ["a-Q4.gguf", "b-Q4.gguf"],
            "Q4",
            "quant Q4 fits several files: a-Q4.gguf (1.0 KiB), b-Q4.gguf (2.0 KiB)",
        ),
        (
            ["Q4/a.gguf", "Q4/b-00001-of-00002.gguf", "Q4/b-00002-of-00002.gguf"],
            "Q4",
            "quant Q4 fits several files: Q4/a.gguf (1.0 KiB), Q4/b-00001-of-00002.gguf (5.0 KiB)",
        ),
        (
            ["a-Q4-00001-of-00002.gguf", "a-Q4-00001-of-00003.gguf"],
            "Q4",
            (
                "quant Q4 fits several files: a-Q4-00001-of-00002.gguf (1.0 KiB), "
                "a-Q4-00001-of-00003.gguf (2.0 KiB)"
            ),
        ),
        (GLM[:2], "UD-IQ2_XXS", "quant UD-IQ2_XXS has 1 of its 2 shards"),
    ],
)
def test_none_or_several_candidates(names: list[str], quant: str, said: str) -> None:
    with pytest.raises(QuantError) as caught:
        pick_files(sizes(names), quant)
    assert str(caught.value) == said


def test_every_quant_has_the_size_of_all_its_shards() -> None:
    names = [*GLM, "x-Q8_0.gguf", "x-draft-Q8_0.gguf"]
    assert quant_sizes(sizes(names)) == {"UD-IQ2_XXS": 5120, "UD-TQ1_0": 4096, "Q8_0": 6144}


# ---- projectors and drafts

SEEING = ["x-Q4_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"]
GUESSING = [
    "x-Q4_0.gguf",
    "draft/x-draft-Q4_0.gguf",
    "draft/x-draft-Q8_0-00001-of-00002.gguf",
    "draft/x-draft-Q8_0-00002-of-00002.gguf",
    "small-Q2_K.gguf",
]


def chosen(names: list[str], **source: bool | str) -> list[str]:
    """What is chosen besides the weights."""
    found = choose(sizes(names), asked("org/x", "main", "Q4_0", **source))
    assert found[0] == ("x-Q4_0.gguf", FileRole.WEIGHTS)
    kind = FileRole.MMPROJ if "mmproj" in source else FileRole.DRAFT
    assert {role for _, role in found[1:]} <= {kind}
    return [name for name, _ in found[1:]]


@pytest.mark.parametrize(
    ("names", "wanted", "name"),
    [
        (SEEING, True, "mmproj-F16.gguf"),
        ([SEEING[0], SEEING[1], SEEING[3]], True, "mmproj-BF16.gguf"),
        (["x-Q4_0.gguf", "x.mmproj-q8.gguf"], True, "x.mmproj-q8.gguf"),
        (SEEING, "f32", "mmproj-F32.gguf"),
        (SEEING, "mmproj-BF16.gguf", "mmproj-BF16.gguf"),
        (["x-Q4_0.gguf", "deep/mmproj.gguf"], "mmproj.gguf", "deep/mmproj.gguf"),
    ],
)
def test_a_projector(names: list[str], wanted: bool | str, name: str) -> None:
    assert chosen(names, mmproj=wanted) == [name]
    assert chosen(names, mmproj=False) == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("Q4_0", [GUESSING[1]]),
        ("q8_0", GUESSING[2:4]),
        ("x-draft-Q4_0.gguf", [GUESSING[1]]),
        ("draft/x-draft-Q8_0-00001-of-00002.gguf", GUESSING[2:4]),
        ("small-Q2_K.gguf", [GUESSING[4]]),
    ],
)
def test_a_draft(wanted: str, names: list[str]) -> None:
    assert chosen(GUESSING, draft=wanted) == names


def test_a_repository_of_drafts_alone_has_weights() -> None:
    assert pick_files(sizes(["x-draft-Q4_0.gguf"]), "Q4_0") == ("x-draft-Q4_0.gguf",)
    assert pick_files(sizes(["x-MTP-Q4_0.gguf", "x-Q4_0.gguf"]), "Q4_0") == ("x-Q4_0.gguf",)


WANTED: list[tuple[list[str], dict[str, bool | str], str]] = [
    (["x-Q4_0.gguf"], {"mmproj": True}, "it has no mmproj file"),
    (
        ["x-Q4_0.gguf", "mmproj-a.gguf", "mmproj-b.gguf"],
        {"mmproj": True},
        (
            "it has several mmproj files, name one in `source.mmproj`: "
            "mmproj-a.gguf (1.0 KiB), mmproj-b.gguf (2.0 KiB)"
        ),
    ),
    (
        SEEING[:2],
        {"mmproj": "mmproj-F16.gguf"},
        (
            "no mmproj file mmproj-F16.gguf (nearest: mmproj-BF16.gguf); the repository has: "
            "mmproj-BF16.gguf (1.0 KiB)"
        ),
    ),
    (
        ["x-Q4_0.gguf", "a-mmproj-F16.gguf", "b-mmproj-F16.gguf"],
        {"mmproj": "F16"},
        "mmproj F16 fits several files: a-mmproj-F16.gguf (1.0 KiB), b-mmproj-F16.gguf (2.0 KiB)",
    ),
    (["x-Q4_0.gguf"], {"draft": "Q8_0"}, "no draft file Q8_0; the repository has: none"),
]


@pytest.mark.parametrize(("names", "source", "said"), WANTED)
def test_what_goes_with_the_weights_is_there_once(
    names: list[str], source: dict[str, bool | str], said: str
) -> None:
    with pytest.raises(QuantError) as caught:
        chosen(names, **source)
    assert str(caught.value) == said
