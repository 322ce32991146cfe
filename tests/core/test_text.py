"""Foreign text as a terminal may show it."""

from reconciler.core.observed import PortHolder
from reconciler.core.text import printable


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    evil = "nc\n\x1b]0;title\x07\x1b[2JNo changes.\r\u202e ü"
    said = str(PortHolder(1, 2, evil))
    assert said.isprintable()
    assert "\\x1b[2J" in said
    assert "\\n" in said
    assert printable("plain ü") == "plain ü"
