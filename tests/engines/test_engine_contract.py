"""One contract for everything that can stand behind `engine`: embedded, llama-server, the fake.

In: each engine that this machine can run (pytest's header names them). Out: proof of what the
reconciler relies on (FACTS: "llama-server"); where the engines differ, the test says so.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_programs import EngineProgram, all_engines, real_engines
from engine_server import DEADLINE_S, PING_S, Server, eventually, free_port

from reconciler.core.engine import owned_argv
from reconciler.core.engine_help import parse_help
from reconciler.core.words import ModelName
from reconciler.embedded_flags import OPTIONS

ENDLESS: dict[str, Any] = {"prompt": "once upon", "ignore_eos": True}
STREAM = {"stream": True}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


Start = Callable[..., Server]


@pytest.fixture(params=all_engines(), ids=str)
def engine(request: pytest.FixtureRequest) -> EngineProgram:
    program: EngineProgram = request.param
    return program


@pytest.fixture
def start(engine: EngineProgram, short_folder: Path, tiny_model: Path) -> Iterator[Start]:
    """Start the engine: `start(*flags, model=..., address=...)`; it is gone after the test."""
    with contextlib.ExitStack() as running:

        def start_one(*flags: str, model: Path = tiny_model, address: str = "") -> Server:
            where = address or str(short_folder / "s.sock")
            return running.enter_context(Server(engine.command, model, where, *flags))

        yield start_one


def help_of(program: EngineProgram) -> str:
    done = subprocess.run(
        [*program.command, "--help"], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def being_loaded(folder: Path) -> Path:
    """A model that takes as long to load as the test wants: opening a FIFO waits for a writer."""
    path = folder / "slow.gguf"
    os.mkfifo(path)
    os.link(path, folder / "writer")
    return path


def let_it_load(server: Server, path: Path, model: Path) -> None:
    copy = path.with_name("copy.gguf")
    shutil.copy(model, copy)
    # First the path, then the waking: its first look at the file fails (llama.cpp only measures
    # there), the second must find the real one.
    copy.replace(path)

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            os.close(os.open(path.with_name("writer"), os.O_WRONLY | os.O_NONBLOCK))
        return server.status() == 200

    eventually(is_ready, "it loads")


def test_life(start: Start, short_folder: Path, tiny_model: Path) -> None:
    server = start(model=being_loaded(short_folder))
    server.wait_status(503)
    status, text = server.ask("/v1/models")
    assert (status, "Loading model" in text) == (503, True)
    let_it_load(server, short_folder / "slow.gguf", tiny_model)
    server.ready()
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert server.status() is None


def test_socket_is_private_and_stays_behind(start: Start) -> None:
    server = start().ready()
    socket_file = Path(server.address)
    assert socket_file.is_socket()
    assert socket_file.stat().st_mode & 0o077 == 0
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert socket_file.is_socket()


def test_port(start: Start) -> None:
    server = start(address=f"127.0.0.1:{free_port()}").ready()
    assert server.json("/props")["model_alias"] == "some-name"


def test_alias_is_the_id(start: Start, tiny_model: Path) -> None:
    server = start("-np", "2").ready()
    model = server.json("/v1/models")["data"][0]
    assert model["id"] == "some-name"
    assert {"n_ctx", "n_ctx_train", "n_params", "size", "n_embd"} <= model["meta"].keys()
    props = server.json("/props")
    assert props["total_slots"] == 2
    assert props["model_path"] == str(tiny_model)
    assert props["is_sleeping"] is False


def test_answers(start: Start) -> None:
    server = start().ready()
    chat = server.json("/v1/chat/completions", {**CHAT, "model": "any name is taken"})
    assert chat["choices"][0]["message"]["role"] == "assistant"
    assert chat["usage"]["completion_tokens"] == 3
    assert server.json("/completion", {"prompt": "a", "n_predict": 2})["content"]
    assert len(server.json("/tokenize", {"content": "hello"})["tokens"]) >= 5
    assert server.ask("/no/such/path")[0] == 404


def test_streams(start: Start) -> None:
    connection = start().ready().send("/v1/chat/completions", CHAT | STREAM)
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    text = answer.read().decode(errors="replace")
    connection.close()
    # A comment (`:`) keeps a slow stream open.
    events = [line for line in text.split("\n") if line and not line.startswith(":")]
    assert [event for event in events if not event.startswith("data: ")] == []
    assert events[-1] == "data: [DONE]"


def test_counts_what_runs(start: Start, engine: EngineProgram) -> None:
    server = start(*engine.endless).ready()
    slots = len(server.json("/slots"))
    assert server.metric("llamacpp:requests_processing") == 0
    assert [slot["is_processing"] for slot in server.json("/slots")] == [False] * slots
    running = [server.send("/v1/completions", ENDLESS) for _ in range(slots + 1)]
    eventually(lambda: server.metric("llamacpp:requests_processing") == slots, "slots are busy")
    eventually(lambda: server.metric("llamacpp:requests_deferred") == 1, "one waits")

    def decoded() -> int:
        tokens = [slot["next_token"] for slot in server.json("/slots") if slot["is_processing"]]
        return int(tokens[0][0]["n_decoded"])

    before = decoded()
    eventually(lambda: decoded() > before, "the answer grows")
    assert server.status() == 200
    for connection in running:
        connection.close()
    # llama.cpp looks for clients that left when a second passed without any answer to anybody:
    # asked more often than that, it never looks.
    eventually(lambda: server.metric("llamacpp:requests_processing") == 0, "all left", pause=1.2)


def test_term_when_idle(start: Start) -> None:
    server = start().ready()
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert time.monotonic() - before < 3


def test_term_while_loading(start: Start, short_folder: Path) -> None:
    server = start(model=being_loaded(short_folder))
    server.wait_status(503)
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code() == -signal.SIGTERM


def until_it_ends(engine: EngineProgram, trial: Callable[[str], None]) -> None:
    """Run `trial` with a socket name; once more, twice for llama-server, if that hangs.

    The TERM handler of llama-server takes a mutex that its main thread may hold just then: about 1
    in 100 TERMs during a decode of a tiny model hang it for ever. That is what `grace` and KILL
    are for. The embedded engine stops its server outside of a handler and must always end.
    """
    tries = 3 if engine.name == "llama-server" else 1
    for left in reversed(range(tries)):
        try:
            trial(f"{left}.sock")
        except (subprocess.TimeoutExpired, TimeoutError):
            if not left:
                raise
        else:
            return


def until_it_is_cut_off(answer: http.client.HTTPResponse) -> bytes:
    """What comes until an end of file, not a reset, in the middle of the body."""
    deadline, rest = time.monotonic() + DEADLINE_S, b""
    try:
        while part := answer.read1():
            rest += part
            if time.monotonic() > deadline:
                raise TimeoutError("a server that hangs in its TERM goes on with its pings")
    except http.client.IncompleteRead:
        return rest
    raise AssertionError("the body is whole")


def test_term_ends_an_open_stream_at_its_next_ping(
    start: Start, engine: EngineProgram, short_folder: Path
) -> None:
    def trial(name: str) -> None:
        server = start(*engine.endless, address=str(short_folder / name)).ready()
        with contextlib.closing(server.send("/v1/completions", ENDLESS | STREAM)) as connection:
            answer = connection.getresponse()
            assert answer.read(64)
            before = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            # No client takes the answer for a whole one.
            assert b"[DONE]" not in until_it_is_cut_off(answer)
        assert server.exit_code() == 0
        assert time.monotonic() - before < PING_S + 5

    until_it_ends(engine, trial)


def test_term_waits_for_the_client_of_a_plain_request(
    start: Start, engine: EngineProgram, short_folder: Path
) -> None:
    def trial(name: str) -> None:
        server = start(*engine.endless, address=str(short_folder / name)).ready()
        with contextlib.closing(server.send("/v1/completions", ENDLESS)):
            eventually(lambda: server.metric("llamacpp:requests_processing") == 1, "it runs")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.5)
        assert server.exit_code() == 0

    until_it_ends(engine, trial)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no-such-flag"], "error: invalid argument: --no-such-flag"),
        (["--mod", "x"], "error: invalid argument: --mod"),
        (["stray"], "error: invalid argument: stray"),
        (["--ctx-size"], 'error while handling argument "--ctx-size": expected value for argument'),
        (["--draft-max", "3"], "--draft-max"),
    ],
)
def test_wrong_flags_end_the_start(start: Start, flags: list[str], message: str) -> None:
    server = start(*flags)
    assert server.exit_code() == 1
    assert message in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", ["missing", "truncated", "foreign", "folder"])
def test_bad_models_end_the_start(
    start: Start, kind: str, short_folder: Path, tiny_model: Path
) -> None:
    path = short_folder / "bad.gguf"
    if kind == "truncated":
        path.write_bytes(tiny_model.read_bytes()[:60_000])
    elif kind == "foreign":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "folder":
        path.mkdir()
    server = start(model=path)
    assert server.exit_code() == 1
    assert "exiting due to model loading error" in server.log
    assert str(path) in server.log
    assert "Traceback" not in server.log


def test_taken_port_ends_the_start(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = start(address=f"127.0.0.1:{taken.getsockname()[1]}")
        assert server.exit_code() == 1
    assert "couldn't bind HTTP server socket" in server.log
    assert "Traceback" not in server.log


def test_left_over_socket_ends_the_start(start: Start) -> None:
    first: Server = start().ready()
    first.process.kill()
    first.exit_code()
    second = start()
    assert second.exit_code() == 1
    assert "couldn't bind HTTP server socket" in second.log


def test_help_names_what_the_reconciler_gives(engine: EngineProgram) -> None:
    flags = parse_help(help_of(engine)).flags
    ours = owned_argv(ModelName("m"), {"model": "/m.gguf"}, "127.0.0.1:1", flags)
    assert {word for word in ours if word.startswith("--")} == {
        *("--model", "--alias", "--host", "--port", "--metrics", "--slots", "--no-ui"),
        *("--cors-origins", "--sse-ping-interval"),
    }


def test_help_names_every_documented_flag(engine: EngineProgram) -> None:
    """What the embedded engine takes, each of the others takes too, by every one of its names."""
    flags = parse_help(help_of(engine)).flags
    options = [option for group in OPTIONS.values() for option in group]
    documented = {name for option in options for name in (*option.names, *option.off)}
    assert documented <= set(flags.values())


def test_help_agrees_on_names_and_values() -> None:
    """Flag by flag the same group of names and the same kind of value as in llama-server's help."""
    for program in real_engines():
        lines = {" ".join(line.split()) for line in help_of(program).splitlines()}
        heads = [
            " ".join([", ".join((*option.names, *option.off)), option.hint]).strip()
            for group in OPTIONS.values()
            for option in group
        ]
        wrong = [
            head for head in heads if not any(f"{line} ".startswith(f"{head} ") for line in lines)
        ]
        assert not wrong, program


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-c", "0", "--embedding", "--pooling", "mean", "-kvu"],
        [
            *("-c", "512", "-np", "2", "-t", "1", "-tb", "2", "-b", "128", "-ub", "64", "-n", "33"),
            *("-fa", "on", "-ctk", "bf16", "-ctv", "f32", "-ngl", "3", "-cram", "10"),
            *("-lm", "none"),
            *("-s", "42", "--temp", "0.3", "--top-k", "7", "--top-p", "0.5", "--min-p", "0.1"),
            *("--repeat-penalty", "1.1", "--presence-penalty", "0.5", "--frequency-penalty", "-1"),
            *("--no-warmup", "--sleep-idle-seconds", "100", "--reasoning-format", "none"),
            *("--no-jinja", "--chat-template", "chatml"),
        ],
    ],
    ids=["defaults", "embedding", "all"],
)
def test_same_flags_make_the_same_server(
    flags: list[str], short_folder: Path, tiny_model: Path
) -> None:
    """The real engines answer alike about themselves, whatever flags they were given."""
    seen = []
    for program in real_engines():
        address = str(short_folder / f"{program.name}.sock")
        with Server(program.command, tiny_model, address, *flags) as server:
            props, slots = server.ready().json("/props"), server.json("/slots")
            meta = server.json("/v1/models")["data"][0]["meta"]
        # Random by design, and the name of the build.
        del props["media_marker"], props["build_info"]
        seen.append((props, slots, meta))
    assert all(one == seen[0] for one in seen)
