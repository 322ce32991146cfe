"""What a run writes down of itself while it is carried out."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace

import pytest
from fake_drivers import FakeWorld
from launches import make_launch, start_step, step

from reconciler.core.desired import Source
from reconciler.core.history import Ending
from reconciler.core.parse import SourceText
from reconciler.core.pending import Coming, Noted, Status
from reconciler.core.plan import (
    Action,
    Change,
    FetchFiles,
    Plan,
    RemoveRender,
    ResourceType,
    Step,
    WritePins,
)
from reconciler.core.transfers import FileProgress
from reconciler.core.words import ModelName
from reconciler.execute import Outcome, Progress, StepResult
from reconciler.recording import AT_WORK, NOT_REACHED, ON_ITS_WAY, About, Recording

FILE = "desired/x.yaml"
A, B = (start_step(number, make_launch(name)) for number, name in ((1, "a"), (2, "b")))


def change(name: str, action: Action = Action.CREATE, *obstacles: str) -> Change:
    kind = ResourceType.INSTANCE
    return Change(f"instance.{name}", kind, name, action, "absent", obstacles=obstacles)


def plan(*changes: Change, steps: tuple[Step, ...] = ()) -> Plan:
    return Plan(FILE, changes, steps)


BOTH = plan(change("a"), change("b"), steps=(A, B))
NOTHING = plan(change("a", Action.NO_OP))


def left(name: str, reason: str, action: str = "create") -> Noted:
    return Noted(ResourceType.INSTANCE, name, action, reason)


class Run(Recording):
    """A recording that is told of steps by hand."""

    def __init__(self, world: FakeWorld, models: frozenset[ModelName] | None = None) -> None:
        super().__init__(About("apply", FILE, models), world.drivers)
        self.world = world
        self.told: list[Progress | StepResult] = []
        self.tell = self.hears(self.told.append)

    def ends(self, one: Step, outcome: Outcome = Outcome.DONE, reason: str = "") -> None:
        self.tell(StepResult(one, outcome, reason))


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def pending(world: FakeWorld) -> tuple[Noted, ...]:
    return world.records.status().pending


def test_a_run_that_did_all_leaves_nothing_pending(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    run.tell(Progress(A, "starting", 0.0))
    run.ends(A)
    run.ends(B)
    run.settle()
    run.end()
    assert world.records.published == [Status(world.clock.now(), FILE)]
    assert len(run.told) == 3


def test_a_record_names_the_generation_that_it_applies(world: FakeWorld) -> None:
    world.records.spec = hashlib.sha256(b"x").hexdigest()
    for content, number in ((b"y", None), (b"x", 2)):
        world.generations.note([SourceText(FILE, content)], None, world.records.origin(), 1.0)
        Run(world).begin(BOTH)
        assert world.records.history()[-1].generation == number


def test_what_failed_is_pending_with_its_first_cause(world: FakeWorld) -> None:
    run = Run(world)
    later = replace(A, number=3)
    run.begin(replace(BOTH, steps=(A, B, later)))
    run.ends(A, Outcome.FAILED, "it died")
    run.ends(B)
    run.ends(later, Outcome.SKIPPED, "needs #1")
    run.settle()
    assert pending(world) == (left("a", "it died"),)


def test_what_is_blocked_is_pending(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(plan(change("a"), change("b", Action.NO_OP, "no engine"), steps=(A,)))
    run.ends(A)
    run.settle()
    assert pending(world) == (left("b", "no engine", "blocked"),)


def test_what_waits_for_files_is_pending_until_they_are_here(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    run.ends(A)
    run.settle()
    assert pending(world) == (left("b", ON_ITS_WAY),)
    run.begin(plan(change("a", Action.NO_OP), change("b"), steps=(B,)))
    run.ends(B)
    run.settle()
    run.end()
    assert pending(world) == ()
    assert len(world.records.published) == 2


def test_a_render_whose_commands_run_is_pending(world: FakeWorld) -> None:
    run = Run(world)
    kind, effect = ResourceType.RENDER, RemoveRender("run/x", is_ours=True)
    gone = Change("render.run/x", kind, "run/x", Action.DELETE, "no longer in the file")
    run.begin(plan(gone, steps=(Step(1, gone.address, effect, ""),)))
    run.settle()
    assert pending(world) == (Noted(kind, "run/x", "delete", AT_WORK),)


def test_what_nobody_got_to_is_pending(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    run.ends(A)
    run.settle()
    run.end()
    assert pending(world) == (left("b", NOT_REACHED),)


def test_the_word_of_a_later_run_stays(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    run.settle()
    later = Status(1, FILE, (left("c", "by another run"),))
    world.records.publish(later)
    run.ends(A)
    run.end()
    assert world.records.status() == later


def test_a_plan_without_steps_writes_only_news(world: FakeWorld) -> None:
    Run(world).begin(NOTHING)
    assert world.records.published == []
    stuck = plan(change("a", Action.NO_OP, "no engine"))
    for _ in range(2):
        Run(world).begin(stuck)
    assert len(world.records.published) == 1
    Run(world).begin(NOTHING)
    assert pending(world) == ()
    other = Run(world)
    other.begin(NOTHING)
    assert len(world.records.published) == 2
    world.records.published.append(Status(1, "desired/other.yaml"))
    Run(world).begin(NOTHING)
    assert world.records.status().file == FILE


def test_what_a_guard_refused_waits_with_its_message(world: FakeWorld) -> None:
    stuck = change("b", Action.NO_OP, "no engine")
    refused = plan(change("a"), stuck, change("c", Action.NO_OP), steps=(A,))
    for _ in range(2):
        Run(world).refuse(refused, "refused: too much")
    assert pending(world) == (
        left("a", "refused: too much"),
        left("b", "no engine", "blocked"),
    )
    assert len(world.records.published) == 1
    assert world.records.noted == []


def test_a_run_about_one_model_keeps_what_is_pending_of_others(world: FakeWorld) -> None:
    world.records.publish(Status(1, FILE, (left("a", "old"), left("b", "old"))))
    run = Run(world, frozenset({ModelName("a")}))
    run.begin(plan(change("a"), steps=(A,)))
    run.ends(A)
    run.settle()
    run.end()
    assert pending(world) == (left("b", "old"),)
    assert len(world.records.published) == 2


def test_a_full_disk_costs_the_record_only(world: FakeWorld) -> None:
    world.records.fault = OSError(errno.ENOSPC, "No space left on device")
    run = Run(world)
    run.begin(BOTH)
    run.ends(A)
    run.settle()
    run.end()
    assert world.records.published == []


def test_a_run_says_that_it_begins_and_how_it_ended(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    [begun] = world.records.noted
    assert (begun.outcome, begun.seconds, begun.number) == (Ending.RUNNING, None, 1)
    assert begun.changes == (left("a", "absent"), left("b", "absent"))
    world.clock.advance(2.5)
    run.ends(A)
    run.ends(B)
    run.settle()
    run.end()
    [ended] = world.records.history()
    assert ended == begun.ended(Ending.APPLIED, 2.5, "")
    assert (ended.verb, ended.file, ended.at) == ("apply", FILE, world.clock.now() - 2.5)


def test_a_plan_without_steps_is_no_part_of_history(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(plan(change("a", Action.NO_OP, "no engine")))
    run.end()
    assert world.records.noted == []


STUCK = change("a", Action.NO_OP, "no engine")


@pytest.mark.parametrize(
    ("outcome", "more", "words", "ending", "message"),
    [
        (Outcome.DONE, (), "", Ending.APPLIED, ""),
        (Outcome.DONE, (STUCK,), "", Ending.BLOCKED, "instance.a: no engine"),
        (Outcome.FAILED, (STUCK,), "", Ending.FAILED, "instance.b: why"),
        (None, (), "", Ending.FAILED, ""),
        (None, (), "superseded", Ending.SUPERSEDED, ""),
        (Outcome.CANCELLED, (), "interrupted", Ending.INTERRUPTED, "instance.b: why"),
    ],
)
def test_how_a_run_ended(
    world: FakeWorld,
    outcome: Outcome | None,
    more: tuple[Change, ...],
    words: str,
    ending: Ending,
    message: str,
) -> None:
    run = Run(world)
    run.begin(plan(change("b"), *more, steps=(B,)))
    if outcome:
        run.ends(B, outcome, "why" if outcome is not Outcome.DONE else "")
    run.settle()
    run.is_superseded = words == "superseded"
    run.end(interrupted=words == "interrupted")
    [record] = world.records.history()
    assert (record.outcome, record.message) == (ending, message)


def test_a_second_round_is_of_the_same_run(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(BOTH)
    run.begin(plan(change("b"), steps=(B,)))
    assert len(world.records.noted) == 1


def test_a_record_that_cannot_begin_is_written_at_the_end(world: FakeWorld) -> None:
    world.records.fault = OSError(errno.ENOSPC, "No space left on device")
    run = Run(world)
    run.begin(BOTH)
    world.records.fault = None
    run.ends(A)
    run.ends(B)
    run.settle()
    run.end()
    [record] = world.records.noted
    assert (record.number, record.outcome) == (1, Ending.APPLIED)


# ---- files on their way


FETCH = step(7, FetchFiles(ModelName("a"), Source(repo="org/a"), "c" * 40, ()))


def come(run: Run, *files: tuple[int, int], seconds: float) -> None:
    """So much of so much is here of each file, and so long later."""
    named = enumerate(files)
    progress = tuple(FileProgress(f"{at}.gguf", done, size) for at, (done, size) in named)
    run.tell(Progress(FETCH, "downloading", 0.0, progress))
    run.world.clock.advance(seconds)


def test_files_on_their_way_are_shown_every_two_seconds(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(plan(steps=(FETCH,)))
    run.tell(Progress(FETCH, "downloading from org/a", 0.0))
    for done in range(8):
        come(run, (done, 9), (5, 5), seconds=0.5)
    shown = [Coming(ModelName("a"), "0.gguf", done, 9) for done in (4,)]
    assert world.records.shown == [tuple(shown)]
    come(run, (8, 9), (5, 5), seconds=0.5)
    run.ends(FETCH)
    run.settle()
    run.end()
    assert world.records.shown[1:] == [(Coming(ModelName("a"), "0.gguf", 8, 9),), ()]


def test_what_came_at_once_is_not_shown(world: FakeWorld) -> None:
    run = Run(world)
    run.begin(plan(steps=(FETCH,)))
    come(run, (1, 9), seconds=0.1)
    run.ends(FETCH)
    assert world.records.shown == []


def test_what_cannot_be_shown_costs_nothing(world: FakeWorld) -> None:
    world.records.fault = OSError(errno.ENOSPC, "No space left on device")
    run = Run(world)
    run.begin(plan(steps=(FETCH,)))
    for _ in range(3):
        come(run, (1, 9), seconds=2.0)
    run.ends(FETCH)
    assert world.records.shown == []


def test_steps_without_a_change_of_their_own_are_not_told(world: FakeWorld) -> None:
    run = Run(world)
    odd = step(9, WritePins(()))
    run.begin(plan(steps=(odd,)))
    run.ends(odd, Outcome.FAILED, "no")
    run.settle()
    assert pending(world) == ()
