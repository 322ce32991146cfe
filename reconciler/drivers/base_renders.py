"""What the layers above may ask of the user's own generated files: a seam beside `drivers.base`.

In: the renders of the desired state, effects of a plan. Out: what was found, or an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from reconciler.core.desired import Render
from reconciler.core.plan import RemoveRender, WriteRender
from reconciler.core.renders import ObservedRenders

if TYPE_CHECKING:
    from reconciler.drivers.base import Cancel


class Renders(Protocol):
    """Templates and the files that are made of them."""

    def observe(self, wanted: Iterable[Render]) -> ObservedRenders:
        """These, and all that we have made before; nothing is run."""
        ...

    def apply(self, effect: WriteRender | RemoveRender, cancel: Cancel) -> None:
        """Write a file, once it was judged, and tell of it; or take it away.

        On failure the last good one is back.

        Raises:
            StepError: the new file was refused, or who reads it could not be told.
            InterruptedRunError: the run is to end; the next one goes on.
        """
        ...
