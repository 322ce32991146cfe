"""How the embedded engine reads its command line, without loading anything.

In: argument lists. Out: settings, or llama-server's error messages.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import embedded_server
from reconciler.core.engine_help import parse_help
from reconciler.embedded_flags import OPTIONS, BadFlagError, Named, parse
from reconciler.embedded_server import main

MODEL = ["--model", "m.gguf"]


def read(*arguments: str) -> dict[str, object]:
    return {option.field: value for option, value in parse([*MODEL, *arguments])}


def complaint(*arguments: str) -> str:
    with pytest.raises(BadFlagError) as error:
        parse(arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["-c", "4096"], "n_ctx", 4096),
        (["--ctx_size", "4096"], "n_ctx", 4096),
        (["-ngl", "all"], "n_gpu_layers", -2),
        (["-ngl", "auto"], "n_gpu_layers", -1),
        (["--gpu-layers", "99"], "n_gpu_layers", 99),
        (["-np", "-1"], "n_parallel", -1),
        (["-t", "3"], "cpuparams.n_threads", 3),
        (["-t", "0"], "cpuparams.n_threads", len(os.sched_getaffinity(0))),
        (["-s", "-1"], "sampling.seed", 2**32 - 1),
        (["--temp", "-2"], "sampling.temp", 0.0),
        (["--top-p", "1e-1"], "sampling.top_p", 0.1),
        (["--no-jinja"], "use_jinja", False),
        (["--jinja"], "use_jinja", True),
        (["--no-webui"], "ui", False),
        (["-n", "7"], "n_predict", 7),
        (
            ["-fa", "on"],
            "flash_attn_type",
            Named("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_ENABLED"),
        ),
        (["-ctk", "q8_0"], "cache_type_k", Named("ggml_type", "GGML_TYPE_Q8_0")),
        (["--alias", "a, b"], "model_alias", {"a", "b"}),
        (["--host", "127.0.0.1, ::1"], "hostnames", ["127.0.0.1", "::1"]),
        (["-c", "1", "-c", "2"], "n_ctx", 2),
        (["--chat-template", "--weird"], "chat_template", "--weird"),
    ],
)
def test_reads(arguments: list[str], field: str, value: object) -> None:
    assert read(*arguments)[field] == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", "-1"], "'-1' is not a whole number from 0"),
        (["-c", "4k"], "'4k' is not a whole number"),
        (["-np", "0"], "cannot be 0"),
        (["--sleep-idle-seconds", "0"], "cannot be 0"),
        (["--port", "70000"], "from 0 to 65535"),
        (["--temp", "warm"], "'warm' is not a number"),
        (["--top-p", "nan"], "'nan' is not a number"),
        (["--repeat-penalty", "0"], "'0' is not a number above 0"),
        (["-fa", "True"], "'True' is not one of on, enabled"),
        (["-ctv", "q9"], "'q9' is not one of f32"),
        (["--alias", " , "], "at least one value"),
        (["-ngl", "most"], "'most' is not a whole number"),
    ],
)
def test_refuses_wrong_values(arguments: list[str], said: str) -> None:
    text = complaint(*MODEL, *arguments)
    assert text.startswith(f'error while handling argument "{arguments[0]}": ')
    assert said in text
    assert "usage:" in text


def test_refuses_the_flags_of_others_by_name() -> None:
    text = complaint(*MODEL, "--lora", "x")
    assert text.startswith("error: invalid argument: --lora\n")
    assert "engine.kind: llama-server" in text


def test_needs_a_model() -> None:
    assert complaint("-c", "1") == "error: --model is required"


def test_no_name_is_used_twice() -> None:
    options = [option for group in OPTIONS.values() for option in group]
    names = [name for option in options for name in (*option.names, *option.off)]
    assert len(names) == len(set(names))


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = parse_help(capsys.readouterr().out)
    assert said.flags["c"] == "-c"
    assert said.flags["no-kv-unified"] == "--no-kv-unified"
    assert said.flags["h"] == "-h"
    assert said.usage.keys() == said.flags.keys()
    assert not said.removed
    assert main(["--version"]) == 0
    assert "embedded, xllamacpp 20" in capsys.readouterr().out


def test_version_without_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded_server, "PACKAGE", "no-such-package")
    assert main(["--version"]) == 0
    assert "no-such-package not installed" in capsys.readouterr().out


def test_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert main(MODEL) == 1
    assert "pip install 'llm-reconcile[embedded]'" in capsys.readouterr().err


def test_wrong_flags_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nope"]) == 1
    assert capsys.readouterr().err.startswith("error: invalid argument: --nope")


def test_help_is_light() -> None:
    """Neither the 100 MB library nor what the reconciler itself imports may come along."""
    heavy = "{'xllamacpp', 'pydantic', 'httpx', 'psutil', 'argparse'}"
    code = "import sys, reconciler.embedded_server, reconciler.embedded_flags as e; e.help_text();"
    code += f"print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_folder_named_like_us_is_not_taken_for_us(tmp_path: Path) -> None:
    from reconciler.drivers.engines import EMBEDDED_COMMAND

    (tmp_path / "reconciler").mkdir()
    (tmp_path / "reconciler" / "__init__.py").write_text("raise SystemExit(99)")
    done = subprocess.run([*EMBEDDED_COMMAND, "--version"], cwd=tmp_path, env={}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("number", [15, 2])
def test_further_signals_do_not_hurt_a_stop(number: int) -> None:
    """The wait ends at the first signal; those that follow are ignored."""
    code = (
        "import os, signal; from reconciler.embedded_server import wait_for_stop;"
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), int(os.environ['N'])));"
        "signal.setitimer(signal.ITIMER_REAL, 0.05);"
        "wait_for_stop(); os.kill(os.getpid(), 15); os.kill(os.getpid(), 2); print('stopped')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"N": str(number)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n")
