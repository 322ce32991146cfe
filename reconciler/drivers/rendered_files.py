"""The files that a running nginx was given, as they lie there now.

In: the site, a generation. Out: their texts by name. It only reads: who writes them is `nginx`.
A file that is gone or unreadable is missing from what comes back.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from reconciler.core.site import Site
from reconciler.core.words import Generation


def rendered_files(site: Site, generation: Generation | None) -> dict[str, str]:
    """The texts of a generation's folder; nothing where there is none."""
    folder, found = Path(site.gateway) / (generation or ""), dict[str, str]()
    if generation is None:
        return found
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                name = str(path.relative_to(folder))
                found[name] = path.read_text(encoding="utf-8", errors="replace")
    return found
