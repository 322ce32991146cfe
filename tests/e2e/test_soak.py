"""A watch in bad company: servers, nginx and the watch itself are killed, under edits and requests.

30 servers: by day for a minute with a fixed seed; LLM_RECONCILE_NIGHT=1: for 20 minutes, other dice
each time. In the end all is as desired, nothing was ever doubled, and no request was lost but where
its server or nginx was just killed or replaced.
"""

from __future__ import annotations

import http.client
import secrets
import time
from typing import Any

import pytest
from engine_programs import real_engines

from e2e import machine
from e2e.faults import NIGHT
from e2e.lab import Lab, engine_of
from e2e.load import Clients
from e2e.matrix import APPLY
from e2e.rest import assert_at_rest
from e2e.test_kills import Dice
from e2e.test_watch import Watcher, watching

COUNT = 30
LASTS_S = 1200.0 if NIGHT else 45.0
"""With their start and their end a minute, by day."""
STEPS = 12
"""At least."""
PAUSE_S = 1.0
"""Between two requests to one model."""
SEED = secrets.randbits(32) if NIGHT else 6
GATEWAY = "nginx"
PATIENCE_S = 120.0


class Disturbed:
    """Who was disturbed by us, and when; `GATEWAY` stands for all."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._over: list[tuple[str, float, float]] = []

    def begin(self, name: str) -> None:
        self._since.setdefault(name, time.monotonic())

    def over(self) -> None:
        """All are well again."""
        now = time.monotonic()
        self._over += [(name, since, now) for name, since in self._since.items()]
        self._since.clear()

    def excuses(self, model: str, began: float, ended: float) -> bool:
        """Whether a request of that time may have been lost."""
        return any(
            name in {model, GATEWAY} and since <= ended and began <= until
            for name, since, until in self._over
        )


class Traffic:
    """A client of each model that asks all the time; what was lost, and when."""

    def __init__(self, lab: Lab, names: list[str]) -> None:
        self._lab = lab
        self.lost: list[tuple[str, float, float, str]] = []
        self.clients = [Clients(1, PAUSE_S, self._asking(name)) for name in names]
        for one in self.clients:
            one.start()

    def _asking(self, model: str) -> Any:
        def ask() -> str:
            began, said = time.monotonic(), ""
            try:
                answer = self._lab.complete(model, 2)
                said = "" if answer.status == 200 and answer.json["choices"] else repr(answer)
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            if said:
                self.lost.append((model, began, time.monotonic(), said))
            return "lost" if said else "200"

        return ask

    def stop(self) -> None:
        for one in self.clients:
            assert one.stop()["200"]


class Soak:
    """The machine, and what is done to it."""

    def __init__(self, lab: Lab, dice: Dice) -> None:
        self.lab, self.dice = lab, dice
        self.names = [f"m{number}" for number in range(COUNT)]
        self.models: dict[str, dict[str, Any]] = {
            # With more threads they spend most of their time on waiting for each other.
            name: {"params": {"ctx_size": 128, "temp": 0.1, "threads": 1}}
            for name in self.names
        }
        self.disturbed = Disturbed()
        self._killed: set[str] = set()
        self._edits = 0
        self.said: list[str] = []
        lab.write(self.models)
        lab.apply()
        self.watcher: Watcher = watching(lab)
        self.watcher.until("accepted")

    def step(self) -> None:
        acts = (self.kill_server, self.kill_watch, self.kill_nginx, self.edit, self.replace)
        act = self.dice.one_of(*acts)
        self.say(act.__name__)
        act()

    def say(self, text: str) -> None:
        """For whoever has to find out why it failed: what was done when."""
        self.said.append(f"{time.monotonic():.3f} {text}")

    def kill_server(self) -> None:
        name = self.dice.one_of(*self.names)
        self.say(name)
        self.disturbed.begin(name)
        machine.end(self.lab.servers().get(name, []))
        if name in self._killed:
            # A second death is waited out, but not by an operator.
            self.lab.run("restart", name, "--lock-timeout", "60s")
        self._killed.add(name)

    def kill_watch(self) -> None:
        self.watcher.child.kill()
        self.watcher.child.wait()
        self.watcher = self.watcher.again()

    def kill_nginx(self) -> None:
        self.disturbed.begin(GATEWAY)
        nginx = self.lab.nginx()
        whom = self.dice.one_of([nginx.master] if nginx.master else [], nginx.workers)
        self.say(f"{whom} of {nginx}")
        machine.end(whom)

    def edit(self) -> None:
        """What leads to a reload, and disturbs nobody."""
        self._edits += 1
        name = self.dice.one_of(*self.names)
        self.say(name)
        self.models[name]["aliases"] = [f"alias-{self._edits}"]
        self.lab.write(self.models)

    def replace(self) -> None:
        name = self.dice.one_of(*self.names)
        self.say(name)
        self.disturbed.begin(name)
        params = self.models[name]["params"]
        params["temp"] = 0.1 if params["temp"] == 0.2 else 0.2
        self.lab.write(self.models)

    def recover(self) -> None:
        """Wait until all is as it is written."""
        deadline = time.monotonic() + PATIENCE_S
        while wrong := self._what_is_wrong():
            told = self.watcher.said.read_text()
            assert time.monotonic() < deadline, "\n".join([wrong, *self.said, told])
            time.sleep(0.01)
        self.disturbed.over()
        self.say("all is well")

    def _what_is_wrong(self) -> str:
        """The first thing that is not as it is written; empty: nothing."""
        servers = self.lab.servers()
        if astray := [name for name in self.names if len(servers.get(name, ())) != 1]:
            return f"servers of {astray}: {[servers.get(name) for name in astray]}"
        for name, pids in servers.items():
            written, runs = self.models[name]["params"]["temp"], machine.command_line(pids[0])
            if f"--temp {written} " not in runs + " ":
                return f"{name} should have --temp {written}: {runs}"
        if not self.lab.nginx().master:
            return "no nginx"
        try:
            return self._what_is_wrong_in_answers()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)

    def _what_is_wrong_in_answers(self) -> str:
        known = self.lab.ask("/v1/models").body.decode()
        for name, one in self.models.items():
            answer = self.lab.ask(f"/api/{name}/health")
            if answer.status != 200:
                return f"{name}: {answer}"
            if absent := [alias for alias in one.get("aliases", ()) if alias not in known]:
                return f"{absent} not in /v1/models"
        return ""


@pytest.mark.timeout(3600 if NIGHT else 600)
def test_whatever_dies_all_is_well_in_the_end(lab: Lab) -> None:
    lab.engine = engine_of(real_engines()[-1].name)
    soak = Soak(lab, Dice(SEED))
    with machine.Twins(lab.root) as twins:
        traffic = Traffic(lab, soak.names)
        ends, steps = time.monotonic() + LASTS_S, 0
        while steps < STEPS or time.monotonic() < ends:
            steps += 1
            soak.step()
            if soak.dice.one_of(True, False):
                soak.recover()
                twins.none_yet()
        soak.recover()
        traffic.stop()
    lost = [one for one in traffic.lost if not soak.disturbed.excuses(*one[:3])]
    assert not lost, "\n".join([f"seed {SEED}", *soak.said, *map(str, lost)])
    # One that begins as the others end has not heard of a TERM yet.
    soak.watcher.until("accepted")
    assert soak.watcher.end() == 0
    assert lab.run(*APPLY).out.startswith("No changes.")
    assert_at_rest(lab, soak.names)
