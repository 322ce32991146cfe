"""Hosts and URLs as the desired file writes them; `listen` is tested with the gateway's fields."""

from __future__ import annotations

import pytest

from reconciler.core.addresses import (
    file_name,
    is_loopback,
    parse_host,
    parse_origin,
    parse_url,
    shown_url,
)


@pytest.mark.parametrize("host", ["a", "llm.lan", "10.0.0.1", "my_host", "A-1.b", "a" * 63])
def test_hosts(host: str) -> None:
    assert parse_host(host) == host


@pytest.mark.parametrize(
    "host", ["", "-a", "a-", "a.", ".a", "a b", "a:1", "1.2.3", "1.2.3.256", "a" * 64, "a." * 127]
)
def test_no_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        parse_host(host)


@pytest.mark.parametrize(
    "origin",
    ["https://chat.lan", "http://10.0.0.1:3000", "http://[::1]:80", "app://x.y", "file://"],
)
def test_origins(origin: str) -> None:
    assert parse_origin(origin.upper()) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "chat.lan",
        "https://chat.lan/",
        "https://a b",
        "https://a:1:2",
        'x://"',
        "://a",
    ],
)
def test_no_origins(origin: str) -> None:
    with pytest.raises(ValueError, match="expected an origin like"):
        parse_origin(origin)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/x.gguf",
        "https://example.org:8443/a/b/x.gguf?version=2&part=1",
        "HTTPS://EXAMPLE.ORG/x-00001-of-00001.gguf",
        "https://[2001:db8::1]/x%20y.gguf",
        "https://example.org/@user/x.gguf",
        "http://127.0.0.1:8000/x.gguf",
        "http://[::1]/x.gguf",
        "http://localhost/x.gguf",
    ],
)
def test_urls(url: str) -> None:
    assert parse_url(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no spaces"),
        ("https://example.org/x y", "no spaces"),
        ("https://example.org/ü.gguf", "only ASCII"),
        ("example.org/x.gguf", "a whole https URL"),
        ("https:/x.gguf", "a whole https URL"),
        ("ftp://example.org/x.gguf", "a whole https URL"),
        ("https://[::1/x.gguf", "a whole https URL"),
        ("https://example.org:99999/x.gguf", "a whole https URL"),
        ("https://sk-secret@example.org/x.gguf", "user or password"),
        ("https://:sk-secret@example.org/x.gguf", "user or password"),
        ("https://@example.org/x.gguf", "user or password"),
        ("http://example.org/x.gguf?sk-secret", "must be https"),
        ("http://127.0.0.1.example.org/x.gguf", "must be https"),
        ("http://10.0.0.1/x.gguf", "must be https"),
        ("https://example.org/x.gguf#sk-secret", "#"),
        ("https://example.org/x.gguf#", "#"),
        ("https://example.org", "a file, not a folder"),
        ("https://example.org/x/?a=b", "a file, not a folder"),
        ("https://example.org/x-00001-of-00002.gguf", "one of several shards"),
        ("https://example.org/get?file=Q4%2Fx-00002-of-00002.gguf", "one of several shards"),
    ],
)
def test_no_urls(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_url(url)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("192.168.0.1", False),
        ("localhost.lan", False),
        ("", False),
    ],
)
def test_this_machine_itself(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


def test_what_people_are_shown_of_a_url() -> None:
    assert shown_url("https://example.org/x.gguf") == "https://example.org/x.gguf"
    assert shown_url("https://example.org/x.gguf?sig=sk-secret") == "https://example.org/x.gguf?…"


def test_what_the_file_of_a_url_is_called() -> None:
    assert file_name("https://example.org/a/x.gguf?b=/c") == "x.gguf"
    assert file_name("https://example.org/a%2Fx%20y%0a.gguf") == "x y\\n.gguf"
