"""What some proofs need besides Python: programs, leave for a pid namespace, a mount.

In: PATH and the kernel. Out: what is there. A test says what it needs (`pytest.mark.needs`); where
that is missing it is left out, and the last words of the run name it. Under `.ci/run`
(LLM_RECONCILE_WHOLE_PROOF) what can be installed must be there. What is left to the night is named
as well.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from engine_programs import real_engines

OWN_PIDS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Run a command as pid 1 of a pid namespace; with its end all in there ends."""


def own_pids() -> tuple[str, ...]:
    """The same, for whoever runs the tests: only root needs no user namespace for it."""
    if os.geteuid() == 0:
        return OWN_PIDS
    return (OWN_PIDS[0], "--user", "--map-root-user", *OWN_PIDS[1:])


def own_disk(folder: str, options: str) -> tuple[str, ...]:
    """Run a command that finds an empty disk in this folder; nobody else sees it."""
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    return ("unshare", "--mount", *as_root, "sh", "-c", mount, "sh", options, folder)


def own_mount(source: str, target: str) -> tuple[str, ...]:
    """Run a command that finds this file or folder in another place too; nobody else sees it."""
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ("unshare", "--mount", *as_root, "sh", "-c", mount, "sh", source, target)


def own_cgroup(test: str) -> tuple[str, ...]:
    """Run a command if this test holds, and whoever runs it may make a cgroup (v2)."""
    make = 'mount -t cgroup2 none /mnt && mkdir "/mnt/x$$" && rmdir "/mnt/x$$"'
    return ("unshare", "--mount", "--cgroup", "sh", "-c", f'{test} && {make} && exec "$@"', "sh")


def _works(argv: Sequence[str]) -> bool:
    if shutil.which(argv[0]) is None:
        return False
    return subprocess.run([*argv, "true"], capture_output=True, check=False).returncode == 0


TOOLS = {
    "openssl": ("sh", "-c", "openssl version"),
    "curl": ("sh", "-c", "curl --version"),
    "chromium": ("sh", "-c", "command -v chromium"),
    "ssh-keygen": ("sh", "-c", "command -v ssh-keygen"),
    "prometheus": ("sh", "-c", "prometheus --version && promtool --version"),
    "caddy": ("sh", "-c", "caddy version"),
    "systemd-analyze": ("sh", "-c", "systemd-analyze --version"),
    "strace": ("strace", "-f", "-o", "/dev/null"),
    "pid namespaces": own_pids(),
    "mounts": own_disk("/mnt", "size=1m"),
    "systemd": own_cgroup("test -x /usr/lib/systemd/systemd"),
}
CACHE = Path(os.environ.get("LLM_RECONCILE_CACHE") or Path.home() / ".cache" / "llm-reconcile")
BY_NIGHT = {
    name: ("sh", "-c", f'test -e "{CACHE / name}/.version"')
    for name in ("continue", "litellm", "open-webui")
}
"""What `.ci/get-programs` brings for `make programs` and `make night`: too much for every day."""
IS_NIGHT = bool(os.environ.get("LLM_RECONCILE_NIGHT"))
NOT_TO_BE_HAD = {"pid namespaces", "mounts", "systemd"}
"""What no package brings: a container may forbid it to everybody in it."""


@functools.cache
def lacks(tool: str) -> bool:
    """Whether a tool cannot be used here, or not by day."""
    if tool in BY_NIGHT:
        return not (IS_NIGHT and _works(BY_NIGHT[tool]))
    return not _works(TOOLS[tool])


def missing() -> list[str]:
    """The engines and tools that some tests are for, and that are not here."""
    engines = {"embedded", "llama-server"} - {program.name for program in real_engines()}
    return [*sorted(engines), *filter(lacks, [*TOOLS, *(BY_NIGHT if IS_NIGHT else ())])]
