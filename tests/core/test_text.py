"""Foreign text as a terminal may show it."""

from reconciler.core.observed import PortHolder
from reconciler.core.text import printable, without_keys
from reconciler.errors import Diagnostic, Position, Severity


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    evil = "nc\n\x1b]0;title\x07\x1b[2JNo changes.\r\u202e ü"
    said = str(PortHolder(1, 2, evil))
    assert said.isprintable()
    assert "\\x1b[2J" in said
    assert "\\n" in said
    assert printable("plain ü") == "plain ü"


def test_a_diagnostic_has_one_line_for_where_there_is_only_one() -> None:
    place = Position("x.yaml", 2, 3)
    assert Diagnostic(Severity.ERROR, "odd", place, "do this").line == "x.yaml:2:3: odd; do this"
    assert Diagnostic(Severity.ERROR, "odd").line == "odd"


def test_what_may_be_secret_about_a_url_is_left_out() -> None:
    assert without_keys("https://ann:x@h/a?sig=b&k=c is odd") == "https://***@h/a?… is odd"
    assert without_keys("is it x?") == "is it x?"
    assert without_keys("https://h/a?") == "https://h/a?"
