"""A real systemd as pid 1 of a pid namespace, with no units but a few targets and those of a test.

In: a folder; leave to mount and to make a cgroup, as root has it. Out: what a verb is run by to be
in there, and systemctl's answers. /etc is read-only in there; units, /run and cgroups are its own,
so nothing of the machine's is touched, and with pid 1 all ends. The witnesses of `machine` see what
runs in there as everything else.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import eventually

from e2e import machine

PROGRAM = "/usr/lib/systemd/systemd"
_CGROUP = """set -eu
mount -t cgroup2 none "$1"
"""
_OUTSIDE = f"""{_CGROUP}
mkdir "$1/$2"
echo $$ > "$1/$2/cgroup.procs"
exec unshare --cgroup --mount --uts --ipc --pid --fork --mount-proc --kill-child sh -c "$3"
"""
_INSIDE = f"""set -eu
mount -t tmpfs none /run
mkdir /run/units
for one in basic default local-fs multi-user network-online paths shutdown slices sockets sysinit \
    timers umount; do cp -L "/usr/lib/systemd/system/$one.target" /run/units; done
mkdir /run/user-units
for one in basic default exit paths shutdown sockets timers; do
  cp -L "/usr/lib/systemd/user/$one.target" /run/user-units; done
mount --bind /run/units /usr/lib/systemd/system
mount --bind /run/user-units /usr/lib/systemd/user
mount --bind /etc /etc
mount -o remount,bind,ro /etc
for one in /etc/systemd/system /usr/lib/systemd/system-generators \
    /usr/lib/systemd/system-environment-generators /etc/systemd/user \
    /usr/lib/systemd/user-generators /usr/lib/systemd/user-environment-generators; do
  test ! -d "$one" || mount -t tmpfs none "$one"
done
umount -R /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
exec env -i container=other PATH=/usr/bin:/bin {PROGRAM} --system --unit=basic.target \
    --log-target=null --show-status=no
"""
_OF_A_USER = f"""[Service]
Type=notify
ExecStart={PROGRAM} --user --log-target=null
Environment="HOME=%s" "XDG_RUNTIME_DIR=%s"
Delegate=yes
"""
_GONE = f"""{_CGROUP}
find "$1/$2" -depth -type d -exec rmdir {{}} +
"""


class Systemd:
    """One such systemd, for as long as it is entered."""

    def __init__(self, folder: Path) -> None:
        self._name = f"llm-reconcile-test-{os.getpid()}-{id(self)}"
        self._place = folder / "cgroup"
        self._place.mkdir(parents=True)
        self._child: subprocess.Popen[bytes] | None = None
        self.under: tuple[str, ...] = ()
        """What a command is run by to be in there."""

    def __enter__(self) -> Self:
        argv = [*self._own_mounts(_OUTSIDE), _INSIDE]
        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        eventually(self._is_up, "systemd runs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()
        # As soon as pid 1 is gone the kernel has ended all.
        eventually(self._is_cgroup_gone, "nothing is left of it")

    def _own_mounts(self, script: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", script, "sh", str(self._place), self._name]

    def _is_cgroup_gone(self) -> bool:
        done = subprocess.run(self._own_mounts(_GONE), capture_output=True, check=False)
        return done.returncode == 0

    def _is_up(self) -> bool:
        assert self._child
        assert self._child.poll() is None, "it did not start"
        first = [one for one in machine.pids() if machine.parent(one) == self._child.pid]
        if not first or not machine.command_line(first[0]).startswith(PROGRAM):
            return False
        spaces = ("--mount", "--pid", "--cgroup", "--uts", "--ipc")
        self.under = ("nsenter", "--target", str(first[0]), *spaces, "--")
        return self.ctl("is-system-running", check=False) == "running"

    def ctl(self, *words: str, check: bool = True) -> str:
        """What systemctl says."""
        argv = [*self.under, "systemctl", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def start_for_a_user(self, home: Path) -> dict[str, str]:
        """Start a user's own manager, as a login does; what of the environment leads to it."""
        runtime = home / "runtime"
        runtime.mkdir(mode=0o700)
        self._write("/run/systemd/system/user.service", _OF_A_USER % (home, runtime))
        self.ctl("daemon-reload")
        self.ctl("start", "user.service")
        # A unit's files are sought by passwd(5), which knows of no home of a test.
        return {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(home / ".config")}

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.ctl("show", unit, "--value", "-p", what)

    def is_active(self, unit: str) -> bool:
        """Whether it is begun, and has said that it is ready."""
        return self.ctl("is-active", unit, check=False) == "active"

    def signal(self, unit: str, number: signal.Signals) -> None:
        """Signal its main process."""
        pid = self.show(unit, "MainPID")
        assert pid != "0", "it has none"
        subprocess.run([*self.under, "kill", f"-{number.name[3:]}", pid], check=True)

    def drop_in(self, unit: str, text: str) -> None:
        """Let a unit differ, until it ends."""
        self._write(f"/run/systemd/system/{unit}.d/test.conf", text)
        self.ctl("daemon-reload")

    def _write(self, path: str, text: str) -> None:
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        argv = [*self.under, "sh", "-c", script, "sh", path]
        subprocess.run(argv, input=text, text=True, check=True)
