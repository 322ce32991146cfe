"""Text as it may be shown: foreign text on a terminal, an error with its hint in one line.

In: command lines, log lines, anything that somebody else wrote. Out: one line of printable text.
A stranger's argv must neither move our cursor nor forge a line of a plan.
"""

import re

PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
"""The name and password of a URL."""
_QUERY = re.compile(r"(://[^\s?\"']*\?)[^\s\"',}]+")


def printable(text: str) -> str:
    """The text with everything unprintable, line ends too, written as an escape."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def without_keys(text: str) -> str:
    """The text without what is secret about URLs in it: passwords, and what follows a `?`."""
    return _QUERY.sub(r"\1…", PASSWORD.sub("***@", text))


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for tables of names."""
    return frozenset(text.split())


def with_hint(message: str, hint: str) -> str:
    """An error where there is one line for it: what is wrong, and what to do next."""
    return f"{message}; {hint}" if hint else message
