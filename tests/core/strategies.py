"""Hypothesis strategies: any desired state, and any machine that it may meet.

In: nothing. Out: desired states that `parse` would accept, and `World`s that a killed run, an
operator or a stranger may have left: right and wrong servers, two copies, any phase, any nginx.
"""

from __future__ import annotations

from typing import Any

from builders import SITE, desired, instances, rendered
from hypothesis import strategies as st
from world import Luck, World
from world_files import RIGHT

from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    FileStatus,
    Journal,
    LastExit,
    ObservedGateway,
    ObservedServer,
)
from reconciler.core.resolve import model_of, tcp_port
from reconciler.core.suspension import Suspension
from reconciler.core.words import Generation, InstanceName, ModelName, Phase, SpecHash

NAMES = ("a", "b", "c", "d")
PORTS = (8001, 8002, 8003, 8004, 8005)
SOURCES: tuple[dict[str, str], ...] = (
    {"path": "one.gguf"},
    {"path": "two.gguf"},
    {"repo": "org/far"},
    {"url": "https://example.org/x.gguf", "sha256": RIGHT},
    {"url": "https://mirror.example.org/x.gguf", "sha256": RIGHT},
    {"path": "bad.gguf"},
    {"repo": "org/dark"},
)
GOOD_SOURCES = SOURCES[:5]
FETCHED = ("org/far", RIGHT)
PHASES = (Phase.READY, Phase.STARTING, Phase.UNHEALTHY, Phase.STOPPING)
OLD = SpecHash("0" * 12)
TAPES = st.binary(min_size=64, max_size=64)


@st.composite
def models(draw: st.DrawFn, port: int, *, gateway: bool, trouble: bool) -> dict[str, Any]:
    """One model. `trouble`: perhaps with a bad file, or a flag that the engine does not know."""
    source = draw(st.sampled_from(SOURCES if trouble else GOOD_SOURCES))
    flags = ["1", "2", *(["x"] if trouble else [])]
    temp = draw(st.sampled_from(flags))
    return {
        "source": source,
        **({"quant": "Q4"} if "repo" in source else {}),
        "state": draw(st.sampled_from(("running", "running", "running", "present", "absent"))),
        "params": {"bogus": "1"} if temp == "x" else {"temp": temp},
        "env": draw(st.sampled_from(({}, {"A": "1"}))),
        "port": port if not gateway or draw(st.booleans()) else None,
        "replicas": draw(st.integers(0, 2)) if gateway else 1,
        "rollout": draw(st.sampled_from(("recreate", "surge"))) if gateway else "recreate",
    }


@st.composite
def desired_states(draw: st.DrawFn, *, trouble: bool = False) -> DesiredState:
    """A desired state over few names and ports, so that they meet again in the next one."""
    gateway = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    ports = draw(st.permutations(PORTS))
    whole = {
        name: draw(models(port, gateway=gateway, trouble=trouble))
        for name, port in zip(names, ports, strict=False)
    }
    listen = draw(st.sampled_from((8888, ports[-1])))
    host = draw(st.sampled_from(("[::1]", "[::]")))
    return desired(whole, gateway=gateway and {"listen": f"{host}:{listen}"})


def any_world(state: DesiredState, luck: Luck, *, trouble: bool = False) -> World:
    """A machine in any state, with `state` in mind: some of its servers are the right ones."""
    world = World()
    world.files = dict.fromkeys(FETCHED, FileStatus.MISSING)
    world.files |= {"bad.gguf": FileStatus.BAD, "org/dark": FileStatus.UNKNOWN}
    for source in FETCHED:
        if luck.pick(2):
            world.files[source] = FileStatus.PRESENT
            if trouble and luck.pick(4) == 1:
                world.replace_file(source, wrong=True)
    if trouble:
        world.strangers = {port for port in (*PORTS, 8888) if luck.pick(8) == 1}
        world.nginx = () if luck.pick(8) == 1 else world.nginx
    _any_servers(world, state, luck)
    _any_gateway(world, state, luck)
    world.journal = Journal(
        suspended={ModelName(name): Suspension(1.0) for name in NAMES if luck.pick(8) == 1},
        last_exits={InstanceName("a"): LastExit(1.0, "it died", OLD)} if luck.pick(2) else {},
    )
    return world


def _any_servers(world: World, state: DesiredState, luck: Luck) -> None:
    right = instances(state)
    for name in sorted({*right, *NAMES, "a[1]", "zombie"}):
        instance = InstanceName(name)
        for slot in "ab"[: (0, 1, 1, 2)[luck.pick(4)]]:
            wanted = right.get(name) if luck.pick(2) else None
            address = wanted.address if wanted else luck_address(luck)
            port = tcp_port(address)
            if port is None or _is_taken(world, port):
                address = f"unix:{SITE.socket(instance, slot)}"
            same = wanted is not None and (port is None or tcp_port(address) is not None)
            spec = wanted.spec.hash if wanted and same else OLD
            phase = PHASES[luck.pick(4)]
            ref = world.new_ref()
            world.servers[ref] = ObservedServer(
                ref, instance, spec, phase, slot, address, routed=False
            )
            if tcp_port(address) is None and luck.pick(2):
                world.routes[instance] = address


def luck_address(luck: Luck) -> str:
    """A socket, or a port of the machine's own."""
    return f"127.0.0.1:{PORTS[luck.pick(5)]}" if luck.pick(3) == 1 else "socket"


def _is_taken(world: World, port: int) -> bool:
    held = {tcp_port(server.address) for server in world.servers.values()}
    return port in held | world.strangers


def _any_gateway(world: World, state: DesiredState, luck: Luck) -> None:
    kind = luck.pick(5)
    if kind == 0:
        return
    if state.gateway and not _is_taken(world, state.gateway.port):
        world.gateway_ports.add(state.gateway.port)
    world.gateway_ports |= {port for port in PORTS if luck.pick(2) and not _is_taken(world, port)}
    answer: Generation | None = Generation("0" * 12)
    outline = None
    if kind == 2 and state.gateway:
        wanted = rendered(state, world.observe(state))
        answer, outline = wanted.generation, wanted.outline
    if kind == 3:
        answer = None
    world.gateway = ObservedGateway(world.new_ref(), (), answer, outline=outline)
    if kind == 4:
        world.lose_master()


def expected(state: DesiredState, world: World) -> dict[str, SpecHash]:
    """The servers that should run once all is well: what is wanted and not suspended."""
    return {
        name: wanted.spec.hash
        for name, wanted in instances(state).items()
        if model_of(wanted.name) not in world.journal.suspended
    }
