"""What a gateway configuration is made of, in few words: enough to tell two of them apart.

In: the parts of a configuration, or the JSON that lies beside its files. Out: an `Outline`, and
whether one can follow on another by a reload. The plan learns by it how what it wants differs from
what nginx runs. No secret is in it: a key is known by the head of its digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

OUTLINE_FILE = "outline.json"


@dataclass(frozen=True, slots=True)
class KeyOutline:
    """One key of a configuration."""

    mark: str
    """The head of its digest."""
    scope: str
    """The models that it may use and its limits, for people."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The parts of one configuration."""

    listens: tuple[str, ...] = ()
    """All addresses, sorted."""
    keys: Mapping[str, KeyOutline] | None = None
    """By name; None: no key is asked for."""
    certificate: str = ""
    """A digest over certificate and private key; empty: no TLS."""
    valid_until: str = ""
    """The certificate's last day, for people."""
    rest: str = ""
    """A digest over everything else."""
    models: Mapping[str, str] | None = None
    """Name -> its aliases and port, for people; None: not kept (by an older version)."""
    hold_s: float = 0.0
    """How long requests wait for a server; not written where they do not: so the files of most
    configurations stay what older versions have written."""


def outline_text(outline: Outline) -> str:
    """As JSON, for the file beside the configuration."""
    values = asdict(outline)
    if not outline.hold_s:
        del values["hold_s"]
    return json.dumps(values, sort_keys=True) + "\n"


def read_outline(text: str) -> Outline | None:
    """The same from the file; None when it is none of ours."""
    try:
        values = json.loads(text)
        keys = values["keys"]
        read = None if keys is None else {name: KeyOutline(**one) for name, one in keys.items()}
        hold_s = float(values.get("hold_s", 0.0))
        listens = tuple(values["listens"])
        return Outline(**{**values, "listens": listens, "keys": read, "hold_s": hold_s})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def stuck_addresses(before: Iterable[str], after: Iterable[str]) -> list[tuple[str, str]]:
    """Old and new addresses of one port that cannot listen both at once (Linux, bind(2)).

    nginx opens the new ones before it closes the old ones: where one of the two stands for all
    addresses of the machine, a reload fails. An address that stays is simply kept.
    """
    old, new = set(before), set(after)
    return [
        (one, other)
        for other in sorted(new - old)
        for one in sorted(old - new)
        if _port(one) == _port(other) and _overlap(_host(one), _host(other))
    ]


def _overlap(one: str, other: str) -> bool:
    """Whether one means all addresses of a family that the other may have. A name may have both."""
    first, second = _address(one), _address(other)
    return any(
        a is not None and a.is_unspecified and (b is None or a.version == b.version)
        for a, b in ((first, second), (second, first))
    )


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _port(address: str) -> str:
    return address.rpartition(":")[2]
