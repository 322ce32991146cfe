"""The machines and files that the golden plans of tests/data/plans.txt are made for.

In: nothing. Out: `CASES` by name. After a wanted change of a plan's words, write the file anew:
`PYTHONPATH=tests:tests/core:. python tests/core/plan_cases.py > tests/data/plans.txt`, and read it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from builders import (
    ENGINE,
    NGINX,
    all_files,
    desired,
    disk,
    disks,
    files_of,
    holders,
    instances,
    observed,
    plan,
    running,
    server,
    steps_of,
    stray,
)

from reconciler.core.desired import DesiredState
from reconciler.core.downtime import LastStart
from reconciler.core.keys import GatewayKey
from reconciler.core.observed import (
    FileStatus,
    GatewaySecrets,
    Journal,
    LastExit,
    ObservedFile,
    ObservedGateway,
    ObservedState,
    ProcessRef,
)
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.present import plan_text
from reconciler.core.stored import Blob, Link, ObservedStore, StoredRepo
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName, Phase, SpecHash

PARAMS = {"temp": "0.7", "ctx_size": "4096"}
SECRET = {"HF_TOKEN": "hf_old", "A": "1"}
ONE = desired({"a": {"port": 8001}})
TWO = desired({"a": {"port": 8001}, "b": {"port": 8002}})
BARE = desired({"a": {"port": 8001}, "b": {"port": 8002}}, gateway=False)
SWAPPED = desired({"a": {"port": 8002}, "b": {"port": 8001}}, gateway=False)
OLD = desired({"a": {"params": {"temp": "0.7"}, "env": SECRET}})
NEW = desired({"a": {"params": PARAMS, "env": {"HF_TOKEN": "hf_new", "B": "2"}}})
FULL = desired({"a": {"port": 8001, "params": PARAMS, "args": {"jinja": True}, "env": SECRET}})
WAITING = desired({"a": {"params": PARAMS}}, gateway={"hold": "5m"})
IMPATIENT = desired({"a": {"params": PARAMS}}, gateway={"hold": "90s"})
SURGE = desired({"a": {"rollout": "surge", "drain": "90s"}})
SURGE_OLD = desired({"a": {"rollout": "surge", "params": PARAMS}})
HUB = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})
GONE = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4", "state": "absent"}})
URL, OTHER_URL, OTHER_BYTES = (
    desired({"a": {"source": {"url": url, "sha256": digest * 64}}})
    for url, digest in (
        ("https://example.org/x.gguf?key=1", "5"),
        ("https://example.net/y.gguf", "5"),
        ("https://example.org/x.gguf?key=1", "6"),
    )
)
NEW_HUB = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4", "params": PARAMS}})
TWINS = desired({name: {"source": {"repo": "org/far"}, "quant": "Q4"} for name in "ab"})
RIGHT, WRONG = "5" * 64, "6" * 64
PRESENT = desired({"a": {"state": "present"}})
EMPTY = desired({})
NO_NGINX = ObservedGateway()
LOCKED = desired({"a": {"port": 8001}}, gateway={"keys_file": "secrets/keys"})
TLS = desired({"a": {"port": 8001}}, gateway={"tls": {"cert": "c.pem", "key": "k.pem"}})
SAFE = desired(
    {"a": {"port": 8009}},
    gateway={"keys_file": "secrets/keys", "tls": {"cert": "c.pem", "key": "k.pem"}},
)
EVERYWHERE = desired({"a": {"port": 8001}}, gateway={"listen": "0.0.0.0:8888"})
STOPPED = Journal(suspended={ModelName("a"): Suspension(1.0, "too hot")})
DIED = Journal(
    last_exits={InstanceName("a"): LastExit(1.0, "not enough memory", SpecHash("0" * 12))}
)
SURGE_FAILED = Journal(
    last_exits={
        InstanceName("a"): LastExit(1.0, "not ready after 10m00s", instances(SURGE)["a"].spec.hash)
    }
)
TOOK_LONG = Journal(starts={InstanceName("a"): LastStart(194.0, 140)})
POOR_ENGINE = replace(ENGINE, flags={"temp": "--temp"})


def with_files(state: DesiredState, status: FileStatus, *live: Any) -> ObservedState:
    """The files of `a` in this status."""
    files = all_files(state, a=files_of(state.models["a"], status, 5 * 2**30))
    return observed(state, *live, files=files)


def with_room(seen: ObservedState) -> ObservedState:
    """40 GiB are free where the files of `a` are, or will be."""
    return replace(seen, disks=disks(disk(35 * 2**30), "a"))


def stored(state: DesiredState, *live: Any) -> ObservedState:
    """The files of `a` lie in the store, and nobody else needs them."""
    link = Link("/r/models/Q4.gguf", "c" * 40, "Q4.gguf", RIGHT, 0, (1, 2))
    blob = Blob(f"/r/models/{RIGHT}", RIGHT, 5 * 2**30, (1, 2))
    repo = StoredRepo("models--org--far", links=(link,), blobs=(blob,))
    store = ObservedStore({ModelName("a"): repo})
    return observed(state, *live, files={}, store=store, lock={})


def far_files(state: DesiredState) -> ObservedState:
    """All files still to be fetched."""
    files = {name: files_of(one, FileStatus.MISSING, 2**30) for name, one in state.models.items()}
    return observed(state, files=all_files(state, **files))


def pinned(state: DesiredState, *live: Any, hashes: str = "", **special: Any) -> ObservedState:
    """The files of `a` in two shards; of each it is known right (`r`), wrong (`w`) or nothing."""
    files = files_of(state.models["a"], size=2 * 2**30)
    shards = tuple(
        ObservedFile(f"Q4-{number}.gguf", 2**30, f"1:{number}:8:1", digest=RIGHT)
        for number in (1, 2)
    )
    known = {"r": RIGHT, "w": WRONG}
    found = {
        shard.identity: known[one] for shard, one in zip(shards, hashes, strict=False) if one != "?"
    }
    shards = tuple(
        replace(one, wrong=WRONG) if found.get(one.identity) == WRONG else one for one in shards
    )
    status = FileStatus.MISSING if any(one.wrong for one in shards) else FileStatus.PRESENT
    whole = replace(files, status=status, files=shards)
    return observed(state, *live, files=all_files(state, a=whole), hashes=found, **special)


def shared(state: DesiredState) -> ObservedState:
    """Two models of the same files."""
    seen = pinned(state)
    return replace(seen, files={**seen.files, ModelName("b"): seen.files[ModelName("a")]})


LOADED = "1:1:8:1,1:2:8:1"
ALICE = GatewayKey("alice", "a" * 64)
BOB = GatewayKey("bob", "b" * 64, ("a",))
KEYS = GatewaySecrets(keys=(ALICE, BOB, GatewayKey("same", "5" * 64)))
NEW_KEYS = GatewaySecrets(
    keys=(
        GatewayKey("alice", "a" * 64, ("a", "gone"), line=1, column=20),
        GatewayKey("carol", "c" * 64, ("aa",), line=2, column=20),
        GatewayKey("bob", "d" * 64, ("a",)),
        GatewayKey("same", "5" * 64),
    )
)
CERT = GatewaySecrets(certificate="1" * 12, valid_until="2026-12-24")
NEW_CERT = GatewaySecrets(certificate="2" * 12, valid_until="2027-03-24")
REFUSED = GatewaySecrets(problem="secrets/keys:3: the key has to be longer")


def on(before: DesiredState, seen: ObservedState, **special: Any) -> ObservedState:
    """The same machine, where nginx still runs what `before` wants."""
    return replace(seen, gateway=observed(before, **special).gateway)


CASES: dict[str, tuple[DesiredState, ObservedState]] = {
    "nothing to do": (ONE, running(ONE)),
    "create": (FULL, observed(FULL, gateway=NO_NGINX)),
    "create after it died": (ONE, observed(ONE, journal=DIED)),
    "download": (HUB, with_files(HUB, FileStatus.MISSING)),
    "download, and the room that is left": (HUB, with_room(with_files(HUB, FileStatus.MISSING))),
    "removed with its files": (GONE, with_room(stored(GONE, server(HUB, "a")))),
    "download what two models share": (TWINS, far_files(TWINS)),
    "download from a URL": (URL, with_files(URL, FileStatus.MISSING)),
    "another URL of the same bytes": (
        URL,
        observed(URL, server(OTHER_URL, "a", files="1:2:3:4")),
    ),
    "a URL of other bytes": (
        OTHER_BYTES,
        with_files(OTHER_BYTES, FileStatus.MISSING, server(URL, "a")),
    ),
    "verify": (HUB, pinned(HUB)),
    "verify the half": (HUB, pinned(HUB, hashes="r")),
    "verified before": (HUB, pinned(HUB, hashes="rr")),
    "not verified, but it runs": (HUB, pinned(HUB, server(HUB, "a", files=LOADED))),
    "verify before a replacement": (
        NEW_HUB,
        pinned(NEW_HUB, server(HUB, "a", files=LOADED)),
    ),
    "verify what two models share": (TWINS, shared(TWINS)),
    "wrong bytes": (HUB, pinned(HUB, hashes="?w")),
    "wrong bytes, and it runs on them": (
        HUB,
        pinned(HUB, server(HUB, "a", files=LOADED), hashes="rw"),
    ),
    "wrong bytes, changed in place while it ran": (
        HUB,
        pinned(HUB, server(HUB, "a", files="1:1:8:1,1:2:8:0"), hashes="rw"),
    ),
    "wrong bytes, and it runs on others": (
        HUB,
        pinned(HUB, server(HUB, "a", files="1:1:8:1,1:7:8:1"), hashes="rw"),
    ),
    "replace": (NEW, observed(NEW, server(OLD, "a"))),
    "replace what took long to start": (NEW, observed(NEW, server(OLD, "a"), journal=TOOK_LONG)),
    "replace while requests wait": (
        WAITING,
        observed(WAITING, server(OLD, "a"), journal=TOOK_LONG),
    ),
    "replace while requests wait for a part of it": (
        IMPATIENT,
        observed(IMPATIENT, server(OLD, "a"), journal=TOOK_LONG),
    ),
    "replace with other files": (HUB, with_files(HUB, FileStatus.MISSING, server(ONE, "a"))),
    "replace what no field explains": (
        ONE,
        observed(ONE, replace(server(ONE, "a"), spec=SpecHash("1"))),
    ),
    "surge": (SURGE, observed(SURGE, server(SURGE_OLD, "a"))),
    "surge failed before": (
        SURGE,
        observed(SURGE, server(SURGE_OLD, "a"), journal=SURGE_FAILED),
    ),
    "surge was cut, the new one loads": (
        SURGE,
        observed(
            SURGE,
            server(SURGE_OLD, "a"),
            server(SURGE, "a", slot="b", phase=Phase.STARTING, routed=False),
        ),
    ),
    "surge was cut, the file changed again": (
        SURGE,
        observed(
            SURGE,
            server(SURGE_OLD, "a"),
            stray("a", slot="b", phase=Phase.STARTING, routed=False),
        ),
    ),
    "surge was cut, the old one is stopping": (
        SURGE,
        observed(
            SURGE,
            server(SURGE_OLD, "a", phase=Phase.STOPPING, routed=False),
            server(SURGE, "a", slot="b"),
        ),
    ),
    "surge was cut, the new one is stopping": (
        SURGE,
        observed(
            SURGE,
            server(SURGE, "a", phase=Phase.STOPPING, routed=False),
            server(SURGE_OLD, "a", slot="b"),
        ),
    ),
    "no surge where nothing serves": (
        SURGE,
        observed(SURGE, server(SURGE_OLD, "a", phase=Phase.STOPPING, routed=False)),
    ),
    "no surge from a port": (SURGE, observed(SURGE, server(BARE, "a"))),
    "stop was cut": (ONE, observed(ONE, server(ONE, "a", phase=Phase.STOPPING, routed=False))),
    "removed": (EMPTY, observed(EMPTY, stray("gone"), stray("gone", slot="b"))),
    "files only": (PRESENT, observed(PRESENT, server(ONE, "a"))),
    "fewer replicas": (ONE, observed(ONE, server(ONE, "a"), stray("a[1]"))),
    "suspended": (ONE, running(ONE, journal=STOPPED)),
    "suspended before": (ONE, observed(ONE, journal=STOPPED)),
    "adopt, still loading": (ONE, observed(ONE, server(ONE, "a", phase=Phase.STARTING))),
    "adopt, silent": (ONE, observed(ONE, server(ONE, "a", phase=Phase.UNHEALTHY))),
    "adopt, not routed": (ONE, observed(ONE, server(ONE, "a", routed=False))),
    "drift of a file": (ONE, observed(ONE, server(ONE, "a", files="1:2:3:4"))),
    "blocked by a stranger, runs on": (ONE, running(ONE, ports=holders(8001))),
    "blocked by a stranger": (ONE, observed(ONE, ports=holders(8001))),
    "blocked by a flag, runs on": (NEW, observed(NEW, server(OLD, "a"), engine=POOR_ENGINE)),
    "blocked by a flag, two copies": (
        NEW,
        observed(NEW, server(OLD, "a"), stray("a", slot="b", routed=False), engine=POOR_ENGINE),
    ),
    "blocked by files": (ONE, with_files(ONE, FileStatus.BAD)),
    "blocked files of a model that need not run": (PRESENT, with_files(PRESENT, FileStatus.BAD)),
    "blocked by the hub": (HUB, with_files(HUB, FileStatus.UNKNOWN)),
    "blocked for want of an engine": (ONE, observed(ONE, engine=ObservedEngine(None))),
    "ports are swapped": (SWAPPED, observed(SWAPPED, server(BARE, "a"), server(BARE, "b"))),
    "ports are swapped, one is blocked": (
        SWAPPED,
        replace(
            with_files(SWAPPED, FileStatus.BAD, server(BARE, "a"), server(BARE, "b")),
            ports=holders(a=8001, b=8002),
        ),
    ),
    "gateway: a port changed": (desired({"a": {"port": 8009}}), running(ONE)),
    "gateway: keys are asked for": (LOCKED, running(ONE, secrets=KEYS)),
    "gateway: keys are asked for no more": (ONE, on(LOCKED, running(ONE), secrets=KEYS)),
    "gateway: keys changed": (LOCKED, on(LOCKED, running(LOCKED, secrets=NEW_KEYS), secrets=KEYS)),
    "gateway: certificate renewed": (TLS, on(TLS, running(TLS, secrets=NEW_CERT), secrets=CERT)),
    "gateway: certificate, keys and a port": (
        SAFE,
        on(ONE, running(SAFE, secrets=replace(CERT, keys=KEYS.keys))),
    ),
    "gateway: everywhere": (EVERYWHERE, on(ONE, running(EVERYWHERE))),
    "gateway: everywhere no more": (ONE, on(EVERYWHERE, running(ONE))),
    "gateway: keys file refused, runs on": (
        LOCKED,
        on(ONE, running(LOCKED, gateway=NO_NGINX, secrets=REFUSED)),
    ),
    "gateway: keys file refused": (LOCKED, running(LOCKED, gateway=NO_NGINX, secrets=REFUSED)),
    "gateway: off": (BARE, observed(BARE, server(TWO, "a"), gateway=NGINX)),
    "gateway: on": (TWO, observed(TWO, server(BARE, "a"), server(BARE, "b"), gateway=NO_NGINX)),
    "gateway: on, one is blocked": (
        TWO,
        replace(
            with_files(TWO, FileStatus.BAD, server(BARE, "a"), server(BARE, "b")),
            gateway=NO_NGINX,
        ),
    ),
    "gateway: on, but there is no nginx": (
        TWO,
        observed(TWO, server(BARE, "a"), gateway=NO_NGINX, nginx=(), nginx_reason="no nginx"),
    ),
    "gateway: open to all": (EVERYWHERE, running(EVERYWHERE, gateway=NO_NGINX)),
    "gateway: master killed": (
        ONE,
        running(ONE, gateway=ObservedGateway(None, (ProcessRef(51, 5),))),
    ),
    "gateway: silent": (ONE, running(ONE, gateway=NGINX)),
    "gateway: not our address": (
        ONE,
        replace(running(ONE, gateway=NO_NGINX), has_listen_address=False),
    ),
    "gateway: port taken": (ONE, running(ONE, gateway=NO_NGINX, ports=holders(8888))),
    "gateway: template broken": (
        ONE,
        running(ONE, gateway=NGINX, templates={"nginx.conf.j2": "{{ view.lissen }}"}),
    ),
}


def shown(name: str) -> str:
    """A case's plan: its text and its steps."""
    state, seen = CASES[name]
    made = plan(state, seen)
    return "\n".join([plan_text(made), *steps_of(made)]).strip("\n")


if __name__ == "__main__":
    sys.stdout.write("\n\n\n".join(f"===== {name}\n{shown(name)}" for name in CASES) + "\n")
