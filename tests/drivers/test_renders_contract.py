"""What every `Renders` keeps to: the real one on disk, and the one in memory of other tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_renders import FakeRenders

from reconciler.core.desired import Render
from reconciler.core.plan import RemoveRender, WriteRender
from reconciler.core.renders import RenderNote, attempt_of, digest_of
from reconciler.core.site import Site
from reconciler.drivers.base_renders import Renders
from reconciler.drivers.renders import RenderedFiles
from reconciler.errors import StepError

RENDER = Render.model_validate({"template": "t.j2", "dest": "run/x", "reload": "test ! -e broken"})
Break = Callable[[], object]


@pytest.fixture(params=["real", "fake"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Renders, Break]:
    """One with the template of `RENDER`, and what breaks its reload."""
    if request.param == "fake":
        fake = FakeRenders()
        fake.templates["t.j2"] = "{{ x }}"
        return fake, lambda: fake.failing.add("run/x")
    (tmp_path / "t.j2").write_text("{{ x }}")
    real = RenderedFiles(Site(str(tmp_path), str(tmp_path / "state"), "x.yaml"), frozenset)
    return real, (tmp_path / "broken").touch


def test_what_is_written_is_seen_and_noted(subject: tuple[Renders, Break]) -> None:
    driver, break_reload = subject
    before = driver.observe([RENDER])["run/x"]
    assert (before.template, before.digest, before.note) == ("{{ x }}", "", None)
    driver.apply(WriteRender(RENDER, "one"), threading.Event())
    one = digest_of("one")
    seen = driver.observe([])["run/x"]
    assert (seen.text, seen.digest, seen.template) == ("one", one, None)
    assert seen.note == RenderNote(one, one)
    break_reload()
    with pytest.raises(StepError):
        driver.apply(WriteRender(RENDER, "two", one), threading.Event())
    back = driver.observe([RENDER])["run/x"]
    assert back.text == "one"
    assert back.note
    assert back.note.is_ours(one)
    assert back.note.failed == attempt_of(RENDER, "two")
    driver.apply(RemoveRender("run/x", is_ours=True, found=one), threading.Event())
    assert driver.observe([]) == {}
    assert driver.observe([RENDER])["run/x"].digest == ""


def test_what_the_plan_has_not_seen_stays(subject: tuple[Renders, Break]) -> None:
    driver, _ = subject
    driver.apply(WriteRender(RENDER, "one"), threading.Event())
    with pytest.raises(StepError, match="has changed since the plan was made"):
        driver.apply(WriteRender(RENDER, "two", digest_of("another")), threading.Event())
    # Another run has made it already.
    driver.apply(WriteRender(RENDER, "one", digest_of("another")), threading.Event())
    assert driver.observe([RENDER])["run/x"].text == "one"


def test_what_is_only_forgotten_stays(subject: tuple[Renders, Break]) -> None:
    driver, _ = subject
    driver.apply(WriteRender(RENDER, "one"), threading.Event())
    driver.apply(RemoveRender("run/x", is_ours=False, found=digest_of("one")), threading.Event())
    assert driver.observe([]) == {}
    assert driver.observe([RENDER])["run/x"].text == "one"


def test_a_template_that_is_not_there_is_told(subject: tuple[Renders, Break]) -> None:
    driver, _ = subject
    other = RENDER.model_copy(update={"template": "u.j2"})
    seen = driver.observe([other])["run/x"]
    assert seen.template is None
    assert seen.problem.startswith("there is no template u.j2")
