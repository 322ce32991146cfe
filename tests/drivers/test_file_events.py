"""Noticing saves: what becomes of the thread where the folders cannot be told."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import watchfiles
from waiting import PATIENCE_S, eventually

from reconciler.drivers import file_events
from reconciler.drivers.file_events import FileEvents


def test_a_link_that_leads_to_itself_ends_nothing(tmp_path: Path) -> None:
    loop, told, again = tmp_path / "x.yaml", threading.Event(), threading.Event()
    loop.symlink_to(loop)

    def folders() -> Iterable[Path]:
        if told.is_set():
            again.set()
        return [loop.resolve().parent]

    events = FileEvents(folders, told.set)
    events.start()
    try:
        assert told.wait(PATIENCE_S)
        assert again.wait(PATIENCE_S)
    finally:
        events.stop()


def test_what_was_saved_before_it_listens_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a folder was just made again, with the file in it. The clock does not come to it."""
    monkeypatch.setattr(file_events, "BACKSTOP_MS", 3_600_000)
    told = threading.Event()
    events = FileEvents(lambda: [tmp_path], told.set)
    events.start()
    try:
        assert told.wait(PATIENCE_S)
    finally:
        events.stop()


@pytest.mark.parametrize(
    ("burst_ms", "heard"), [(5000, [0, 0, 1, 1, 1, 2]), (0, [1, 2, 2, 2, 3, 3])]
)
def test_a_burst_of_saves_is_told_of_once_nothing_came_or_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst_ms: int, heard: list[int]
) -> None:
    """One file that is saved over and over is a change each time that `watchfiles` is asked."""
    monkeypatch.setattr(file_events, "BURST_MS", burst_ms)
    told: list[str] = []
    events = FileEvents(lambda: [tmp_path], lambda: told.append("saved"))
    found: list[int] = []

    def watch(*_: object, **__: object) -> Iterator[set[str]]:
        for came in ({"x"}, {"x"}, set[str](), set[str](), {"x"}, set[str]()):
            yield came
            found.append(len(told))
        events.stop()

    monkeypatch.setattr(watchfiles, "watch", watch)
    events.start()
    eventually(lambda: len(found) == len(heard), "all is told")
    assert found == heard


def test_a_folder_that_goes_and_comes_again_is_followed(tmp_path: Path) -> None:
    folder, told = tmp_path / "desired", threading.Semaphore(0)
    folder.mkdir()
    events = FileEvents(lambda: [folder, tmp_path], told.release)
    events.start()
    try:
        for number in range(3):

            def is_heard(number: int = number) -> bool:
                # Again and again: it begins to listen at a moment of its own.
                (folder / "x.yaml").write_text(f"{number} {time.monotonic_ns()}")
                return told.acquire(timeout=0.1)

            eventually(is_heard, f"a save, {number}")
            shutil.rmtree(folder)
            eventually(lambda: told.acquire(timeout=0.1), f"it has gone, {number}")
            folder.mkdir()
            while told.acquire(timeout=1.0):
                pass
    finally:
        events.stop()
