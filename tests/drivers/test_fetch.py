"""Fetching over real HTTP from a hub on this machine: the way it should go, and every bad way."""

from __future__ import annotations

import datetime
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path
from typing import SupportsIndex

import huggingface_hub
import pytest
from fetch_rig import HURRIED, KIB, REPO, WEIGHTS, Rig
from hub_faults import Fault, Kind, Made, sha_of
from hub_server import TOKEN, hub_server
from waiting import after, eventually

from reconciler.core.transfers import FileProgress
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.fetch.partial import journal_of, partial_of
from reconciler.errors import HubError, InterruptedRunError

NAME = "m-Q4.gguf"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server() as running:
        rig = Rig(running, tmp_path / "store")
        rig.add({NAME: WEIGHTS, "README.md": b"# a model"})
        yield rig
    huggingface_hub.close_session()


# ---- the way it should go


def test_each_byte_is_sent_once_and_hashed_on_its_way(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("reconciler.drivers.verifying._Reading._hash")
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent == len(WEIGHTS)
    assert rig.gets() == 16
    assert rig.is_here()


def test_the_hubs_own_client_finds_what_we_fetched(rig: Rig) -> None:
    rig.fetch()
    rig.hub.requests.clear()
    path = huggingface_hub.hf_hub_download(
        REPO, NAME, cache_dir=rig.folder, endpoint=rig.hub.endpoint
    )
    assert rig.gets() == 0
    assert Path(path).readlink() == Path("../../blobs") / sha_of(WEIGHTS)
    seen = huggingface_hub.scan_cache_dir(rig.folder)
    assert not seen.warnings
    assert seen.size_on_disk == len(WEIGHTS)


def test_shards_come_several_at_a_time(rig: Rig) -> None:
    shards = [Made(300 * KIB + number, number) for number in (1, 2, 3)]
    rig.add({f"Q2/m-Q2-0000{one.seed}-of-00003.gguf": one for one in shards})
    rig.fetch("Q2")
    rig.assert_right(*shards)
    assert rig.hub.sent == sum(map(len, shards))
    assert rig.is_here("Q2")


def test_progress_is_told_on_the_way(rig: Rig) -> None:
    told: list[tuple[FileProgress, ...]] = []
    rig.hub.faults = [Fault(Kind.STALL, 10 * KIB)] * 3

    def tell(files: tuple[FileProgress, ...]) -> None:
        told.append(files)
        if files[0].done == 30 * KIB:
            rig.hub.over.set()

    rig.fetch(progress=tell)
    done = [one.done for [one] in told]
    assert {(one.name, one.size) for [one] in told} == {(NAME, len(WEIGHTS))}
    assert (done[0], done[-1]) == (0, len(WEIGHTS))
    assert done == sorted(done)
    assert 30 * KIB in done


def test_a_small_file_is_verified_by_the_hash_that_git_gives_it(rig: Rig) -> None:
    content = b"not in LFS" * 9
    location = rig.client._client().locate(REPO, "README.md", rig.hub.repos[REPO].refs["main"])
    assert location.size == len(b"# a model")
    digest = location.new_hash()
    digest.update(memoryview(b"# a model"))
    assert digest.hexdigest() == location.digest
    assert hashlib.sha1(content, usedforsecurity=False).hexdigest() != location.digest


def test_an_empty_file_is_a_file(rig: Rig) -> None:
    rig.add({NAME: b""})
    rig.fetch()
    rig.assert_right(b"")


def test_a_limit_on_speed_holds(rig: Rig) -> None:
    rig.limits = replace(rig.limits, bytes_per_s=2_000_000)
    began = time.monotonic()
    rig.fetch()
    assert time.monotonic() - began > 0.4
    rig.assert_right(WEIGHTS)


# ---- going on


def test_what_came_before_an_interruption_is_not_fetched_again(rig: Rig) -> None:
    rig.interrupt()
    target = rig.blobs / sha_of(WEIGHTS)
    assert rig.names() == sorted([journal_of(target).name, partial_of(target).name])
    assert not rig.is_here()
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent <= len(WEIGHTS) + 3 * 64 * KIB


def test_an_interruption_is_noticed_at_once_on_a_silent_connection(rig: Rig) -> None:
    rig.limits = replace(rig.limits, stall_s=60)
    rig.hub.faults = [Fault(Kind.SILENCE)] * 3
    cancel = threading.Event()
    noticed: list[float] = []

    def end() -> None:
        noticed.append(time.monotonic())
        cancel.set()

    with after(lambda: not rig.hub.faults, end), pytest.raises(InterruptedRunError):
        rig.fetch(cancel=cancel)
    assert time.monotonic() - noticed[0] < 10
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_partial_without_its_journal_counts_for_nothing(rig: Rig) -> None:
    rig.interrupt()
    journal_of(rig.blobs / sha_of(WEIGHTS)).unlink()
    before = rig.hub.sent
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent - before == len(WEIGHTS)


def test_a_journal_that_promises_too_much_is_caught_by_the_hash(rig: Rig) -> None:
    rig.interrupt()
    with journal_of(rig.blobs / sha_of(WEIGHTS)).open("a", encoding="ascii") as journal:
        journal.write(f"0 {len(WEIGHTS)}\n")
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_file_that_changed_since_is_begun_anew(rig: Rig) -> None:
    rig.interrupt()
    before = rig.hub.sent
    rig.hub.etag = "new-"
    rig.hub.validators.clear()
    rig.fetch()
    assert f'"{sha_of(WEIGHTS)}"' in rig.hub.validators
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent - before >= len(WEIGHTS)


def test_of_two_that_want_the_same_one_fetches(rig: Rig) -> None:
    rig.limits = replace(rig.limits, bytes_per_s=3_000_000)
    failed: list[BaseException] = []

    def another() -> None:
        try:
            rig.fetch()
        except HubError as error:
            failed.append(error)

    threads = [threading.Thread(target=another) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent == len(WEIGHTS)


def test_who_waits_for_another_can_be_interrupted(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.STALL)] * 3
    rig.limits = replace(rig.limits, stall_s=60)
    first, second = threading.Event(), threading.Event()

    def fetch() -> None:
        with pytest.raises(InterruptedRunError):
            rig.fetch(cancel=first)

    thread = threading.Thread(target=fetch)
    thread.start()
    eventually(lambda: not rig.hub.faults)
    second.set()
    with pytest.raises(InterruptedRunError):
        rig.fetch(cancel=second)
    first.set()
    thread.join()


# ---- what goes wrong on the way


def date_in(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(SystemClock().now() + seconds, datetime.UTC)
    return format_datetime(moment, usegmt=True)


BAD_LUCK = {
    "reset": Fault(Kind.RESET, 9 * KIB),
    "reset at once": Fault(Kind.RESET),
    "truncated": Fault(Kind.TRUNCATE, 9 * KIB),
    "truncated at once": Fault(Kind.TRUNCATE),
    "stalled": Fault(Kind.STALL, 9 * KIB),
    "silent": Fault(Kind.SILENCE),
    "short": Fault(Kind.SHORT),
    "shifted": Fault(Kind.SHIFT),
    "no range": Fault(Kind.NO_SUCH_RANGE),
    "500": Fault(Kind.STATUS, status=500),
    "503": Fault(Kind.STATUS, status=503, headers=(("Retry-After", "0"),)),
    "429": Fault(Kind.STATUS, status=429, headers=(("Retry-After", "nonsense"),)),
    "408": Fault(Kind.STATUS, status=408),
    "403": Fault(Kind.STATUS, status=403),
    "404": Fault(Kind.STATUS, status=404),
    "elsewhere": Fault(Kind.ELSEWHERE),
}


@pytest.mark.parametrize("what", BAD_LUCK)
def test_bad_luck_costs_no_byte_that_came(rig: Rig, what: str) -> None:
    rig.hub.faults = [BAD_LUCK[what]] * 3
    rig.limits = replace(rig.limits, stall_s=2 if what in {"stalled", "silent"} else 20)
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.hub.faults == []
    lost = 3 * 64 * KIB if what in {"shifted", "no range"} else 0
    assert rig.hub.sent <= len(WEIGHTS) + lost


@pytest.mark.parametrize("fault", [Fault(Kind.STATUS, status=416), Fault(Kind.NO_RANGES)])
def test_a_file_that_seems_another_is_begun_anew(rig: Rig, fault: Fault) -> None:
    rig.hub.faults = [fault]
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_store_that_knows_no_ranges_serves_too(rig: Rig) -> None:
    rig.hub.is_ranged = False
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_store_without_ranges_that_breaks_is_begun_anew(rig: Rig) -> None:
    rig.hub.is_ranged = False
    rig.limits = replace(rig.limits, connections=1)
    rig.hub.faults = [Fault(Kind.NO_RANGES), Fault(Kind.TRUNCATE, 300 * KIB)]
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_an_etag_that_never_stays_is_an_error(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.STATUS, status=416)] * 99
    with pytest.raises(HubError, match=f"{NAME} changed 5 times on its way") as caught:
        rig.fetch()
    assert caught.value.retryable


@pytest.mark.parametrize("asked", ["1", "date"])
def test_a_busy_store_is_left_alone_as_long_as_it_asks(rig: Rig, asked: str) -> None:
    rig.limits = replace(rig.limits, connections=1)
    began = time.monotonic()
    wish = date_in(2.5) if asked == "date" else asked
    rig.hub.faults = [Fault(Kind.STATUS, status=429, headers=(("Retry-After", wish),))]
    rig.fetch()
    assert time.monotonic() - began > 0.9
    rig.assert_right(WEIGHTS)


def test_a_store_that_stays_broken_is_said(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.STATUS, status=503)] * 99
    with pytest.raises(HubError, match=r"its server answered HTTP 503") as caught:
        rig.fetch()
    assert caught.value.retryable
    assert len(rig.hub.faults) > 80


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.SILENCE])
def test_a_store_that_stays_silent_is_said(rig: Rig, kind: Kind) -> None:
    rig.limits = replace(HURRIED, tries=2)
    rig.hub.faults = [Fault(kind)] * 99
    with pytest.raises(HubError, match=r"sent nothing in time"):
        rig.fetch()


