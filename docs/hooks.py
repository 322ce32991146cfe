"""What the site does to pages: a link that leads out of docs/ becomes its text and the path.

In: a page as it stands in docs/, where such links are right. Out: the page as mkdocs takes it.
"""

from __future__ import annotations

import posixpath
import re
from typing import Protocol

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)\s]*)?\)")


class Page(Protocol):
    """What of a page of mkdocs is asked."""

    file: File


class File(Protocol):
    """Where its file lies, seen from docs/."""

    src_uri: str


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Called by mkdocs for each page."""
    folder = posixpath.dirname(posixpath.join("docs", page.file.src_uri))

    def inside_only(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[2]))
        if path.startswith("docs/"):
            return link[0]
        text = link[1].strip("`")
        return f"`{path}`" if text.rstrip("/") == path else f"{link[1]} (`{path}`)"

    return _LINK.sub(inside_only, markdown)
