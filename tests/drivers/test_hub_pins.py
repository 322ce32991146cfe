"""Pins: what a model stands for is found out once, whatever moves then; and nothing is trusted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from hub_faults import Fault, Kind
from hub_models import asked
from hub_server import HubServer, hub_server
from tiny_gguf import write_tiny_gguf
from waiting import after

from reconciler.core.gguf import Facts
from reconciler.core.lockfile import LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import repo_folder, snapshot
from reconciler.errors import HubError, InterruptedRunError

REPO = "org/x-GGUF"
NEVER = threading.Event()
Q4, Q8 = asked(REPO, "main", "Q4_0"), asked(REPO, "main", "Q8_0")
QUICK = Limits(files=1, first_pause_s=0.001, stall_s=0.5, tries=6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One quant in one file, one in three shards."""
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_gguf(folder / "x-Q4_0.gguf")
    write_tiny_gguf(folder / "x-Q8_0.gguf", seed=1, per_shard=5)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, weights: dict[str, bytes]) -> Iterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server() as running:
        running.add(REPO, weights)
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Hub:
    return Hub(
        str(tmp_path / "store"), (str(tmp_path / "other"),), endpoint=hub.endpoint, limits=QUICK
    )


def pin_of(found: ObservedFiles) -> Pin:
    assert found.pin is not None
    return found.pin


def fetch(client: Hub, found: ObservedFiles) -> None:
    files = tuple(one for one in found.files if not one.identity)
    step = FetchFiles(ModelName("m"), REPO, "main", found.commit, files)
    client.fetch(step, lambda *_: None, NEVER)


def gets(hub: HubServer) -> list[str]:
    return [one for one in hub.requests if one.startswith("GET /cdn/")]


# ---- found out


def test_what_the_hub_says_becomes_a_pin(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q8))
    names = sorted(name for name in weights if "Q8_0" in name)
    assert pin == Pin(
        REPO,
        "main",
        "Q8_0",
        hub.repos[REPO].refs["main"],
        tuple(
            LockedFile(name, len(weights[name]), hashlib.sha256(weights[name]).hexdigest())
            for name in names
        ),
    )


def test_what_is_here_becomes_the_same_pin_without_a_request(hub: HubServer, client: Hub) -> None:
    for model in (Q4, Q8):
        missing = client.inspect(model)
        fetch(client, missing)
        hub.requests.clear()
        found = client.inspect(model)
        assert found.status is FileStatus.PRESENT
        assert replace(pin_of(found), facts=None) == missing.pin
        assert (found.spec_id, found.path) == (missing.spec_id, missing.path)
        facts = pin_of(found).facts
        assert facts
        assert (facts.architecture, facts.layers, facts.parameters) == ("llama", 1, 32992)
        assert hub.requests == []
        # Then the pin itself is all that is needed.
        assert client.inspect(model, found.pin).pin == found.pin
        assert client.inspect(model, found.pin).identity == found.identity


def test_a_file_without_a_known_hash_is_used_and_not_pinned(
    hub: HubServer, client: Hub, tmp_path: Path
) -> None:
    fetch(client, client.inspect(Q4))
    link = Path(client.inspect(Q4).path)
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)
    found = client.inspect(Q4)
    assert (found.status, found.pin) == (FileStatus.PRESENT, None)


def test_a_file_that_is_cut_off_is_not_pinned(client: Hub) -> None:
    fetch(client, client.inspect(Q4))
    path = Path(client.inspect(Q4).path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert client.inspect(Q4).pin is None
    path.write_bytes(b"")
    assert client.inspect(Q4).pin is None


# ---- kept


def moved(hub: HubServer, weights: dict[str, bytes]) -> None:
    """Somebody uploads other bytes under the same names."""
    hub.repos[REPO].commit({name: content[::-1] for name, content in weights.items()})


def test_a_pin_is_followed_wherever_main_went(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q4))
    moved(hub, weights)
    found = client.inspect(Q4, pin)
    assert found.pin == pin
    hub.requests.clear()
    assert client.inspect(Q4, pin) == found
    assert hub.requests == []
    fetch(client, found)
    assert Path(client.inspect(Q4, pin).path).read_bytes() == weights["x-Q4_0.gguf"]


def test_another_quant_is_found_at_the_pins_commit(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q4))
    moved(hub, weights)
    other = pin_of(client.inspect(Q8, pin))
    assert (other.quant, other.commit) == ("Q8_0", pin.commit)
    assert pin_of(client.inspect(Q8)).commit != pin.commit
    elsewhere = client.inspect(asked(REPO, "v2", "Q4_0"), pin)
    assert "has no such revision" in elsewhere.reason


def test_another_tools_cache_follows_the_pin(
    hub: HubServer, client: Hub, tmp_path: Path, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q4))

    def load() -> None:
        huggingface_hub.hf_hub_download(
            REPO, "x-Q4_0.gguf", cache_dir=tmp_path / "other", endpoint=hub.endpoint
        )

    load()
    assert client.inspect(Q4, pin).path.startswith(str(tmp_path / "other"))
    moved(hub, weights)
    load()
    found = client.inspect(Q4, pin)
    assert (found.status, found.commit) == (FileStatus.PRESENT, pin.commit)
    # Without a pin it is that cache's own word that counts.
    assert client.inspect(Q4).commit == hub.repos[REPO].refs["main"]


def test_only_the_shard_that_is_lacking_is_fetched(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q8))
    fetch(client, client.inspect(Q8, pin))
    first = Path(client.inspect(Q8, pin).path)
    second = first.with_name(first.name.replace("00001-of", "00002-of"))
    second.write_bytes(b"cut")
    found = client.inspect(Q8, pin)
    assert found.status is FileStatus.MISSING
    assert found.missing_bytes == len(weights[second.name])
    hub.requests.clear()
    fetch(client, found)
    sha = hashlib.sha256(weights[second.name]).hexdigest()
    assert set(gets(hub)) == {f"GET /cdn/{sha}"}
    assert second.read_bytes() == weights[second.name]
    assert client.inspect(Q8, pin).status is FileStatus.PRESENT


def test_a_blob_of_another_name_is_not_the_pinned_one(client: Hub, tmp_path: Path) -> None:
    pin = pin_of(client.inspect(Q4))
    fetch(client, client.inspect(Q4, pin))
    path = Path(client.inspect(Q4, pin).path)
    blob = path.resolve()
    other = blob.with_name("0" * 64)
    blob.rename(other)
    path.unlink()
    path.symlink_to(other)
    assert client.inspect(Q4, pin).status is FileStatus.MISSING


def test_a_hub_that_names_another_hash_is_not_believed(hub: HubServer, client: Hub) -> None:
    pin = pin_of(client.inspect(Q4))
    wrong = replace(pin, files=(replace(pin.files[0], sha256="0" * 64),))
    with pytest.raises(
        HubError, match="other bytes at this very commit than the lock file says"
    ) as caught:
        fetch(client, client.inspect(Q4, wrong))
    assert not caught.value.retryable
    assert gets(hub) == []


# ---- headers before downloads


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


def test_a_hub_that_breaks_is_told(hub: HubServer, client: Hub) -> None:
    pin = pin_of(client.inspect(Q4))
    hub.faults = [Fault(Kind.STATUS, status=503)] * 9
    with pytest.raises(HubError, match="answered HTTP 503") as caught:
        client.learn(pin, NEVER)
    assert caught.value.retryable


def test_snapshots_lie_where_the_hubs_own_client_puts_them() -> None:
    assert str(snapshot("/c", "org/x", "abc")) == "/c/models--org--x/snapshots/abc"
