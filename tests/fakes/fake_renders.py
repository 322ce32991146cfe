"""The user's own generated files in memory: what `drivers.base_renders` names.

In: templates and files that a test sets, failures that it wants. Out: notes as the real one has
them. It passes the contract of tests/drivers/test_renders_contract.py with the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.core.desired import Render
from reconciler.core.plan import RemoveRender, WriteRender
from reconciler.core.renders import (
    ObservedRender,
    ObservedRenders,
    RenderNote,
    attempt_of,
    digest_of,
)
from reconciler.drivers.base import Cancel
from reconciler.errors import StepError


class FakeRenders:
    """The `Renders` of a test."""

    def __init__(self) -> None:
        self.templates: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.notes: dict[str, RenderNote] = {}
        self.failing: set[str] = set()
        """The dests of which nobody can be told."""
        self.told: list[str] = []
        """The dests that somebody was told of, in order."""
        self.at_work: Callable[[], object] = lambda: None
        """What happens while the commands of a file run."""

    def observe(self, wanted: Iterable[Render]) -> ObservedRenders:
        found = {dest: self._file(dest, None, "") for dest in self.notes}
        for one in wanted:
            template = self.templates.get(one.template)
            problem = "" if template is not None else f"there is no template {one.template}"
            found[one.dest] = self._file(one.dest, template, problem)
        return found

    def _file(self, dest: str, template: str | None, problem: str) -> ObservedRender:
        text = self.files.get(dest)
        digest = "" if text is None else digest_of(text)
        return ObservedRender(template, problem, digest, text, note=self.notes.get(dest))

    def apply(self, effect: WriteRender | RemoveRender, cancel: Cancel) -> None:
        if isinstance(effect, RemoveRender):
            if effect.is_ours:
                del self.files[effect.dest]
            self.notes.pop(effect.dest, None)
            return
        render, before = effect.render, self.files.get(effect.render.dest)
        if before is not None and digest_of(before) not in {effect.found, digest_of(effect.text)}:
            raise StepError(f"{render.dest} has changed since the plan was made")
        self.at_work()
        if render.reload and render.dest in self.failing:
            failed = attempt_of(render, effect.text)
            held = digest_of(before) if before is not None else ""
            self.notes[render.dest] = RenderNote(held, held, failed=failed, reason="no answer")
            raise StepError(f"{render.dest}: no answer")
        self.files[render.dest] = effect.text
        if render.reload:
            self.told.append(render.dest)
        digest = digest_of(effect.text)
        self.notes[render.dest] = RenderNote(digest, digest)
