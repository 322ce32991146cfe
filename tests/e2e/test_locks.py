"""Two runs at once: one works, the other says who does (BARS 12)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command
from waiting import eventually

from e2e import machine
from e2e.lab import Lab
from reconciler.cli.main import command_line

SLOW = {"args": {"fake-load-seconds": 60}}


@contextlib.contextmanager
def busy(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """An apply that waits for a slow server."""
    child = lab.begin_apply()
    try:
        lab.wait_for("slow")
        yield child
    finally:
        child.kill()
        lab.end(child)


def test_second_run_names_the_first(fakes: Lab) -> None:
    fakes.write({"slow": SLOW, "quick": {}})
    with busy(fakes) as first:
        fakes.wait_for("quick")
        pids = fakes.servers()
        for words in (
            ("apply", str(fakes.file), "-y"),
            ("apply", str(fakes.file)),
            ("down", "-y", "--lock-timeout", "0"),
            ("stop", "quick", "--lock-timeout", "0.1"),
            ("start", "--all", "--lock-timeout", "0"),
        ):
            refused = fakes.run(*words, code=5)
            assert f"pid {first.pid}" in refused.err, words
            assert "llm-reconcile apply" in refused.err, words
        assert fakes.servers() == pids
        # Looking needs no lock.
        assert fakes.phases(code=3)["slow"] == "starting"
        assert "instance.slow" in fakes.plan().out


def test_lock_is_waited_for(fakes: Lab) -> None:
    fakes.write({"slow": {"args": {"fake-load-seconds": 1.5}}})
    first = fakes.begin_apply()
    fakes.wait_for("slow")
    second = fakes.apply("--lock-timeout", "20")
    assert second.out.startswith("No changes.")
    assert fakes.end(first).code == 0


def is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_lock_is_free_at_once_after_a_kill(fakes: Lab) -> None:
    """The kernel frees it before it reports the death: there is nothing to wait for, or to undo."""
    fakes.write({"slow": SLOW})
    lock = fakes.state / "run.lock"
    with busy(fakes) as first:
        eventually(lambda: fakes.nginx().master is not None, "nginx is started")
        assert not is_free(lock)
        assert machine.holders(lock) == [first.pid]
        first.kill()
        first.wait()
        assert is_free(lock)
        # Neither the server nor nginx inherited it.
        assert machine.holders(lock) == []
        assert set(fakes.servers()) == {"slow"}
        assert fakes.nginx().master
        fakes.run("stop", "slow", "--lock-timeout", "0")


def test_there_is_no_unlock() -> None:
    """A lock that a person may break is none. No verb and no flag does it."""
    group = get_command(command_line())
    assert isinstance(group, TyperGroup)
    verbs = group.commands
    # `import --force` writes over a file: it asks for no lock.
    flags = {
        flag
        for name, verb in verbs.items()
        for one in verb.params
        for flag in one.opts
        if (name, flag) != ("import", "--force")
    }
    words = verbs.keys() | flags
    assert "--lock-timeout" in words
    assert not [word for word in words if re.search("unlock|force|break|steal", word)]


def test_ten_at_once(fakes: Lab) -> None:
    """Whoever gets the lock does it; the others name a holder; never two servers."""
    fakes.write({name: {} for name in "abc"})
    with machine.Twins(fakes.root):
        children = [fakes.begin_apply() for _ in range(10)]
        codes = [fakes.end(child).code for child in children]
    assert set(codes) <= {0, 5}
    assert 0 in codes
    assert fakes.apply().out.startswith("No changes.")
    assert set(fakes.pids()) == {"a", "b", "c"}


def test_fifty_quick_edits(fakes: Lab) -> None:
    """Edits while two people apply over and over: never two servers, and the last content wins."""

    def write(edit: int) -> None:
        models: dict[str, dict[str, Any]] = {
            name: {"params": {"seed": edit // 5}, "aliases": [f"{name}-{edit}"]} for name in "abc"
        }
        if edit % 7 == 3:
            del models["c"]
        fakes.write(models, defaults={"drain": "0s", "grace": "2s"})

    write(0)
    fakes.apply()
    with machine.Twins(fakes.root):
        running = [fakes.begin_apply("--allow-destroy", "9") for _ in range(2)]
        for edit in range(1, 51):
            write(edit)
            time.sleep(0.05)
            for child in [one for one in running if one.poll() is not None]:
                running.remove(child)
                # 1: it read a file of which only the beginning was written.
                assert fakes.end(child).code in {0, 1, 5}
                running.append(fakes.begin_apply("--allow-destroy", "9"))
        for child in running:
            assert fakes.end(child).code in {0, 1, 5}
        fakes.apply("--allow-destroy", "9")
    assert fakes.apply().out.startswith("No changes.")
    assert set(fakes.pids()) == {"a", "b", "c"}
    for name in "abc":
        assert fakes.complete(f"{name}-50").status == 200
        assert "--seed 10" in machine.command_line(fakes.pids()[name])
    nginx = fakes.nginx()
    eventually(
        lambda: (
            machine.holders(fakes.state / "gateway.lock")
            == sorted([nginx.master or 0, *nginx.workers])
        ),
        "the workers before the last reload are gone",
    )
