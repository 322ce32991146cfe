"""A restart of nginx, where a reload cannot follow: an address that becomes all addresses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from e2e.machine import free_port
from gateway_rig import Rig, eventually, rig

from reconciler.core.outline import stuck_addresses
from reconciler.core.plan import RenderedGateway
from reconciler.drivers import nginx
from reconciler.errors import GatewayError

GRACE_S = 10.0
LOOPBACK, EVERYWHERE = "127.0.0.1", str(IPv4Address(0))


@pytest.fixture
def world() -> Iterator[Rig]:
    with rig() as made:
        made.ports["a"] = free_port()
        yield made


def render(world: Rig, host: str) -> RenderedGateway:
    return world.render({"a": {"port": world.ports["a"]}}, listen=f"{host}:{world.listen}")


def listens(world: Rig, host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_what_a_reload_cannot_do_a_restart_can(world: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.apply(render(world, LOOPBACK))
    rendered = render(world, EVERYWHERE)
    assert before.outline
    assert len(stuck_addresses(before.outline.listens, rendered.outline.listens)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(nginx, "CONFIRM_S", 3.0)
        with pytest.raises(GatewayError, match="cannot listen on"):
            world.apply(rendered)
    assert world.gateway.observe().generation == before.generation
    wide = world.apply(rendered, restart=GRACE_S)
    assert wide.master not in {None, before.master}
    assert wide.outline == rendered.outline
    for port in (world.listen, world.ports["a"]):
        assert listens(world, "127.0.0.2", port)
    narrow = world.apply(render(world, LOOPBACK), restart=GRACE_S)
    assert narrow.master not in {None, wide.master}
    for port in (world.listen, world.ports["a"]):
        assert not listens(world, "127.0.0.2", port)
        assert listens(world, LOOPBACK, port)


def test_streams_finish_within_the_grace(world: Rig) -> None:
    world.apply(render(world, LOOPBACK))
    world.backend("a")
    connection, reply = world.stream("GET", "/api/a/stream")
    reply.readline()
    rendered = render(world, EVERYWHERE)
    restarting = threading.Thread(target=world.apply, args=(rendered, GRACE_S))
    restarting.start()
    eventually(lambda: not listens(world, LOOPBACK, world.listen))
    world.backends["a.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()
    restarting.join(10)
    assert world.gateway.observe().generation == rendered.generation


def test_a_bad_configuration_stops_nothing(world: Rig) -> None:
    good = world.apply(render(world, LOOPBACK))
    rendered = render(world, EVERYWHERE)
    bad = RenderedGateway(rendered.generation, {**rendered.files, "nginx.conf": "bad;"})
    with pytest.raises(GatewayError, match="rejected"):
        world.apply(bad, restart=GRACE_S)
    assert world.gateway.observe().master == good.master


def test_one_that_does_not_start_lets_the_last_good_one_serve_again(world: Rig) -> None:
    good = world.apply(render(world, LOOPBACK))
    with socket.create_server(("127.0.0.2", world.listen)):
        # That nobody saw when it was planned.
        with pytest.raises(GatewayError, match="cannot listen on"):
            world.apply(render(world, EVERYWHERE), restart=GRACE_S)
        back = world.gateway.observe()
        assert back.master not in {None, good.master}
        assert (back.generation, back.outline) == (good.generation, good.outline)
        assert world.ask("GET", "/health").status == 200