def test_a_store_that_refuses_us_is_said(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.STATUS, status=403)] * 99
    with pytest.raises(HubError, match=r"refuses us \(HTTP 403\)") as caught:
        rig.fetch()
    assert "HF_TOKEN" in caught.value.hint


# ---- wrong bytes


def test_a_flipped_bit_is_fetched_again(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.FLIP)]
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.hub.sent == 2 * len(WEIGHTS)


def test_bytes_that_are_wrong_twice_are_an_error_that_names_both(rig: Rig) -> None:
    rig.hub.faults = [Fault(Kind.FLIP)] * 99
    with pytest.raises(HubError, match=f"{NAME} came twice with wrong bytes") as caught:
        rig.fetch()
    assert f"not {sha_of(WEIGHTS)}" in caught.value.message
    assert rig.names() == []
    assert not rig.is_here()
    rig.hub.faults.clear()
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_file_of_the_wrong_size_is_replaced(rig: Rig) -> None:
    rig.blobs.mkdir(parents=True)
    (rig.blobs / sha_of(WEIGHTS)).write_bytes(b"half")
    rig.fetch()
    rig.assert_right(WEIGHTS)


def test_a_pinned_file_that_becomes_another_is_refused(rig: Rig) -> None:
    rig.limits = replace(rig.limits, connections=1)
    [commit] = rig.hub.repos[REPO].commits

    class Swap(list[Fault]):
        """It is swapped before the answer that lets us look for it again."""

        def pop(self, _index: SupportsIndex = -1) -> Fault:
            rig.hub.repos[REPO].commits[commit] = {NAME: Made(len(WEIGHTS), 9)}
            return super().pop()

    rig.hub.faults = Swap([Fault(Kind.STATUS, status=403)])
    with pytest.raises(HubError, match="other bytes"):
        rig.fetch()


