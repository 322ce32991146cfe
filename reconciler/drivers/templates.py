"""The gateway's templates: the shipped ones, a root's own in their place.

In: the root. Out: file name -> text. A root's own `templates/NAME` wins file by file; names that
are not shipped are none of the gateway's business. It only reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import reconciler
from reconciler.errors import GatewayError

PAGE = (
    "index.html.j2",
    "page.css",
    "icon.svg",
    "main.js",
    "api.js",
    "cards.js",
    "chat.js",
    "commands.js",
    "dom.js",
    "history.js",
    "log.js",
    "plan.js",
    "plots.js",
    "samples.js",
    "watch.js",
)
"""The status page's files: the gateway serves them as they are, without a build step."""
NAMES = (
    "nginx.conf.j2",
    "_apart.conf.j2",
    "_hold.conf.j2",
    "_keys.conf.j2",
    "_streams.conf.j2",
    "router.js",
    "streams.js",
    "access.js",
    "apart.js",
    "answers.js",
    "bodies.js",
    "coming.js",
    "conversations.js",
    "counts.js",
    "hold.js",
    "live.js",
    "logs.js",
    "metrics.js",
    "scrape.js",
    "models.js.j2",
    "records.js",
    "_page.conf.j2",
    *(f"page/{name}" for name in PAGE),
)


def shipped_folder() -> Path:
    """Where the shipped templates lie: in the package (a wheel), or beside it (a checkout)."""
    package = Path(reconciler.__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def load_templates(root: str | Path) -> Mapping[str, str]:
    """Read all templates of a root.

    Raises:
        GatewayError: one cannot be read.
    """
    return {name: _read(Path(root) / "templates" / name, name) for name in NAMES}


def _read(own: Path, name: str) -> str:
    path = own if own.is_file() else shipped_folder() / name
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(f"the template {path} cannot be read: {error}") from error
