"""One root with one render, and shell scripts as its commands: for the tests of `drivers.renders`.

In: a folder. Out: plans of that render, carried out by the real driver; what the scripts were told.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.desired import DesiredState
from reconciler.core.draft import Draft
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Change, RemoveRender, Step, WriteRender
from reconciler.core.plan_renders import plan_renders
from reconciler.core.site import Site
from reconciler.drivers.renders import RenderedFiles

CHECK = "#!/bin/sh\necho looked at $1\ngrep -q bad $1 && echo it is bad && exit 7\nexit 0\n"
SECRETS = ("sk-of-alice", "sk-of-alice-too")
RELOAD = "#!/bin/sh\ncat $1 >> told\n[ ! -e broken ] || { echo no answer; exit 3; }\n"


@dataclass
class Root:
    """A root with one render, and the commands that are run for it."""

    folder: Path
    check: bool = True
    reload: bool = True

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.site = Site(str(self.folder), str(self.folder / "state"), "desired/x.yaml")
        for name, script in (("check", CHECK), ("reload", RELOAD)):
            path = self.folder / name
            path.write_text(script)
            path.chmod(0o755)
        self.template = self.folder / "t.j2"
        self.dest = self.folder / "run" / "out.yaml"
        self.told = self.folder / "told"
        self.template.write_text("one\n")
        self.driver = RenderedFiles(self.site, lambda: SECRETS)

    def desired(self, *, wanted: bool = True) -> DesiredState:
        one = {"template": "t.j2", "dest": "run/out.yaml"}
        one |= {"validate": "./check {path}"} if self.check else {}
        one |= {"reload": "./reload {path}"} if self.reload else {}
        return DesiredState.model_validate({"version": 1, "renders": (one,) if wanted else ()})

    def plan(self, *, wanted: bool = True, watch: bool = False) -> Draft:
        desired, draft = self.desired(wanted=wanted), Draft()
        found = self.driver.observe(desired.renders)
        observed = ObservedState(renders=found, now=1.0 if watch else None)
        plan_renders(draft, desired, self.site, observed, {})
        return draft

    def change(self, **how: bool) -> Change:
        [change] = self.plan(**how).changes
        return change

    def apply(self, *, wanted: bool = True) -> int:
        """Carry out what a plan says; how many steps that were."""
        return self.carry_out(self.plan(wanted=wanted).steps)

    def carry_out(self, steps: Sequence[Step], cancel: threading.Event | None = None) -> int:
        for step in steps:
            assert isinstance(step.effect, WriteRender | RemoveRender)
            self.driver.apply(step.effect, cancel or threading.Event())
        return len(steps)

    def copies(self) -> list[Path]:
        """What others wrote, the oldest first."""
        folder = Path(self.site.render_copy("run/out.yaml", "edited")).parent
        return sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime_ns)

    def leftovers(self) -> list[str]:
        return sorted(one.name for one in self.dest.parent.iterdir() if one != self.dest)
