"""What is run for a file of the user's own: it may hang, talk or call us, and blocks nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from render_rig import RELOAD, Root
from waiting import eventually

from reconciler.core.plan import WriteRender
from reconciler.drivers import renders
from reconciler.errors import InterruptedRunError, StepError


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_what_has_changed_since_the_plan_stays(root: Root) -> None:
    root.apply()
    root.template.write_text("two\n")
    steps = root.plan().steps
    root.dest.write_text("mine\n")
    with pytest.raises(StepError, match="has changed since the plan was made: it stays as it is"):
        root.carry_out(steps)
    assert (root.dest.read_text(), root.told.read_text()) == ("mine\n", "one\n")


def test_two_runs_make_a_file_once(root: Root) -> None:
    """The other one waits for the commands of the first, and finds all done."""
    waiting = "touch begun\nwhile [ ! -e go ]; do sleep 0.02; done\n"
    (root.folder / "reload").write_text(RELOAD + waiting)
    steps = root.plan().steps
    first, second = (threading.Thread(target=root.carry_out, args=(steps,)) for _ in range(2))
    first.start()
    eventually((root.folder / "begun").exists)
    assert root.change().reason == "not told of yet"
    second.start()
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(InterruptedRunError, match=r"another run wrote run/out\.yaml"):
        root.carry_out(steps, cancel)
    (root.folder / "go").touch()
    first.join()
    second.join()
    assert (root.dest.read_text(), root.told.read_text()) == ("one\n", "one\n")


def test_a_file_is_not_waited_for_without_end(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renders, "LONGEST_S", 0.1)
    path = root.site.render_lock("run/out.yaml")
    Path(path).parent.mkdir(parents=True)
    held = root.folder / "held"
    argv = ["flock", "-o", path, "sh", "-c", 'touch "$0"; exec sleep 60', str(held)]
    with subprocess.Popen(argv, start_new_session=True) as holder:
        eventually(held.exists)
        with pytest.raises(StepError, match=rf"run/out\.yaml is in the hands of pid {holder.pid}"):
            root.apply()
        os.killpg(holder.pid, signal.SIGKILL)
    assert root.apply() == 1


def test_a_command_that_wants_its_own_file_made_is_told_so_at_once(root: Root) -> None:
    """As one does that calls `llm-reconcile apply`; it and its parent would wait for each other."""
    script = f"""
    import threading
    from reconciler.core.desired import Render
    from reconciler.core.plan import RemoveRender
    from reconciler.core.site import Site
    from reconciler.drivers.renders import RenderedFiles
    driver = RenderedFiles(Site({str(root.folder)!r}, {root.site.state!r}, "x"), frozenset)
    driver.apply(RemoveRender("run/out.yaml", is_ours=True), threading.Event())
    """
    (root.folder / "nested.py").write_text(textwrap.dedent(script))
    (root.folder / "reload").write_text(f"#!/bin/sh\n{sys.executable} nested.py\n")
    with pytest.raises(StepError, match=rf"runs this, and pid {os.getpid()} waits for its end"):
        root.apply()
    assert root.dest.read_text() == "one\n"


def test_what_commands_say_is_told_without_secrets(root: Root) -> None:
    """Also where the end of what they said begins within one."""
    said = f"sk-of-alice-too{'x' * 480}"
    (root.folder / "check").write_text(f"#!/bin/sh\necho {said}\necho sk-of-alice\nexit 1\n")
    with pytest.raises(StepError) as caught:
        root.apply()
    told = caught.value.message + Path(root.site.render_notes).read_text()
    assert "ice" not in told
    assert told.count("(not shown)") == 2
    render = root.desired().renders[0].model_copy(update={"check": "./nothing sk-of-alice"})
    with pytest.raises(StepError, match=r"`\./nothing \(not shown\)` cannot be run"):
        root.driver.apply(WriteRender(render, "one\n"), threading.Event())


def test_a_command_that_cannot_be_run_or_does_not_end_is_an_error(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root.folder / "check").unlink()
    with pytest.raises(StepError, match=r"`\./check \{path\}` cannot be run: "):
        root.apply()
    (root.folder / "check").write_text("#!/bin/sh\nexec sleep 60\n")
    (root.folder / "check").chmod(0o755)
    monkeypatch.setattr(renders, "VALIDATE_S", 0.05)
    with pytest.raises(StepError, match=r"within 0\.05 s, which is the limit of `validate`"):
        root.apply()
    monkeypatch.undo()
    [step] = root.plan().steps
    assert isinstance(step.effect, WriteRender)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(InterruptedRunError):
        root.driver.apply(step.effect, cancel)
    assert root.leftovers() == []
    assert not root.dest.exists()


def test_what_a_reload_leaves_running_is_not_waited_for(root: Root) -> None:
    """It has our output open, as a daemon that was started carelessly does."""
    (root.folder / "reload").write_text("#!/bin/sh\nsleep 60 &\necho $! > pid\n")
    root.apply()
    os.kill(int((root.folder / "pid").read_text()), 9)
    assert root.change().reason == "up to date"