@pytest.mark.parametrize("name", ["../../../../m-Q4.gguf", "/srv/m-Q4.gguf"])
def test_a_path_that_leads_out_of_the_store_is_refused(rig: Rig, name: str) -> None:
    with pytest.raises(HubError, match="a path that leads out"):
        rig.fetch_file(name)
    assert rig.gets() == 0


# ---- secrets


def test_the_token_goes_to_the_hub_alone(rig: Rig) -> None:
    rig.token = TOKEN
    rig.hub.faults = [Fault(Kind.ELSEWHERE)]
    rig.fetch()
    assert rig.hub.told_secret
    assert all(one.startswith("127.0.0.1") for one in rig.hub.told_secret)
    assert not [one for one in rig.hub.told_secret if "/cdn/" in one]


def test_the_token_goes_to_a_store_on_the_hubs_own_address_but_no_further(rig: Rig) -> None:
    rig.token = TOKEN
    rig.hub.store, elsewhere = rig.hub.endpoint, rig.hub.store
    rig.hub.elsewhere = elsewhere
    rig.hub.faults = [Fault(Kind.ELSEWHERE)] * 3
    rig.fetch()
    assert [one for one in rig.hub.told_secret if "/cdn/" in one]
    assert all(one.startswith("127.0.0.1") for one in rig.hub.told_secret)
    rig.assert_right(WEIGHTS)


def test_proxies_come_from_the_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(HubError, match=r"cannot be reached \(Connection refused\)") as caught:
            rig.fetch()
    assert "proxy" in caught.value.hint
    assert rig.gets() == 0
