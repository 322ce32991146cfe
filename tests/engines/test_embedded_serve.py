"""What the embedded engine hands to xllamacpp, and how it waits and stops.

In: settings, the real CommonParams, a stand-in for its Server. Out: attributes and exit codes.
(That the real Server does what is wanted is the contract's matter: test_engine_contract.py.)
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import xllamacpp

from reconciler import embedded_flags
from reconciler.embedded_flags import parse
from reconciler.embedded_server import configure, devices, main, serve

MODEL = ["--model", "m.gguf"]


def params(*arguments: str) -> Any:
    return configure(xllamacpp, parse([*MODEL, *arguments]))


@pytest.fixture
def signals() -> Iterator[None]:
    """Give back what `serve` sets for the whole process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def stand_in(monkeypatch: pytest.MonkeyPatch, server: object) -> None:
    module = ModuleType("xllamacpp")
    module.__spec__ = xllamacpp.__spec__
    module.__dict__.update(CommonParams=xllamacpp.CommonParams, Server=server)
    monkeypatch.setitem(sys.modules, "xllamacpp", module)


def test_defaults_are_those_of_llama_server() -> None:
    given = params()
    assert (given.model.path, given.port, given.n_parallel) == ("m.gguf", 8080, -1)
    assert given.default_template_kwargs == {"preserve_reasoning": "true"}
    assert given.sampling.user_sampling_config == 0


def test_values_reach_their_attributes() -> None:
    given = params("-t", "3", "-tb", "4", "-ctk", "q8_0", "-fa", "off", "--pooling", "rank")
    assert (given.cpuparams.n_threads, given.cpuparams_batch.n_threads) == (3, 4)
    assert given.cache_type_k == xllamacpp.ggml_type.GGML_TYPE_Q8_0
    assert given.flash_attn_type == xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert given.pooling_type == xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK


def test_every_named_value_exists() -> None:
    for flag, table in (
        ("-ctv", embedded_flags._CACHE),
        ("-fa", embedded_flags._FLASH),
        ("--pooling", embedded_flags._POOLING),
        ("--load-mode", embedded_flags._LOAD),
        ("--reasoning-format", embedded_flags._REASONING),
    ):
        for word in table:
            params(flag, word)


def test_what_the_user_chose_stands_above_the_models_advice() -> None:
    bits = xllamacpp.common_params_sampling_config
    given = params("--temp", "0.5", "--top-k", "3", "--top-p", "0.5", "--min-p", "0.1")
    wanted = 0
    for name in ("TEMP", "TOP_K", "TOP_P", "MIN_P"):
        wanted |= int(getattr(bits, f"COMMON_PARAMS_SAMPLING_CONFIG_{name}"))
    assert given.sampling.user_sampling_config == wanted


def test_the_whole_context_asked_for_by_name_is_not_cut() -> None:
    assert params("-c", "0").fit_params_min_ctx == -1
    assert params("-c", "512").fit_params_min_ctx == xllamacpp.CommonParams().fit_params_min_ctx


@pytest.mark.usefixtures("signals")
def test_serves_until_term_and_then_stops_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Server:
        def __init__(self, given: Any) -> None:
            seen.append(f"loads {given.model.path}")
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

        def handle_metrics(self) -> None:
            # A stop before the loop has answered would be lost.
            seen.append("its loop runs")

        def __del__(self) -> None:
            seen.append("stops")

    stand_in(monkeypatch, Server)
    assert main(MODEL) == 0
    assert seen == ["loads m.gguf", "its loop runs", "stops"]
    # A further one must not crash the stop.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.usefixtures("signals")
def test_a_failed_load_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_given: object) -> None:
        raise RuntimeError("Failed to init server")

    stand_in(monkeypatch, fail)
    assert serve(parse(MODEL)) == 1


def test_devices_are_listed_as_llama_server_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = xllamacpp.ggml_backend_dev_type
    cpu, gpu = kinds.GGML_BACKEND_DEVICE_TYPE_CPU, kinds.GGML_BACKEND_DEVICE_TYPE_GPU
    sizes = {"memory_total": 81559 * 2**20, "memory_free": 7 * 2**20}
    found = [
        {"name": "CPU", "description": "AMD EPYC", "type": cpu, **sizes},
        {"name": "CUDA0", "description": "NVIDIA H100", "type": gpu, **sizes},
    ]
    monkeypatch.setattr(xllamacpp, "get_device_info", lambda: found)
    said = "Available devices:\n  CUDA0: NVIDIA H100 (81559 MiB, 7 MiB free)"
    assert devices(xllamacpp) == said


def test_this_machine_lists_its_devices(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-devices"]) == 0
    assert capfd.readouterr().out.startswith("Available devices:\n  ")


def test_runs_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["embedded_server", "--no-such-flag"])
    monkeypatch.delitem(sys.modules, "reconciler.embedded_server")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("reconciler.embedded_server", run_name="__main__")
    assert end.value.code == 1
