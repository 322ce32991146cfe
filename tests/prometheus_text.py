"""Prometheus' text format as tests read it: strict, and by name.

In: a page. Out: its samples. What the format forbids fails the test: a family in two places, a
second HELP or TYPE, a line that is no sample, the same series twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: (-?\d+))?")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_UNESCAPED = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}

Labels = frozenset[tuple[str, str]]


@dataclass
class Page:
    """What a page says."""

    types: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    series: dict[str, dict[Labels, float]] = field(default_factory=dict)
    """By name, with _bucket and the like, then by labels."""

    def values(self, name: str, **wanted: str) -> dict[str, float]:
        """The series of a name that have these labels; by their other labels, as text."""
        found = {}
        for labels, value in self.series.get(name, {}).items():
            if wanted.items() <= dict(labels).items():
                rest = sorted(labels - wanted.items())
                found[",".join(f"{key}={text}" for key, text in rest)] = value
        return found

    def value(self, name: str, **labels: str) -> float:
        """The one series with exactly these labels."""
        return self.series[name][frozenset(labels.items())]

    def seen(self, label: str) -> set[str]:
        """All values of a label."""
        found = (dict(labels) for rows in self.series.values() for labels in rows)
        return {labels[label] for labels in found if label in labels}


def read_page(text: str) -> Page:
    page, done, family = Page(), set[str](), ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = [*line.split(" ", 3), ""][:4]
            kept = {"HELP": page.helps, "TYPE": page.types}[what]
            assert name not in kept, f"a second {what} of {name}"
            kept[name] = rest
        else:
            found = _SAMPLE.fullmatch(line)
            assert found, f"no sample: {line}"
            name = next((one for one in _families(found[1]) if one in page.types), found[1])
            labels = _labels(found[2] or "")
            rows = page.series.setdefault(found[1], {})
            assert labels not in rows, f"twice: {line}"
            rows[labels] = float(found[3])
        if name != family:
            assert name not in done, f"{name} is in two places"
            done.add(name)
            family = name
    return page


def _families(name: str) -> list[str]:
    stems = [name.removesuffix(end) for end in _PARTS["histogram"] if name.endswith(end)]
    return [name, *stems]


def _labels(text: str) -> Labels:
    found = list(_LABEL.finditer(text))
    assert "".join(one[0] for one in found) == text, f"no labels: {text}"
    names: Mapping[str, str] = {one[1]: _plain(one[2]) for one in found}
    assert len(names) == len(found), f"a label twice: {text}"
    return frozenset(names.items())


def _plain(text: str) -> str:
    return re.sub(r"\\.", lambda found: _UNESCAPED[found[0]], text)
