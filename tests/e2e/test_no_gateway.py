"""`gateway: false`: no nginx, each server listens on its model's port."""

from __future__ import annotations

from typing import Any

from e2e import machine
from e2e.conftest import Stranger
from e2e.lab import Lab, Nginx


def written(lab: Lab, ports: dict[str, int], *, gateway: bool = False, **fields: Any) -> None:
    models = {name: {"port": port, **fields.get(name, {})} for name, port in ports.items()}
    lab.write(models, **({} if gateway else {"gateway": False}))


def test_servers_on_their_ports(lab: Lab) -> None:
    ports = {"a": machine.free_port(), "b": machine.free_port()}
    written(lab, ports)
    plan = lab.plan().out
    assert "gateway" not in plan.lower()
    lab.apply()
    assert lab.nginx() == Nginx(None, ())
    pids = lab.pids()
    for name, port in ports.items():
        answer = lab.complete(name, port=port)
        assert answer.status == 200
        assert answer.json["model"] == name
        assert lab.pid_file(name).read_text() == f"{pids[name]}\n{port}\n"
    assert lab.status()["gateway"] == {"phase": "absent", "listen": None, "generation": None}
    before = machine.snapshot(lab.root, lab.state)
    lab.apply()
    assert machine.snapshot(lab.root, lab.state) == before
    assert lab.pids() == pids

    # The port is the server's own: a new one means a new server.
    ports["b"] = machine.free_port()
    written(lab, ports)
    assert "listen: 127.0.0.1:" in lab.plan().out
    lab.apply()
    assert lab.pids()["a"] == pids["a"]
    assert lab.complete("b", port=ports["b"]).status == 200

    lab.run("stop", "a")
    assert not machine.listens(ports["a"])
    lab.run("start", "a")
    lab.run("down", "-y")
    assert lab.left_over() == []
    assert not any(machine.listens(port) for port in ports.values())


def test_two_swap_ports(lab: Lab) -> None:
    """Each start waits for the stop of whoever holds its port."""
    ports = {"a": machine.free_port(), "b": machine.free_port(), "c": machine.free_port()}
    written(lab, ports)
    lab.apply()
    pids = lab.pids()
    written(lab, {"a": ports["b"], "b": ports["a"], "c": ports["c"]})
    lab.apply()
    assert lab.pids()["c"] == pids["c"]
    assert lab.complete("a", port=ports["b"]).json["model"] == "a"
    assert lab.complete("b", port=ports["a"]).json["model"] == "b"


def test_a_new_model_takes_over_a_port(lab: Lab) -> None:
    ports = {"a": machine.free_port(), "b": machine.free_port(), "c": machine.free_port()}
    written(lab, ports)
    lab.apply()
    written(lab, {"b": ports["b"], "c": ports["c"], "new": ports["a"]})
    lab.apply()
    assert lab.complete("new", port=ports["a"]).json["model"] == "new"


def test_port_of_a_blocked_model(lab: Lab) -> None:
    """`b` wants the port of `a`, which cannot move away: `b` keeps running where it is."""
    ports = {"a": machine.free_port(), "b": machine.free_port(), "c": machine.free_port()}
    written(lab, ports)
    lab.apply()
    pids = lab.pids()
    lost = {"source": {"path": "none.gguf"}}
    written(lab, {"a": machine.free_port(), "b": ports["a"], "c": ports["c"]}, a=lost)
    done = lab.apply(code=3)
    assert "instance.a is blocked" in done.err
    assert "instance.b" in done.err
    assert lab.pids() == pids
    assert lab.complete("b", port=ports["b"]).status == 200


def test_gateway_off_and_on_again(lab: Lab) -> None:
    """nginx gives its ports to the servers, and gets them back."""
    ports = {"a": machine.free_port(), "b": machine.free_port()}
    written(lab, ports, gateway=True)
    lab.apply()
    first = lab.pids()
    written(lab, ports)
    plan = lab.plan().out
    assert "Gateway: stop." in plan
    assert "2 to replace" in plan
    lab.apply()
    second = lab.pids()
    assert not set(first.values()) & set(second.values())
    assert lab.nginx() == Nginx(None, ())
    assert not machine.listens(lab.listen)
    for name, port in ports.items():
        assert lab.complete(name, port=port).json["model"] == name
    written(lab, ports, gateway=True)
    assert "Gateway: start." in lab.plan().out
    lab.apply()
    assert not set(lab.pids().values()) & set(second.values())
    for name, port in ports.items():
        assert lab.complete(name).status == 200
        assert lab.complete(name, port=port).status == 200
    assert lab.apply().out.startswith("No changes.")


def test_stranger_on_a_port(lab: Lab, stranger: Stranger) -> None:
    ports = {"a": stranger.port, "b": machine.free_port()}
    written(lab, ports)
    done = lab.apply(code=3)
    assert f"port {stranger.port} is held by pid {stranger.process.pid} (" in done.err
    assert set(lab.pids()) == {"b"}
    assert lab.complete("b", port=ports["b"]).status == 200
    assert stranger.unharmed


def test_no_nginx_installed(lab: Lab) -> None:
    """A gateway that cannot be: it is blocked by name, the servers run."""
    lab.write({"a": {}}, gateway={"listen": f"127.0.0.1:{lab.listen}", "nginx": "no-such-nginx"})
    done = lab.apply(code=3)
    assert "there is no program 'no-such-nginx'" in done.err
    assert set(lab.pids()) == {"a"}
