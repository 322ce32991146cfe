"""Which proxy stands between us and a server, as the environment says.

In: a server's scheme, host and port. Out: the proxy, or none; it connects to nobody. NO_PROXY is
read as curl reads it: names with all below them, addresses, networks, `*`; a port may be said, too.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

from reconciler.errors import HubError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens, and what it wants to be told."""

    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False)


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for this server.

    Raises:
        HubError: it is one that downloads cannot go through.
    """
    known = getproxies()
    kind = scheme if known.get(scheme) else "all"
    said = known.get(kind)
    if not said or _is_excepted(host, port, known.get("no", "")):
        return None
    found = _parsed(kind, said, {"http"}, f"name {host} in NO_PROXY")
    return Proxy(found.hostname or "", found.port or 80, _headers(found))


def check_all() -> None:
    """See whether a client can be made that takes all proxies in at once, whoever is asked then.

    Raises:
        HubError: one of them is of no kind that such a client knows without more software.
    """
    known = getproxies()
    for kind in ("http", "https", "all"):
        if said := known.get(kind):
            _parsed(kind, said, {"http", "https"}, "unset it")


def _parsed(kind: str, said: str, schemes: set[str], instead: str) -> SplitResult:
    lower = f"{kind}_proxy"
    variable = lower if lower in os.environ else lower.upper()
    wrong = "no address of a proxy"
    with contextlib.suppress(ValueError):
        found = urlsplit(said if "://" in said else f"http://{said}")
        is_address = bool(found.hostname) and found.port != 0
        if is_address and found.scheme in schemes:
            return found
        if is_address:
            wrong = f"the address of a {found.scheme} proxy"
    raise HubError(
        f"the environment's {variable} is {wrong}; downloads go through http:// ones only",
        hint=f"set {variable} to `http://HOST:PORT`, or {instead}",
        retryable=False,
    )


def _headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _is_excepted(host: str, port: int, rules: str) -> bool:
    """Whether NO_PROXY names this server."""
    address = _address(host)
    words = {one.lower() for one in re.split(r"[,\s]+", rules) if one}
    if words == {"*"}:
        return True
    words |= {one.removesuffix(f":{port}") for one in words}
    return any(_is_named(host.rstrip("."), address, one) for one in words)


def _is_named(host: str, address: _Address | None, rule: str) -> bool:
    if address is None:
        name = rule.strip(".")
        return host == name or (bool(name) and host.endswith(f".{name}"))
    with contextlib.suppress(ValueError):
        return address in ipaddress.ip_network(re.sub(r"[][]", "", rule), strict=False)
    return False


def _address(host: str) -> _Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None
