"""Bars, sentences and speeds of downloads."""

from __future__ import annotations

import pytest

from reconciler.core.transfers import (
    MOST_BARS,
    WINDOW_S,
    FileProgress,
    Meter,
    Transfer,
    bars,
    percent,
    total_of,
)

MIB, GIB = 2**20, 2**30


def moving(*files: FileProgress, seconds: float = 10.0) -> Transfer:
    """What came of these files took so many seconds."""
    one = Transfer()
    one.tell(tuple(FileProgress(each.name, 0, each.size) for each in files), 100.0)
    one.tell(files, 100.0 + seconds)
    return one


def test_a_speed_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.speed == 0
    meter.add(0.0, 500)
    assert meter.speed == 0
    for second in range(1, 61):
        meter.add(float(second), 500 + second * (10 if second <= 30 else 20))
    assert meter.speed == 20
    assert len(meter._samples) <= WINDOW_S + 2


def test_a_gap_between_samples_keeps_the_last_before_it() -> None:
    meter = Meter()
    for at, came in ((0.0, 0), (1.0, 10), (100.0, 1000)):
        meter.add(at, came)
    assert meter.speed == 10


def test_a_file_that_begins_anew_has_no_speed_yet() -> None:
    meter = Meter()
    for at, came in ((0.0, 0), (1.0, 1000), (2.0, 10)):
        meter.add(at, came)
    assert meter.speed == 0


def test_what_an_earlier_run_left_is_no_speed() -> None:
    one = Transfer()
    one.tell((FileProgress("a", 0, GIB),), 0.0)
    one.tell((FileProgress("a", GIB // 2, GIB),), 1.0)
    assert one.sentence("downloaded") == "0.5/1.0 GiB downloaded (50 %)"
    one.tell((FileProgress("a", GIB // 2 + 20 * MIB, GIB, 20 * MIB),), 2.0)
    assert one.sentence("verified") == "0.5/1.0 GiB verified (51 %), 10.0 MiB/s, 49 s left"


def test_one_file_has_one_bar() -> None:
    one = moving(FileProgress("Q4/m-Q4.gguf", GIB, 4 * GIB, GIB))
    assert bars([one], 79) == [
        "  m-Q4             [##........]  25 %        1.0/4.0 GiB   102.4 MiB/s     30 s"
    ]


def test_several_files_have_a_bar_each_and_one_in_all() -> None:
    shards = [
        FileProgress(f"Big-Thinker-UD-Q2_K_XL-0000{n}-of-00004.gguf", done * MIB, 100 * MIB)
        for n, done in ((1, 100), (2, 50), (3, 1), (4, 0))
    ]
    one = Transfer()
    one.tell(tuple(shards), 1.0)
    assert [line.split("  ")[1] for line in bars([one], 79)] == [
        "…00002-of-00004",
        "…00003-of-00004",
        "all 4 files",
    ]
    assert "37 %    151.0/400.0 MiB" in bars([one], 79)[-1]


def test_all_downloads_share_the_last_line() -> None:
    pair = [moving(FileProgress(name, 30 * MIB, 60 * MIB, 30 * MIB)) for name in ("a", "b")]
    *each, total = bars(pair, 79)
    assert len(each) == 2
    assert total.startswith("  all 2 files      [#####.....]  50 %     60.0/120.0 MiB")
    assert total.endswith("6.0 MiB/s     10 s")


def test_a_download_that_ended_counts_as_bytes_and_not_as_speed() -> None:
    pair = [moving(FileProgress(name, 60 * MIB, 60 * MIB, 60 * MIB)) for name in ("a", "b")]
    assert "12.0 MiB/s" in bars(pair, 79)[-1]
    pair[0].end()
    assert "120.0/120.0 MiB     6.0 MiB/s" in bars(pair, 79)[-1]


def test_before_the_first_byte_there_is_a_line() -> None:
    one = Transfer()
    one.tell((FileProgress("a", 0, MIB),), 0.0)
    assert [line.split()[0] for line in bars([one], 79)] == ["a"]


def test_many_files_do_not_fill_the_screen() -> None:
    one = moving(*(FileProgress(f"f{n}", MIB, 2 * MIB, MIB) for n in range(20)))
    assert len(bars([one], 79)) == MOST_BARS + 1
    assert bars([one], 79)[-1].split()[:3] == ["all", "20", "files"]


@pytest.mark.parametrize("width", [1, 10, 40, 74, 75, 79, 200])
def test_bars_fit_any_width(width: int) -> None:
    huge = FileProgress("x" * 300, 1023 * GIB + GIB // 2, 1024 * GIB - 1, 1023 * GIB)
    small = FileProgress("s", 1, 1023, 1)
    for one in (moving(huge), moving(small, seconds=1e6), moving(huge, small, seconds=1e5)):
        for line in bars([one], width):
            assert len(line) <= max(width, 8), line


def test_names_are_printable() -> None:
    one = moving(FileProgress("a\x1b[2Jb", 1, 2, 1))
    assert "\x1b" not in bars([one], 79)[0]


def test_per_cent_are_whole_only_when_all_is_here() -> None:
    assert [percent(done, 1000) for done in (0, 9, 10, 999, 1000)] == [0, 0, 1, 99, 100]
    assert percent(0, 0) == 100


def test_an_empty_file_is_all_here() -> None:
    one = Transfer()
    one.tell((FileProgress("a", 0, 0),), 0.0)
    assert "100 %" in bars([one], 79)[0]
    assert total_of(()).size == 0
