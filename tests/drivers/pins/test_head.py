"""Headers are read from the hub before a download, and no byte of them twice."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hub_faults import Fault, Kind
from hub_server import HubServer
from pin_rig import NEVER, Q4, Q8, QUICK, REPO, fetch, pin_of
from waiting import after

from reconciler.core.gguf import Facts
from reconciler.core.observed import FileStatus
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import repo_folder
from reconciler.errors import HubError, InterruptedRunError


def test_headers_are_read_first_and_no_byte_of_them_twice(
    hub: HubServer, client: Hub, tmp_path: Path, weights: dict[str, bytes]
) -> None:
    missing = client.inspect(Q8)
    pin = client.learn(pin_of(missing), NEVER)
    assert pin.facts
    assert (pin.facts.architecture, pin.facts.parameters) == ("llama", 32992)
    assert replace(pin, facts=None) == missing.pin
    assert client.inspect(Q8, pin).status is FileStatus.MISSING
    fetch(client, client.inspect(Q8, pin))
    assert hub.sent == pin.size
    assert client.inspect(Q8, pin).status is FileStatus.PRESENT
    blobs = repo_folder(str(tmp_path / "store"), REPO) / "blobs"
    assert {one.name for one in blobs.iterdir()} == {file.sha256 for file in pin.files}


def big(size: int) -> bytes:
    """A GGUF file whose header alone has so many bytes, and some more behind it."""
    text = b"x" * size
    value = len(b"a").to_bytes(8, "little") + b"a" + (8).to_bytes(4, "little")
    value += len(text).to_bytes(8, "little") + text
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little")
    return head + value + bytes(7 << 20)


def test_a_long_header_is_read_piece_by_piece(hub: HubServer, client: Hub) -> None:
    content = big(3 << 20)
    hub.add(REPO, {"x-Q4_0.gguf": content})
    hub.faults = [Fault(Kind.RESET, after=100_000), Fault(Kind.STATUS, status=503)]
    hub.faults += [Fault(Kind.STATUS, status=403), Fault(Kind.STALL, after=5)]
    pin = client.learn(pin_of(client.inspect(Q4)), NEVER)
    assert pin.facts == Facts()
    assert 3 << 20 < hub.sent <= (4 << 20) + 1000
    fetch(client, client.inspect(Q4, pin))
    assert hub.sent <= len(content) + 1000


def test_what_is_no_model_is_known_before_it_is_fetched(hub: HubServer, client: Hub) -> None:
    hub.add(REPO, {"x-Q4_0.gguf": b"GGML" + bytes(9 << 20)})
    with pytest.raises(HubError, match=r"x-Q4_0.gguf: it is not a GGUF file") as caught:
        client.learn(pin_of(client.inspect(Q4)), NEVER)
    assert not caught.value.retryable
    assert hub.sent == 1 << 20


def test_a_header_that_never_ends_is_none(hub: HubServer, client: Hub) -> None:
    hub.add(REPO, {"x-Q4_0.gguf": big(3 << 20)[: 2 << 20]})
    with pytest.raises(HubError, match="the file ends inside its header"):
        client.learn(pin_of(client.inspect(Q4)), NEVER)


def test_a_store_without_ranges_has_no_headers_and_still_its_files(
    hub: HubServer, client: Hub
) -> None:
    content = big(10)
    hub.add(REPO, {"x-Q4_0.gguf": content})
    hub.is_ranged = False
    pin = client.learn(pin_of(client.inspect(Q4)), NEVER)
    assert pin.facts == Facts()
    fetch(client, client.inspect(Q4, pin))
    assert Path(client.inspect(Q4, pin).path).read_bytes() == content


def test_a_file_that_changes_under_its_header_begins_again(hub: HubServer, client: Hub) -> None:
    hub.add(REPO, {"x-Q4_0.gguf": big(3 << 20)})
    hub.faults = [Fault(Kind.RESET, after=200_000)]

    def change() -> None:
        hub.etag = "new"

    with after(lambda: not hub.faults, change):
        pin = client.learn(pin_of(client.inspect(Q4)), NEVER)
    assert pin.facts == Facts()


def test_headers_of_what_is_here_are_read_here(hub: HubServer, client: Hub) -> None:
    missing = client.inspect(Q4)
    fetch(client, missing)
    sent = hub.sent
    pin = client.learn(pin_of(missing), NEVER)
    assert pin.facts
    assert pin.facts.architecture == "llama"
    assert hub.sent == sent


def test_reading_a_header_can_be_interrupted(hub: HubServer, client: Hub) -> None:
    pin = pin_of(client.inspect(Q4))
    gone = threading.Event()
    gone.set()
    with pytest.raises(InterruptedRunError):
        client.learn(pin, gone)
    hub.faults = [Fault(Kind.STALL, after=10)] * 9
    cancel = threading.Event()
    with after(lambda: len(hub.faults) < 9, cancel.set), pytest.raises(InterruptedRunError):
        client.learn(pin, cancel)


class Restless(threading.Event):
    """Is told how long to wait, and does not."""

    longest = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.longest = max(self.longest, timeout or 0.0)
        return False


def test_headers_come_no_faster_than_downloads_may(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, {"x-Q4_0.gguf": big(3 << 20)})
    slow = replace(QUICK, bytes_per_s=10)
    client = Hub(str(tmp_path / "store"), (), endpoint=hub.endpoint, limits=slow)
    restless = Restless()
    assert client.learn(pin_of(client.inspect(Q4)), restless).facts == Facts()
    assert 3 << 20 < restless.longest * 10 <= 4 << 20


def test_a_hub_that_breaks_is_told(hub: HubServer, client: Hub) -> None:
    pin = pin_of(client.inspect(Q4))
    hub.faults = [Fault(Kind.STATUS, status=503)] * 9
    with pytest.raises(HubError, match="answered HTTP 503") as caught:
        client.learn(pin, NEVER)
    assert caught.value.retryable
