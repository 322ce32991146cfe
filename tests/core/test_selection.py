"""Parts of a plan: what belongs to some models, what is left out, and that it is said."""

from __future__ import annotations

from dataclasses import replace

from builders import desired, observed, plan, running, server, steps_of, stray

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedGateway, ObservedState
from reconciler.core.plan import Plan
from reconciler.core.present import plan_text
from reconciler.core.renders import ObservedRender
from reconciler.core.selection import Selection, select
from reconciler.core.words import ModelName

OLD = desired({"a": {"port": 8001}, "b": {}})
NEW = desired({"a": {"port": 8001, "params": {"temp": "0.1"}}, "b": {}, "c": {}})
BEFORE = observed(OLD, server(OLD, "a"), server(OLD, "b"))
SEEN = observed(NEW, server(OLD, "a"), server(OLD, "b"), stray("old"), gateway=BEFORE.gateway)


def part(selection: Selection, state: DesiredState = NEW, seen: ObservedState = SEEN) -> Plan:
    return select(plan(state, seen), selection)


def only(*names: str) -> Selection:
    return Selection(targets=frozenset(names))


def but(*names: str) -> Selection:
    return Selection(excludes=frozenset(names))


def addresses(made: Plan) -> list[str]:
    return sorted({step.address for step in made.steps})


def test_nothing_asked_is_the_whole_plan() -> None:
    assert part(Selection()) == plan(NEW, SEEN)
    assert Selection().models(NEW.models) is None
    assert Selection().words == ""


def test_a_target_comes_with_its_own_routes() -> None:
    assert addresses(part(only("c"))) == ["gateway", "instance.c"]
    assert addresses(part(only("a"))) == ["instance.a"]
    assert addresses(part(only("old"))) == ["instance.old"]
    assert addresses(part(only("gateway"))) == ["gateway"]
    assert addresses(part(only("a", "gateway"))) == ["gateway", "instance.a"]


def test_a_target_starts_nginx_and_never_restarts_or_stops_it() -> None:
    nothing = observed(NEW, gateway=ObservedGateway())
    assert addresses(part(only("a"), seen=nothing)) == ["gateway", "instance.a"]
    bare = desired({"a": {"port": 8001}}, gateway=False)
    seen = observed(bare, gateway=BEFORE.gateway)
    made = part(only("a"), bare, seen)
    assert made.steps == ()
    assert "gateway has to change first" in plan_text(made)


def test_all_but_one() -> None:
    assert addresses(part(but("a"))) == ["gateway", "instance.c", "instance.old"]
    assert addresses(part(but("gateway"))) == ["instance.a", "instance.c", "instance.old"]
    # Its route would come with the reload.
    assert addresses(part(but("c"))) == ["instance.a", "instance.old"]
    mixed = Selection(frozenset("ab"), frozenset("b"))
    assert addresses(part(mixed)) == ["instance.a"]
    assert mixed.words == "a, b, all but b"
    assert mixed.models(["a", "b", "c"]) == frozenset({ModelName("a")})


def test_a_part_says_that_it_is_one() -> None:
    said = plan_text(part(only("a")))
    assert "-/+ instance.a" in said
    assert "instance.c" not in said.partition("Warning")[0]
    left = "left out: gateway (update), instance.c (create), instance.old (delete)."
    assert f"this plan is only a part of desired/x.yaml; {left}" in said
    many = desired({f"m{number}": {} for number in range(9)})
    text = plan_text(part(only("gateway"), many, observed(many, gateway=ObservedGateway())))
    assert "instance.m4 (create) and 4 more." in text


def test_nothing_to_do_for_a_part() -> None:
    said = plan_text(part(only("a"), OLD, running(OLD)))
    assert "No changes. There is nothing to do for a.\n" in said
    assert "only a part of desired/x.yaml; of the rest nothing would be done" in said
    assert steps_of(part(only("b"))) == []


def test_pins_of_others_stay() -> None:
    """A model that is only pinned, too."""
    hub = {"source": {"repo": "org/far"}, "quant": "Q4", "state": "present"}
    state = desired({"a": hub, "b": hub})
    seen = observed(state, lock={})
    whole = plan(state, seen)
    assert Selection().values() == {"targets": [], "excludes": [], "replacing": []}
    assert select(whole, but("a")).desired == whole.desired


RENDERED = desired(
    {"a": {}, "b": {}},
    renders=tuple({"template": "t.j2", "dest": dest} for dest in ("run/x", "run/y")),
)


def test_renders_speak_of_all_models_and_go_with_none() -> None:
    """Only one that is named, or all where nothing but renders is left out."""
    none = ObservedRender(template="{{ models | length }}")
    seen = replace(observed(RENDERED), renders={"run/x": none, "run/y": none})

    def of(selection: Selection) -> list[str]:
        return [one for one in addresses(part(selection, RENDERED, seen)) if "render" in one]

    assert of(only("a")) == of(but("a")) == of(but("gateway")) == []
    assert of(only("render.run/x")) == ["render.run/x"]
    assert addresses(part(only("render.run/x"), RENDERED, seen)) == ["render.run/x"]
    assert of(but("render.run/x")) == ["render.run/y"]
    assert "instance.a" in addresses(part(but("render.run/x"), RENDERED, seen))
    said = plan_text(part(only("a"), RENDERED, seen))
    assert "left out: gateway (create), instance.b (create)." not in said
    assert "left out: instance.b (create)." in said
    renders = "render.run/x (create), render.run/y (create)"
    hint = "`--target render.run/x` is about one of them"
    assert f"renders speak of all models, and stay as they are: {renders}; {hint}." in said
    said = plan_text(part(but("render.run/x"), RENDERED, seen))
    assert "left out: render.run/x (create)." in said
    assert "renders speak" not in said
    live = replace(running(RENDERED), renders=seen.renders)
    said = plan_text(part(only("a"), RENDERED, live))
    assert "nothing else was left out" in said
    assert "renders speak" in said
