"""Which engine the finder picks, and what it says when there is none.

In: programs made by the test on a PATH of its own. Out: `ObservedEngine`s.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from engine_programs import FAKE_LLAMA_SERVER, EngineProgram, real_engines

from reconciler.core.facts import EngineNature
from reconciler.core.observed_engine import AmbientSetting, ObservedEngine
from reconciler.core.words import EngineKind
from reconciler.drivers import engines
from reconciler.drivers.engines import EMBEDDED_COMMAND, EngineFinder
from reconciler.errors import Position


@pytest.fixture
def finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineFinder:
    """A finder whose root and PATH are the test's own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return EngineFinder(tmp_path / "cache", tmp_path)


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def help_script(path: Path) -> str:
    return program(path, f"cat {FAKE_LLAMA_SERVER.with_suffix('.help')}")


def without_xllamacpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.json"))


def test_auto_prefers_llama_server(finder: EngineFinder, tmp_path: Path) -> None:
    path = help_script(tmp_path / "bin" / "llama-server")
    found = finder.find("auto", "llama-server")
    assert (found.kind, found.command) == (EngineKind.LLAMA_SERVER, (path,))
    assert found.flags["c"] == "-c"
    assert found.removed["draft-max"].startswith("use --spec-draft-n-max or --spec-ngram")
    assert not found.reason


def test_what_it_reads_by_itself(tmp_path: Path) -> None:
    (tmp_path / "etc" / "llama.cpp").mkdir(parents=True)
    path = help_script(tmp_path / "server")
    finder = EngineFinder(tmp_path / "cache", tmp_path, tmp_path / "etc")
    assert finder.find("auto", path).ambient == ()
    config = tmp_path / "etc" / "llama.cpp" / "config.ini"
    config.write_text("[*]\ntemp = 1\n", encoding="utf-8")
    place = Position(str(config), 2, 1)
    assert finder.find("auto", path).ambient == (AmbientSetting("temp", place),)
    # The embedded one is no program of llama.cpp's.
    assert finder.find("embedded", "llama-server").ambient == ()


def test_auto_takes_the_embedded_one_else(finder: EngineFinder) -> None:
    found = finder.find("auto", "llama-server")
    assert (found.kind, found.command) == (EngineKind.EMBEDDED, EMBEDDED_COMMAND)
    assert {"ctx-size", "c", "no-jinja", "metrics", "sse-ping-interval"} <= found.flags.keys()
    assert found == finder.find("embedded", "anything")


