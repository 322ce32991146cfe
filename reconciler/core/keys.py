"""The gateway's keys file as values: who may use which models, and how much.

In: the bytes of `gateway.keys_file`, one `name:key[:model,model...] [rpm=N] [parallel=N]` a line.
Out: `GatewayKey`s, which know a key by its sha256 only; or GatewayError, each mistake at file:line.
The keys themselves go no further than this module. No message repeats a word of the file: where
somebody mixed up the order, any of them may be the key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.desired import Model
from reconciler.core.findings import nearest
from reconciler.errors import Diagnostic, GatewayError, Position, Severity

SHORTEST_KEY, LONGEST_KEY = 8, 256
"""Characters; nginx takes 8 KiB as one header line."""
LARGEST_LIMIT = 60_000
"""A thousand requests a second, or nearly as many at once as nginx can count (65,535)."""
FORM = "write NAME:KEY or NAME:KEY:MODEL,MODEL"

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_KEY = re.compile(rf"[!-9;-~]{{{SHORTEST_KEY},{LONGEST_KEY}}}")
"""Printable ASCII; the colon separates."""
_SCOPE = re.compile(r"[^\s,]+(?:,[^\s,]+)*")
_LIMIT = re.compile(r"(rpm|parallel)=([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """One key: whose it is and what it may be used for."""

    name: str
    """What the access log and plans call it."""
    digest: str
    """sha256 of the key, in hex."""
    models: tuple[str, ...] | None = None
    """The models that it may use, by name or alias as written; None: all of them."""
    line: int = 0
    column: int = 0
    """Where the first of `models` stands."""
    per_minute: int | None = None
    """Requests that it may begin in a minute; None: any number."""
    at_once: int | None = None
    """Requests that it may have running; None: any number."""


def parse_keys(file: str, content: bytes) -> tuple[GatewayKey, ...]:
    """Read a keys file; `file` is what messages call it.

    Spaces at a line's ends, CRLF, a byte order mark, blank lines and `#` lines do not matter.

    Raises:
        GatewayError: with all mistakes, or because it holds no key at all.
    """
    keys: list[GatewayKey] = []
    problems: list[str] = []
    for line, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = raw.decode()
            if text.strip() and not text.lstrip().startswith("#"):
                keys.append(_key(text, line, keys))
        except UnicodeDecodeError:
            problems.append(f"{file}:{line}: this is not UTF-8 text")
        except ValueError as error:
            problems.append(f"{file}:{line}: {error}")
    if not keys and not problems:
        problems = [f"{file} holds no key: {FORM}, one a line"]
    if problems:
        raise GatewayError("; ".join(problems), retryable=False)
    return tuple(keys)


def key_texts(content: bytes) -> Iterator[str]:
    """The keys themselves, to be hidden and for nothing else; of a bad line all that may be one."""
    for line in content.decode(errors="replace").splitlines():
        words = [word for word in re.split(r"[\s:]+", line) if word]
        if line.lstrip().startswith("#"):
            continue
        is_good = len(words) > 1 and _KEY.fullmatch(words[1])
        yield from words[1:2] if is_good else (one for one in words if _KEY.fullmatch(one))


def _key(text: str, line: int, before: Iterable[GatewayKey]) -> GatewayKey:
    name, colon, rest = text.strip().partition(":")
    rest, *limits = re.split(r"\s+", rest)
    key, scoped, scope = rest.partition(":")
    if not colon:
        raise ValueError(FORM)
    if not KEY_NAME.fullmatch(name):
        said = "before the first colon stands the name: 1 to 63 letters, digits, `.`, `_`, `@`, `-`"
        raise ValueError(said)
    if not _KEY.fullmatch(key):
        length = f"{SHORTEST_KEY} to {LONGEST_KEY}"
        said = f"the key has to be {length} printable ASCII characters, no spaces or colons"
        raise ValueError(said)
    if scoped and not _SCOPE.fullmatch(scope):
        raise ValueError("after the second colon stand models, separated by commas without spaces")
    limited = _limits(limits)
    digest = hashlib.sha256(key.encode()).hexdigest()
    for other in before:
        if other.name == name:
            raise ValueError(f"the name is that of line {other.line} too")
        if other.digest == digest:
            raise ValueError(f"the key is that of line {other.line} too")
    column = len(text) - len(text.lstrip()) + len(f"{name}:{key}{scoped}") + 1
    models = tuple(scope.split(",")) if scoped else None
    rpm, parallel = limited.get("rpm"), limited.get("parallel")
    return GatewayKey(name, digest, models, line, column, rpm, parallel)


def _limits(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        match = _LIMIT.fullmatch(word)
        if not match or match[1] in found or int(match[2]) > LARGEST_LIMIT:
            raise ValueError(
                "after a space stand limits, each once and from 1 to "
                f"{LARGEST_LIMIT}: rpm=60 (requests a minute), parallel=4 (at once)"
            )
        found[match[1]] = int(match[2])
    return found


def known_scope(key: GatewayKey, models: Mapping[str, Model]) -> tuple[str, ...] | None:
    """The names of the models that a key may use, sorted; None: all. An alias is its model.

    What no model is called is left out: it allows nothing here, but perhaps on another machine.
    """
    if key.models is None:
        return None
    owners = _owners(models)
    return tuple(sorted({owners[model] for model in key.models if model in owners}))


def scope_warnings(
    file: str, keys: Iterable[GatewayKey], models: Mapping[str, Model]
) -> Iterator[Diagnostic]:
    """The places where a key names a model that is not in the desired file."""
    owners = _owners(models)
    for key in keys:
        column = key.column
        for model in key.models or ():
            if model not in owners:
                said = "a key is for a model that is not in the desired file"
                said += nearest(model, owners)
                yield Diagnostic(Severity.WARNING, said, Position(file, key.line, column))
            column += len(model) + 1


def _owners(models: Mapping[str, Model]) -> dict[str, str]:
    """Name or alias -> name."""
    aliases = {alias: name for name, model in models.items() for alias in model.aliases}
    return aliases | {name: name for name in models}
