"""Real engines with faults in what they are given: the reason is the right one (BARS 16).

More of them, recorded, are in tests/data/ends; here the words of the installed engines are checked.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_programs import EngineProgram, real_engines
from waiting import PATIENCE_S

from reconciler.core.causes import explain

Damage = Callable[[bytes], bytes]

DAMAGED: dict[str, tuple[Damage, str]] = {
    "zip": (lambda _: b"PK\x03\x04" + bytes(5000), "the model file is not a GGUF file"),
    "empty": (lambda _: b"", "the model file is empty, or no file"),
    "half": (lambda whole: whole[: len(whole) // 2], "the model file is cut"),
    "new": (
        lambda whole: whole[:4] + struct.pack("<I", 9) + whole[8:],
        "the engine does not read this version of GGUF",
    ),
    "foreign": (
        lambda whole: whole.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0xyzzy", 1),
        "the engine is too old for xyzzy",
    ),
    "lacking": (
        lambda whole: whole.replace(b"blk.0.ffn_gate.weight", b"blk.0.ffn_gone.weight", 1),
        "the model file lacks a part",
    ),
}
GIVEN: dict[str, tuple[tuple[str, ...], str]] = {
    "flag": (("--bogus",), "the engine rejects the flag --bogus"),
    "value": (("--ctx-size", "lots"), "--ctx-size: "),
    "template": (("--chat-template", "{% if %}"), "its chat template cannot be used"),
}


@pytest.fixture(params=real_engines(), ids=str)
def engine(request: pytest.FixtureRequest) -> EngineProgram:
    found: EngineProgram = request.param
    return found


def reason_of(engine: EngineProgram, model: Path, address: Path, *flags: str) -> str:
    """Let it end, and say why it did."""
    done = subprocess.run(
        [*engine.command, "--model", str(model), "--host", str(address), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
        check=False,
    )
    return explain(done.returncode, done.stdout.decode(errors="replace")).reason


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_wrong(
    engine: EngineProgram, damage: str, tiny_model: Path, tmp_path: Path
) -> None:
    change, reason = DAMAGED[damage]
    model = tmp_path / "m.gguf"
    model.write_bytes(change(tiny_model.read_bytes()))
    assert reason_of(engine, model, tmp_path / "x.sock") == reason


@pytest.mark.parametrize("given", GIVEN)
def test_a_flag_that_is_wrong(
    engine: EngineProgram, given: str, tiny_model: Path, tmp_path: Path
) -> None:
    flags, reason = GIVEN[given]
    assert reason_of(engine, tiny_model, tmp_path / "x.sock", *flags).startswith(reason)


def test_an_address_that_is_taken(engine: EngineProgram, tiny_model: Path, tmp_path: Path) -> None:
    address = tmp_path / "x.sock"
    address.touch()
    assert reason_of(engine, tiny_model, address) == "its address is taken"


def test_a_file_that_is_gone(engine: EngineProgram, tmp_path: Path) -> None:
    reason = reason_of(engine, tmp_path / "gone.gguf", tmp_path / "x.sock")
    assert reason == f"the model file {tmp_path}/gone.gguf is gone"
