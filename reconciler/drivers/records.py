"""What runs leave for people to read: the status page, /api/status.

In: what a run did and did not. Out: JSON files in the state folder; the gateway's `records.js`
serves them. Nothing here decides anything, and a file that is gone or broken costs nobody a run.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.core.pending import Status, read_status, status_text
from reconciler.core.site import Site
from reconciler.drivers import effects


class RunRecords:
    """`Records` in the state folder."""

    def __init__(self, site: Site) -> None:
        self._status = Path(site.gateway) / "status.json"

    def status(self) -> Status:
        """What was pending when the last run ended."""
        try:
            return read_status(self._status.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return Status()

    def publish(self, status: Status) -> None:
        """Let that be what is pending.

        Raises:
            OSError: it cannot be written.
        """
        effects.make_folder(self._status.parent)
        effects.write_atomic(self._status, status_text(status))
