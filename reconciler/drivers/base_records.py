"""What the layers above may ask of a run's records: the seam beside those of `drivers.base`.

In: values of the core. Out: the same. They are for people to read: no decision hangs on them, so
whoever writes them goes on where they cannot be written.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from reconciler.core.history import Origin, Record
from reconciler.core.pending import Coming, Status


class Records(Protocol):
    """What the runs of one root leave to be read."""

    def status(self) -> Status:
        """What was pending when the last run ended."""
        ...

    def publish(self, status: Status) -> None:
        """Let that be what is pending.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def origin(self) -> Origin:
        """Who runs this, and on which state of the desired file."""
        ...

    def note(self, record: Record) -> Record:
        """Add a record, or what has become of it; one without a number gets the next.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def history(self) -> tuple[Record, ...]:
        """The records that there are, the oldest first."""
        ...

    def show(self, files: Collection[Coming], at: float) -> None:
        """Let these be the files that this process fetches now; none: it fetches nothing.

        Raises:
            OSError: it cannot be written.
        """
        ...
