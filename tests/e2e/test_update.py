"""update: the one verb that moves a pin, shown as a plan before it does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_server import HubServer
from tiny_gguf import write_tiny_gguf

from e2e.hub_lab import REPO, connected, model, pin
from e2e.lab import Lab
from e2e.terminal import Terminal

UNMOVED = "No changes. All files are those that are pinned.\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    for seed, quant in enumerate(("Q4_0", "Q8_0")):
        write_tiny_gguf(folder / f"tiny-{quant}.gguf", seed=seed)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(fakes: Lab, weights: dict[str, bytes]) -> Iterator[HubServer]:
    with connected(fakes, weights) as running:
        yield running


def upload(hub: HubServer, weights: dict[str, bytes], *names: str) -> str:
    """Other weights under these names, and `main` moves to them."""
    # A model is the same with some zeros behind it, and other bytes.
    changed = {name: weights[name] + bytes(64 if name in names else 0) for name in weights}
    return hub.repos[REPO].commit({**changed, "README.md": b"new"})


def two(lab: Lab) -> None:
    lab.write({"a": model(), "b": model("Q8_0"), "path": {}})
    lab.apply()


def test_a_pin_moves_and_its_server_is_replaced(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    two(fakes)
    before, pids = pin(fakes), fakes.pids()
    commit = upload(hub, weights, "tiny-Q4_0.gguf")
    refused = fakes.run("update", "a", code=1)
    assert "add -y" in refused.err
    assert (pin(fakes), fakes.pids()) == (before, pids)
    lines = refused.out.splitlines()
    old, new = before.commit[:12], commit[:12]
    assert f"      a: Q4_0 at {old}, 1 file, 137.5 KiB -> Q4_0 at {new}, 1 file, 137.5 KiB" in lines
    digest = before.files[0].sha256[:12]
    assert any(
        line.startswith(f"      a tiny-Q4_0.gguf: {digest}, 137.5 KiB -> ") for line in lines
    )
    assert any("-/+ instance.a" in line for line in lines)
    assert "Download 137.5 KiB." in lines
    assert not any("instance.b" in line or "instance.path" in line for line in lines)
    done = fakes.run("update", "a", "-y")
    assert done.out == refused.out
    assert pin(fakes).commit == commit
    assert pin(fakes, "b").commit == before.commit
    now = fakes.pids()
    assert {name for name in now if now[name] != pids[name]} == {"a"}
    assert fakes.run("update", "a").out.startswith(UNMOVED)
    assert fakes.plan().out.startswith("No changes.")


def test_what_changed_nothing_of_a_model_restarts_nothing(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    two(fakes)
    text, pids = fakes.lock.read_text(), fakes.pids()
    upload(hub, weights)
    assert fakes.run("update").out.startswith(UNMOVED)
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)


def test_without_a_name_all_of_them_move(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    two(fakes)
    pids = fakes.pids()
    commit = upload(hub, weights, *weights)
    with Terminal(fakes, "update", columns=200) as terminal:
        terminal.until("(yes/no)")
        terminal.type("no\n")
        assert terminal.end() == 4
    assert fakes.pids() == pids
    with Terminal(fakes, "update", columns=200) as terminal:
        terminal.until("(yes/no)")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert {pin(fakes, name).commit for name in "ab"} == {commit}
    now = fakes.pids()
    assert {name for name in now if now[name] != pids[name]} == {"a", "b"}


def test_a_quant_that_is_gone_keeps_its_pin_and_its_server(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    two(fakes)
    text, pids = fakes.lock.read_text(), fakes.pids()
    hub.repos[REPO].commit({"tiny-Q8_0.gguf": weights["tiny-Q8_0.gguf"]})
    done = fakes.run("update", "-y", code=3)
    assert "instance.a is blocked" in done.err
    assert "no file for quant Q4_0" in done.err
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)
    hub.broken = 503
    done = fakes.run("update", "b", "-y", code=3)
    assert "answered HTTP 503" in done.err
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)


def test_what_has_no_pin_is_an_error(fakes: Lab, hub: HubServer) -> None:
    two(fakes)
    done = fakes.run("update", "path", code=1)
    assert "path has no pin to move" in done.err
    assert "did you mean path?" in fakes.run("update", "pat", code=1).err


def test_a_model_that_lies_nowhere_moves_with_its_commit(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model(state="present")})
    fakes.apply()
    for path in (fakes.root / "models").rglob("*.gguf"):
        path.unlink()
    commit = upload(hub, weights)
    fakes.run("update", "-y")
    assert pin(fakes).commit == commit
    assert pin(fakes).facts
