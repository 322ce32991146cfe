"""Values that tests of the drivers and of the executor start from: launches, steps, plans.

In: the few words a test cares about. Out: whole frozen values of the core, the rest filled in.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.engine import Flag, LaunchSpec
from reconciler.core.launch import Launch
from reconciler.core.plan import Plan, StartServer, Step, StepEffect, StopServer
from reconciler.core.resolve import model_of
from reconciler.core.site import Site
from reconciler.core.words import InstanceName
from reconciler.drivers.base_runtime import Runtime

SITE = Site("/r", "/s", "desired/x.yaml")


def make_launch(
    instance: str = "m",
    slot: str = "a",
    *,
    site: Site = SITE,
    command: Sequence[str] = ("engine",),
    flags: Sequence[str] = (),
    env: Sequence[tuple[str, str]] = (),
    port: int | None = None,
    address: str | None = None,
) -> Launch:
    """A launch; without an address it listens on its slot's socket."""
    name = InstanceName(instance)
    spec = LaunchSpec(model_of(name), "auto", (Flag("ctx-size", ("256",)),), tuple(env), "file-id")
    where = address or f"unix:{site.socket(name, slot)}"
    host, _, number = where.removeprefix("unix:").rpartition(":")
    listen = ("--host", host, "--port", number) if host else ("--host", number)
    return Launch(
        instance=name,
        env=spec.env,
        spec_hash=spec.hash,
        command=tuple(command),
        argv=("--model", "/x.gguf", *listen, *flags),
        slot=slot,
        address=where,
        public_port=port,
        files="8:1:2:3",
    )


def start_step(
    number: int,
    launch: Launch,
    *needs: int,
    startup_s: float = 60.0,
    end_if_late: bool = False,
    fallback: Launch | None = None,
) -> Step:
    """A step that starts a server."""
    effect = StartServer(launch, startup_s, end_if_late, fallback)
    return Step(number, f"instance.{launch.instance}", effect, "absent", needs)


def stop_step(
    number: int,
    runtime: Runtime,
    instance: str,
    *needs: int,
    drain_s: float = 10.0,
    grace_s: float = 5.0,
    unroute: bool = True,
) -> Step:
    """A step that stops the only live copy of an instance."""
    [server] = [one for one in runtime.list() if one.instance == instance]
    effect = StopServer(
        server.instance, server.ref, server.slot, server.address, drain_s, grace_s, unroute
    )
    return Step(number, f"instance.{instance}", effect, "removed", needs)


def step(number: int, effect: StepEffect, *needs: int) -> Step:
    """Any other step."""
    return Step(number, f"step.{number}", effect, "for a test", needs)


def plan_of(*steps: Step) -> Plan:
    """A plan of these steps."""
    return Plan("desired/x.yaml", steps=steps)
