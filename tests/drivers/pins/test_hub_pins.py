"""Pins: what a model stands for is found out once, whatever moves then; and nothing is trusted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from hub_models import asked
from hub_server import HubServer
from pin_rig import NEVER, Q4, Q8, REPO, fetch, gets, pin_of

from reconciler.core.lockfile import FileRole, LockedFile, Pin
from reconciler.core.observed import FileStatus
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import snapshot
from reconciler.errors import HubError

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


def test_a_projector_and_a_draft_go_with_the_weights(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    tiny = weights["x-Q4_0.gguf"]
    more = {"mmproj-F16.gguf": tiny + b"p", "mmproj-F32.gguf": tiny, "x-draft-Q8_0.gguf": tiny}
    hub.repos[REPO].commit({**weights, **more})
    model = asked(REPO, "main", "Q4_0", mmproj=True, draft="Q8_0")
    missing = client.inspect(model)
    assert [(file.name, file.role) for file in pin_of(missing).files] == [
        ("x-Q4_0.gguf", FileRole.WEIGHTS),
        ("mmproj-F16.gguf", FileRole.MMPROJ),
        ("x-draft-Q8_0.gguf", FileRole.DRAFT),
    ]
    assert missing.spec_id.endswith(
        "/x-Q4_0.gguf+mmproj=mmproj-F16.gguf+model-draft=x-draft-Q8_0.gguf"
    )
    fetch(client, missing)
    found = client.inspect(model)
    assert found.status is FileStatus.PRESENT
    assert replace(pin_of(found), facts=None) == missing.pin
    assert Path(found.companions["mmproj"]).read_bytes() == tiny + b"p"
    assert Path(found.companions["model-draft"]).name == "x-draft-Q8_0.gguf"
    plain = client.inspect(Q4)
    assert plain.companions == {}
    assert plain.spec_id == f"{REPO}@{plain.commit}/x-Q4_0.gguf"
    assert client.inspect(model, plain.pin).pin == found.pin


def test_the_hub_says_how_large_all_quants_are(client: Hub, weights: dict[str, bytes]) -> None:
    shards = sum(len(content) for name, content in weights.items() if "Q8_0" in name)
    found = client.inspect(Q4)
    assert found.quants == {"Q4_0": len(weights["x-Q4_0.gguf"]), "Q8_0": shards}
    assert client.inspect(Q4, found.pin).quants == {}


def test_what_a_hub_does_not_say_is_not_pinned(hub: HubServer, client: Hub) -> None:
    hub.is_hashed = False
    found = client.inspect(Q4)
    assert (found.status, found.pin) == (FileStatus.BAD, None)
    assert "its hub does not say the size and hash of x-Q4_0.gguf" in found.reason
    hub.is_hashed = True
    repo = hub.repos[REPO]
    repo.commits["no-commit"] = repo.commits[repo.refs["main"]]
    repo.refs["main"] = "no-commit"
    assert "its hub does not say which commit main is" in client.inspect(Q4).reason


def test_a_name_that_leads_out_is_not_pinned(hub: HubServer, client: Hub) -> None:
    hub.add(REPO, {"../x-Q4_0.gguf": b"GGUF"})
    found = client.inspect(Q4)
    assert (found.status, found.pin) == (FileStatus.BAD, None)
    assert "a path that leads out: ../x-Q4_0.gguf: do not use this" in found.reason


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


# ---- moved


def test_the_latest_is_what_the_hub_says_now(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = pin_of(client.inspect(Q4))
    moved(hub, weights)
    found = client.latest(Q4, pin)
    assert (found.status, found.commit) == (FileStatus.MISSING, hub.repos[REPO].refs["main"])
    assert client.latest(Q4, None) == found
    assert client.latest(Q8, pin).commit == found.commit


def test_a_commit_that_leaves_the_files_alone_moves_no_pin(
    hub: HubServer, client: Hub, weights: dict[str, bytes]
) -> None:
    pin = client.learn(pin_of(client.inspect(Q4)), NEVER)
    commit = hub.repos[REPO].commit({**weights, "README.md": b"new"})
    # Nothing of it is here, and nothing runs of it: the newer name of the same bytes will do.
    assert client.latest(Q4, pin).pin == replace(pin, commit=commit)
    fetch(client, client.inspect(Q4, pin))
    assert client.latest(Q4, pin) == client.inspect(Q4, pin)


def test_a_hub_that_cannot_be_asked_moves_nothing(hub: HubServer, client: Hub) -> None:
    pin = pin_of(client.inspect(Q4))
    hub.broken = 503
    found = client.latest(Q4, pin)
    assert (found.status, found.pin) == (FileStatus.UNKNOWN, None)


def test_what_is_here_of_a_new_pin_has_its_facts(
    hub: HubServer, client: Hub, tmp_path: Path
) -> None:
    pin = pin_of(client.inspect(Q4))
    fetch(client, client.inspect(Q4))
    assert pin_of(client.latest(Q4, None)).facts
    link = Path(client.inspect(Q4).path)
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)
    # No hash can be read from it: the hub's will do.
    assert client.latest(Q4, None).pin == pin


def test_offline_nobody_is_asked(hub: HubServer, client: Hub, tmp_path: Path) -> None:
    pin = pin_of(client.inspect(Q4))
    fetch(client, client.inspect(Q4))
    quiet = Hub(str(tmp_path / "store"), (), endpoint=hub.endpoint, offline=True)
    hub.requests.clear()
    assert quiet.inspect(Q4).status is FileStatus.PRESENT
    assert quiet.inspect(Q4, pin).status is FileStatus.PRESENT
    unknown = quiet.inspect(Q8)
    assert unknown.status is FileStatus.UNKNOWN
    assert f"hub repository {REPO} is not asked, because of --offline" in unknown.reason
    link = Path(client.inspect(Q4).path)
    blob = link.resolve()
    link.unlink()
    # Its bytes are still here: only the link is lacking.
    fetch(quiet, quiet.inspect(Q4, pin))
    assert quiet.inspect(Q4, pin).status is FileStatus.PRESENT
    assert str(link.readlink()) == f"../../blobs/{blob.name}"
    link.unlink()
    blob.unlink()
    lacking = quiet.inspect(Q4, pin)
    assert (lacking.status, lacking.pin) == (FileStatus.UNKNOWN, pin)
    assert "137.5 KiB of its files are not here" in lacking.reason
    assert hub.requests == []


def test_snapshots_lie_where_the_hubs_own_client_puts_them() -> None:
    assert str(snapshot("/c", "org/x", "abc")) == "/c/models--org--x/snapshots/abc"
