"""A desired file beside an engine: each thing that it would refuse or not heed, at its place.

`tests/data/engine-check` has files, and what is said of them beside the real llama-server's help.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import ENGINE, SITE, desired, observed, server
from engine_texts import DATA, REAL, REAL_HELP, engine_of

from reconciler.core.engine_check import check_engine, check_model
from reconciler.core.observed_engine import AmbientSetting, ObservedEngine
from reconciler.core.obstacles import Marks
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.planner import make_plan
from reconciler.errors import Position, Severity

CASES = sorted((DATA / "engine-check").glob("*.yaml"))


def said(text: str, engine: ObservedEngine = REAL, name: str = "x.yaml") -> list[str]:
    found = parse_desired([SourceText(name, text.encode())])
    return [f"{one.severity}: {one}" for one in check_engine(found.desired, engine, found.marks)]


def of_models(fields: list[str], engine: ObservedEngine = REAL) -> list[str]:
    """What is said of models with these fields each, without their places."""
    rows = (f"  m{n}: {{{one}, source: {{path: x}}}}\n" for n, one in enumerate(fields))
    return [
        re.sub(r"x\.yaml:\S+ ", "", one)
        for one in said(f"version: 1\nmodels:\n{''.join(rows)}", engine)
    ]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_is_said_of_a_file(path: Path) -> None:
    found = said(path.read_text(encoding="utf-8"), name=path.name)
    assert "".join(f"{one}\n" for one in found) == path.with_suffix(".txt").read_text("utf-8")


# ---- every flag of the real help, read here in another way than the program does

WORDS = {"TYPE": "q8_0", "MODE": "auto", "FORMAT": "auto"}
NUMBERS = {"N", "P", "L", "SEED", "INDEX", "SECONDS", "SIMILARITY", "<0...100>"}


def every_flag(text: str = REAL_HELP) -> list[tuple[list[str], str]]:
    """Each flag's names, and the placeholder of its value; those that are the user's."""
    found = []
    for line in text.splitlines():
        if match := re.match(r"(-{1,2}\w[^\s,]*(?:, +-[^\s,]+)*)(?: (\S+(?: \S+)*))?", line):
            names = [name.lstrip("-") for name in re.split(r", +", match[1])]
            if not {*names} & {*REAL.removed, *REAL.refused}:
                found.append((names, match[2] or ""))
    return found


def values_for(name: str, hint: str) -> list[str]:
    """Values of the kind that a placeholder shows, in YAML."""
    if not hint:
        return ["true"]
    if hint == "START END":
        return ["[1, 2]", '["-1", "5", "-6", "7"]']
    if name == "numa":
        return ["isolate"]
    if words := re.fullmatch(r"[{\[<]([a-z\d]+(?:[,|][a-z\d]+)+)[}\]>]", hint):
        return [f'"{word}"' for word in re.split(r"[,|]", words[1])]
    if words := re.fullmatch(r"[a-z-]+(,[a-z\d-]+){3,}", hint):
        return [f'"{words[0]}"', f'"{words[1][1:]}"']
    if hint not in NUMBERS:
        return [WORDS.get(hint, '"-some text"')]
    usage = REAL.usage.get(name)
    return ["1", "-1", "7.0"] if usage and usage.is_whole else ["1", "-1", "0.5", "1e3"]


def test_every_flag_of_the_help_takes_a_value_of_the_kind_that_it_shows() -> None:
    flags = every_flag()
    assert len(flags) > 150
    fields = []
    for names, hint in flags:
        for name in names:
            fields += [f"args: {{{name}: {value}}}" for value in values_for(name, hint)]
            fields += [f"args: {{{name}: false}}"] if f"no-{name}" in names else []
    fields += ["args: {ngl: all}", "params: {n_gpu_layers: auto}"]
    assert len(fields) > 600
    assert of_models(fields) == []


def test_every_variable_of_the_help_may_be_set() -> None:
    by_name = {name: hint for names, hint in every_flag() for name in names}
    fields = [
        f"env: {{{variable}: {value if hint else '1'}}}"
        for variable, flag in REAL.variables.items()
        if (hint := by_name.get(flag)) is not None
        for value in values_for(flag, hint)
    ]
    assert len(fields) > 100
    assert of_models(fields) == []


def test_a_newer_build_that_names_what_to_use_instead() -> None:
    """All flags of this build, as a later one would say that they are gone."""
    gone = f"\n{' ' * 40}the argument has been removed. use --instead\n"
    text = "".join(
        ", ".join(REAL.flags[name] for name in names) + f" {hint}".rstrip() + gone
        for names, hint in every_flag()
    )
    names = [name for names, _ in every_flag() for name in names]
    found = of_models([f"args: {{{name}: 1}}" for name in names], engine_of(text))
    assert sorted(found) == sorted(
        f"error: --{name} is gone from this engine: use --instead" for name in names
    )


def test_an_older_build_that_does_not_have_them_yet() -> None:
    unknown = "the engine (llama-server) does not know the flag"
    old = re.sub(
        r"^-.*(load-mode|spec-draft-n-max|kv-unified).*$", "", REAL_HELP, flags=re.MULTILINE
    )
    assert of_models(
        ["params: {load_mode: mmap, spec_draft_n_max: 3, ctx_size: 1}"], engine_of(old)
    ) == [
        f"error: {unknown} --load-mode; did you mean `lazy_mode`?",
        f"error: {unknown} --spec-draft-n-max; did you mean `spec_draft_n_min`?",
    ]


def test_an_engine_of_which_little_is_known_raises_no_alarm() -> None:
    fields = ["params: {c: x, ctx-size: y}, env: {LLAMA_ARG_WHATEVER: x, XDG_CONFIG_HOME: y}"]
    assert of_models(fields, ObservedEngine(None)) == []
    known = ObservedEngine(REAL.kind, ("/x",), {"c": "-c", "ctx-size": "--ctx-size"})
    assert of_models(fields, known) == [
        "warning: the engine reads llama.cpp/config.ini of this folder too, which no plan shows"
    ]
    # The embedded one is known to read no variables.
    nothing = "reads no variable LLAMA_ARG_WHATEVER, so it has no effect"
    assert of_models(["env: {LLAMA_ARG_WHATEVER: x, XDG_CONFIG_HOME: y}"], ENGINE) == [
        f"warning: the engine (embedded) {nothing}; write the flag under `params` or `args`"
    ]


def test_without_places_all_is_said_all_the_same() -> None:
    model = desired({"a": {"params": {"ctx_size": "1"}, "args": {"c": "1"}}}).models["a"]
    (found,) = check_model("a", model, REAL, {})
    assert (found.position, found.summary) == (
        None,
        "`ctx_size` and `c` are the same flag: keep one of them",
    )
    model = desired({"a": {"params": {"c": "1"}, "env": {"LLAMA_ARG_CTX_SIZE": "2"}}}).models["a"]
    (found,) = check_model("a", model, REAL, {})
    assert found.summary == "LLAMA_ARG_CTX_SIZE has no effect: `c` wins over it"


# ---- files that an engine reads by itself


def setting(key: str, line: int = 3) -> AmbientSetting:
    return AmbientSetting(key, Position("/etc/llama.cpp/config.ini", line, 1))


def test_a_file_that_sets_something_for_every_server() -> None:
    ours = ("host", "m", "no-ui", "nothing-known")
    read = [setting(key) for key in (*ours, "c", "LLAMA_ARG_TEMPERATURE", "jinja", "top-k")]
    engine = engine_of(REAL_HELP, *read)
    fields = [
        "params: {ctx_size: 1}, args: {top-k: 1, no-jinja: true}",
        "args: {jinja: true, top-k: 2}",
    ]
    fields += ["env: {LLAMA_ARG_CTX_SIZE: '1', LLAMA_ARG_TOP_K: '1', LLAMA_ARG_NO_JINJA: '1'}"]
    at = "/etc/llama.cpp/config.ini:3:1:"
    assert [one.partition("\n")[0] for one in of_models(fields, engine)] == [
        f"warning: {at} `c` is read by every llama-server, ours too: it changes m1",
        (
            f"warning: {at} `LLAMA_ARG_TEMPERATURE` is read by every llama-server, ours too: "
            "it changes m0, m1, m2"
        ),
    ]
    (many,) = of_models(["replicas: 1"] * 5, engine_of(REAL_HELP, setting("c")))
    assert many.partition("\n")[0].endswith("it changes m0, m1, m2 and 2 more")


# ---- in a plan


def test_a_plan_says_it_of_what_starts_and_of_what_runs_on() -> None:
    bad, odd = {"params": {"ctx_sice": "1"}}, {"env": {"LLAMA_ARG_TEMPERATUR": "1"}}
    state = desired({"starts": bad, "runs": bad, "odd": odd, "fine": {"args": {"c": "1"}}})
    engine = engine_of(REAL_HELP, setting("temp"), setting("c"))
    marks: Marks = {
        ("models", name, "params", "ctx_sice"): Position("x.yaml", n, 1)
        for n, name in ((3, "starts"), (4, "runs"))
    }
    seen = observed(state, server(state, "runs"), server(state, "odd"), engine=engine)
    made = make_plan(state, SITE, seen, marks)
    wrong = "the engine (llama-server) does not know the flag --ctx-sice; did you mean `ctx_size`?"
    assert [one.blocked for one in made.blocked] == [f"x.yaml:3:1: {wrong}"]
    assert {one.severity for one in made.warnings} == {Severity.WARNING}
    # Of the files that an engine reads by itself only what starts is told.
    nothing = "so it has no effect; did you mean `LLAMA_ARG_TEMPERATURE`?"
    config = "is read by every llama-server, ours too: it changes"
    assert [str(one).partition("\n")[0] for one in made.warnings] == [
        f"the engine (llama-server) reads no variable LLAMA_ARG_TEMPERATUR, {nothing}",
        f"x.yaml:4:1: runs runs on, but could not be started again: {wrong}",
        f"/etc/llama.cpp/config.ini:3:1: `temp` {config} fine, starts",
        f"/etc/llama.cpp/config.ini:3:1: `c` {config} starts",
    ]
    quiet = make_plan(state, SITE, replace(seen, engine=ObservedEngine(None)), marks)
    assert quiet.warnings == ()


def test_two_values_stand_behind_one_flag() -> None:
    state = desired({"a": {"args": {"control-vector-layer-range": ("1", "2"), "lora": ("x", "y")}}})
    made = make_plan(state, SITE, observed(state, engine=REAL))
    (argv,) = [step.effect.launch.argv for step in made.steps if hasattr(step.effect, "launch")]
    assert " ".join(argv).endswith("--control-vector-layer-range 1 2 --lora x --lora y")
