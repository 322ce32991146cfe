"""From models to instances."""

from __future__ import annotations

import pytest
from builders import all_files, desired

from reconciler.core.resolve import (
    instance_name,
    instance_names,
    model_of,
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
