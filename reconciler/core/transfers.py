"""Bytes on their way, as people see them: a bar for each file, one for all, or a sentence.

In: how much of which file has come, and when. Out: lines of plain text that fit a width.
It reads no clock and prints nothing; what the numbers belong to is the caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.core.present import human_bytes, human_seconds
from reconciler.core.text import printable

WINDOW_S = 15.0
"""A speed is that of so many seconds: long enough for a calm number, short enough to be true."""
MOST_BARS = 8
"""Of more files at once the rest is in the last line only."""
_LONGEST_S = 99 * 86400.0
"""Of a longer time only that it is long is known."""
_BAR = 10
_NUMBERS = 47
"""Columns of per cent, bytes, speed and time left."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How much of one file is here."""

    name: str
    done: int
    size: int
    came: int = 0
    """What of it came in this run, as far as that is still of use."""


class Meter:
    """The speed of something that grows."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at: float, came: int) -> None:
        """So much came until this second. Less than before: it begins anew."""
        if self._samples and came < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((at, came))
        while len(self._samples) > 2 and self._samples[1][0] <= at - WINDOW_S:
            self._samples.popleft()

    @property
    def speed(self) -> float:
        """Bytes a second; 0 until it can be told."""
        if not self._samples:
            return 0.0
        (began, first), (at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (at - began) if at > began else 0.0


class Transfer:
    """The files of one download."""

    def __init__(self) -> None:
        self.files: tuple[FileProgress, ...] = ()
        self._meters: dict[str, Meter] = {}

    def tell(self, files: tuple[FileProgress, ...], at: float) -> None:
        """How they stand now, `at` on any clock that only goes forward."""
        self.files = files
        for file in files:
            self._meters.setdefault(file.name, Meter()).add(at, file.came)

    def end(self) -> None:
        """All of it is here: it counts on as bytes, not as speed."""
        self.files = tuple(replace(file, done=file.size) for file in self.files)
        self._meters.clear()

    def speed_of(self, file: FileProgress) -> float:
        """Bytes a second."""
        return self._meters[file.name].speed

    @property
    def total(self) -> FileProgress:
        """All its files as one."""
        return total_of(self.files)

    @property
    def speed(self) -> float:
        """Bytes a second of them all."""
        return sum(meter.speed for meter in self._meters.values())

    def sentence(self, word: str) -> str:
        """Where it is, for a line of its own; `word` is what happened to the bytes."""
        done, size = self.total.done, self.total.size
        said = f"{_bytes(done, size)} {word} ({percent(done, size)} %)"
        if not self.speed:
            return said
        return f"{said}, {human_bytes(self.speed)}/s, {_left(done, size, self.speed)} left"


def total_of(files: Iterable[FileProgress]) -> FileProgress:
    """Files as one."""
    files = tuple(files)
    done, size = sum(one.done for one in files), sum(one.size for one in files)
    return FileProgress(f"all {len(files)} files", done, size)


def bars(transfers: Iterable[Transfer], width: int, most: int = MOST_BARS) -> list[str]:
    """A line for each file that is on its way, and one for all files where there are several."""
    transfers = tuple(transfers)
    moving = [(one, file) for one in transfers for file in one.files if 0 < file.done < file.size]
    lines = [_bar(file, one.speed_of(file), width) for one, file in moving[:most]]
    files = [file for one in transfers for file in one.files]
    if len(files) > 1 or not lines:
        speed = sum(one.speed for one in transfers)
        lines += [_bar(total_of(files) if len(files) != 1 else files[0], speed, width)]
    return lines


def percent(done: int, size: int) -> int:
    """Whole per cent, rounded down: 100 is all of it."""
    return 100 * done // size if size else 100


def _bar(file: FileProgress, speed: float, width: int) -> str:
    done, size = file.done, file.size
    rate = f"{human_bytes(speed)}/s" if speed else "-"
    left = _left(done, size, speed)
    numbers = f"{percent(done, size):3} %  {_bytes(done, size):>17}  {rate:>12}  {left:>7}"
    room = width - _BAR - _NUMBERS - 7
    if room < _BAR:
        return f"{percent(done, size):3} %  {_shortened(file.name, max(width - 7, 1))}"
    full = _BAR * done // size if size else _BAR
    drawn = "#" * full + "." * (_BAR - full)
    return f"  {_shortened(file.name, room):{room}}  [{drawn}] {numbers}".rstrip()


def _left(done: int, size: int, speed: float) -> str:
    if speed * _LONGEST_S < size - done:
        return "-"
    return human_seconds((size - done) / speed) if speed else "0 s"


def _bytes(done: int, size: int) -> str:
    """Both in the unit of the larger: `1.2 of 4.9 GiB` takes less room than two units."""
    whole = human_bytes(size)
    unit = whole.rpartition(" ")[2]
    step = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    part = f"{done}" if unit == "B" else f"{done / step:.1f}"
    return f"{part}/{whole}"


def _shortened(name: str, room: int) -> str:
    """The end of a name tells shards apart; `.gguf` tells nothing."""
    name = printable(name.rpartition("/")[2].removesuffix(".gguf"))
    return name if len(name) <= room else f"…{name[len(name) - room + 1 :]}"
