"""nginx killed in parts or whole, and ports that strangers hold."""

from __future__ import annotations

import os
import signal

from waiting import eventually

from e2e import machine
from e2e.conftest import Stranger
from e2e.lab import Lab, Nginx


def test_master_killed(lab: Lab) -> None:
    """Its workers serve on as orphans; the next apply replaces them, servers stay."""
    lab.write({"a": {"port": machine.free_port()}, "b": {}})
    lab.apply()
    pids, before = lab.pids(), lab.nginx()
    assert before.master
    machine.kill([before.master])
    eventually(lambda: lab.nginx().master is None, "the master is dead")
    assert lab.nginx().workers == before.workers
    assert lab.complete("a").status == 200
    assert lab.status(code=3)["gateway"]["phase"] == "unhealthy"
    assert "its master was killed" in lab.plan().out
    lab.apply()
    after = lab.nginx()
    assert after.master not in {None, before.master}
    assert not set(after.workers) & set(before.workers)
    assert not any(machine.lives(pid) for pid in before.workers)
    assert lab.pids() == pids
    assert lab.complete("a").status == 200
    assert lab.apply().out.startswith("No changes.")


def test_down_after_the_master_was_killed(lab: Lab) -> None:
    lab.write({"a": {}})
    lab.apply()
    nginx = lab.nginx()
    machine.kill([nginx.master or 0])
    eventually(lambda: lab.nginx().master is None, "the master is dead")
    lab.run("down", "-y")
    assert lab.nginx() == Nginx(None, ())
    assert lab.left_over() == []
    assert not machine.listens(lab.listen)


def test_everything_killed(lab: Lab) -> None:
    lab.write({"a": {}, "b": {"port": machine.free_port()}})
    lab.apply()
    nginx = lab.nginx()
    machine.kill([nginx.master or 0, *nginx.workers, *lab.pids().values()])
    eventually(lambda: not lab.servers() and lab.nginx() == Nginx(None, ()), "all is dead")
    assert lab.phases(code=3) == dict.fromkeys("ab", "exited")
    assert not machine.listens(lab.listen)
    lab.apply()
    assert lab.complete("a").status == 200
    assert lab.complete("b").status == 200
    assert lab.apply().out.startswith("No changes.")


def test_worker_killed(lab: Lab) -> None:
    """Its master starts another one: nothing to do."""
    lab.write({"a": {}})
    lab.apply()
    nginx = lab.nginx()
    machine.kill(nginx.workers[:1])
    eventually(
        lambda: len(lab.nginx().workers) == len(nginx.workers) and lab.nginx() != nginx, "a new one"
    )
    assert lab.apply().out.startswith("No changes.")
    assert lab.nginx().master == nginx.master


def test_stopped_nginx_is_replaced(lab: Lab) -> None:
    """It lives and answers nothing."""
    lab.write({"a": {}})
    lab.apply()
    pids, nginx = lab.pids(), lab.nginx()
    for pid in (nginx.master or 0, *nginx.workers):
        os.kill(pid, signal.SIGSTOP)
    assert "nginx does not answer" in lab.plan().out
    lab.apply()
    assert lab.pids() == pids
    assert lab.nginx().master != nginx.master
    assert lab.complete("a").status == 200


def test_stranger_on_a_models_port(lab: Lab, stranger: Stranger) -> None:
    """That model is blocked, the others come up; once the stranger has left, it does too."""
    models = {"a": {"port": stranger.port}, "b": {"port": machine.free_port()}}
    lab.write(models)
    said = f"port {stranger.port} is held by pid {stranger.process.pid} ("
    plan = lab.plan().out
    assert said in plan
    assert "1 to add" in plan
    assert "1 blocked" in plan
    done = lab.apply(code=3)
    assert said in done.err
    assert set(lab.pids()) == {"b"}
    assert lab.complete("b").status == 200
    assert lab.complete("a").status == 503
    row = lab.status(code=3)["instances"][0]
    assert row["phase"] == "blocked"
    assert said in row["reason"]
    again = lab.apply(code=3)
    assert said in again.all
    assert stranger.unharmed
    stranger.leave()
    lab.apply()
    assert lab.complete("a", port=stranger.port).status == 200
    assert lab.apply().out.startswith("No changes.")


