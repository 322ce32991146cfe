"""An operator's `stop NAME`, which every plan shows: why, and until when it lasts.

In: what was typed and when. Out: `Suspension`, moments. It reads no clock and no time zone: whoever
reads the journal says what time it is, whoever types where he is.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from reconciler.core.fields import parse_duration

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:?\d\d)?)?")
_DURATION = re.compile(r"[\d.hms]*[hms]")
EXAMPLES = "30m, 18:00 or 2026-12-01T08:00"


@dataclass(frozen=True, slots=True)
class Suspension:
    """An operator's `stop NAME`, in force until `start NAME`, or until its time is over."""

    since: float
    reason: str = ""
    until: float | None = None
    """Seconds since the epoch; None: only `start` ends it."""
    zone_s: int = 0
    """How far the operator's clock is ahead of UTC then: it is shown as he reads it."""

    def is_over(self, now: float) -> bool:
        """Whether its time is over at `now`, in seconds since the epoch."""
        return self.until is not None and self.until <= now

    @property
    def end(self) -> str:
        """Until when, for people; empty where only `start` ends it."""
        if self.until is None:
            return ""
        zone = datetime.timezone(datetime.timedelta(seconds=self.zone_s))
        moment = datetime.datetime.fromtimestamp(self.until, zone)
        return moment.strftime(f"%Y-%m-%d %H:%M{':%S' if moment.second else ''} %Z")

    def __str__(self) -> str:
        until = f" until {self.end}" if self.end else ""
        return f"suspended by `stop`{until}{': ' + self.reason if self.reason else ''}"


def moment_of(text: str, now: datetime.datetime) -> datetime.datetime:
    """The moment that is meant by `30m`, `18:00` (the next one) or `2026-12-01T08:00`.

    `now` is what the operator's clock says. A moment without a zone is one of that clock.

    Raises:
        ValueError: it is none of these.
    """
    if _DURATION.fullmatch(text):
        return now + datetime.timedelta(seconds=parse_duration(text))
    if _DATE.fullmatch(text):
        return datetime.datetime.fromisoformat(text)
    clock = _CLOCK.fullmatch(text)
    if not clock:
        raise ValueError(f"expected a time like {EXAMPLES}")
    moment = datetime.datetime.combine(now.date(), datetime.time(int(clock[1]), int(clock[2])))
    is_over = moment <= now.replace(tzinfo=None)
    return moment + datetime.timedelta(days=1) if is_over else moment
