"""The socket of a watch: who asks is answered, and its owner knows when nobody finds it now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.drivers.watch_socket import WatchSocket, ask_watch


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[WatchSocket]:
    one = WatchSocket(str(tmp_path / "w.sock"), lambda: {"pid": 7})
    one.open()
    yield one
    one.close()


def test_who_asks_is_answered(answers: WatchSocket, tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    assert ask_watch(str(path)) == {"pid": 7}
    assert not answers.is_lost()
    answers.close()
    assert not path.exists()
    assert ask_watch(str(path)) is None


def test_another_ones_socket_is_left_alone(answers: WatchSocket, tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    path.rename(tmp_path / "gone.sock")
    assert answers.is_lost()
    path.write_text("another's")
    assert answers.is_lost()
    answers.close()
    assert path.read_text() == "another's"
