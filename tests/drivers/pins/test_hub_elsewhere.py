"""Bytes of a pin that others fetched under another commit: linked to and verified, not fetched."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from hub_server import HubServer
from pin_rig import NEVER, Q4, Q8, QUICK, REPO, fetch, gets, pin_of

from reconciler.core.desired import Model, Source
from reconciler.core.lockfile import Pin
from reconciler.core.observed import FileStatus
from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.files import ModelFiles
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import repo_folder
from reconciler.errors import StepError


@pytest.fixture
def elsewhere(hub: HubServer, tmp_path: Path) -> Path:
    """What another tool fetched of a later commit that left the files alone: its blobs."""
    before = hub.repos[REPO].refs["main"]
    hub.repos[REPO].commit({**hub.repos[REPO].commits[before], "README.md": b"new"})
    huggingface_hub.snapshot_download(
        REPO, cache_dir=tmp_path / "other", endpoint=hub.endpoint, allow_patterns="*.gguf"
    )
    hub.repos[REPO].refs["main"] = before
    hub.sent = 0
    hub.requests.clear()
    return repo_folder(str(tmp_path / "other"), REPO) / "blobs"


def at_main(client: Hub, model: Model) -> Pin:
    """The pin of a model at what the hub says now, whatever another cache says."""
    return pin_of(client.latest(model, None))


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """All that lies there, and when it last changed in any way."""
    return {one: (one.lstat().st_ino, one.lstat().st_ctime_ns) for one in folder.rglob("*")}


def test_bytes_that_lie_under_another_commit_are_used_in_place(
    hub: HubServer, client: Hub, tmp_path: Path, elsewhere: Path
) -> None:
    pin = at_main(client, Q8)
    before = state_of(tmp_path / "other")
    found = client.inspect(Q8, pin)
    assert found.status is FileStatus.MISSING
    hub.broken = 503
    fetch(client, found)
    found = client.inspect(Q8, pin)
    assert found.status is FileStatus.PRESENT
    for file in found.files:
        assert Path(found.folder, file.name).readlink() == elsewhere / file.digest
        # Its name said so; now somebody knows.
        assert client.verified.hash_of(file.identity) == file.digest
    assert not (tmp_path / "store" / elsewhere.relative_to(tmp_path / "other")).exists()
    assert state_of(tmp_path / "other") == before


def test_only_what_lies_nowhere_is_fetched(hub: HubServer, client: Hub, elsewhere: Path) -> None:
    pin = at_main(client, Q8)
    lost, cut, _ = (file.sha256 for file in pin.files)
    (elsewhere / lost).unlink()
    (elsewhere / cut).write_bytes(b"cut")
    fetch(client, client.inspect(Q8, pin))
    found = client.inspect(Q8, pin)
    assert found.status is FileStatus.PRESENT
    assert set(gets(hub)) == {f"GET /cdn/{one}" for one in (lost, cut)}
    assert (elsewhere / cut).read_bytes() == b"cut"
    assert [Path(found.folder, one.name).resolve().parent == elsewhere for one in found.files] == [
        False,
        False,
        True,
    ]


def test_other_bytes_under_the_right_name_are_found_out_and_fetched(
    hub: HubServer, client: Hub, elsewhere: Path
) -> None:
    pin = at_main(client, Q4)
    bad = elsewhere / pin.files[0].sha256
    content = bytearray(bad.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    with pytest.raises(StepError, match="has wrong bytes"):
        fetch(client, client.inspect(Q4, pin))
    found = client.inspect(Q4, pin)
    assert found.status is FileStatus.MISSING
    step = FetchFiles(ModelName("m"), Source(repo=REPO), found.commit, found.files)
    client.fetch(step, lambda *_: None, NEVER)
    found = client.inspect(Q4, pin)
    assert found.status is FileStatus.PRESENT
    assert hub.sent == pin.size
    assert bad.read_bytes() == content


def test_the_header_of_what_lies_elsewhere_is_read_there(
    hub: HubServer, client: Hub, elsewhere: Path, tmp_path: Path
) -> None:
    pin = at_main(client, Q4)
    facts = client.learn(pin, NEVER).facts
    assert facts
    assert facts.architecture == "llama"
    assert hub.sent == 0
    assert not (tmp_path / "store").exists()
    # What has no header there is asked for.
    (elsewhere / pin.files[0].sha256).write_bytes(bytes(pin.size))
    assert client.learn(pin, NEVER).facts == facts
    assert hub.sent == pin.size


def test_a_cache_that_cannot_be_looked_into_has_nothing(hub: HubServer, tmp_path: Path) -> None:
    """As one of another user's; here its name is too long, which stops root, too."""
    caches = (str(tmp_path / ("x" * 300)),)
    client = Hub(str(tmp_path / "store"), caches, endpoint=hub.endpoint, limits=QUICK)
    files = ModelFiles(str(tmp_path), str(tmp_path / "store"), client)
    found = files.inspect(Q4, at_main(client, Q4), deep=True)
    assert found.status is FileStatus.MISSING
    fetch(client, found)
    assert files.inspect(Q4, pin_of(found), deep=True).status is FileStatus.PRESENT


def test_a_store_that_cannot_be_looked_into_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    store = str(tmp_path / ("x" * 300))
    client = Hub(store, (), endpoint=hub.endpoint, limits=QUICK)
    with pytest.raises(OSError, match="File name too long"):
        fetch(client, client.latest(Q4, None))
