"""Secrets in the words of others: hidden in every spelling, and nothing else with them."""

from __future__ import annotations

import pytest

from reconciler.core.engine import MASK
from reconciler.core.hiding import command_text, hide

SECRETS = (
    "sk-live-4711",
    "sk-live-4711-and-more",
    'pass"word/ä',
    "first line\nsecond line\n",
    "abc",
    "",
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("key sk-live-4711: no", f"key {MASK}: no"),
        ("sk-live-4711-and-more", MASK),
        ('{"p": "pass\\"word/\\u00e4"}', f'{{"p": "{MASK}"}}'),
        ("?p=pass%22word%2F%C3%A4", f"?p={MASK}"),
        ("> second line", f"> {MASK}"),
        ("abc is short", "abc is short"),
        ("https://me:x@host/p", "https://***@host/p"),
    ],
)
def test_secrets_are_hidden_however_they_are_spelled(said: str, shown: str) -> None:
    assert hide(said, SECRETS) == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["llama-server", "--api-key", "sk-1", "--port", "1"],
            f"llama-server --api-key {MASK} --port 1",
        ),
        (["x", "--api-key=sk-1", "y"], f"x --api-key={MASK} y"),
        (["x", "TOKEN=sk-1"], f"x TOKEN={MASK}"),
        (["sh", "-c", "x --password sk-1 --port 1"], f"sh -c x --password {MASK} --port 1"),
        (["x", "http://ann:sk-1@host/"], "x http://***@host/"),
        (["monkey.py", "8080"], "monkey.py 8080"),
        (["x", "--no-auth", "--port", "1"], "x --no-auth --port 1"),
        ([], ""),
    ],
)
def test_a_command_is_told_without_its_secrets(words: list[str], shown: str) -> None:
    assert command_text(words) == shown
