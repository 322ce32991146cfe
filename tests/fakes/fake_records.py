"""The records of runs in memory, which can be made to fail.

In: what a run leaves. Out: the same. It passes the tests of the real ones, drivers/test_records.py.
"""

from __future__ import annotations

from reconciler.core.pending import Status


class FakeRecords:
    """The `Records` of a test."""

    def __init__(self) -> None:
        self.fault: OSError | None = None
        self.published: list[Status] = []

    def status(self) -> Status:
        return self.published[-1] if self.published else Status()

    def publish(self, status: Status) -> None:
        if self.fault:
            raise self.fault
        self.published.append(status)
