"""What the plan says of a flag's value, beside what the real engines do with it.

In: every flag of a real engine's help. Out: its complaints. Nothing is served: a command line ends
in a flag that no engine has, or begins with a model that is not there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_programs import EngineProgram, real_engines

from reconciler.core.engine_help import Help, parse_help
from reconciler.core.observed_engine import ValueKind

LAST = "--no-such-flag"
ENDING = frozenset(
    {
        *("h", "help", "usage", "version", "cl", "cache-list", "completion-bash", "list-devices"),
    }
)
"""They end the program before it reads on. (`-default` and `-spec` fetch a model first.)"""
SYNONYMS = {"on": ("enabled", "true", "1"), "off": ("disabled", "false", "0"), "auto": ("-1",)}


@pytest.fixture(params=real_engines(), ids=str)
def program(request: pytest.FixtureRequest) -> EngineProgram:
    found: EngineProgram = request.param
    return found


def complaint(program: EngineProgram, *words: str) -> str:
    done = subprocess.run(
        [*program.command, "--model", "/no/such.gguf", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    return done.stderr


def help_of(program: EngineProgram) -> Help:
    done = subprocess.run(
        [*program.command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return parse_help(done.stdout)


def flags_of(said: Help, kind: ValueKind) -> Iterator[str]:
    for name, usage in said.usage.items():
        if name not in ENDING and not name.endswith(("-default", "-spec")) and usage.kind is kind:
            yield name


def test_no_flag_of_the_help_is_left_out(program: EngineProgram) -> None:
    said = help_of(program)
    assert len(said.usage) > 60
    assert said.flags.keys() - said.usage.keys() <= {
        *("ot", "override-tensor", "otd", "override-tensor-draft", "spec-draft-override-tensor"),
        *("dr", "docker-repo", "dt", "defrag-thold"),
    }


def test_what_the_plan_lets_through_is_taken(program: EngineProgram) -> None:
    said = help_of(program)
    words: list[str] = [said.flags[name] for name in flags_of(said, ValueKind.NOTHING)]
    for name in flags_of(said, ValueKind.NUMBER):
        words += [said.flags[name], "1"]
    for name in flags_of(said, ValueKind.PAIR):
        words += [said.flags[name], "1", "2"]
    for name in flags_of(said, ValueKind.LISTED):
        for choice in said.usage[name].words:
            words += [said.flags[name], choice]
    for name in flags_of(said, ValueKind.CHOICE):
        for choice in said.usage[name].words:
            for value in (choice, *SYNONYMS.get(choice, ())):
                words += [said.flags[name], value]
    assert f"invalid argument: {LAST}" in complaint(program, *words, LAST)


def test_what_takes_whole_numbers_takes_no_others(program: EngineProgram) -> None:
    """Known by how the help writes the default; `2.5` would be read as 2, without a word."""
    said = help_of(program)
    numbers = (name for name in flags_of(said, ValueKind.NUMBER) if len(name) > 3)
    whole = [said.flags[name] for name in numbers if said.usage[name].is_whole]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda flag: complaint(program, flag, ".5"), whole)
        assert [
            flag for flag, text in zip(whole, found, strict=True) if "handling argument" not in text
        ] == []
    assert len(whole) > 10


def test_what_the_plan_stops_would_end_the_start(program: EngineProgram) -> None:
    said = help_of(program)
    lines: list[list[str]] = [[said.flags[name], "7"] for name in ("jinja", "no-jinja")]
    wrong = (
        (ValueKind.NUMBER, "max"),
        (ValueKind.CHOICE, "nonsense"),
        (ValueKind.LISTED, "none-such"),
    )
    for kind, value in wrong:
        lines += [[said.flags[name], value] for name in flags_of(said, kind)]
    lines += [[said.flags[name]] for name in flags_of(said, ValueKind.TEXT)]
    # The short names stand for the same flags.
    long = [words for words in lines if words[0].startswith("--")]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda words: complaint(program, *words), long))
    refused = ("error while handling argument", "invalid argument: 7")
    taken = [w for w, text in zip(long, found, strict=True) if not any(r in text for r in refused)]
    assert taken == []
    assert len(long) > 30
