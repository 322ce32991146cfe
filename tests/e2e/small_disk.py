"""A root whose store lies on a small disk of its own: for test_small_disk.

In: the lab's folder, a model, what is tried. Out: exit 0, or a failed assertion. It runs in a mount
namespace: nobody else sees the disk, and it goes with the process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fetch_rig import Rig
from hub_faults import Made, sha_of
from hub_server import HubServer, hub_server

from e2e.lab import FAKE_ENGINE, Lab
from reconciler.drivers import effects
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.fetch.partial import partial_of
from reconciler.errors import HubError

MIB = 2**20
NO_ORDERS = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fallocate:error=EOPNOTSUPP")
"""Run a program to which every disk is one that takes no orders for room in advance."""


def model(quant: str, **more: Any) -> dict[str, Any]:
    return {"source": {"repo": "org/m-GGUF"}, "quant": quant, **more}


def refuse(lab: Lab, hub: HubServer) -> None:
    """Too much for all together, before the first byte; then what fits, and what ran runs on.

    The disk has 24 MiB, of which 5 % stay free.
    """
    padded = lab.weights.read_bytes() + bytes(23 * MIB // 2)
    hub.add("org/m-GGUF", {"m-Q4.gguf": padded, "m-Q5.gguf": padded + b"x"})
    store = str(lab.folder / "s")
    lab.write({"keep": {}}, store=store)
    lab.apply()
    before = lab.pids()
    lab.write({"keep": {}, "a": model("Q4"), "b": model("Q5")}, store=store)
    for words in (
        ("plan", str(lab.file)),
        ("apply", str(lab.file), "-y"),
        ("download", "--all"),
    ):
        said = " ".join(lab.run(*words, code=4).all.split())
        assert f"23.3 MiB to download, 24.0 MiB free in {store}, of which 1.2 MiB" in said, said
    assert hub.sent == 0
    assert lab.pids() == before
    lab.write({"keep": {}, "a": model("Q4")}, store=store)
    lab.apply()
    assert lab.pids()["keep"] == before["keep"]
    assert lab.complete("a").status == 200
    assert hub.sent == len(padded)
    # What an interrupted download holds is its own.
    lab.write({"keep": {}, "b": model("Q5")}, store=store)
    lab.run("plan", str(lab.file), code=4)
    assert lab.close() == []


def known_at_once(lab: Lab, hub: HubServer) -> None:
    """Somebody else took the room after the plan: not a byte is fetched, no room is held."""
    rig, content = rigged(lab, hub, ballast=10 * MIB)
    with pytest.raises(HubError, match="No space left on device"):
        rig.fetch()
    assert hub.sent == 0
    assert partial_of(rig.blobs / sha_of(content)).stat().st_blocks == 0
    (lab.folder / "s" / "ballast").unlink()
    rig.fetch()
    rig.assert_right(content)


def known_in_the_middle(lab: Lab, hub: HubServer) -> None:
    """A disk that takes no orders in advance: what came stays, and the next run goes on."""
    setattr(effects, "preallocate", lambda *_: None)  # noqa: B010 - a function is replaced
    rig, content = rigged(lab, hub, ballast=10 * MIB)
    with pytest.raises(HubError, match="No space left on device") as caught:
        rig.fetch()
    assert "make room on that disk" in caught.value.hint
    sent = hub.sent
    assert sent > 4 * MIB
    assert len(rig.names()) == 2
    (lab.folder / "s" / "ballast").unlink()
    rig.fetch()
    rig.assert_right(content)
    assert hub.sent < len(content) + 6 * MIB


def apply_in_the_middle(lab: Lab, hub: HubServer) -> None:
    """Somebody else takes all the room of a disk that takes no orders: what serves serves on.

    The disk has 320 MiB.
    """
    content = Made(256 * MIB, 1, head=lab.weights.read_bytes())
    before = begin(lab, hub, content)
    with sending(hub, 100 * MIB, lambda: fill(lab.folder / "s" / "ballast")):
        done = lab.run("apply", str(lab.file), "-y", code=3, under=NO_ORDERS)
    [partial] = (lab.folder / "s").rglob("*.reconcile.incomplete")
    said = f"org/m-GGUF cannot be stored: {partial}: No space left on device\n  make room on that"
    assert said in done.err, done.err
    assert lab.pids() == before
    assert lab.complete("old").status == 200
    (lab.folder / "s" / "ballast").unlink()
    lab.apply()
    assert hub.sent <= 1.02 * len(content), hub.sent / len(content)
    assert lab.pids()["keep"] == before["keep"]
    assert lab.pids()["old"] != before["old"]
    assert lab.close() == []


def taken_in_advance(lab: Lab, hub: HubServer) -> None:
    """Somebody else takes all the room that is left, which is none of the download's."""
    content = Made(16 * MIB, 1, head=lab.weights.read_bytes())
    before = begin(lab, hub, content)
    with sending(hub, 4 * MIB, lambda: fill(lab.folder / "s" / "ballast")):
        lab.apply()
    assert lab.pids()["old"] != before["old"]
    assert lab.close() == []


def begin(lab: Lab, hub: HubServer, content: Made) -> dict[str, int]:
    """Two servers run, and one of them is to have this file; their pids."""
    hub.add("org/m-GGUF", {"m-Q4.gguf": content})
    store = str(lab.folder / "s" / "store")
    lab.write({"keep": {}, "old": {}}, store=store)
    lab.apply()
    lab.write({"keep": {}, "old": model("Q4")}, store=store)
    return dict(lab.pids())


@contextlib.contextmanager
def sending(hub: HubServer, most: int, act: Callable[[], None]) -> Iterator[None]:
    """Act once before more than so many bytes are sent; nobody gets any meanwhile."""
    count, turn, acted = hub.count, threading.Lock(), threading.Event()

    def count_and_act(sent: int) -> None:
        with turn:
            if hub.sent + sent > most and not acted.is_set():
                act()
                acted.set()
        count(sent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "count", count_and_act)
        yield
    assert acted.is_set()


def fill(path: Path) -> None:
    """Take all room that is left."""
    at, step = 0, 64 * MIB
    with path.open("wb") as file:
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), at, step)
                at += step
            except OSError:
                step //= 2


def rigged(lab: Lab, hub: HubServer, ballast: int) -> tuple[Rig, Made]:
    (lab.folder / "s" / "ballast").write_bytes(bytes(ballast))
    rig = Rig(hub, lab.folder / "s" / "store", Limits(tries=2, first_pause_s=0.01))
    content = Made(16 * MIB, 1)
    rig.add({"m-Q4.gguf": content})
    return rig, content


TRIALS: dict[str, Callable[[Lab, HubServer], None]] = {
    "refuse": refuse,
    "known at once": known_at_once,
    "known in the middle": known_in_the_middle,
    "apply in the middle": apply_in_the_middle,
    "taken in advance": taken_in_advance,
}


def main() -> None:
    lab = Lab(Path(sys.argv[1]), Path(sys.argv[2]), engine=dict(FAKE_ENGINE))
    with hub_server() as hub:
        local = {"NO_PROXY": "127.0.0.1,localhost"}
        lab.variables = {
            **local,
            "HF_ENDPOINT": hub.endpoint,
            "XDG_STATE_HOME": str(lab.folder / "st"),
        }
        TRIALS[sys.argv[3]](lab, hub)


if __name__ == "__main__":
    main()
