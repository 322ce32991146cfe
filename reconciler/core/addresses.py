"""Network addresses as the desired file writes them: hosts, addresses to listen on, URLs.

In: values of the file. Out: checked text, or a ValueError in plain words. A URL may hold a secret:
no error repeats one, and what people are shown of it is `shown_url`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from reconciler.core.text import printable

_LISTEN = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\]):([0-9]{1,5})")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~-]*(?:\[[0-9a-f:.]+\])?(?::[0-9]{1,5})?")
"""What a browser, or an app made of one, sends as `Origin`; in lower case."""
_SHARD = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf")


def parse_host(value: str) -> str:
    """Check a host name or an IPv4 address."""
    labels = value.split(".")
    good = len(value) <= 253 and all(
        re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", label) for label in labels
    )
    if not good or (labels[-1].isdigit() and not _is_address(IPv4Address, value)):
        raise ValueError("expected a host name like llm.lan")
    return value


def _is_address(kind: type[IPv4Address | IPv6Address], value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def local_host(host: str) -> str:
    """Where a client on this machine reaches what listens on `host`; v6 ones are in brackets."""
    for kind, loopback in ((IPv4Address, "127.0.0.1"), (IPv6Address, "[::1]")):
        name = host.strip("[]")
        if _is_address(kind, name) and ip_address(name).is_unspecified:
            return loopback
    return host


def parse_origin(value: str) -> str:
    """Check the origin of a page or an app: `https://chat.lan:3000`."""
    origin = value.lower()
    if not ORIGIN.fullmatch(origin):
        raise ValueError("expected an origin like https://chat.lan:3000: no path, no `*`")
    return origin


def parse_listen(value: object) -> str:
    """Check `HOST:PORT`, `[V6]:PORT` or a bare port (then on 127.0.0.1)."""
    text = f"127.0.0.1:{value}" if isinstance(value, int) and not isinstance(value, bool) else value
    match = _LISTEN.fullmatch(text) if isinstance(text, str) else None
    if not match or not 1 <= int(match[3]) <= 65535 or not _is_host(match[1], match[2]):
        raise ValueError("expected an address like 127.0.0.1:8888")
    return match[0]


def _is_host(name: str | None, v6: str | None) -> bool:
    if v6 is not None:
        return _is_address(IPv6Address, v6)
    try:
        parse_host(name or "")
    except ValueError:
        return False
    return True


def parse_url(value: str) -> str:
    """Check where one file is to be had: https, or http on this machine itself."""
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must hold no spaces and only ASCII: write what is else as %20 and so on")
    parts = _split(value)
    if parts is None or not parts.hostname or parts.scheme not in {"http", "https"}:
        raise ValueError("must be a whole https URL, like https://example.org/x.gguf")
    if "@" in parts.netloc:
        raise ValueError(
            "must not hold a user or password, which plans would show; where one is needed, "
            "fetch the file yourself and use `path`"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https; http is only for this machine itself, as 127.0.0.1")
    if "#" in value:
        raise ValueError("must not hold a `#`, which no server ever sees")
    if not file_name(value):
        raise ValueError("must name a file, not a folder")
    if _SHARD.search(unquote(value)):
        raise ValueError(
            "is one of several shards, and a `sha256` is that of one file: use `repo`, or fetch "
            "all of them yourself and use `path`"
        )
    return value


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, and nobody else can be."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def file_name(url: str) -> str:
    """What the file of a URL is called."""
    return printable(unquote(urlsplit(url).path).rpartition("/")[2])


def shown_url(url: str) -> str:
    """A URL as people are shown it: what follows its `?` may be a key."""
    parts = urlsplit(url)
    return parts._replace(query="…" if parts.query else "").geturl()
