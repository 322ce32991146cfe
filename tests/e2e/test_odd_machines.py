"""Machines and users that are not as one thinks: what a fault hunter found, kept as tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e.lab import Lab, Nginx


def test_state_folder_behind_a_link(lab: Lab) -> None:
    """The kernel names open files by their real paths; we must find our nginx by them."""
    (lab.folder / "real").mkdir()
    (lab.folder / "link").symlink_to(lab.folder / "real")
    through = {"XDG_STATE_HOME": str(lab.folder / "link") + "/"}
    lab.write({"a": {}})
    words = ("apply", str(lab.file), "-y")
    lab.run(*words, env=through)
    assert "No changes." in lab.run(*words, env=through).out
    straight = {"XDG_STATE_HOME": str(lab.folder / "real")}
    assert "No changes." in lab.run(*words, env=straight).out
    lab.run("down", "-y", env=through)
    assert lab.pids() == {}
    status = lab.run("status", "--json", code=3, env=through).json
    assert status["gateway"]["phase"] == "absent"


def test_a_home_with_a_space_in_its_name(fakes: Lab) -> None:
    """As in /home/Ann Lee: nginx reads a path of several words, too."""
    fakes.variables["XDG_STATE_HOME"] = str(fakes.folder / "a b")
    fakes.write({"a": {}})
    fakes.apply()
    assert fakes.complete("a").status == 200
    # Through the locations that name a server's socket by what was asked.
    assert [one["phase"] for one in fakes.ask("/api/models").json["models"]] == ["ready"]
    assert b'llamacpp:requests_processing{model="a"' in fakes.ask("/metrics").body
    assert "No changes" in fakes.apply().out


def test_another_state_folder_is_refused_not_doubled(lab: Lab) -> None:
    lab.write({"a": {}})
    lab.apply()
    pids = lab.pids()
    other = {"XDG_STATE_HOME": str(lab.folder / "other")}
    done = lab.run("apply", str(lab.file), "-y", code=1, env=other)
    assert "was started with the state folder" in done.err
    assert f"XDG_STATE_HOME={lab.folder / 's'}" in done.err
    assert lab.pids() == pids


def test_slots_and_locks_deleted_by_hand(lab: Lab) -> None:
    lab.write({"a": {}, "b": {}})
    lab.apply()
    shutil.rmtree(lab.state / "slots")
    assert "No changes." in lab.apply().out
    lab.run("down", "-y")
    assert lab.pids() == {}
    assert lab.nginx() == Nginx(None, ())


def test_a_wrapper_that_passes_nothing_on_keeps_its_engine(lab: Lab) -> None:
    """Without exec the engine outlives its wrapper: it is stopped with it, and not unrouted."""
    engine = Path(__file__).parent.parent / "fakes" / "fake_llama_server.py"
    wrapper = lab.root / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n"{engine}" "$@"\n')
    wrapper.chmod(0o755)
    command = {"kind": "llama-server", "command": str(wrapper)}
    lab.write({"a": {}}, engine=command)
    lab.apply()
    assert lab.complete("a").status == 200
    assert "No changes." in lab.apply().out
    lab.write({"a": {"params": {"temp": 0.1}}}, engine=command)
    forced = [line for line in lab.plan().out.splitlines() if "# forces restart" in line]
    assert len(forced) == 1, "what the shell set is nothing that changed"
    lab.run("down", "-y")
    assert lab.pids() == {}


def test_quiet_still_says_what_is_wrong(lab: Lab) -> None:
    lab.write({"a": {}, "gone": {"source": {"path": "gone.gguf"}}})
    done = lab.run("apply", str(lab.file), "-y", "-q", code=3)
    assert done.out == ""
    assert "instance.gone is blocked" in done.err


def test_an_engine_that_was_named_is_not_replaced_by_another(lab: Lab) -> None:
    lab.write({"a": {}}, engine={"command": "/nonexist/llama-server"})
    done = lab.apply(code=3)
    assert "/nonexist/llama-server" in done.err
    assert lab.pids() == {}


def test_one_replica_cannot_be_stopped_alone(lab: Lab) -> None:
    lab.write({"a": {"replicas": 2}})
    lab.apply()
    pids = lab.pids()
    assert "name the model: a" in lab.run("stop", "a[1]", code=1).err
    assert lab.pids() == pids


def test_status_says_that_the_gateway_serves_something_else(lab: Lab) -> None:
    lab.write({"a": {}})
    lab.apply()
    lab.write({"a": {"aliases": ["b"]}})
    said = lab.run("status", code=3).out
    assert "Gateway: ready, not as wanted: its configuration changed" in said


def test_stop_starts_no_gateway(lab: Lab) -> None:
    lab.write({"a": {"port": lab.listen}}, gateway=False)
    lab.apply()
    lab.file.write_text("version: 1\nmodels: [broken\n")
    lab.run("stop", "--all")
    assert lab.pids() == {}
    assert lab.nginx() == Nginx(None, ())


def test_a_root_without_a_desired_folder_is_found_again(lab: Lab) -> None:
    lab.write({"a": {}})
    plain = lab.root / "x.yaml"
    plain.write_text(lab.file.read_text())
    shutil.rmtree(lab.root / "desired")
    lab.run("apply", "x.yaml", "-y")
    assert "a     ready" in lab.run("status").out
    lab.run("down", "-y")
    assert lab.pids() == {}


def test_an_output_that_cannot_be_written_is_no_defect(lab: Lab) -> None:
    lab.write({"a": {}})
    with Path("/dev/full").open("w") as full:
        done = lab.run("plan", str(lab.file), code=1, stdout=full)
    assert "No space left" in done.err
    assert "defect" not in done.err
