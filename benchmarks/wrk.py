"""Load from wrk: one POST as fast as the other side answers, every answer checked.

In: a URL, a body, a piece that a good answer holds. Out: what wrk_check.lua counted. It must not
hide a bad answer: what is not a 200 with that piece, or a broken connection, is counted.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk_check.lua")
CONNECTIONS = 4
_LINE = re.compile(
    r"^checked answers=(\d+) bad=(\d+) broken=(\d+) micros=(\d+) p50=(\d+) p99=(\d+) first=(.*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw in one go."""

    answers: int
    bad: int
    """Answers that are not a 200 with the expected piece."""
    broken: int
    """Connections that were refused, cut, or timed out."""
    seconds: float
    p50_s: float
    p99_s: float
    first_bad: str = ""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.answers - self.bad) / self.seconds

    @property
    def complaint(self) -> str:
        """What makes this load's numbers invalid; empty when all answers were good."""
        if self.bad:
            return f"INVALID: {self.bad} of {self.answers} answers were bad ({self.first_bad})"
        if self.broken:
            return f"INVALID: {self.broken} connections broke ({self.answers} good answers)"
        return "" if self.answers else "INVALID: there was no answer at all"


def parse(output: str) -> Load:
    """Read what wrk_check.lua printed.

    Raises:
        ValueError: wrk did not get as far as that.
    """
    found = _LINE.search(output)
    if not found:
        raise ValueError(f"wrk said nothing to count:\n{output[-1000:]}")
    answers, bad, broken, micros, p50, p99 = (int(found[number]) for number in range(1, 7))
    return Load(answers, bad, broken, micros / 1e6, p50 / 1e6, p99 / 1e6, found[7].strip())


def post(url: str, body: str, piece: str, seconds: int, key: str = "") -> Load:
    """Send `body` to `url` from four connections for some seconds; `key`: an API key."""
    options = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(SCRIPT)]
    done = subprocess.run(
        ["wrk", *options, url, "--", body, piece, *([key] if key else [])],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    return parse(f"{done.stdout}\n{done.stderr}")
