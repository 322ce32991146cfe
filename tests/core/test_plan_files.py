"""Model files in a plan: the part that `download` carries out, and what tells them from others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import all_files, desired, files_of, observed, plan, server, steps_of

from reconciler.core.capacity import to_fetch
from reconciler.core.cases import make_cases
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles, Plan, StartServer, Step
from reconciler.core.plan_files import plan_verification
from reconciler.core.plan_parts import only_files
from reconciler.core.words import ModelName

HUB = {"source": {"repo": "org/far"}, "quant": "Q4"}
STATE = desired({"a": HUB, "b": {**HUB, "quant": "Q8", "state": "present"}, "c": {}})


def whole() -> Plan:
    missing = {
        name: files_of(STATE.models[name], FileStatus.MISSING, size=77) for name in ("a", "b")
    }
    return plan(STATE, observed(STATE, files=all_files(STATE, **missing)))


def test_only_fetches_of_the_named_models() -> None:
    assert any(isinstance(step.effect, StartServer) for step in whole().steps)
    part = only_files(whole(), frozenset({ModelName("a")}))
    assert steps_of(part) == ["1 FetchFiles model_file.a"]
    assert [change.address for change in part.changes] == ["model_file.a"]
    assert part.download_bytes == 77
    both = only_files(whole(), frozenset(map(ModelName, "abc")))
    assert [change.address for change in both.changes] == ["model_file.a", "model_file.b"]


def test_what_two_models_share_is_fetched_once_and_counts_once() -> None:
    """Half of it, or all: `b` has a file more, `c` has none of its own."""
    wants = desired(dict.fromkeys("abc", HUB))
    one = files_of(wants.models["a"], FileStatus.MISSING, size=77)
    more = replace(one, files=(*one.files, ObservedFile("more.gguf", 5, came=2)))
    missing = {"a": one, "b": more, "c": one}
    seen = observed(wants, files=all_files(wants, **missing))
    made = plan(wants, seen)
    assert made.download_bytes == 77 + 3
    assert sum(to_fetch(wants, seen.files).values()) == 77 + 3
    assert steps_of(made) == [
        "1 FetchFiles model_file.a",
        "2 FetchFiles model_file.b",
        "3 StartServer instance.a <1",
        "4 StartServer instance.b <1,2",
        "5 StartServer instance.c <1",
    ]


def test_what_lies_here_under_another_commit_is_said_to() -> None:
    here = "on disk, but not under this commit"
    for size, came, reason in ((7, 0, "not on disk"), (7, 7, here), (0, 0, "not on disk")):
        one = files_of(STATE.models["a"], FileStatus.MISSING)
        one = replace(one, files=(ObservedFile("x.gguf", size, came=came),))
        made = plan(STATE, observed(STATE, files=all_files(STATE, a=one)))
        assert next(c.reason for c in made.changes if c.address == "model_file.a") == reason
        assert made.download_bytes == size - came


def test_what_a_fetch_needs_comes_along() -> None:
    fetch = next(step for step in whole().steps if isinstance(step.effect, FetchFiles))
    steps = (
        Step(1, "lock", fetch.effect, "pinned"),
        Step(2, "other", fetch.effect, "", (1,)),
        Step(3, fetch.address, fetch.effect, "", (1,)),
    )
    others = [Step(step.number, step.address, whole().steps[-1].effect, "") for step in steps[:2]]
    made = Plan("x", (), (others[0], others[1], steps[2]))
    assert [step.number for step in only_files(made, frozenset({ModelName("a")})).steps] == [1, 3]


def test_nothing_to_fetch_is_nothing() -> None:
    part = only_files(plan(STATE, observed(STATE)), frozenset(map(ModelName, "abc")))
    assert part.is_noop
    assert part.changes == ()


def test_a_model_that_lacks_a_shard_has_no_identity() -> None:
    """A server that is started once it came must not be told from its files by half of one."""
    here, lacking = ObservedFile("1", 5, "1:2:5:3"), ObservedFile("2", 5)
    assert ObservedFiles(FileStatus.MISSING, files=(here, lacking)).identity == ""
    assert ObservedFiles(FileStatus.MISSING, files=(lacking, lacking)).identity == ""
    assert ObservedFiles(FileStatus.PRESENT, files=(here, here)).identity == "1:2:5:3,1:2:5:3"


def test_a_plan_that_reads_what_is_here() -> None:
    named = ObservedFile("m.gguf", 70, "1:2:70:3", digest="d" * 64)
    files = {
        ModelName("a"): ObservedFiles(
            FileStatus.PRESENT, files=(named, ObservedFile("n.gguf", 1, "1:3:1:3"))
        ),
        ModelName("b"): ObservedFiles(FileStatus.MISSING, files=(ObservedFile("m.gguf", 7),)),
    }
    made = plan_verification("x.yaml", files)
    assert [change.address for change in made.changes] == ["model_file.a", "model_file.b"]
    assert steps_of(made) == ["1 VerifyFiles model_file.a"]


@pytest.mark.parametrize(
    ("here", "wrong", "is_spoiled"),
    [
        ("1:2:8:9", "1:2:8:1", False),
        ("1:3:8:9", "1:2:8:9", True),
        ("1:2:8:1", "1:2:8:1", True),
    ],
    ids=["mended, and touched since", "fetched anew", "an old file copied over it"],
)
def test_wrong_bytes_count_that_came_after_it_had_loaded(
    here: str, wrong: str, *, is_spoiled: bool
) -> None:
    """What was mended in place has the inode of the wrong bytes before it."""
    one = replace(files_of(STATE.models["a"]), files=(ObservedFile("x", 8, here, digest="right"),))
    seen = observed(
        STATE,
        server(STATE, "a", files="1:2:8:5"),
        files=all_files(STATE, a=one),
        hashes={wrong: "wrong", "1:2:8:5": "right"},
    )
    assert (make_cases(STATE, seen)[0].restart == "it runs on wrong bytes") is is_spoiled
