"""Proxies of the environment: who goes through one, who does not, and which cannot be used."""

from __future__ import annotations

import pytest

from reconciler.drivers.fetch.proxies import Proxy, check_all, proxy_for
from reconciler.errors import HubError

PROXY = Proxy("proxy.lan", 3128, {})


@pytest.fixture(autouse=True)
def _no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("https_proxy", "http://proxy.lan:3128", PROXY),
        ("HTTPS_PROXY", "proxy.lan:3128", PROXY),
        ("ALL_PROXY", "http://proxy.lan:3128/", PROXY),
        ("https_proxy", "http://[::1]", Proxy("::1", 80, {})),
        ("https_proxy", "", None),
        ("http_proxy", "http://proxy.lan:3128", None),
    ],
)
def test_whose_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str, found: Proxy | None
) -> None:
    assert proxy_for("https", "hub.example", 443) is None
    monkeypatch.setenv(name, said)
    assert proxy_for("https", "hub.example", 443) == found


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.lan")
    proxy = proxy_for("https", "hub.example", 443)
    assert proxy
    assert proxy.headers == {"Proxy-Authorization": "Basic bWU6c2VjcmV0"}
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize(
    ("rules", "host", "is_excepted"),
    [
        ("hub.example", "hub.example", True),
        ("hub.example", "cdn.hub.example", True),
        ("hub.example", "myhub.example", False),
        (".hub.example", "hub.example", True),
        (".hub.example", "cdn.hub.example", True),
        ("cdn.hub.example", "hub.example", False),
        ("HUB.example.", "hub.example", True),
        ("hub.example", "hub.example.", True),
        ("a.lan, hub.example", "hub.example", True),
        ("a.lan hub.example", "hub.example", True),
        ("hub.example:443", "hub.example", True),
        ("hub.example:8443", "hub.example", False),
        ("*", "hub.example", True),
        (".", "hub.example", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:443", "127.0.0.1", True),
        ("0.0.1", "127.0.0.1", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.9/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "hub.example", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("[::1]:443", "::1", True),
        ("fe80::/10", "fe80::443", True),
        ("fe80::443", "fe80::443", True),
    ],
)
def test_who_needs_none(
    monkeypatch: pytest.MonkeyPatch, rules: str, host: str, is_excepted: bool
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    monkeypatch.setenv("NO_PROXY", rules)
    assert proxy_for("https", host, 443) == (None if is_excepted else PROXY)


@pytest.mark.parametrize(
    ("name", "said", "wrong"),
    [
        ("https_proxy", "socks5://me:secret@proxy.lan:9", "the address of a socks5 proxy"),
        ("HTTPS_PROXY", "https://me:secret@proxy.lan", "the address of a https proxy"),
        ("ALL_PROXY", "socks5h://me:secret@proxy.lan", "the address of a socks5h proxy"),
        ("HTTPS_PROXY", "http://me:secret@proxy.lan:none", "no address of a proxy"),
        ("https_proxy", "http://", "no address of a proxy"),
        ("https_proxy", "http://proxy.lan:0", "no address of a proxy"),
        ("https_proxy", "http://[secret", "no address of a proxy"),
    ],
)
def test_what_cannot_be_used_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str, wrong: str
) -> None:
    monkeypatch.setenv(name, said)
    with pytest.raises(HubError) as caught:
        proxy_for("https", "hub.example", 443)
    error = caught.value
    assert error.message.startswith(f"the environment's {name} is {wrong}; ")
    assert error.hint == f"set {name} to `http://HOST:PORT`, or name hub.example in NO_PROXY"
    assert "secret" not in f"{error.message}{error.hint}"
    assert not error.retryable
    # Who is excepted needs none of it.
    monkeypatch.setenv("no_proxy", "hub.example")
    assert proxy_for("https", "hub.example", 443) is None


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_no_client_can_take_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The hub's own client reads all of them, whoever it is to ask."""
    for said in ("proxy.lan", "https://proxy.lan"):
        monkeypatch.setenv(name, said)
        check_all()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv(name, "socks5://proxy.lan")
    with pytest.raises(HubError, match=f"{name} is the address of a socks5 proxy") as caught:
        check_all()
    assert caught.value.hint == f"set {name} to `http://HOST:PORT`, or unset it"