def test_nothing_there(finder: EngineFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    without_xllamacpp(monkeypatch)
    for kind in ("auto", "embedded"):
        found = finder.find(kind, "llama-server")
        assert found.kind is None
        assert "pip install 'llm-reconcile[embedded]'" in found.reason
    assert "put llama-server on PATH" in finder.find("auto", "llama-server").reason


@pytest.mark.parametrize("command", ["no-such-server", "bin/no-such-server", "bin"])
def test_llama_server_not_there(finder: EngineFinder, command: str) -> None:
    found = finder.find("llama-server", command)
    assert found.kind is None
    assert f"'{command}' is" in found.reason
    assert "engine.command" in found.reason


def test_a_path_starts_at_the_root(finder: EngineFinder, tmp_path: Path) -> None:
    path = help_script(tmp_path / "bin" / "mine")
    assert finder.find("auto", "bin/mine").command == (path,)
    assert finder.find("auto", "./bin/../bin/mine").command == (path,)
    assert finder.find("llama-server", path).command == (path,)


def test_a_path_may_start_at_home(
    finder: EngineFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = help_script(tmp_path / "bin" / "mine")
    assert finder.find("auto", "~/bin/mine").command == (path,)


def test_not_executable_is_not_there(finder: EngineFinder, tmp_path: Path) -> None:
    Path(help_script(tmp_path / "bin" / "mine")).chmod(0o644)
    assert finder.find("llama-server", "bin/mine").kind is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "is not a llama-server"),
        ("echo missing libcuda.so >&2; exit 127", "exit code 127: missing libcuda.so"),
        ("kill -ILL $$", "died of SIGILL"),
        ("sleep 60", "gave no answer within"),
    ],
)
def test_unusable(
    finder: EngineFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr(engines, "HELP_TIMEOUT_S", 0.5)
    path = program(tmp_path / "bin" / "bad", script)
    found = finder.find("auto", "bin/bad")
    assert (found.kind, found.command) == (None, ())
    assert path in found.reason
    assert said in found.reason


def test_not_a_program_at_all(finder: EngineFinder, tmp_path: Path) -> None:
    path = tmp_path / "bin" / "bad"
    path.write_text("no shebang, no ELF")
    path.chmod(0o755)
    assert "cannot be used: " in finder.find("auto", "bin/bad").reason


def test_help_sees_a_clean_environment(
    finder: EngineFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "12")
    seen = tmp_path / "seen"
    program(tmp_path / "bin" / "mine", f"env > {seen}")
    finder.find("auto", "bin/mine")
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "XDG_CONFIG_HOME" in names
    assert not any(name.startswith("LLAMA_") for name in names)


def test_a_script_is_asked_every_time(finder: EngineFinder, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "mine"
    help_script(script)
    assert finder.find("auto", "bin/mine").kind
    assert not kept(tmp_path)


def test_a_binary_is_asked_once(finder: EngineFinder, tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "mine"
    shutil.copy("/bin/true", binary)
    assert finder.find("auto", "bin/mine").kind is None
    [file] = kept(tmp_path)
    assert file.parent.name == "engine-help"
    known = json.loads(file.read_text())
    help_text = FAKE_LLAMA_SERVER.with_suffix(".help").read_text()
    file.write_text(json.dumps({**known, "help": help_text}))
    assert finder.find("auto", "bin/mine").kind is EngineKind.LLAMA_SERVER
    # Another binary under the same name is asked anew.
    shutil.copy("/bin/true", tmp_path / "new")
    (tmp_path / "new").replace(binary)
    assert finder.find("auto", "bin/mine").kind is None
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": "another"}', "\x00"])
def test_a_spoilt_cache_is_made_again(finder: EngineFinder, tmp_path: Path, text: str) -> None:
    shutil.copy("/bin/true", tmp_path / "bin" / "mine")
    finder.find("auto", "bin/mine")
    [file] = kept(tmp_path)
    good = file.read_text()
    file.write_text(text)
    assert "is not a llama-server" in finder.find("auto", "bin/mine").reason
    assert file.read_text() == good


def test_an_unwritable_cache_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shutil.copy("/bin/true", tmp_path / "mine")
    finder = EngineFinder(tmp_path / "file" / "cache", tmp_path)
    assert "is not a llama-server" in finder.find("auto", "./mine").reason


def test_real_llama_server(finder: EngineFinder) -> None:
    for engine in real_engines():
        if engine.name == "llama-server":
            found = finder.find("auto", engine.command[0])
            assert (found.kind, found.command) == (EngineKind.LLAMA_SERVER, engine.command)
            assert len(found.flags) > 300
            assert "draft-max" in found.removed


# ---- what an engine says of itself


@pytest.mark.parametrize("real", real_engines(), ids=str)
def test_version_and_devices_of_the_real_ones(finder: EngineFinder, real: EngineProgram) -> None:
    kind = "embedded" if real.command == EMBEDDED_COMMAND else "llama-server"
    engine = finder.find(kind, real.command[0])
    nature = finder.nature(engine)
    assert any(character.isdigit() for character in nature.version)
    # None would be: it does not tell.
    assert nature.devices is not None
    assert not any("CPU" in device for device in nature.devices)


def test_devices_as_llama_server_lists_them(finder: EngineFinder, tmp_path: Path) -> None:
    path = program(
        tmp_path / "server",
        """case "$1" in
        --version) echo 'version: 7000 (abc)' >&2; echo 'built with gcc' >&2;;
        *) echo 'Available devices:'
           echo '  CUDA0: NVIDIA H100 80GB HBM3 (81559 MiB, 80000 MiB free)'
           echo '  BLAS: OpenBLAS (0 MiB, 0 MiB free)'
           echo 'noise';; esac""",
    )
    engine = ObservedEngine(EngineKind.LLAMA_SERVER, (path,), {"list-devices": "--list-devices"})
    assert finder.nature(engine) == EngineNature("7000 (abc)", ("CUDA0: NVIDIA H100 80GB HBM3",))
    older = replace(engine, flags={})
    assert finder.nature(older) == EngineNature("7000 (abc)", None)


def test_an_engine_that_does_not_answer(finder: EngineFinder, tmp_path: Path) -> None:
    known = {"list-devices": "--list-devices"}
    gone = ObservedEngine(EngineKind.LLAMA_SERVER, (str(tmp_path / "gone"),), known)
    assert finder.nature(gone) == EngineNature()
    failing = ObservedEngine(
        EngineKind.LLAMA_SERVER, (program(tmp_path / "failing", "exit 1"),), known
    )
    assert finder.nature(failing) == EngineNature()
