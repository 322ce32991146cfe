"""What is read in an engine's help: its flags, their values, the variables."""

from __future__ import annotations

import pytest
from engine_texts import engine_of

from reconciler.core.engine import Flag
from reconciler.core.engine_flags import check_flags
from reconciler.core.engine_help import Help, parse_help
from reconciler.core.observed_engine import FlagUsage, ValueKind

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
--prio N                                a process's priority: low, normal (default: none)
--spec-type none,draft-simple,ngram-mod
                                        comma-separated list of types
-lm,   --load-mode MODE                 model loading mode (default: auto)
                                        - none: nothing special
                                        - mmap+mlock (default): both, and more words
                                        - another thing
--one-word MODE                         - this: is all
-hf,   --hf-repo, --repo-of-hf <user>   a repository
                                        (env: LLAMA_ARG_HF_REPO)
--gpt-default                           use gpt (note: can download weights from the internet)
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
        ("spec-type", FlagUsage(ValueKind.CHOICE, ("none", "draft-simple", "ngram-mod"))),
        ("lm load-mode", FlagUsage(ValueKind.LISTED, ("none", "mmap+mlock", "auto"))),
        ("layer-range", FlagUsage(ValueKind.PAIR, ("START", "END"))),
        ("ngl n-gpu-layers", FlagUsage(ValueKind.NUMBER, ("auto", "all"))),
        ("prio", FlagUsage(ValueKind.NUMBER, ("none",))),
        ("c np", FlagUsage(ValueKind.NUMBER, is_whole=True)),
        ("lora dev device one-word", FlagUsage(ValueKind.TEXT)),
    ],
)
def test_what_stands_behind_a_flag(names: str, usage: FlagUsage) -> None:
    assert [SAID.usage[name] for name in names.split()] == [usage] * len(names.split())


@pytest.mark.parametrize("name", ["cpu-strict", "poll"])
def test_numbers(name: str) -> None:
    assert SAID.usage[name].kind is ValueKind.NUMBER


def test_what_can_be_read_in_two_ways_is_left_open() -> None:
    open_ones = {"ot", "override-tensor", "level", "odd"}
    open_ones |= {"dt", "defrag-thold"}
    assert SAID.flags.keys() - SAID.usage.keys() == open_ones
    flags = [Flag(name, values) for name in open_ones for values in ((), ("x",))]
    assert check_flags(flags, engine_of(HELP)) == ()


def test_names_of_one_flag() -> None:
    assert [SAID.same[name] for name in ("c", "ctx-size", "no-kvu")] == ["ctx-size"] * 2 + [
        "kv-unified"
    ]
    assert "draft" not in SAID.same


def test_variables_that_stand_for_flags() -> None:
    assert SAID.variables == {
        "LLAMA_ARG_CTX_SIZE": "ctx-size",
        "LLAMA_ARG_DRAFT_MAX": "draft",
        "LLAMA_ARG_HF_REPO": "hf-repo",
    }


def test_flags_that_only_the_help_shows_to_be_none_of_the_users() -> None:
    advice = "use the model's `source`: only there is it fetched and verified"
    assert {name: SAID.refused[name] for name in ("repo-of-hf", "gpt-default")} == {
        "repo-of-hf": advice,
        "gpt-default": advice,
    }
    assert not {"c", "lora", "mmap", "no-mmap"} & SAID.refused.keys()


def test_no_help_no_flags() -> None:
    assert parse_help("") == Help({}, {}, {})
    assert parse_help("  --indented  is no flag\n") == Help({}, {}, {})
