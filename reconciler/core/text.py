"""Foreign text as a terminal may show it.

In: command lines, log lines, anything that somebody else wrote. Out: one line of printable text.
A stranger's argv must neither move our cursor nor forge a line of a plan.
"""


def printable(text: str) -> str:
    """The text with everything unprintable, line ends too, written as an escape."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
