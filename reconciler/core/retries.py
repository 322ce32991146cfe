"""How long to wait before a server is asked again.

In: how often it failed in a row, what its `Retry-After` says, a random number. Out: seconds.
Nothing here waits, reads a clock or draws a number.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

LONGEST_ASKED_S = 300.0
"""A server that asks for more gets this much, and is asked again."""


def retry_after(text: str, now: float) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or an HTTP date; None when unclear.

    `now` is in seconds since the epoch.
    """
    word = text.strip()
    if word.isascii() and word.isdigit():
        return min(float(word), LONGEST_ASKED_S)
    try:
        moment = parsedate_to_datetime(word).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(moment - now, 0.0), LONGEST_ASKED_S)


def pause(failures: int, chance: float, *, first: float, longest: float) -> float:
    """Seconds after so many failures in a row (1 or more): doubling, capped, spread by chance.

    `chance` is from 0 to 1: connections that failed together must not come back together.
    """
    whole = min(first * 2.0 ** min(failures - 1, 30), longest)
    return whole * (0.5 + chance / 2)
