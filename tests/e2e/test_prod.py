"""desired/prod.yaml: valid anywhere; its plan says what the machine at hand lacks for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e import machine
from e2e.lab import Lab
from e2e.terminal import Terminal
from reconciler.app import check_file
from reconciler.core.capacity import capacity_of
from reconciler.drivers.gpus import GpuMemory
from reconciler.drivers.machine import LinuxMachine

PROD = Path(__file__).parents[2] / "desired" / "prod.yaml"
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}
"""Nobody listens on the discard port: a hub that cannot be reached, at once."""


def test_it_is_the_set_up_that_this_replaces() -> None:
    desired = check_file(PROD, None)[1].desired
    assert desired.gateway is not None
    assert desired.gateway.listen == "127.0.0.1:8888"
    shown = {
        name: (model.port, model.quant, {q: round(s / 1e9) for q, s in model.quants.items()})
        for name, model in desired.models.items()
    }
    assert shown == {
        "glm-5": (8001, "UD-IQ2_XXS", {"UD-IQ2_XXS": 241, "UD-TQ1_0": 176}),
        "qwen3.5": (
            8002,
            "MXFP4_MOE",
            {"MXFP4_MOE": 214, "UD-Q4_K_XL": 214, "UD-Q2_K_XL": 120},
        ),
    }


def test_validate_accepts_it_anywhere(lab: Lab) -> None:
    shutil.copy(PROD, lab.file)
    too_long = "/nonexistent" * 20
    nothing_there = {"PATH": "/nonexistent", "HOME": too_long, "XDG_STATE_HOME": too_long}
    done = lab.run("validate", str(lab.file), env=nothing_there)
    assert done.all.strip() == "desired/x.yaml is valid: 2 models, gateway on 127.0.0.1:8888."


@pytest.fixture
def prod(lab: Lab) -> Lab:
    """The file with ports that others do not share."""
    text = PROD.read_text(encoding="utf-8")
    for port in ("8888", "8001", "8002"):
        assert text.count(port) >= 1
        text = text.replace(port, str(machine.free_port()))
    lab.file.write_text(text, encoding="utf-8")
    return lab


def test_plan_says_all_that_this_machine_lacks(prod: Lab) -> None:
    done = prod.run("plan", str(prod.file), "--json", env=NOWHERE)
    said = {one["address"]: one["blocked"] for one in done.json["resource_changes"]}
    memory = LinuxMachine().memory()
    capacity = None if GpuMemory().cards() else capacity_of(memory)
    free = shutil.disk_usage(prod.root).free
    for name, size in (("glm-5", 241e9), ("qwen3.5", 214e9)):
        reason = said[f"instance.{name}"]
        assert "cannot be reached" in reason
        assert ("not enough disk: 224.4 GiB for glm-5 and 199.3 GiB" in reason) == (free < 455e9)
        if capacity is not None:
            assert ("not enough memory" in reason) == (capacity < size)


def test_text_names_one_reason_a_line(prod: Lab) -> None:
    """A missing engine is one more reason; a machine with room for all still has two."""
    prod.file.write_text(prod.file.read_text() + "engine: {command: /nonexistent/llama-server}\n")
    lines = prod.run("plan", str(prod.file), env=NOWHERE).out.splitlines()
    at = next(number for number, line in enumerate(lines) if "instance.glm-5" in line)
    assert "blocked, not running, for " in lines[at]
    assert lines[at + 1].startswith("      - '/nonexistent/llama-server' is no program")
    assert lines[at + 2].startswith("      - hub repository unsloth/GLM-5-GGUF cannot be reached")


def test_it_fits_a_terminal(prod: Lab) -> None:
    with Terminal(prod, "plan", str(prod.file), HF_ENDPOINT=NOWHERE["HF_ENDPOINT"]) as terminal:
        assert terminal.end() == 0
    lines = [line for line in terminal.lines if str(prod.root) not in line]
    assert 40 < max(map(len, lines)) <= 80


def test_apply_tells_the_same_and_starts_the_rest(prod: Lab) -> None:
    done = prod.run("apply", str(prod.file), "-y", env=NOWHERE, code=3)
    assert "instance.glm-5 is blocked" in done.err
    assert "cannot be reached" in done.err
    assert prod.pids() == {}


def test_a_model_larger_than_the_machine(lab: Lab) -> None:
    """A sparse file of 8 TiB: no machine of ours holds it, and none of it is read."""
    huge = lab.root / "huge.gguf"
    huge.write_bytes(lab.weights.read_bytes())
    with huge.open("r+b") as file:
        file.truncate(8 * 2**40)
    source = {"path": "huge.gguf"}
    lab.write({"a": {"source": source}})
    text = lab.plan().out
    if any(card.memory_bytes is None for card in GpuMemory().cards()):
        # Nothing is said where a card does not tell its memory.
        assert "not enough memory" not in text
        return
    assert "! instance.a" in text
    assert "not enough memory: its weights take 8.0 TiB, this machine has " in text
    lab.write({"a": {"source": source, "args": {"load-mode": "mmap"}}})
    text = lab.plan().out
    assert "+ instance.a" in text
    assert "Warning: a will read from disk over and over: its weights take 8.0 TiB" in text
