"""The hub's driver against a hub on this machine that speaks the real one's protocol."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_faults import Fault, Kind
from hub_models import asked
from hub_server import TOKEN, HubServer, hub_server
from waiting import after, free_port

from reconciler.core.desired import Source
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.transfers import FileProgress, total_of
from reconciler.core.words import ModelName
from reconciler.drivers import effects
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub
from reconciler.errors import HubError, InterruptedRunError

REPO = "org/Model-GGUF"
Q4, Q8 = b"GGUF q4 weights", b"GGUF q8 weights, more of them"
SHARDS = {f"UD-Q2/model-UD-Q2-0000{n}-of-00003.gguf": b"GGUF %d" % n * n for n in (1, 2, 3)}
FILES = {"README.md": b"# a model", "model-Q4_K_M.gguf": Q4, "model-Q8_0.gguf": Q8, **SHARDS}
NEVER = threading.Event()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server() as running:
        running.add(REPO, FILES)
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Hub:
    return make_client(hub, tmp_path)


def make_client(hub: HubServer, folder: Path, *, token: str | None = None) -> Hub:
    caches = (str(folder / "other"),)
    quick = Limits(files=1, first_pause_s=0.001)
    return Hub(str(folder / "store"), caches, endpoint=hub.endpoint, token=token, limits=quick)


def to_fetch(found: ObservedFiles, repo: str = REPO, revision: str = "main") -> FetchFiles:
    return FetchFiles(
        ModelName("m"), Source(repo=repo, revision=revision), found.commit, found.files
    )


def fetch(client: Hub, repo: str = REPO, revision: str = "main", quant: str = "Q4_K_M") -> None:
    found = client.inspect(asked(repo, revision, quant))
    client.fetch(to_fetch(found, repo, revision), lambda *_: None, NEVER)


# ---- looking


def test_what_is_not_here_can_be_fetched(hub: HubServer, client: Hub, tmp_path: Path) -> None:
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    commit = hub.repos[REPO].refs["main"]
    assert found.status is FileStatus.MISSING
    assert [(one.name, one.size, one.identity) for one in found.files] == [
        ("model-Q4_K_M.gguf", len(Q4), "")
    ]
    assert found.commit == commit
    assert found.missing_bytes == found.size == len(Q4)
    assert found.spec_id == f"{REPO}@{commit}/model-Q4_K_M.gguf"
    snapshots = tmp_path / "store" / "models--org--Model-GGUF" / "snapshots"
    assert found.path == str(snapshots / commit / "model-Q4_K_M.gguf")


def test_looking_writes_nothing(client: Hub, tmp_path: Path) -> None:
    client.inspect(asked(REPO, "main", "Q4_K_M"))
    assert list(tmp_path.iterdir()) == []


def test_a_quant_of_several_shards_is_all_of_them(client: Hub) -> None:
    found = client.inspect(asked(REPO, "main", "UD-Q2"))
    assert [one.name for one in found.files] == sorted(SHARDS)
    assert found.size == sum(len(content) for content in SHARDS.values())
    assert found.path.endswith("UD-Q2/model-UD-Q2-00001-of-00003.gguf")


def test_an_unknown_quant_names_those_there_are(client: Hub) -> None:
    found = client.inspect(asked(REPO, "main", "Q5_K_M"))
    assert found.status is FileStatus.BAD
    assert found.reason == (
        "org/Model-GGUF: no file for quant Q5_K_M (nearest: Q4_K_M); the repository has: "
        "Q4_K_M (15 B), Q8_0 (29 B), UD-Q2 (36 B)"
    )


def test_a_commit_may_be_given_as_revision(hub: HubServer, client: Hub) -> None:
    old = hub.repos[REPO].refs["main"]
    hub.repos[REPO].commit({"new-Q4_K_M.gguf": b"GGUF new"})
    assert client.inspect(asked(REPO, old, "Q4_K_M")).files[0].name == "model-Q4_K_M.gguf"
    assert client.inspect(asked(REPO, "main", "Q4_K_M")).files[0].name == "new-Q4_K_M.gguf"


def test_a_branch_may_be_given_as_revision(hub: HubServer, client: Hub, tmp_path: Path) -> None:
    commit = hub.repos[REPO].commit({"b-Q4_K_M.gguf": b"GGUF b"}, ref="v2")
    fetch(client, revision="v2")
    ref = tmp_path / "store" / "models--org--Model-GGUF" / "refs" / "v2"
    assert ref.read_text(encoding="ascii") == commit
    assert client.inspect(asked(REPO, "v2", "Q4_K_M")).status is FileStatus.PRESENT


# ---- fetching


def test_what_was_fetched_is_found_without_a_request(hub: HubServer, client: Hub) -> None:
    missing = client.inspect(asked(REPO, "main", "Q4_K_M"))
    fetch(client)
    hub.requests.clear()
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    assert hub.requests == []
    assert found.status is FileStatus.PRESENT
    assert (found.path, found.spec_id, found.commit) == (
        missing.path,
        missing.spec_id,
        missing.commit,
    )
    assert Path(found.path).read_bytes() == Q4
    assert found.missing_bytes == 0


def test_what_was_fetched_is_found_without_a_hub(tmp_path: Path) -> None:
    with hub_server() as hub:
        hub.add(REPO, FILES)
        fetch(make_client(hub, tmp_path), quant="UD-Q2")
    found = make_client(hub, tmp_path).inspect(asked(REPO, "main", "UD-Q2"))
    assert found.status is FileStatus.PRESENT
    assert found.size == sum(len(content) for content in SHARDS.values())
    huggingface_hub.close_session()


def test_the_store_has_the_layout_of_the_hubs_own_cache(
    hub: HubServer, client: Hub, tmp_path: Path
) -> None:
    fetch(client, quant="Q4_K_M")
    fetch(client, quant="UD-Q2")
    seen = huggingface_hub.scan_cache_dir(tmp_path / "store")
    assert not seen.warnings
    [repo] = seen.repos
    [revision] = repo.revisions
    assert repo.repo_id == REPO
    assert revision.refs == frozenset({"main"})
    assert {one.file_name for one in revision.files} == {
        "model-Q4_K_M.gguf",
        *(Path(name).name for name in SHARDS),
    }
    blob = tmp_path / "store" / "models--org--Model-GGUF" / "blobs" / hashlib.sha256(Q4).hexdigest()
    assert blob.read_bytes() == Q4


def test_only_what_is_missing_is_downloaded(hub: HubServer, client: Hub, tmp_path: Path) -> None:
    fetch(client, quant="UD-Q2")
    second = Path(client.inspect(asked(REPO, "main", "UD-Q2")).path.replace("00001-of", "00002-of"))
    second.resolve().unlink()
    second.unlink()
    found = client.inspect(asked(REPO, "main", "UD-Q2"))
    assert found.status is FileStatus.MISSING
    hub.requests.clear()
    client.fetch(to_fetch(found), lambda *_: None, NEVER)
    content = SHARDS["UD-Q2/model-UD-Q2-00002-of-00003.gguf"]
    assert [one for one in hub.requests if one.startswith("GET")] == [
        f"GET /cdn/{hashlib.sha256(content).hexdigest()}"
    ]
    assert client.inspect(asked(REPO, "main", "UD-Q2")).status is FileStatus.PRESENT


def test_progress_goes_from_nothing_to_all(client: Hub) -> None:
    found = client.inspect(asked(REPO, "main", "UD-Q2"))
    told: list[tuple[FileProgress, ...]] = []
    client.fetch(to_fetch(found), told.append, NEVER)
    wanted = [(file.name, file.size) for file in found.files]
    assert [[(one.name, one.size) for one in files] for files in told] == [wanted] * len(told)
    assert total_of(told[0]).done == 0
    assert total_of(told[-1]).done == found.size
    done = [total_of(files).done for files in told]
    assert done == sorted(done)


def test_a_cancelled_download_starts_no_further_file(hub: HubServer, client: Hub) -> None:
    found = client.inspect(asked(REPO, "main", "UD-Q2"))
    cancel = threading.Event()
    hub.faults = [Fault(Kind.STALL)]
    with (
        after(lambda: not hub.faults, cancel.set),
        pytest.raises(InterruptedRunError, match=f"downloading from hub repository {REPO}"),
    ):
        client.fetch(to_fetch(found), lambda *_: None, cancel)
    assert sum(one.startswith("GET /cdn/") for one in hub.requests) == 1
    assert client.inspect(asked(REPO, "main", "UD-Q2")).status is FileStatus.MISSING


def test_what_another_tool_fetched_is_found(hub: HubServer, client: Hub, tmp_path: Path) -> None:
    huggingface_hub.hf_hub_download(
        REPO, "model-Q8_0.gguf", cache_dir=tmp_path / "other", endpoint=hub.endpoint
    )
    hub.requests.clear()
    found = client.inspect(asked(REPO, "main", "Q8_0"))
    assert found.status is FileStatus.PRESENT
    assert found.path.startswith(str(tmp_path / "other"))
    assert Path(found.path).read_bytes() == Q8
    assert hub.requests == []
    assert not (tmp_path / "store").exists()


def test_a_moved_branch_changes_nothing(hub: HubServer, client: Hub) -> None:
    pin = client.inspect(asked(REPO, "main", "Q4_K_M")).pin
    fetch(client)
    before = client.inspect(asked(REPO, "main", "Q4_K_M"))
    hub.repos[REPO].commit({**FILES, "model-Q4_K_M.gguf": b"GGUF other"})
    assert client.inspect(asked(REPO, "main", "Q4_K_M")) == before
    another = client.inspect(asked(REPO, "main", "Q8_0"), pin)
    assert (another.status, another.commit) == (FileStatus.MISSING, before.commit)


# ---- what goes wrong


def reasons(client: Hub, repo: str, revision: str = "main") -> tuple[FileStatus, str]:
    found = client.inspect(asked(repo, revision, "Q4_K_M"))
    return found.status, found.reason


def test_a_missing_repository(client: Hub) -> None:
    status, reason = reasons(client, "org/none")
    assert status is FileStatus.BAD
    assert reason == (
        "hub repository org/none does not exist, or is private: "
        "check `source.repo`; for a private one set HF_TOKEN"
    )


def test_a_private_repository_opens_with_the_token(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/private", FILES, private=True)
    assert "or is private" in reasons(make_client(hub, tmp_path), "org/private")[1]
    known = make_client(hub, tmp_path, token=TOKEN)
    fetch(known, "org/private")
    assert known.inspect(asked("org/private", "main", "Q4_K_M")).status is FileStatus.PRESENT


def test_a_missing_revision(client: Hub) -> None:
    assert reasons(client, REPO, "v9") == (
        FileStatus.BAD,
        f"hub repository {REPO} has no such revision: check `source.revision`",
    )


def test_a_gated_repository_says_what_to_do(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/gated", FILES, gated=True)
    client = make_client(hub, tmp_path)
    assert client.inspect(asked("org/gated", "main", "Q4_K_M")).status is FileStatus.MISSING
    with pytest.raises(HubError, match="org/gated is gated") as caught:
        fetch(client, "org/gated")
    assert "HF_TOKEN" in caught.value.hint
    assert not caught.value.retryable
    fetch(make_client(hub, tmp_path, token=TOKEN), "org/gated")


def test_a_file_that_is_gone(hub: HubServer, client: Hub) -> None:
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    hub.repos[REPO].commits[found.commit] = {"README.md": b"gone"}
    with pytest.raises(HubError, match="no longer has that file") as caught:
        client.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert not caught.value.retryable


def test_a_wrong_token_is_said_and_never_shown(hub: HubServer, tmp_path: Path) -> None:
    hub.broken = 403
    wrong = TOKEN[::-1]
    assert reasons(make_client(hub, tmp_path, token=wrong), REPO) == (
        FileStatus.BAD,
        f"hub repository {REPO} refuses us (HTTP 403): check HF_TOKEN, or run `hf auth login`",
    )


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_broken_hub_may_do_better_later(hub: HubServer, client: Hub, status: int) -> None:
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    hub.broken = status
    text = f"cannot be read: its hub answered HTTP {status}"
    assert reasons(client, REPO) == (
        FileStatus.UNKNOWN,
        f"hub repository {REPO} {text}: try again later",
    )
    with pytest.raises(HubError, match=text) as caught:
        client.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert caught.value.retryable


def test_an_unreachable_hub_is_known_at_once(hub: HubServer, tmp_path: Path) -> None:
    nowhere = Hub(str(tmp_path), (), endpoint=f"http://127.0.0.1:{free_port()}", token=TOKEN)
    began = time.monotonic()
    status, reason = reasons(nowhere, REPO)
    assert time.monotonic() - began < 5
    assert status is FileStatus.UNKNOWN
    assert "cannot be reached (ConnectError)" in reason
    assert "HF_ENDPOINT" in reason
    assert TOKEN not in reason


def test_a_hub_that_went_away_before_the_download(hub: HubServer, tmp_path: Path) -> None:
    found = make_client(hub, tmp_path).inspect(asked(REPO, "main", "Q4_K_M"))
    nowhere = make_client(HubServer(f"http://127.0.0.1:{free_port()}"), tmp_path, token=TOKEN)
    with pytest.raises(HubError, match=r"cannot be reached \(ConnectError\)") as caught:
        nowhere.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert caught.value.retryable
    assert TOKEN not in f"{caught.value.message} {caught.value.hint}"


def test_something_that_is_no_hub(hub: HubServer, tmp_path: Path) -> None:
    page = Hub(str(tmp_path), (), endpoint=f"{hub.endpoint}/web")
    found = page.inspect(asked(REPO, "main", "Q4_K_M"))
    assert found.status in {FileStatus.UNKNOWN, FileStatus.BAD}
    assert REPO in found.reason


@pytest.mark.parametrize(
    ("name", "said", "excepted"),
    [("ALL_PROXY", "socks5://p.lan", "127.0.0.1"), ("HTTP_PROXY", "https://p.lan", "other.lan")],
)
def test_a_proxy_that_cannot_be_used_is_named_before_anybody_is_asked(
    hub: HubServer,
    client: Hub,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
    excepted: str,
) -> None:
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    monkeypatch.setenv(name, said)
    monkeypatch.setenv("NO_PROXY", excepted)
    hub.requests.clear()
    blocked = client.inspect(asked(REPO, "main", "Q4_K_M"))
    assert blocked.status is FileStatus.BAD
    assert f"the environment's {name} is the address of a " in blocked.reason
    with pytest.raises(HubError, match=name):
        client.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert hub.requests == []


def test_the_offline_switch_of_the_client_is_obeyed(
    hub: HubServer, client: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(client)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    hub.requests.clear()
    assert client.inspect(asked(REPO, "main", "Q4_K_M")).status is FileStatus.PRESENT
    found = client.inspect(asked(REPO, "main", "Q8_0"))
    assert "HF_HUB_OFFLINE" in found.reason
    assert hub.requests == []


def test_a_store_that_cannot_be_written_is_no_network_problem(client: Hub, tmp_path: Path) -> None:
    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    (tmp_path / "store").write_text("a file where the store should be", encoding="utf-8")
    with pytest.raises(HubError, match="cannot be stored") as caught:
        client.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert "Not a directory" in caught.value.message
    assert "Errno" not in caught.value.message


def test_a_full_disk_is_no_network_problem(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = client.inspect(asked(REPO, "main", "Q4_K_M"))
    monkeypatch.setattr(effects, "preallocate", full)
    with pytest.raises(HubError, match=r"cannot be stored: .*No space left") as caught:
        client.fetch(to_fetch(found), lambda *_: None, NEVER)
    assert caught.value.retryable


def test_a_defect_of_our_own_is_not_the_hubs_fault(
    client: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", broken)
    with pytest.raises(ZeroDivisionError):
        client.inspect(asked(REPO, "main", "Q4_K_M"))
