"""systemd: where units lie, and what is asked of `systemctl`.

In: a unit's name and text. Out: what the manager says of it. Without systemctl units are written
and removed all the same; whoever has written a unit that is not ours keeps it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.service_unit import MARKER
from reconciler.core.text import printable
from reconciler.drivers import effects, programs
from reconciler.errors import ReconcileError, UsageError

SYSTEM_UNITS = "/etc/systemd/system"
LINGER = "/var/lib/systemd/linger"
LOOK_TIMEOUT_S = 10.0
_NO_BUS = "Failed to connect to "
"""What systemctl says where the manager that it asks does not run."""
_HINT = "type it to see more; the unit is kept as it is"
_NO_MANAGER = (
    "systemd runs no manager of this user here, as after `su` or in a container: log in as this "
    "user, type `loginctl enable-linger` as root for it, or say --system; the unit is kept as it is"
)
ACT_TIMEOUT_S = 180.0
"""`restart` waits until the watch says that it is ready."""


@dataclass(frozen=True, slots=True)
class UnitState:
    """How a unit stands, in systemctl's own words; `unknown` where it cannot be asked."""

    installed: bool
    enabled: str
    active: str


class ServiceManager:
    """One of systemd's managers: the system's, or the user's own."""

    def __init__(self, environment: Mapping[str, str], *, system: bool) -> None:
        home = environment.get("HOME") or str(Path.home())
        base = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
        self.folder = Path(SYSTEM_UNITS if system else f"{base}/systemd/user")
        self.command = ("systemctl",) if system else ("systemctl", "--user")
        self._has_systemctl = shutil.which("systemctl") is not None

    def path(self, name: str) -> Path:
        """Where the unit lies."""
        return self.folder / name

    def state(self, name: str) -> UnitState:
        """How it stands."""
        return UnitState(
            self.path(name).exists(), self._ask("is-enabled", name), self._ask("is-active", name)
        )

    def _ask(self, question: str, name: str) -> str:
        if not self._has_systemctl:
            return "unknown"
        try:
            answer = programs.ask((*self.command, question, name), timeout=LOOK_TIMEOUT_S)
        except OSError:
            return "unknown"
        return printable(answer.out.strip()) or "unknown"

    def install(self, name: str, text: str) -> tuple[str, ...]:
        """Write the unit and start it; the commands that are left to be typed, if it cannot.

        Raises:
            UsageError: there is one of that name that is not ours.
            ReconcileError: systemctl failed.
        """
        self._refuse_foreign(name)
        path = self.path(name)
        effects.make_folder(path.parent, 0o755)
        effects.write_atomic(path, text, 0o644)
        # One that runs already runs by what was written before: a restart disturbs no server.
        return self._do(("daemon-reload",), ("enable", name), ("restart", name))

    def uninstall(self, name: str) -> tuple[str, ...]:
        """End the watch and remove its unit; the same."""
        self._refuse_foreign(name)
        left = self._do(("disable", "--now", name))
        effects.unlink(self.path(name))
        return (*left, *self._do(("daemon-reload",)))

    def _refuse_foreign(self, name: str) -> None:
        path = self.path(name)
        if path.exists() and not path.read_text(encoding="utf-8").startswith(MARKER):
            raise UsageError(
                f"{path} was not written by llm-reconcile", hint="remove it, if it is not needed"
            )

    def _do(self, *actions: tuple[str, ...]) -> tuple[str, ...]:
        if not self._has_systemctl:
            return tuple(" ".join((*self.command, *words)) for words in actions)
        for words in actions:
            said = " ".join((*self.command, *words))
            with effects.by_program(said):
                answer = programs.ask((*self.command, *words), timeout=ACT_TIMEOUT_S)
            if answer.code:
                is_user = len(self.command) > 1
                raise ReconcileError(
                    f"`{said}` failed: {printable(answer.talk.strip()) or answer.code}",
                    hint=_NO_MANAGER if is_user and _NO_BUS in answer.talk else _HINT,
                )
        return ()
