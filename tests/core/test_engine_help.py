"""An engine's help: its flags, their values, and what of the user's it would refuse."""

from __future__ import annotations

import pytest
from builders import ENGINE

from reconciler.core.engine import Flag
from reconciler.core.engine_help import Help, check_flags, parse_help
from reconciler.core.observed import FlagUsage, ObservedEngine, ValueKind
from reconciler.core.words import EngineKind

HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded
                                        from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
--mmap, --no-mmap                       whether to memory-map model
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer
-fa,   --flash-attn [on|off|auto]       set Flash Attention use
-sm,   --split-mode {none,layer, row}   how to split the model
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f16, q8_0
                                        (default: f16)
-ngl,  --n-gpu-layers N                 max. number of layers to store in VRAM, either an exact
                                        number, 'auto', or 'all' (default: auto)
-np,   --parallel N                     number of server slots (default: -1, -1 = auto)
--cpu-strict <0|1>                      use strict CPU placement (default: 0)
--poll <0...100>                        use polling level
--lora FNAME                            path to LoRA adapter
-dev,  --device <dev1,dev2,..>          comma-separated list of devices
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
--layer-range START END                 layer range
--level [N]                             a value that may be left out
--odd=VALUE                             another way to write it
-dt,   --defrag-thold N                 KV cache defragmentation threshold (DEPRECATED)
--fim-1.5b-default                      use default model
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max
                                        or --spec-ngram-mod-n-max
                                        (env: LLAMA_ARG_DRAFT_MAX)
--gone N                                the argument has been removed
example usage: --not-a-flag
"""
SAID = parse_help(HELP)
READ = ObservedEngine(
    EngineKind.LLAMA_SERVER, ("/bin/x",), SAID.flags, SAID.removed, usage=SAID.usage
)


def test_the_flags_and_their_spellings() -> None:
    assert SAID.flags["c"] == "-c"
    assert SAID.flags["no-kvu"] == "-no-kvu"
    assert SAID.flags["fim-1.5b-default"] == "--fim-1.5b-default"
    assert {"h", "help", "usage", "mmap", "no-mmap", "level", "odd"} <= SAID.flags.keys()
    assert not {"draft", "gone", "not-a-flag"} & SAID.flags.keys()


def test_what_is_gone() -> None:
    advice = "use --spec-draft-n-max or --spec-ngram-mod-n-max"
    assert SAID.removed == {"draft": advice, "draft-n": advice, "draft-max": advice, "gone": ""}


@pytest.mark.parametrize(
    ("names", "usage"),
    [
        ("h help mmap no-mmap kvu no-kv-unified", FlagUsage(ValueKind.NOTHING)),
        ("fa flash-attn", FlagUsage(ValueKind.CHOICE, ("on", "off", "auto"))),
        ("sm split-mode", FlagUsage(ValueKind.CHOICE, ("none", "layer", "row"))),
        ("ctk cache-type-k", FlagUsage(ValueKind.CHOICE, ("f16", "q8_0"))),
        ("lora dev device", FlagUsage(ValueKind.TEXT)),
    ],
)
def test_what_stands_behind_a_flag(names: str, usage: FlagUsage) -> None:
    assert [SAID.usage[name] for name in names.split()] == [usage] * len(names.split())


@pytest.mark.parametrize("name", ["c", "ngl", "np", "cpu-strict", "poll"])
def test_numbers(name: str) -> None:
    assert SAID.usage[name].kind is ValueKind.NUMBER


def test_what_can_be_read_in_two_ways_is_left_open() -> None:
    open_ones = {"ot", "override-tensor", "layer-range", "level", "odd"}
    open_ones |= {"dt", "defrag-thold"}
    assert SAID.flags.keys() - SAID.usage.keys() == open_ones
    flags = [Flag(name, values) for name in open_ones for values in ((), ("x",))]
    assert check_flags(flags, READ) == ()


def test_no_help_no_flags() -> None:
    assert parse_help("") == Help({}, {}, {})
    assert parse_help("  --indented  is no flag\n") == Help({}, {}, {})


def problem(flag: Flag, engine: ObservedEngine = READ) -> str:
    found = check_flags([flag], engine)
    assert len(found) <= 1
    return found[0].summary if found else ""


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("ctx-size", "lots", "--ctx-size needs a number, not `lots`"),
        ("c", "32k", "--c needs a number, not `32k`"),
        ("c", "1_000", "--c needs a number, not `1_000`"),
        ("c", "0x10", "--c needs a number, not `0x10`"),
        ("c", "", "--c needs a number, not ``"),
        ("c", None, "--c needs a number, not `true`"),
        ("np", "auto", "--np needs a number, not `auto`"),
        ("poll", "high", "--poll needs a number, not `high`"),
        ("c", "a\x1bb" + "c" * 60, f"--c needs a number, not `a\\x1bb{'c' * 34}`"),
        ("sm", "rows", "--sm needs one of none, layer, row, not `rows`; did you mean `row`?"),
        ("sm", None, "--sm needs one of none, layer, row, not `true`"),
        ("fa", "yes", "--fa needs one of on, off, auto, not `yes`"),
        ("ctk", "q9", "--ctk needs one of f16, q8_0, not `q9`"),
        ("lora", None, "--lora needs a value, not `true`"),
        ("mmap", "on", "--mmap is a switch: write `true` for its value"),
        ("mmap", "true", "--mmap is a switch: write `true` for its value, and without quotes"),
        ("mmap", "no", "--mmap is a switch: write `false` for its value"),
        ("no-mmap", "1", "--no-mmap is a switch: write `true` for its value"),
    ],
)
def test_values_that_the_engine_would_refuse(name: str, values: str | None, said: str) -> None:
    assert problem(Flag(name, () if values is None else (values,))) == said


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("c", ("4096",)),
        ("c", ("-1", "+5", "1.5", ".5", "5.", "1e-1", "2E+3", "inf", "-NaN", " 7 ")),
        ("ngl", ("99", "auto", "all")),
        ("cpu-strict", ("1", "2")),
        ("fa", ("on", "enabled", "true", "1", "off", "disabled", "false", "0", "auto", "-1")),
        ("sm", ("row", "none,layer")),
        ("ctk", ("q8_0",)),
        ("lora", ("a.gguf", "")),
        ("mmap", ()),
        ("no-mmap", ()),
    ],
)
def test_values_that_it_may_take(name: str, values: tuple[str, ...]) -> None:
    assert problem(Flag(name, values)) == ""


def test_one_bad_value_of_several_is_enough() -> None:
    assert problem(Flag("sm", ("row", "x"))) == "--sm needs one of none, layer, row, not `x`"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("no-c", "--c cannot be switched off: this engine has no --no-c"),
        ("no-fa", "--fa cannot be switched off: this engine has no --no-fa; write `off`"),
        ("no-odd", "--odd cannot be switched off: this engine has no --no-odd"),
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
