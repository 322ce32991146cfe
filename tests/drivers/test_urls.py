"""Files from plain URLs over real HTTP: how they stand, fetching them, and every bad way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from certificates import make_certificate
from fetch_rig import HURRIED, KIB, NEVER, QUICK, WEIGHTS, all_rest
from hub_faults import Content, Fault, Kind, Made, sha_of
from hub_server import HubServer, hub_server
from waiting import after

from reconciler.core.desired import Model
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.plan import FetchFiles, VerifyFiles
from reconciler.core.transfers import FileProgress
from reconciler.core.words import ModelName
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.fetch.partial import journal_of
from reconciler.drivers.files import ModelFiles
from reconciler.drivers.hub import Hub
from reconciler.drivers.verified import Verified
from reconciler.errors import HubError, InterruptedRunError, StepError

NAME = "x.gguf"
OTHER = Made(len(WEIGHTS), 9)


@dataclass
class UrlRig:
    """One store, and a server with one file."""

    server: HubServer
    folder: Path
    limits: Limits = QUICK
    content: Content = WEIGHTS
    """What the file must be; the server may have another one."""
    place: str = "files"
    query: str = ""
    told: tuple[FileProgress, ...] = ()
    """The last that was told of a download."""

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def model(self) -> Model:
        url = f"{self.server.endpoint}/{self.place}/{NAME}{self.query}"
        return Model.model_validate({"source": {"url": url, "sha256": sha_of(self.content)}})

    def files(self, *, offline: bool = False) -> ModelFiles:
        hub = Hub(str(self.store), (), limits=self.limits, offline=offline)
        hub.verified = Verified(self.folder / "state")
        return ModelFiles(str(self.folder), str(self.store), hub)

    def inspect(self, *, deep: bool = False, offline: bool = False) -> ObservedFiles:
        return self.files(offline=offline).inspect(self.model, deep=deep)

    def fetch(self, cancel: Cancel = NEVER, **how: Any) -> None:
        """What a run does that finds the file missing."""
        found = self.inspect(**how)
        assert found.status is FileStatus.MISSING, found.reason
        step = FetchFiles(ModelName("m"), self.model.source, "", found.files)
        self.files().fetch(step, self._tell, cancel)

    def verify(self) -> None:
        files = self.files()
        found = files.inspect(self.model, deep=False)
        effect = VerifyFiles(ModelName("m"), found.folder, found.files)
        files.verify(effect, lambda _: None, NEVER)

    def _tell(self, files: tuple[FileProgress, ...]) -> None:
        self.told = files

    @property
    def path(self) -> Path:
        return self.store / "urls" / "blobs" / sha_of(self.content)

    def put(self, content: bytes) -> None:
        """Let these bytes lie where the file belongs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)

    def assert_right(self) -> None:
        """The file lies there, right, alone, known to be right; finding it asks nobody."""
        with self.path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self.path.name
        assert [path for path in self.store.rglob("*") if path.is_file()] == [self.path]
        asked = len(self.server.requests)
        found = self.inspect(offline=True)
        assert (found.status, found.path) == (FileStatus.PRESENT, str(self.path))
        assert found.size == len(self.content)
        assert self.files().hashes()[found.identity] == sha_of(self.content)
        assert len(self.server.requests) == asked


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UrlRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_server() as running:
        running.files[NAME] = WEIGHTS
        yield UrlRig(running, tmp_path)


# ---- the way it should go


