"""Why a server ended, in one sentence."""

from __future__ import annotations

import pytest

from reconciler.core.causes import Cause, explain


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("error: invalid argument: --bogus", "the engine rejects the flag --bogus"),
        (
            'error while handling argument "--ctx-size": stoi\n\nusage:\n--ctx-size N',
            "--ctx-size: stoi",
        ),
        ("error while handling argument -c: invalid", "-c: invalid"),
        ("srv start: couldn't bind HTTP server socket, hostname: x", "its address is taken"),
        ("gguf_init: invalid magic characters: 'abcd'", "the model file is not a GGUF file"),
        (
            "load: tensor 'blk.0.ffn' data is not within the file bounds, model is corrupted",
            "the model file is cut",
        ),
        (
            "error loading model: unknown model architecture: 'new'\nerror: x",
            "the engine is too old for new",
        ),
        ("ggml_cuda: CUDA error: out of memory", "not enough memory"),
        ("alloc: Failed to allocate buffer of size 1", "not enough memory"),
        ("gguf_init: failed to open GGUF file '/m.gguf'", "the model file cannot be opened"),
        ("x: error loading model: bad vocab", "the model cannot be loaded: bad vocab"),
        ("main: exiting due to model loading error", "the model cannot be loaded"),
        ("error: {braces} stay", "{braces} stay"),
    ],
)
@pytest.mark.parametrize("code", [1, 0, None, -9])
def test_a_known_message_is_final(log: str, reason: str, code: int | None) -> None:
    assert explain(code, f"before\n{log}\nafter") == Cause(reason, final=True)


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (-9, "loading", "killed by SIGKILL, perhaps for lack of memory"),
        (-15, "error: whatever", "killed by SIGTERM"),
        (-11, "", "killed by SIGSEGV"),
        (-250, "", "killed by signal 250"),
        (0, "", "it ended by itself (exit 0)"),
        (3, "", "exit code 3"),
        (None, "", "it ended, and its log does not say why"),
    ],
)
def test_without_one_it_may_go_better_next_time(code: int | None, log: str, reason: str) -> None:
    assert explain(code, log) == Cause(reason, final=False)
