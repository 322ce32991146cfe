"""The types of the desired state by themselves: what each field costs, and its limits."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel, ValidationError

from reconciler.core import desired
from reconciler.core.desired import (
    DesiredState,
    Gateway,
    Model,
    Probe,
    Source,
    Tls,
)
from reconciler.core.fields import parse_duration, parse_inner_path, parse_path, parse_size
from reconciler.core.words import Effect

SCHEMA_TYPES = [
    kind
    for kind in vars(desired).values()
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.model_fields
]
URL = "https://example.org/x.gguf"
FIELDS = [(kind, name) for kind in SCHEMA_TYPES for name in kind.model_fields]


@pytest.mark.parametrize(
    ("kind", "name"), FIELDS, ids=lambda part: part if isinstance(part, str) else part.__name__
)
def test_every_field_declares_exactly_one_effect(kind: type[BaseModel], name: str) -> None:
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    assert list(extra) == ["effect"]
    assert extra["effect"] in {effect.value for effect in Effect}


def test_all_types_of_the_schema_are_seen() -> None:
    names = {kind.__name__ for kind in SCHEMA_TYPES}
    assert names == {
        "Engine",
        "Tls",
        "Gateway",
        "Source",
        "Probe",
        "Model",
        "Render",
        "DesiredState",
    }


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h1m1s", 3661.0),
        ("720h", 2_592_000.0),
        (7, 7.0),
        (0.25, 0.25),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "5", "5 m", "-5m", "1m1h", "721h", "٣s", -1, 2_592_001, 10**400, float("nan"), True],
)
def test_no_durations(written: object) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [("0B", 0), ("1kB", 1000), ("1 KiB", 1024), ("1.5GB", 1_500_000_000), ("2TiB", 2**41), (9, 9)],
)
def test_sizes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", ["", "GB", "1 gb", "1iB", "9" * 400 + "GB", -1, 2**63, 1.5, True]
)
def test_no_sizes(written: object) -> None:
    with pytest.raises(ValueError, match=r"^expected a size"):
        parse_size(written)


@pytest.mark.parametrize("path", ["a", "a/b.gguf", "./a", "a/../b", "a//b", "/a/../../b", "a/.."])
def test_paths(path: str) -> None:
    assert parse_path(path) == path


@pytest.mark.parametrize("path", ["", "..", "../a", "a/../../b", "./..", "~", "~a/b", "a\nb"])
def test_no_paths(path: str) -> None:
    with pytest.raises(ValueError, match=r"root|empty|control|expanded"):
        parse_path(path)


def test_inner_paths() -> None:
    assert parse_inner_path("secrets/keys") == "secrets/keys"
    with pytest.raises(ValueError, match="inside the root"):
        parse_inner_path("/etc/keys")


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("0.0.0.0:80", "0.0.0.0", 80),  # noqa: S104 - a value to read, nothing is bound
        ("localhost:8888", "localhost", 8888),
        ("[::1]:65535", "[::1]", 65535),
    ],
)
def test_listen(listen: str, host: str, port: int) -> None:
    gateway = Gateway(listen=listen)
    assert (gateway.host, gateway.port) == (host, port)


@pytest.mark.parametrize("listen", ["8888", ":80", "a:0", "a:65536", "a:123456", "::1:80", "a b:1"])
def test_no_listen(listen: str) -> None:
    with pytest.raises(ValidationError, match="expected an address"):
        Gateway(listen=listen)


def test_a_source_is_a_repo_a_path_or_a_url() -> None:
    for given in ({}, {"path": "x", "repo": "a/b"}, {"path": "x", "url": URL}):
        with pytest.raises(ValidationError, match=re.escape("exactly one of `repo`, `path` and")):
            Source(**given)
    with pytest.raises(ValidationError, match="goes with `path` or `url`"):
        Source(repo="a/b", sha256="0" * 64)
    with pytest.raises(ValidationError, match="needs the file's `sha256`"):
        Source(url=URL)
    assert Source(url=URL, sha256="F" * 64).sha256 == "f" * 64
    with pytest.raises(ValidationError, match="`quant` is required"):
        Model(source=Source(repo="a/b"))


def test_values_are_frozen_and_know_their_defaults() -> None:
    state = DesiredState(version=1)
    assert state.gateway == Gateway()
    assert Probe(startup=None) == Probe()
    with pytest.raises(ValidationError, match="frozen"):
        state.store = "x"  # type: ignore[misc]


def test_the_gateways_address_as_a_client_writes_it() -> None:
    assert Gateway(listen="127.0.0.1:80").url == "http://127.0.0.1:80"
    tls = Tls(cert="cert.pem", key="key.pem")
    assert Gateway(listen="[::1]:443", tls=tls).url == "https://[::1]:443"


@pytest.mark.parametrize(
    ("listen", "is_local"),
    [
        ("127.0.0.1:1", True),
        ("127.5.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
        ("box.lan:1", False),
    ],
)
def test_who_can_reach_the_gateway(listen: str, is_local: bool) -> None:
    assert Gateway(listen=listen).is_local is is_local
