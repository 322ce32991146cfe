"""Flags one by one beside what the real engine's help says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import ENGINE
from engine_texts import REAL

from reconciler.core.engine import Flag
from reconciler.core.engine_flags import FlagProblem, check_flags
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.words import EngineKind


def problem(flag: Flag, engine: ObservedEngine = REAL) -> str:
    found = check_flags([flag], engine)
    assert len(found) <= 1
    return found[0].summary if found else ""


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("ctx-size", "lots", "--ctx-size needs a number, not `lots`"),
        ("c", "32k", "-c needs a number, not `32k`"),
        ("c", "1_000", "-c needs a number, not `1_000`"),
        ("c", "0x10", "-c needs a number, not `0x10`"),
        ("c", "", "-c needs a number, not ``"),
        ("c", None, "-c needs a number, not `true`"),
        ("np", "auto", "-np needs a number, not `auto`"),
        ("poll", "high", "--poll needs a number, not `high`"),
        ("c", "a\x1bb" + "c" * 60, f"-c needs a number, not `a\\x1bb{'c' * 34}`"),
        (
            "sm",
            "rows",
            "-sm needs one of none, layer, row, tensor, not `rows`; did you mean `row`?",
        ),
        ("sm", None, "-sm needs one of none, layer, row, tensor, not `true`"),
        ("fa", "yes", "-fa needs one of on, off, auto, not `yes`"),
        (
            "ctk",
            "q9",
            "-ctk needs one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, not `q9`",
        ),
        ("lora", None, "--lora needs a value, not `true`"),
        ("perf", "on", "--perf is a switch: write `true` for its value"),
        ("perf", "true", "--perf is a switch: write `true` for its value, and without quotes"),
        ("perf", "no", "--perf is a switch: write `false` for its value"),
        ("no-perf", "1", "--no-perf is a switch: write `true` for its value"),
    ],
)
def test_values_that_the_engine_would_refuse(name: str, values: str | None, said: str) -> None:
    assert problem(Flag(name, () if values is None else (values,))) == said


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("c", ("4096",)),
        *(("c", (one,)) for one in ["-1", "+5", "5.", "7.0", "3e0"]),
        *(("temp", (one,)) for one in ["-1", "1.5", ".5", "5.", "1e-1", "2E+3", "inf", "-NaN"]),
        ("c", (" 7 ",)),
        *(("ngl", (one,)) for one in ("99", "auto", "all")),
        ("cpu-strict", ("2",)),
        ("control-vector-layer-range", ("1", "-2")),
        ("load-mode", ("mmap+mlock",)),
        ("fa", ("on", "enabled", "true", "1", "off", "disabled", "false", "0", "auto", "-1")),
        ("sm", ("row", "none,layer")),
        ("ctk", ("q8_0",)),
        ("lora", ("a.gguf", "")),
        ("perf", ()),
        ("no-perf", ()),
    ],
)
def test_values_that_it_may_take(name: str, values: tuple[str, ...]) -> None:
    assert problem(Flag(name, values)) == ""


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1.5", "of `1.5` it reads `1`"),
        ("-2E+3", "of `-2E+3` it reads `-2`"),
        (" 1e-1 ", "of `1e-1` it reads `1`"),
        (".5", "it does not take `.5`"),
        ("inf", "it does not take `inf`"),
    ],
)
def test_of_a_number_that_is_not_whole_only_some_digits_count(value: str, read: str) -> None:
    assert problem(Flag("c", (value,))) == f"-c takes whole numbers: {read}"
    embedded = replace(REAL, kind=EngineKind.EMBEDDED)
    refused = f"it does not take `{value.strip()}`"
    assert check_flags([Flag("c", (value,))], embedded) == (
        FlagProblem("c", f"-c takes whole numbers: {refused}"),
    )


def test_the_embedded_engine_takes_digits_alone() -> None:
    embedded = replace(REAL, kind=EngineKind.EMBEDDED)
    assert problem(Flag("c", ("7.0",)), embedded) == (
        "-c takes whole numbers: it does not take `7.0`"
    )
    assert problem(Flag("c", (" -7 ",)), embedded) == ""


def test_one_bad_value_of_several_is_enough() -> None:
    assert problem(Flag("sm", ("row", "x"))) == "-sm needs one of none, layer, row, tensor, not `x`"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("no-c", "-c cannot be switched off: this engine has no --no-c"),
        ("no-fa", "-fa cannot be switched off: this engine has no --no-fa; write `off`"),
        ("no-ot", "-ot cannot be switched off: this engine has no --no-ot"),
    ],
)
def test_what_cannot_be_switched_off(flag: str, said: str) -> None:
    assert problem(Flag(flag)) == said


def test_flags_that_the_engine_does_not_have() -> None:
    flags = (
        Flag("temp", ("1",)),
        Flag("draft", ("1",)),
        Flag("ctx-sice"),
        Flag("no-zzz"),
        Flag("no-temp", ("1",)),
    )
    assert [(one.flag, one.summary, one.near) for one in check_flags(flags, ENGINE)] == [
        ("draft", "--draft is gone from this engine: use --spec-draft", ""),
        ("ctx-sice", "the engine (embedded) does not know the flag --ctx-sice", "ctx-size"),
        ("no-zzz", "the engine (embedded) does not know the flag --no-zzz", ""),
        ("no-temp", "the engine (embedded) does not know the flag --no-temp", "temp"),
    ]


def test_an_engine_of_which_only_the_names_are_known() -> None:
    assert problem(Flag("c", ("lots",)), ENGINE) == ""
