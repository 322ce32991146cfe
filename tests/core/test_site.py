"""Names of files and sockets: distinct, short, and the same in every version."""

from __future__ import annotations

import itertools

import pytest

from reconciler.core.site import Site, socket_key
from reconciler.core.words import InstanceName

SITE = Site(root="/r", state="/s", desired="desired/x.yaml")
A, SECOND = InstanceName("a"), InstanceName("a[1]")


def test_where_everything_lies() -> None:
    assert SITE.sockets == "/s/s"
    assert SITE.gateway == "/s/gateway"
    assert SITE.gateway_lock == "/s/gateway.lock"
    assert SITE.control_socket == "/s/s/gateway.sock"
    assert (SITE.watch_socket, SITE.event_log) == ("/s/watch.sock", "/r/logs/events.jsonl")
    assert SITE.slot_lock(SECOND, "b") == "/s/slots/a[1].b"
    assert (SITE.pid_file(A), SITE.pid_file(SECOND)) == ("/r/run/a.pid", "/r/run/a.1.pid")
    assert (SITE.log_file(A), SITE.log_file(SECOND)) == ("/r/logs/a.log", "/r/logs/a.1.log")


def test_sockets_stay_where_they_are_in_every_version() -> None:
    """If this fails, an upgrade loses the way to every running server (BARS 8)."""
    assert SITE.socket(A, "a") == "/s/s/a-ca978112ca1.a.sock"
    assert SITE.route(A) == "/s/s/a-ca978112ca1.sock"
    assert socket_key(InstanceName("glm-5.1-flash[3]")) == "glm-ce05b9efbf8"


def test_all_sockets_are_distinct() -> None:
    names = ["a", "A", "a[1]", "a1", "a.1", "longer-name-1", "longer-name-2", "gateway"]
    paths = [SITE.control_socket]
    for name in names:
        instance = InstanceName(name)
        paths += [SITE.route(instance), SITE.socket(instance, "a"), SITE.socket(instance, "b")]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ["x" * 63, "a.b.c.d.e", "a[63]"])
def test_keys_are_short_and_plain(name: str) -> None:
    key = socket_key(InstanceName(name))
    assert len(key) <= 15
    assert key.replace("-", "").replace("_", "").isalnum()


def test_files_of_replicas_are_distinct() -> None:
    names = [InstanceName(f"a[{number}]" if number else "a") for number in range(12)]
    for one, two in itertools.combinations(names, 2):
        assert SITE.pid_file(one) != SITE.pid_file(two)
        assert SITE.log_file(one) != SITE.log_file(two)
