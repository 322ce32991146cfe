"""The lock file through the command: written by apply, obeyed by all, changed by nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from hub_server import HubServer

from e2e.hub_lab import NOTHING, REPO, model, pin
from e2e.lab import Lab


def upload(hub: HubServer, weights: dict[str, bytes]) -> str:
    """Other bytes under the same names: `main` moves."""
    return hub.repos[REPO].commit({name: content[::-1] for name, content in weights.items()})


def test_apply_writes_it_and_then_nobody_asks_again(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model(), "path": {}})
    commit = hub.repos[REPO].refs["main"]
    plan = fakes.plan()
    assert "  + lock                             desired/x.lock.yaml: 1 pinned\n" in plan.out
    assert f"      a: Q4_0 at {commit[:12]}, 1 file, 137.5 KiB\n" in plan.out
    assert not fakes.lock.exists()
    done = fakes.apply()
    assert done.out == plan.out
    assert "lock: written" in done.err
    text = fakes.lock.read_text()
    assert pin(fakes).commit == commit
    facts = pin(fakes).facts
    assert facts
    assert (facts.architecture, facts.context_length) == ("llama", 2048)
    assert hub.sent == len(weights["tiny-Q4_0.gguf"])
    hub.requests.clear()
    upload(hub, weights)
    pids = fakes.pids()
    for verb in ("plan", "apply"):
        assert fakes.run(verb, str(fakes.file)).out.startswith(NOTHING)
    assert fakes.status()["converged"]
    fakes.run("list")
    assert hub.requests == []
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)


def test_on_another_machine_the_same_bytes_arrive(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model("Q8_0")})
    fakes.apply()
    upload(hub, weights)
    fakes.run("down", "-y")
    shutil.rmtree(fakes.root / "models")
    hub.requests.clear()
    plan = fakes.plan()
    assert hub.requests == []
    assert "+ model_file.a" in plan.out
    assert " lock " not in plan.out
    fakes.apply()
    stored = Path(fakes.run("status", "--argv").out.split("--model ")[1].split()[0])
    assert stored.read_bytes() == weights[stored.name]
    assert "-00001-of-0000" in stored.name


def test_a_changed_quant_is_taken_from_the_same_commit(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    before = pin(fakes)
    upload(hub, weights)
    fakes.write({"a": model("Q8_0")})
    plan = fakes.plan()
    assert "desired/x.lock.yaml: 1 changed" in plan.out
    at = before.commit[:12]
    assert f"a: Q4_0 at {at}, 1 file, 137.5 KiB -> Q8_0 at {at}, " in plan.out
    assert pin(fakes) == before
    fakes.apply()
    assert (pin(fakes).commit, pin(fakes).quant) == (before.commit, "Q8_0")
    assert fakes.plan().out.startswith(NOTHING)


def test_what_ran_before_there_was_one_is_pinned_as_it_is(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model(), "b": model("Q8_0", state="present")})
    fakes.apply()
    text, pids = fakes.lock.read_text(), fakes.pids()
    fakes.lock.unlink()
    upload(hub, weights)
    hub.requests.clear()
    plan = fakes.plan()
    assert "desired/x.lock.yaml: 2 pinned" in plan.out
    assert "0 to replace, 0 to remove, 1 unchanged" in plan.out
    assert fakes.status()["converged"]
    fakes.apply()
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)
    assert hub.requests == []


def test_what_is_in_the_store_already_is_no_download(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    [link] = (fakes.root / "models").glob("*/snapshots/*/*.gguf")
    link.unlink()
    sent = hub.sent
    plan = fakes.plan()
    assert "Download" not in plan.out
    fakes.apply()
    assert hub.sent == sent
    assert fakes.plan().out.startswith(NOTHING)


def test_what_leaves_the_file_leaves_the_lock(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model(state="present"), "b": model("Q8_0", state="present")})
    fakes.apply()
    fakes.write({"a": model(state="present")})
    plan = fakes.plan()
    assert "desired/x.lock.yaml: 1 dropped" in plan.out
    fakes.apply()
    assert "tiny-Q8_0" not in fakes.lock.read_text()
    fakes.run("start", "a", code=1)
    assert fakes.plan().out.startswith(NOTHING)


def test_a_repository_that_refuses_us_holds_up_no_other(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    hub.add("org/gated", weights, gated=True)
    gated = {"source": {"repo": "org/gated"}, "quant": "Q4_0", "state": "present"}
    fakes.write({"a": model(state="present"), "gated": gated})
    done = fakes.apply(code=3)
    assert "is gated" in done.err
    assert fakes.lock.read_text().count("commit:") == 1
    assert pin(fakes).repo == REPO
    assert fakes.run("list", "--json").json["models"][0]["on_disk"] == "present"


def test_a_directory_has_its_own(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model(state="present")})
    folder = str(fakes.file.parent)
    fakes.run("apply", folder, "-y")
    assert (fakes.file.parent / "lock.yaml").exists()
    assert not fakes.lock.exists()
    assert fakes.run("plan", folder).out == "No changes. The machine matches desired.\n"


def test_a_broken_one_stops_nothing_and_can_be_stopped(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model(), "b": {}})
    fakes.apply()
    text = fakes.lock.read_text()
    fakes.lock.write_text(text.replace("    quant", "<<<<<<< HEAD\n    quant"))
    pids = fakes.pids()
    for words in (("plan", str(fakes.file)), ("apply", str(fakes.file), "-y"), ("status",)):
        done = fakes.run(*words, code=1)
        assert "desired/x.lock.yaml:8:1: a conflict of a merge stands here unresolved" in done.err
        assert "take the text of one side whole" in done.err
    assert fakes.pids() == pids
    broken = fakes.lock.read_text()
    fakes.run("stop", "a")
    assert fakes.pids() == {"b": pids["b"]}
    fakes.run("down", "-y")
    assert fakes.pids() == {}
    assert fakes.lock.read_text() == broken


def test_one_that_cannot_be_written_is_said_and_stops_no_server(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    pids = fakes.pids()
    fakes.lock.unlink()
    fakes.lock.symlink_to("/proc/none/x.lock.yaml")
    done = fakes.apply(code=3)
    assert "lock: " in done.err
    assert "/proc/none" in done.err
    assert fakes.pids() == pids


def test_locked_is_an_error_where_it_would_change(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model(), "gone": model("Q8_0", state="present")})
    fakes.apply()
    fakes.run("plan", str(fakes.file), "--locked")
    text, pids = fakes.lock.read_text(), fakes.pids()
    fakes.write({"a": model("Q8_0"), "new": model()})
    hub.requests.clear()
    for words in (("plan", str(fakes.file)), ("apply", str(fakes.file), "-y")):
        done = fakes.run(*words, "--locked", code=1)
        assert (
            "`a` wants Q8_0 of org/tiny-GGUF@main; desired/x.lock.yaml has another one" in done.err
        )
        assert "`new` wants Q4_0 of org/tiny-GGUF@main; desired/x.lock.yaml lacks it" in done.err
        assert "desired/x.lock.yaml pins `gone`, which is no longer wanted" in done.err
        assert "error: desired/x.yaml:" in done.err
        assert "run `llm-reconcile apply` where the lock file may change" in done.err
    for verb in ("download", "start", "restart"):
        done = fakes.run(verb, "a", "--locked", code=1)
        assert "`a` wants Q8_0" in done.err
        assert "`new`" not in done.err
    assert hub.requests == []
    assert (fakes.lock.read_text(), fakes.pids()) == (text, pids)


def test_offline_asks_nobody_and_says_what_that_costs(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    fakes.write({"a": model(), "new": model("Q8_0", state="present")})
    hub.requests.clear()
    pids = fakes.pids()
    plan = fakes.plan("--offline")
    assert f"hub repository {REPO} is not asked, because of --offline" in plan.out
    done = fakes.apply("--offline", code=3)
    assert "model_file.new is blocked" in done.err
    assert fakes.pids() == pids
    shutil.rmtree(fakes.root / "models")
    blocked = fakes.run("download", "a", "--offline", code=3)
    assert "137.5 KiB of its files are not here, and --offline keeps them" in blocked.err
    fakes.run("status", "--offline", code=3)
    fakes.run("list", "--offline")
    assert hub.requests == []
    fakes.apply()
    assert fakes.plan("--offline").out.startswith(NOTHING)


def test_a_projector_and_a_draft_are_fetched_and_given(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    before = fakes.pids()
    tiny = weights["tiny-Q4_0.gguf"]
    hub.add(REPO, {**weights, "mmproj-F16.gguf": tiny + bytes(9), "tiny-draft-Q2_K.gguf": tiny})
    fakes.lock.unlink()
    source = {"repo": REPO, "mmproj": True, "draft": "Q2_K"}
    fakes.write({"a": {"source": source, "quant": "Q4_0", "quants": {"Q4_0": "1GB"}}})
    plan = fakes.plan()
    assert "source.mmproj: (none) -> " in plan.out
    true = f"{len(tiny) / 1e3:.0f}KB"
    assert f": `a`: Q4_0 is said to have 1000MB in `quants`; it has {true}." in plan.out
    fakes.apply()
    assert fakes.pids() != before
    argv = fakes.run("status", "--argv").out
    for flag, name in (("--mmproj", "mmproj-F16.gguf"), ("--model-draft", "tiny-draft-Q2_K.gguf")):
        path = Path(argv.split(f"{flag} ")[1].split()[0])
        assert path.name == name
        assert path.read_bytes()[: len(tiny)] == tiny
    text = fakes.lock.read_text()
    assert "    mmproj: true\n    draft: Q2_K\n" in text
    assert "        role: mmproj\n" in text
    assert fakes.plan().out.startswith(NOTHING)
