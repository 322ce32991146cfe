"""What the layers above may ask of kept generations: the seam beside those of `drivers.base`.

In: what was applied, as it was written. Out: the same, the newest last. A run goes on where one
cannot be kept: it is a way back, and no part of what is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reconciler.core.generations import Generation
from reconciler.core.history import Origin
from reconciler.core.parse import SourceText


class Generations(Protocol):
    """The desired states that were applied to one root."""

    def newest(self) -> Generation | None:
        """The one that was applied last; None: nothing was, or it is lost."""
        ...

    def all(self) -> tuple[Generation, ...]:
        """Those that are kept, the oldest first."""
        ...

    def note(
        self, sources: Sequence[SourceText], lock: str | None, origin: Origin, at: float
    ) -> Generation | None:
        """Keep what is being applied; where that is the newest one already, it stays as it is.

        None: it is too large to be kept.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def amend(self, generation: Generation, lock: str | None) -> None:
        """Applying it has led to this lock file.

        Raises:
            OSError: it cannot be written.
        """
        ...
