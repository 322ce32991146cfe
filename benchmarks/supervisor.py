"""supervisord with the same servers, to compare with: its configuration, its life.

In: how each server is started. Out: a running supervisord, its pid; it ends with the `with` block.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import end_group

PATIENCE_S = 60.0
PROGRAM = Path(sys.executable).with_name("supervisord")
_HEAD = """\
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
"""
_SERVER = """
[program:{name}]
command = {command}
autorestart = true
startsecs = 1
redirect_stderr = true
stdout_logfile = {folder}/{name}.log
"""


@contextlib.contextmanager
def supervised(
    starts: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
    folder: Path,
    patience_s: float = PATIENCE_S,
) -> Iterator[int]:
    """While it lasts, supervisord keeps these servers running; its pid.

    Nothing of it lives on: it is let end its servers itself, for so long, and then they are ended.
    """
    folder.mkdir()
    parts = [_HEAD.format(folder=folder)]
    for name, argv in starts.items():
        # `%` is its own sign for variables.
        command = shlex.join(argv).replace("%", "%%")
        parts.append(_SERVER.format(name=name, command=command, folder=folder))
    config = folder / "supervisord.conf"
    config.write_text("".join(parts), encoding="utf-8")
    child = subprocess.Popen(
        [str(PROGRAM), "-n", "-c", str(config)],
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield child.pid
    finally:
        # It ends its servers one by one, and each has a group of its own: of 200 some are left.
        end_group(child, patience_s)
        _end_all(list(map(list, starts.values())))


def _end_all(argvs: Sequence[Sequence[str]]) -> None:
    for pid in machine.pids():
        with contextlib.suppress(OSError):
            if machine.command_line(pid) in argvs:
                os.kill(pid, signal.SIGKILL)