def test_port_changed_to_a_strangers(lab: Lab, stranger: Stranger) -> None:
    """The server runs on, behind the gateway only: that is not all that was wanted."""
    lab.write({"a": {"port": machine.free_port()}, "b": {}})
    lab.apply()
    pids = lab.pids()
    lab.write({"a": {"port": stranger.port}, "b": {}})
    done = lab.apply(code=3)
    assert f"port {stranger.port} is held by pid {stranger.process.pid} (" in done.all
    assert lab.pids() == pids
    assert lab.complete("a").status == 200
    assert f"port {stranger.port}" in lab.end(lab.popen("status")).out
    assert stranger.unharmed
    stranger.leave()
    lab.apply()
    assert lab.pids() == pids
    assert lab.complete("a", port=stranger.port).status == 200


def test_stranger_on_the_gateways_port(lab: Lab, stranger: Stranger) -> None:
    """The servers come up, nginx is blocked."""
    lab.write({"a": {}}, gateway={"listen": f"127.0.0.1:{stranger.port}"})
    done = lab.apply(code=3)
    said = f"port {stranger.port} is held by pid {stranger.process.pid} ("
    assert said in done.err
    assert set(lab.pids()) == {"a"}
    assert lab.nginx() == Nginx(None, ())
    assert lab.status(code=3)["gateway"]["phase"] == "blocked"
    assert stranger.unharmed
    pids = lab.pids()
    stranger.leave()
    lab.apply()
    assert lab.pids() == pids
    assert lab.complete("a", port=stranger.port).status == 200


def test_gateway_moved_to_a_strangers_port(lab: Lab, stranger: Stranger) -> None:
    """The last good configuration serves on where it was."""
    lab.write({"a": {}})
    lab.apply()
    nginx = lab.nginx()
    lab.write({"a": {}}, gateway={"listen": f"127.0.0.1:{stranger.port}"})
    done = lab.apply(code=3)
    assert f"held by pid {stranger.process.pid}" in done.err
    assert lab.nginx() == nginx
    assert lab.complete("a").status == 200
    assert stranger.unharmed


def test_gateway_moved(lab: Lab) -> None:
    """To a free port: a reload, no server restarts."""
    lab.write({"a": {}})
    lab.apply()
    pids, nginx, old = lab.pids(), lab.nginx(), lab.listen
    lab.listen = machine.free_port()
    lab.write({"a": {}})
    assert "Gateway: reload." in lab.plan().out
    lab.apply()
    assert (lab.pids(), lab.nginx().master) == (pids, nginx.master)
    assert lab.complete("a").status == 200
    eventually(lambda: not machine.listens(old), "the old port is closed")


def test_models_swap_ports(lab: Lab) -> None:
    ports = machine.free_port(), machine.free_port()
    lab.write({"a": {"port": ports[0]}, "b": {"port": ports[1]}})
    lab.apply()
    pids = lab.pids()
    lab.write({"a": {"port": ports[1]}, "b": {"port": ports[0]}})
    lab.apply()
    assert lab.pids() == pids
    assert lab.complete("b", port=ports[0]).json["model"] == "b"
    assert lab.complete("a", port=ports[1]).json["model"] == "a"


def test_broken_template_keeps_the_last_good(lab: Lab) -> None:
    """A root's own template that nginx refuses: nothing of what runs is touched."""
    lab.write({"a": {}})
    lab.apply()
    pids, nginx = lab.pids(), lab.nginx()
    templates = lab.root / "templates"
    templates.mkdir()
    shipped = lab.state / "gateway" / "current" / "nginx.conf"
    (templates / "nginx.conf.j2").write_text(shipped.read_text() + "\nnonsense here;\n")
    failed = lab.apply(code=3)
    assert "nonsense" in failed.err
    assert (lab.pids(), lab.nginx()) == (pids, nginx)
    assert lab.complete("a").status == 200
    (templates / "nginx.conf.j2").unlink()
    assert lab.apply().out.startswith("No changes.")
