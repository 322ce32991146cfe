"""Which bytes are here, which are missing, and what a journal says of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.ranges import (
    IN_FLIGHT_SHARE,
    LONGEST_CHUNK,
    MIB,
    Journal,
    Layout,
    Span,
    gaps,
    layout,
    length,
    merged,
    parse_content_range,
    parse_journal,
    pieces,
    prefix,
    span_line,
)

SIZE = 40
spans = st.lists(
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda two: (min(two), max(two)))
)


def bytes_of(some: tuple[Span, ...] | list[Span]) -> set[int]:
    return {at for begin, end in some for at in range(begin, end)}


@given(spans)
def test_merged_spans_are_the_same_bytes_in_order_and_apart(some: list[Span]) -> None:
    result = merged(some)
    assert bytes_of(result) == bytes_of(some)
    assert all(begin < end < later for (begin, end), (later, _) in pairwise(result))
    assert length(result) == len(bytes_of(some))


@given(spans, st.integers(1, 9))
def test_what_is_missing_is_what_is_not_here(some: list[Span], chunk: int) -> None:
    here = merged(some)
    missing = list(pieces(gaps(here, SIZE), chunk))
    assert bytes_of(missing) == set(range(SIZE)) - bytes_of(here)
    assert length(missing) == SIZE - length(here)
    assert all(0 < end - begin <= chunk for begin, end in missing)
    assert missing == sorted(missing)


@given(spans)
def test_the_prefix_ends_where_the_first_byte_is_missing(some: list[Span]) -> None:
    here = bytes_of(some)
    assert prefix(merged(some)) == next(at for at in range(SIZE + 1) if at not in here)


@given(spans, st.text('"abc/-', max_size=9), st.integers(0, 99))
def test_a_journal_cut_anywhere_says_nothing_wrong(some: list[Span], etag: str, cut: int) -> None:
    whole = Journal(SIZE, etag, ()).text + "".join(span_line(span) for span in some)
    assert parse_journal(whole, SIZE) == Journal(SIZE, etag, merged(some))
    found = parse_journal(whole[:-cut] if cut else whole, SIZE)
    assert found is None or bytes_of(found.spans) <= bytes_of(some)
    again = Journal(SIZE, etag, merged(some))
    assert parse_journal(again.text, SIZE) == again


@pytest.mark.parametrize("text", ["", "\n", "0 5\n", "llm-reconcile partial 1 41 x\n", "x\n0 5\n"])
def test_a_journal_of_something_else_counts_for_nothing(text: str) -> None:
    assert parse_journal(text, SIZE) is None


@pytest.mark.parametrize("line", ["nonsense", "0 41", "", "7"])
def test_a_line_without_sense_ends_a_journal(line: str) -> None:
    text = Journal(SIZE, "e", ((0, 5),)).text + f"{line}\n10 20\n"
    assert parse_journal(text, SIZE) == Journal(SIZE, "e", ((0, 5),))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("bytes 0-4/10", ((0, 5), 10)),
        (" bytes 7-7/8 ", ((7, 8), 8)),
        ("bytes 5-4/10", None),
        ("bytes 0-4/*", None),
        ("bytes */10", None),
        ("", None),
    ],
)
def test_what_a_server_sends(text: str, meaning: tuple[Span, int] | None) -> None:
    assert parse_content_range(text) == meaning


@pytest.mark.parametrize("size", [256 * MIB, 2**30, 2 * 10**9, 50 * 2**30, 400 * 10**9])
@pytest.mark.parametrize("connections", [1, 4, 16])
def test_ten_kills_cost_at_most_two_per_cent(size: int, connections: int) -> None:
    for files in (1, 2, 5):
        found = layout(size * files, files, connections)
        assert 1 <= found.connections <= connections
        assert 10 * files * found.connections * found.chunk <= 0.02 * size * files
        assert found.chunk <= LONGEST_CHUNK


def test_small_files_take_one_connection_and_big_ones_all() -> None:
    assert layout(0, 1, 4) == layout(100 * MIB, 2, 4) == Layout(1, MIB // 2)
    assert layout(2**30, 1, 4) == Layout(1, int(2**30 * IN_FLIGHT_SHARE))
    assert layout(2**33, 1, 4).connections == layout(2**34, 2, 4).connections == 4