def test_each_byte_is_sent_once_and_hashed_on_its_way(
    rig: UrlRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("reconciler.drivers.verifying._Reading._hash")
    found = rig.inspect()
    assert (found.status, found.missing_bytes) == (FileStatus.MISSING, len(WEIGHTS))
    rig.fetch()
    rig.assert_right()
    assert rig.told == (FileProgress(NAME, len(WEIGHTS), len(WEIGHTS), len(WEIGHTS)),)
    # Thrice it was asked how large the file is, or where, at the price of a byte each.
    assert len(rig.server.requests) == 3 + 16
    assert rig.server.sent <= len(WEIGHTS) + 3
    assert rig.server.told_secret == []


def test_the_same_bytes_are_the_same_file_whatever_their_url(rig: UrlRig) -> None:
    rig.fetch()
    before = rig.inspect()
    rig.query = "?signature=other"
    rig.server.files = {}
    assert rig.inspect() == before
    rig.assert_right()
    rig.content = OTHER
    rig.server.files[NAME] = OTHER
    rig.fetch()
    assert len(list(rig.path.parent.iterdir())) == 2


def test_it_is_fetched_from_where_its_url_leads_to(rig: UrlRig) -> None:
    """Its server is asked where it is; the pieces are then asked for there."""
    rig.place, rig.query = "moved", "?key=1"
    rig.fetch()
    rig.assert_right()
    assert rig.server.requests.count("GET /moved/x.gguf?key=1") == 2
    assert rig.server.requests.count("GET /files/x.gguf?key=1") == 2 + 16


def test_a_server_that_knows_no_ranges(rig: UrlRig) -> None:
    rig.server.is_ranged = False
    rig.fetch()
    rig.assert_right()


@pytest.mark.needs("openssl")
def test_https(rig: UrlRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path / "tls")
    with hub_server(certificate) as safe:
        safe.files[NAME] = WEIGHTS
        over_tls = replace(rig, server=safe)
        found = over_tls.inspect()
        assert found.status is FileStatus.UNKNOWN
        assert "CERTIFICATE_VERIFY_FAILED" in found.reason
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
        safe.elsewhere, safe.faults = rig.server.endpoint, [Fault(Kind.ELSEWHERE)]
        found = over_tls.inspect()
        assert found.status is FileStatus.BAD
        assert "127.0.0.1 sends on from https to http" in found.reason
        assert rig.server.requests == []
        over_tls.fetch()
        over_tls.assert_right()


def test_going_on(rig: UrlRig) -> None:
    cancel = threading.Event()
    rig.limits = replace(QUICK, bytes_per_s=500_000)
    with (
        after(lambda: rig.server.sent > 300 * KIB, cancel.set),
        pytest.raises(InterruptedRunError, match="interrupted while downloading from http://127"),
    ):
        rig.fetch(cancel)
    all_rest()
    found = rig.inspect()
    [file] = found.files
    assert 0 < file.came < len(WEIGHTS)
    assert found.missing_bytes == len(WEIGHTS) - file.came
    assert found.held_bytes == pytest.approx(found.missing_bytes, abs=8 * KIB)
    sent, rig.limits = rig.server.sent, QUICK
    rig.fetch()
    rig.assert_right()
    assert rig.server.sent - sent <= found.missing_bytes + 3


BROKEN = {
    "stalls": [Fault(Kind.STALL, 10 * KIB)] * 2,
    "resets": [Fault(Kind.RESET, 10 * KIB)] * 3,
    "cut off": [Fault(Kind.TRUNCATE, 10 * KIB)] * 3,
    "busy": [Fault(Kind.STATUS, status=429, headers=(("Retry-After", "0"),))] * 2,
    "down for a moment": [Fault(Kind.STATUS, status=503)] * 2,
    "an URL that ran out": [Fault(Kind.STATUS, status=403)],
    "no ranges, once": [Fault(Kind.NO_RANGES)],
    "one flipped bit": [Fault(Kind.FLIP)],
}


@pytest.mark.parametrize("faults", BROKEN.values(), ids=BROKEN)
def test_what_breaks_is_tried_again(rig: UrlRig, faults: list[Fault]) -> None:
    found = rig.inspect()
    step = FetchFiles(ModelName("m"), rig.model.source, "", found.files)
    rig.limits = HURRIED
    # The first request of a download asks where the file is.
    rig.server.faults = [Fault(Kind.SHORT), *faults]
    rig.files().fetch(step, lambda _: None, NEVER)
    assert rig.server.faults == []
    rig.assert_right()


# ---- what cannot be had


def test_what_is_missing_offline(rig: UrlRig) -> None:
    rig.query = "?key=sk-secret"
    found = rig.inspect(offline=True)
    assert (found.status, found.files, found.spec_id) == (FileStatus.UNKNOWN, (), "url")
    assert found.reason == (
        f"{rig.server.endpoint}/files/x.gguf?… is not here, and --offline keeps it from being "
        "fetched"
    )
    assert rig.server.requests == []


@pytest.mark.parametrize(
    ("status", "said", "is_final"),
    [
        (404, "cannot be read: its server answered HTTP 404: check `source.url`", True),
        (401, "refuses us (HTTP 401): where a login is needed, fetch", True),
        (403, "refuses us (HTTP 403): where a login is needed, fetch", True),
        (429, "cannot be read: its server answered HTTP 429: try again later", False),
        (500, "cannot be read: its server answered HTTP 500: try again later", False),
    ],
)
def test_a_refusal(rig: UrlRig, status: int, said: str, is_final: bool) -> None:
    rig.query = "?key=sk-secret"
    rig.server.broken = status
    found = rig.inspect()
    assert found.status is (FileStatus.BAD if is_final else FileStatus.UNKNOWN)
    assert f"/files/x.gguf?… {said}" in found.reason
    assert "sk-secret" not in found.reason


def test_nobody_answers(rig: UrlRig) -> None:
    rig.server.endpoint = "http://127.0.0.1:9"
    found = rig.inspect()
    assert found.status is FileStatus.UNKNOWN
    assert "cannot be reached (Connection refused): check `source.url`, the netw" in found.reason


@pytest.mark.parametrize("is_ranged", [True, False])
def test_a_server_that_does_not_say_how_large_the_file_is(rig: UrlRig, is_ranged: bool) -> None:
    rig.server.is_sized, rig.server.is_ranged = False, is_ranged
    found = rig.inspect()
    assert found.status is FileStatus.BAD
    assert "its server does not say how large it is: nobody can tell" in found.reason


def test_it_is_gone_when_it_is_to_be_fetched(rig: UrlRig) -> None:
    found = rig.inspect()
    rig.server.files = {}
    step = FetchFiles(ModelName("m"), rig.model.source, "", found.files)
    with pytest.raises(HubError, match="answered HTTP 404") as caught:
        rig.files().fetch(step, lambda _: None, NEVER)
    assert not caught.value.retryable
    assert caught.value.hint == "check `source.url`"


def test_it_is_of_another_size_when_it_is_to_be_fetched(rig: UrlRig) -> None:
    """Nobody looked whether there is room for that."""
    found = rig.inspect()
    rig.server.files[NAME] = Made(10**15, sha="e" * 64)
    step = FetchFiles(ModelName("m"), rig.model.source, "", found.files)
    with pytest.raises(HubError, match=r"has 909\.5 TiB now, not 1000\.0 KiB as when") as caught:
        rig.files().fetch(step, lambda _: None, NEVER)
    assert not caught.value.retryable
    assert not rig.path.parent.exists()


# ---- wrong bytes


def test_another_file_than_the_one_with_this_hash(rig: UrlRig) -> None:
    rig.server.files[NAME] = OTHER
    with pytest.raises(HubError, match="came twice with wrong bytes") as caught:
        rig.fetch()
    assert sha_of(OTHER) in caught.value.message
    assert sha_of(WEIGHTS) in caught.value.message
    assert "`source.sha256`" in caught.value.hint
    assert list(rig.path.parent.iterdir()) == []
    rig.server.files[NAME] = WEIGHTS
    rig.fetch()
    rig.assert_right()


def test_what_was_found_wrong_is_fetched_anew(rig: UrlRig) -> None:
    rig.put(bytes(len(WEIGHTS)))
    assert rig.inspect().status is FileStatus.PRESENT
    with pytest.raises(StepError, match="has wrong bytes"):
        rig.verify()
    assert rig.inspect(offline=True).files[0].wrong
    found = rig.inspect()
    assert found.status is FileStatus.MISSING
    assert found.files[0].wrong == hashlib.sha256(bytes(len(WEIGHTS))).hexdigest()
    assert found.missing_bytes == len(WEIGHTS)
    rig.fetch()
    rig.assert_right()


def test_a_file_that_was_cut_off_is_fetched_anew(rig: UrlRig, tiny_model: Path) -> None:
    whole = tiny_model.read_bytes()
    rig.content = rig.server.files[NAME] = whole
    rig.put(whole[:-1000])
    assert rig.inspect().status is FileStatus.PRESENT
    found = rig.inspect(deep=True)
    assert (found.status, found.missing_bytes) == (FileStatus.MISSING, len(whole))
    rig.fetch(deep=True)
    rig.assert_right()
    assert rig.inspect(deep=True).status is FileStatus.PRESENT


def test_the_right_bytes_may_be_no_model(rig: UrlRig) -> None:
    rig.fetch()
    found = rig.inspect(deep=True)
    assert (found.status, found.reason) == (
        FileStatus.BAD,
        f"{rig.path}: it is not a GGUF file",
    )


def test_a_download_that_was_killed_in_its_very_end(rig: UrlRig) -> None:
    """It asks nobody, and is hashed: nobody noted that it was."""
    rig.fetch()
    rig.assert_right()
    journal_of(rig.path).write_text("llm-reconcile partial 1 1000\n")
    (rig.folder / "state" / "verified.json").unlink()
    rig.server.requests.clear()
    assert rig.inspect(offline=True).missing_bytes == 0
    rig.fetch()
    rig.assert_right()
    assert rig.server.requests == []


@pytest.mark.parametrize("is_right", [True, False])
def test_what_came_to_lie_there_meanwhile_is_hashed(rig: UrlRig, is_right: bool) -> None:
    rig.content = rig.server.files[NAME] = b"x" * 1000
    found = rig.inspect()
    rig.put(b"x" * 1000 if is_right else b"y" * 1000)
    sent = rig.server.sent
    step = FetchFiles(ModelName("m"), rig.model.source, "", found.files)
    if is_right:
        rig.files().fetch(step, lambda _: None, NEVER)
    else:
        with pytest.raises(StepError, match="has wrong bytes"):
            rig.files().fetch(step, lambda _: None, NEVER)
        rig.fetch()
    rig.assert_right()
    assert rig.server.sent - sent <= (2 if is_right else 1004)


# ---- where it lies


def test_the_hubs_own_tools_do_not_take_it_for_theirs(rig: UrlRig) -> None:
    rig.fetch()
    seen = huggingface_hub.scan_cache_dir(rig.store)
    assert not seen.repos
    assert [str(one) for one in seen.warnings] == [
        f"Repo path is not a valid HuggingFace cache directory: {rig.store / 'urls'}"
    ]


def test_its_disk_is_that_of_its_folder(rig: UrlRig) -> None:
    near = rig.files().disk(rig.model)
    elsewhere = Path("/dev", "shm")
    assert elsewhere.stat().st_dev != near.device
    rig.store.mkdir()
    (rig.store / "urls").symlink_to(elsewhere)
    far = rig.files().disk(rig.model)
    assert (near.device, near.folder) == (rig.folder.stat().st_dev, str(rig.store))
    assert far.device == elsewhere.stat().st_dev
