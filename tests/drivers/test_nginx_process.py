"""Who is nginx's master and who its worker, where their titles alone do not say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from waiting import eventually

from reconciler.core.observed import ProcessRef
from reconciler.drivers import nginx_process, proc


def refs_titled(title: str) -> list[ProcessRef]:
    found = [pid for pid in proc.own_pids() if proc.command_line(pid)[:1] == (title,)]
    return [ref for pid in sorted(found) if (ref := proc.ref_of(pid)) is not None]


def test_a_worker_that_was_just_forked_is_no_second_master(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has its master's title for a moment, and after a wrap its pid may be the lower one."""
    title = "nginx: master process of this test"
    code = "import os, signal; signal.alarm(60); os.fork(); signal.pause()"
    with subprocess.Popen(
        [title, "-c", code], executable=sys.executable, start_new_session=True
    ) as process:
        try:
            eventually(lambda: len(refs_titled(title)) == 2, "it has forked")
            found = refs_titled(title)
            (worker,) = [ref for ref in found if ref.pid != process.pid]
            (master,) = [ref for ref in found if ref.pid == process.pid]
            monkeypatch.setattr(proc, "holders_of", lambda _lock, _pids: (worker, master))
            seen = nginx_process.holders_of("a lock")
            assert (seen.master, seen.workers, seen.orphans) == (master, (worker,), ())
        finally:
            os.killpg(process.pid, signal.SIGKILL)
