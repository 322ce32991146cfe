"""Renders in a plan: what is written, put back, told of, removed, left alone, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import SITE, desired, observed

from reconciler.core.desired import DesiredState
from reconciler.core.engine import MASK
from reconciler.core.observed import ObservedState
from reconciler.core.obstacles import Marks
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.plan import Action, Change, Plan, RemoveRender, ResourceType, WriteRender
from reconciler.core.plan_parts import leave_out, parts_of, restrict
from reconciler.core.plan_renders import LARGEST_DIFF, MOST_LINES, differing_lines
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text
from reconciler.core.render_view import render_context
from reconciler.core.renders import (
    ObservedRender,
    RenderNote,
    attempt_of,
    digest_of,
    notes_text,
    read_notes,
)
from reconciler.core.words import ModelName
from reconciler.errors import Position

TEMPLATE = "{% for model in models %}\n{{ model.name }} {{ model.base_url }}\n{% endfor %}\n"
TEXT = "a http://127.0.0.1:8888/v1\n"
RENDER = {"template": "templates/t.j2", "dest": "run/t", "reload": "reload it"}
ONE = desired({"a": {}}, renders=({**RENDER},))
TOLD = RenderNote(digest_of(TEXT), digest_of(TEXT))


def found(text: str | None, note: RenderNote | None = None, **special: Any) -> ObservedRender:
    digest = "" if text is None else digest_of(text)
    return ObservedRender(
        **{"template": TEMPLATE, "note": note, **special}, digest=digest, text=text
    )


def seen(one: ObservedRender, state: DesiredState = ONE, **special: Any) -> ObservedState:
    return replace(observed(state), renders={"run/t": one}, **special)


def planned(one: ObservedRender, state: DesiredState = ONE, **special: Any) -> tuple[Change, Plan]:
    where: Marks = {
        ("renders", 0, "template"): Position("x.yaml", 7, 3),
        ("renders", 0, "dest"): Position("x.yaml", 8, 9),
    }
    plan = make_plan(state, SITE, seen(one, state, **special), where)
    [change] = [one for one in plan.changes if one.type is ResourceType.RENDER]
    return change, plan


def effects(plan: Plan) -> list[object]:
    kinds = WriteRender | RemoveRender
    return [one.effect for one in plan.steps if isinstance(one.effect, kinds)]


def test_a_file_that_is_not_there_is_made() -> None:
    change, plan = planned(found(None))
    assert (change.address, change.action) == ("render.run/t", Action.CREATE)
    assert change.reason == "not there"
    assert effects(plan) == [WriteRender(ONE.renders[0], TEXT, "")]
    assert "  + render.run/t" in plan_text(plan)
    again, _ = planned(found(None, TOLD))
    assert again.reason == "it was removed by hand"


def test_what_is_right_and_was_told_of_is_left_alone() -> None:
    for note in (TOLD, None):
        change, plan = planned(found(TEXT, note))
        assert (change.action, change.reason) == (Action.NO_OP, "up to date")
        assert not effects(plan)


def test_what_was_written_but_not_told_of_is_told_of() -> None:
    half = RenderNote(digest_of(TEXT))
    change, plan = planned(found(TEXT, half))
    assert (change.action, change.reason) == (Action.UPDATE, "not told of yet")
    assert effects(plan)
    silent = desired({"a": {}}, renders=({**RENDER, "reload": None},))
    assert planned(found(TEXT, half), silent)[0].action is Action.NO_OP


def test_a_change_shows_its_lines_but_no_secret() -> None:
    old = "api_key: sk-1\nb http://127.0.0.1:8888/v1\n"
    change, plan = planned(found(old, RenderNote(digest_of(old), digest_of(old))))
    assert change.reason == "what it says has changed"
    lines = plan_text(plan)
    assert "line 1: (not shown) -> a http://127.0.0.1:8888/v1" in lines
    assert "sk-1" not in lines


def test_an_edit_by_hand_is_put_back_and_never_shown() -> None:
    edited = TEXT + "mine\n"
    change, plan = planned(found(edited, TOLD))
    assert change.action is Action.UPDATE
    assert change.reason == "edited by hand: it is put back, and a copy of the edit kept"
    assert "old line 2: (not shown) -> (none)" in plan_text(plan)
    assert "mine" not in plan_text(plan)
    strange, _ = planned(found(edited))
    assert strange.reason == "there is another file, not written by us; a copy of it is kept"
    binary = replace(found(edited, TOLD), text=None)
    assert not planned(binary)[0].details


def test_a_killed_run_leaves_no_edit_behind() -> None:
    """Noted, and not yet swapped: what is there is what we wrote before."""
    change, _ = planned(found("old\n", RenderNote(digest_of(TEXT), before=digest_of("old\n"))))
    assert change.reason == "what it says has changed"


def test_a_template_that_cannot_be_used_blocks_its_file_alone() -> None:
    gone, plan = planned(found(None, template=None, problem="there is no template templates/t.j2"))
    assert gone.blocked == "x.yaml:7:3: there is no template templates/t.j2"
    assert gone.reason == "not written"
    assert not effects(plan)
    unknown, _ = planned(found(TEXT, TOLD, template="a\n{{ modles }}\n"))
    assert unknown.blocked == "templates/t.j2:2: 'modles' is undefined"
    assert unknown.reason == "stays as it is"
    broken, _ = planned(found(TEXT, TOLD, template="{% for %}"))
    assert broken.blocked.startswith("templates/t.j2:1: ")
    lone, _ = planned(found(TEXT, TOLD, template="{% include 'other' %}"))
    assert lone.blocked == "templates/t.j2:1: other"
    for template in (
        "{{ models | dictsort }}",
        "{{ 3 | wordwrap }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        '{{ "\\ud800" }}',
    ):
        failed, _ = planned(found(TEXT, TOLD, template=template))
        assert failed.blocked.startswith("templates/t.j2")
        assert failed.reason == "stays as it is"
    assert plan.blocked


def test_what_cannot_be_written_is_blocked_unless_nothing_is_to_be_written() -> None:
    folder = replace(found(None), obstacle="run/t is no file: it is not touched")
    change, _ = planned(folder)
    assert change.blocked == "x.yaml:8:9: run/t is no file: it is not touched"


def test_a_watch_does_not_try_again_what_failed() -> None:
    text = "old\n"
    failed = RenderNote(
        digest_of(text), digest_of(text), failed=attempt_of(ONE.renders[0], TEXT), reason="no!"
    )
    watching, _ = planned(found(text, failed), now=1.0)
    assert watching.blocked == "no!; it is tried again when it changes, or by `apply`"
    asked, plan = planned(found(text, failed))
    assert asked.action is Action.UPDATE
    assert effects(plan)
    other = desired({"a": {}}, renders=({**RENDER, "reload": "mended"},))
    assert not planned(found(text, failed), other, now=1.0)[0].blocked


def test_what_is_wanted_no_more_is_removed_unless_it_was_edited() -> None:
    none = desired({"a": {}})
    change, plan = planned(found(TEXT, TOLD), none)
    assert (change.action, change.reason) == (Action.DELETE, "no longer in the file")
    assert effects(plan) == [RemoveRender("run/t", is_ours=True, found=digest_of(TEXT))]
    edited, plan = planned(found("mine", TOLD), none)
    assert edited.reason == "no longer in the file; edited by hand, left alone"
    assert effects(plan) == [RemoveRender("run/t", is_ours=False, found=digest_of("mine"))]
    gone, _ = planned(found(None, TOLD), none)
    assert gone.reason == "no longer in the file; it is gone already"
    link, plan = planned(replace(found(None, TOLD), obstacle="run/t is a link"), none)
    assert link.reason == "no longer in the file; run/t is a link"
    assert not [one for one in effects(plan) if isinstance(one, RemoveRender) and one.is_ours]


def test_nothing_is_planned_where_nothing_was_looked_at() -> None:
    plan = make_plan(ONE, SITE, observed(ONE))
    assert not [one for one in plan.changes if one.type is ResourceType.RENDER]
    strange = replace(observed(ONE), renders={"run/t": found(TEXT), "run/x": found("x")})
    assert (
        len([one for one in make_plan(ONE, SITE, strange).changes if "render." in one.address]) == 1
    )


def test_a_key_of_the_gateway_is_never_shown() -> None:
    keys = frozenset({digest_of("k-4711-k"), digest_of("odd=,key")})
    text = "x: 'k-4711-k'\nodd=,key\nurl?q=k-4711-k;\nk-4711-kk\n\n"
    shown = [one.after for one in differing_lines("", text, is_ours=True, keys=keys)]
    assert shown == [MASK, MASK, MASK, "k-4711-kk", ""]


def test_a_password_in_a_url_is_never_shown() -> None:
    text = "DB_URL=postgres://ann:s3cret@h/db\nurl: https://h/x@y\n"
    shown = [one.after for one in differing_lines("", text, is_ours=True)]
    assert shown == [MASK, "url: https://h/x@y"]


def test_large_differences_are_cut() -> None:
    many = list(differing_lines("", "\n".join(map(str, range(MOST_LINES + 3))), is_ours=True))
    assert len(many) == MOST_LINES + 1
    assert (many[-1].path, many[-1].after) == ("further lines that differ", "3")
    huge = "x\n" * (LARGEST_DIFF + 1)
    [only] = differing_lines("", huge, is_ours=True)
    assert (only.path, only.before, only.after) == ("lines", "0", str(LARGEST_DIFF + 1))
    middle = list(differing_lines("a\nb\nc\n", "a\nB\nc\n", is_ours=True))
    assert [(one.path, one.before, one.after) for one in middle] == [("line 2", "b", "B")]
    shorter = list(differing_lines("a\nb\nc\nd\ne\n", "x\nd\ny\n", is_ours=True))
    assert [one.path for one in shorter] == ["line 1", "old line 2", "old line 3", "line 3"]


def test_a_file_has_no_say_on_the_screen() -> None:
    template = "\x1b[2J{{ root }}\n"
    one = found("old\x07\n", RenderNote(digest_of("old\x07\n")), template=template)
    change, plan = planned(one)
    assert "old\\x07 -> \\x1b[2J/r" in plan_text(plan)
    assert change.details[0].after == "\x1b[2J/r"


def test_what_others_read_is_not_written_however_it_is_spelled() -> None:
    renders = ({**RENDER, "dest": "run/t"},)
    for place in ("./run", "run//", "/r/run", "run/../run"):
        state = desired({"a": {}}, store=place, renders=renders)
        change, _ = planned(found(None), state)
        assert "8:9: a render must not write run/t: fetched" in change.blocked, place


def test_templates_see_addresses_and_no_secrets() -> None:
    state = desired(
        {
            "a": {"aliases": ("x",), "port": 8001, "params": {"ctx_size": "8192", "parallel": "2"}},
            "b": {"args": {"c": "0"}, "env": {"HF_TOKEN": "hf_1"}},
            "c": {"state": "present"},
            "d": {"replicas": 0},
        },
        gateway={
            "listen": "0.0.0.0:9000",
            "keys_file": "secrets/keys",
            "server_names": ("llm.lan",),
        },
    )
    context: Any = render_context(state, SITE)
    assert [one.name for one in context["models"]] == ["a", "b"]
    assert [one.name for one in context["all_models"]] == ["a", "b", "c", "d"]
    assert [one.context for one in context["models"]] == [4096, None]
    gateway = context["gateway"]
    assert (gateway.url, gateway.needs_key) == ("http://127.0.0.1:9000", True)
    assert (gateway.tls, gateway.cert, gateway.server_names) == (False, None, ("llm.lan",))
    assert "hf_1" not in repr(context)
    wide: Any = render_context(desired({}, gateway={"listen": "[::]:9000"}), SITE)
    assert wide["gateway"].address == "[::1]:9000"
    safe = desired({"a": {}}, gateway={"tls": {"cert": "c.pem", "key": "k.pem"}})
    context = render_context(safe, SITE)
    assert context["gateway"].base_url == "https://127.0.0.1:8888/v1"
    assert context["gateway"].cert == "/r/c.pem"
    context = render_context(desired({"a": {"port": 8001}}, gateway=False), SITE)
    [model] = context["models"]
    assert (context["gateway"], model.base_url) == (None, "http://127.0.0.1:8001/v1")


def test_notes_outlive_a_run() -> None:
    notes = {"run/t": RenderNote("1", "2", "3", "4", "5")}
    assert read_notes(notes_text(notes)) == notes
    for broken in ("", "[]", '{"a": 1}', '{"a": {"b": 1}}', "{"):
        assert read_notes(broken) == {}


def test_a_render_is_a_part_of_its_own_and_no_models() -> None:
    state = desired({"t": {}, "a": {}}, renders=({**RENDER, "dest": "t"}, {**RENDER}))
    looked = replace(observed(state), renders={"t": found(None), "run/t": found(None)})
    plan = make_plan(state, SITE, looked)
    renders = [one for one in parts_of(plan) if one.render]
    assert [one.render for one in renders] == ["render.run/t", "render.t"]
    for part in renders:
        assert {one.address for one in part.plan.changes} == {part.render}
        assert (part.models, part.gateway, len(part.plan.steps)) == (frozenset(), False, 1)
    rest = leave_out(plan, frozenset({ModelName("t")}), "why", renders=frozenset({"render.run/t"}))
    assert "render.t" in {one.address for one in rest.steps}
    assert "render.run/t" not in {one.address for one in rest.steps}
    alone = restrict(plan, frozenset({ModelName("t")}))
    assert not [one for one in alone.changes if one.type is ResourceType.RENDER]


def test_the_file_is_read_with_all_it_says() -> None:
    text = (
        "version: 1\nmodels: {}\nrenders:\n"
        '  - {template: t.j2, dest: run/a, validate: "check {path}", reload: go}\n'
    )
    desired_state = parse_desired([SourceText("x.yaml", text.encode())]).desired
    [render] = desired_state.renders
    assert (render.template, render.dest, render.check, render.reload) == (
        "t.j2",
        "run/a",
        "check {path}",
        "go",
    )
