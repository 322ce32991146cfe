"""What the layers above may ask of the store: the seam beside those of `drivers.base`.

In: folders' names, removals. Out: what lies in the store's folder, and who uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from reconciler.core.stored import Inode, Needed, Removal, StoredRepo


class Store(Protocol):
    """The folder of fetched files, as a whole."""

    def repos(self, folders: Iterable[str]) -> Mapping[str, StoredRepo]:
        """What lies in these folders of it, by their names; one that is not there is not in it."""
        ...

    def open_files(self) -> Mapping[Inode, frozenset[int]]:
        """What processes of this user have open or mapped, and their pids."""
        ...

    def elsewhere(self) -> Mapping[str, Needed]:
        """What other desired files of this root need of it, by their names.

        Raises:
            InvalidDesiredError: one of them cannot be read.
            UsageError: other tools use this store too.
        """
        ...

    def remove(self, removals: Iterable[Removal]) -> int:
        """Take these out, one after the other; the bytes freed."""
        ...
