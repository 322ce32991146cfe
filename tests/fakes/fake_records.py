"""The records of runs in memory, which can be made to fail.

In: what a run leaves. Out: the same. It passes the tests of the real ones, drivers/test_records.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from reconciler.core.history import Origin, Record
from reconciler.core.pending import Coming, Status


class FakeRecords:
    """The `Records` of a test."""

    def __init__(self) -> None:
        self.fault: OSError | None = None
        self.spec: str | None = None
        self.published: list[Status] = []
        self.noted: list[Record] = []
        self.shown: list[tuple[Coming, ...]] = []

    def status(self) -> Status:
        return self.published[-1] if self.published else Status()

    def publish(self, status: Status) -> None:
        if self.fault:
            raise self.fault
        self.published.append(status)

    def origin(self) -> Origin:
        return Origin("somebody", spec=self.spec)

    def note(self, record: Record) -> Record:
        if self.fault:
            raise self.fault
        number = record.number or len(self.history()) + 1
        self.noted.append(replace(record, number=number))
        return self.noted[-1]

    def history(self) -> tuple[Record, ...]:
        return tuple({one.number: one for one in self.noted}.values())

    def show(self, files: Collection[Coming], at: float) -> None:
        if self.fault:
            raise self.fault
        self.shown.append(tuple(files))
