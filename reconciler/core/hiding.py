"""Hiding: secrets that are known here, wherever the words of a program may repeat them.

In: what a program has said, and the secrets. Out: the text without them. Which secrets there are
`drivers.secrets` reads; they go nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from reconciler.core.engine import MASK, sounds_secret
from reconciler.core.git_branch import masked

SHORTEST = 6
"""Characters of a secret. To hide what is shorter would hide half of what was said."""


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, also as JSON and URLs spell them, nor passwords of URLs.

    One of several lines is hidden line by line.
    """
    pieces = {piece.strip() for secret in secrets for piece in secret.splitlines()}
    forms = {form for piece in pieces if len(piece) >= SHORTEST for form in _forms(piece)}
    # The longest first: another one may be a part of it.
    for form in sorted(forms, key=lambda one: (-len(one), one)):
        text = text.replace(form, MASK)
    return masked(text)


def command_text(words: Iterable[str]) -> str:
    """A stranger's command line, without what follows a name that sounds secret.

    Passwords of URLs are hidden too. One word may be a whole command, as behind `sh -c`.
    """
    return " ".join(_shown_words(words))


def _shown_words(words: Iterable[str]) -> Iterator[str]:
    is_secret = False
    for word in words:
        name, equals, _ = word.partition("=")
        if is_secret and not word.startswith("-"):
            yield MASK
            is_secret = False
        elif len(parts := word.split()) > 1:
            yield from _shown_words(parts)
        elif (equals or word.startswith("-")) and sounds_secret(name):
            yield f"{name}={MASK}" if equals else masked(word)
            is_secret = not equals
        else:
            yield masked(word)
            is_secret = False


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
