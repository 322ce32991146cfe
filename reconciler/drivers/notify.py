"""Tells the service manager how we are: sd_notify(3), its protocol spoken directly.

In: the environment that a service of systemd is started with. Out: datagrams on its socket. Where
no service manager started us, or none that can be reached, nothing happens: being heard is never
a condition of going on.
The variables are taken out of the environment: a program that we start must not speak for us.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from reconciler.core.text import printable

SEND_TIMEOUT_S = 1.0
"""A manager that is busy gets so long; one that hangs must not stop the loop."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Speaks to the service manager; every method does nothing where there is none."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`address`: a path, or with `@` in front a name of the abstract kind; empty: nobody."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """The manager takes us for hung after so many seconds without `watchdog`; None: never.

        Twice as often is the advice of sd_watchdog_enabled(3).
        """

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Whom the variables name. They are gone from `environment` afterwards."""
        address, usec, pid = (environment.pop(name, "") for name in _VARIABLES)
        if not address.startswith(("/", "@")):
            return cls()
        # The variables of a parent's parent are not meant for us: they name its pid.
        is_meant = usec.isdecimal() and int(usec) > 0 and pid in {"", str(os.getpid())}
        return cls(address, int(usec) / 1e6 if is_meant else None)

    def ready(self, text: str = "") -> None:
        """We have begun (a second time it does no harm); `text`: what we are at, for people."""
        self._send("READY=1", *([f"STATUS={printable(text)}"] if text else []))

    def status(self, text: str) -> None:
        """What we are at, for people: `systemctl status` shows it."""
        self._send(f"STATUS={printable(text)}")

    def watchdog(self) -> None:
        """We go on: wanted at least every `watchdog_s` seconds."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """We are about to end, as we were asked to."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.settimeout(SEND_TIMEOUT_S)
            sender.sendto("\n".join(lines).encode(), self._address)
