"""The writer of docs/benchmarks.md: measured sections and the machine's facts, as Markdown.

In: `Section`s, the facts, the command that was run. Out: one text. Pure: it reads no clock and
measures nothing; the same input gives the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results import Bar, Row, Section, Unit

_HEAD = """\
# Benchmarks

Written by `{command}`; an edit here is lost at the next run.
[CONTRIBUTING.md](../CONTRIBUTING.md) says how to run and extend it.

Each number is the median of its rounds, with the least and the most of them in parentheses.
Absolute numbers are this machine's; what carries over are the ratios. A ratio is taken round by
round between things that were measured in turn within this one run.
"""
_QUICK = """\
**This was a quick run, one round with a tenth of everything, to try the harness: its numbers and
its missed bars say nothing.**
"""
_BYTE_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def render(
    command: str, facts: Mapping[str, str], sections: Sequence[Section], *, quick: bool = False
) -> str:
    """The whole document; a `quick` run's says that it is one."""
    machine = _table(("", "this run"), [(name, value) for name, value in facts.items()])
    head = [_HEAD.format(command=command), *([_QUICK] if quick else [])]
    parts = [*head, machine, *map(_section, sections)]
    return "\n".join(parts)


def _section(section: Section) -> str:
    rows = [_cells(row) for row in section.rows]
    table = _table(("", "median (least..most)", "rounds", "bar"), rows)
    return f"## {section.title}\n\n{section.about.strip()}\n\n{table}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, str, str, str]:
    if not row.values:
        return (row.name, row.note, "0", _bar(row, None))
    spread = f"{_shown(min(row.values), row.unit)}..{_shown(max(row.values), row.unit)}"
    value = f"{_shown(row.median, row.unit)} ({spread})"
    if len(row.values) == 1:
        value = _shown(row.median, row.unit)
    if row.note:
        value = f"{value} **{row.note}**"
    return (row.name, value, str(len(row.values)), _bar(row, row.median))


def _bar(row: Row, value: float | None) -> str:
    if row.bar is None:
        return ""
    said = _bounds(row.bar, row.unit)
    if value is None:
        return said
    verdict = "met" if row.bar.is_met(value) and not row.note else "**missed**"
    if verdict == "met" and row.bar.aim is not None and value > row.bar.aim:
        verdict = "met, the aim is not"
    return f"{said}: {verdict}"


def _bounds(bar: Bar, unit: Unit) -> str:
    said = [] if bar.most is None else [f"at most {_shown(bar.most, unit)}"]
    said += [] if bar.least is None else [f"at least {_shown(bar.least, unit)}"]
    said += [] if bar.aim is None else [f"aim {_shown(bar.aim, unit)}"]
    return ", ".join(said)


def _shown(value: float, unit: Unit) -> str:
    """A number with its unit, three digits of it."""
    if unit is Unit.SECONDS:
        return f"{_digits(value * 1000)} ms" if value < 1 else f"{_digits(value)} s"
    if unit is Unit.BYTES:
        for size, name in _BYTE_UNITS:
            if value >= size:
                return f"{_digits(value / size)} {name}"
        return f"{value:.0f} bytes"
    if unit is Unit.SPEED:
        return f"{_digits(value / 1e6)} MB/s"
    if unit is Unit.RATE:
        return f"{value:,.0f}/s"
    return f"{_digits(value)} x" if unit is Unit.RATIO else f"{value:,.0f}"


def _digits(value: float) -> str:
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}"
