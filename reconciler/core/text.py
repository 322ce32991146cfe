"""Text as it may be shown: foreign text on a terminal, an error with its hint in one line.

In: command lines, log lines, anything that somebody else wrote. Out: one line of printable text.
A stranger's argv must neither move our cursor nor forge a line of a plan.
"""


def printable(text: str) -> str:
    """The text with everything unprintable, line ends too, written as an escape."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for tables of names."""
    return frozenset(text.split())


def with_hint(message: str, hint: str) -> str:
    """An error where there is one line for it: what is wrong, and what to do next."""
    return f"{message}; {hint}" if hint else message
