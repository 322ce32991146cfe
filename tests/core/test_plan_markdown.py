"""A plan as Markdown: all that matters, what is long folded, and nothing that breaks out."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import pytest
from builders import desired, holders, observed, plan, running, server
from plan_cases import CASES

from reconciler.core.guards import Allowed, guard
from reconciler.core.plan import Detail, Plan
from reconciler.core.plan_markdown import MOST_ROWS, plan_markdown
from reconciler.core.present import plan_values
from reconciler.core.selection import Selection

NOWHERE = Selection().values()
FEW = desired({"a": {}, "b": {"drain": "9s"}})
CHANGED = desired({"a": {}, "b": {"params": {"temp": "0.1"}}, "c": {"port": 8009}})


def document(made: Plan, guards: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-26T10:00:00+00:00",
        "desired": {"path": "desired/x.yaml", "sha256": "0123456789abcdef" * 4},
        "observed": {"snapshot": None},
        "selection": {"destroy": False, **NOWHERE},
        "diagnostics": [{"severity": "warning", "summary": str(one)} for one in made.warnings],
        **plan_values(made, guards),
        **more,
    }


def test_a_whole_comment() -> None:
    seen = observed(CHANGED, server(FEW, "a"), server(FEW, "b"), ports=holders(8009))
    text = plan_markdown(document(plan(CHANGED, seen)))
    assert text == (
        "### Plan for <code>desired/x.yaml</code>\n"
        "\n"
        "**0 to add, 0 to change, 1 to replace, 0 to remove, 1 unchanged, 1 blocked.**\n"
        "\n"
        "| | resource | what happens |\n"
        "|---|---|---|\n"
        "| `-/+` | <code>instance.b</code> | its launch changed, running requests get 5m00s to "
        "finish |\n"
        "| `!` | <code>instance.c</code> | **blocked**, not running: port 8009 is held by pid 77 "
        "(sleep 1): stop it, or give c another \\`port\\` |\n"
        "\n"
        "<details><summary><code>instance.b</code></summary>\n"
        "\n"
        "```diff\n"
        "+ params.temp: 0.1  # forces restart\n"
        "```\n"
        "\n"
        "</details>\n"
        "\n"
        "<sub>Made 2026-11-26T10:00:00+00:00; the file's sha256 begins with 0123456789ab.</sub>\n"
    )


def test_nothing_to_do() -> None:
    made = plan(FEW, running(FEW))
    rest = "**No changes.** The machine matches <code>desired/x.yaml</code>."
    assert rest in plan_markdown(document(made))
    some = {"destroy": False, **Selection(frozenset("a"), frozenset("b")).values()}
    text = plan_markdown(document(made, selection=some))
    assert "There is nothing to do for a, all but b." in text
    gone = plan_markdown(
        document(made, selection={**some, "targets": [], "excludes": [], "destroy": True})
    )
    assert "Nothing of this root runs." in gone


def test_what_it_costs() -> None:
    made = plan(*CASES["download, and the room that is left"])
    whole = document(made)
    cost = "**1 to add, 0 to change, 0 to replace, 0 to remove, 0 unchanged.** Download 5.0 GiB."
    room = " Disk: 40.0 GiB free in <code>/r/models</code>, 35.0 GiB afterwards."
    assert f"{cost}{room}\n" in plan_markdown(whole)
    lacking = [{"folder": "/r/models", "free_bytes": 1, "free_after_bytes": -1}]
    assert f"{cost}\n" in plan_markdown({**whole, "disks": lacking})
    # As a plan was saved before it told of disks.
    del whole["disks"]
    assert f"{cost}\n" in plan_markdown(whole)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("replace what took long to start", "about 3m14s of downtime, requests get 503"),
        ("replace while requests wait", "about 3m14s of downtime, requests wait"),
        (
            "replace while requests wait for a part of it",
            "about 3m14s of downtime, requests wait up to 1m30s, then get 503",
        ),
    ],
)
def test_what_becomes_of_requests(name: str, said: str) -> None:
    whole = document(plan(*CASES[name]))
    stops = "running requests get 5m00s to finish"
    assert f"| its launch changed, {stops}, {said} |" in plan_markdown(whole)
    for one in whole["resource_changes"]:
        # As a plan was saved before it told of them.
        del one["impact"]["hold_s"], one["impact"]["drain_s"]
    assert "| its launch changed, about 3m14s of downtime |" in plan_markdown(whole)


def test_what_a_restart_of_nginx_costs() -> None:
    text = plan_markdown(document(plan(*CASES["gateway: everywhere"])))
    assert "to finish, new ones are refused |" in text


def test_of_which_machine_it_is_and_how_old_that_is() -> None:
    taken = {"host": "gpu_1", "root": "/srv/llm", "age": "3h12m old, of 2026-11-26 10:02 UTC"}
    text = plan_markdown(document(plan(FEW, running(FEW)), observed={"snapshot": taken}))
    assert (
        "Against a snapshot of <code>/srv/llm</code> on <code>gpu\\_1</code>: 3h12m old, "
        "of 2026-11-26 10:02 UTC.\n"
    ) in text
    none = plan_markdown(document(plan(FEW, running(FEW)), observed={"source": "none"}))
    assert "No machine was looked at: this is what the change of the file does.\n" in none
    assert "**No changes.** There is nothing to do.\n" in none
    # As a plan was saved before there were snapshots.
    assert "snapshot" not in plan_markdown(document(plan(FEW, running(FEW)), observed={}))


def test_guards_warnings_and_drift() -> None:
    two = running(FEW)
    nothing = desired({})
    made = plan(nothing, two)
    found = guard(made, nothing, two, Allowed())
    lines = [{"severity": "warning", "summary": f"w{number}"} for number in range(4)]
    drift = [{"address": "instance.a", "type": "instance", "reason": "its weights differ"}]
    text = plan_markdown(document(made, found, diagnostics=lines, resource_drift=drift))
    assert "> **Refused:** 2 of 2 running instances would be stopped" in text
    assert "If that is what you want: <code>--allow-destroy 2</code>" in text
    assert "<details><summary>4 warnings</summary>" in text
    assert "- <code>instance.a</code>: its weights differ" in text
    full = [{**asdict(found[0]), "flag": ""}]
    assert "If that" not in plan_markdown({**document(made), "guards": full})


def test_a_long_list_is_folded() -> None:
    many = desired({f"m{number}": {} for number in range(MOST_ROWS + 1)})
    text = plan_markdown(document(plan(many, observed(many))))
    assert f"<details><summary>{MOST_ROWS + 1} resources</summary>" in text
    # With all their fields, each folded by itself.
    assert "\n</details>\n\n</details>\n\n<sub>" in text


@pytest.mark.parametrize("count", [200, 1000])
def test_a_comment_holds_it_however_long_it_is(count: int) -> None:
    """GitHub refuses one of more than 65,536 characters; the counts and refusals stay."""
    models: dict[str, dict[str, Any]] = {
        f"a-rather-long-name-of-a-model-of-some-team-{number}": {} for number in range(count)
    }
    params = {"ctx_size": "4096", "temp": "0.5"}
    before, after = desired(models), desired({key: {"params": params} for key in models})
    seen = running(before)
    made = plan(after, seen)
    text = plan_markdown(document(made, guard(made, after, seen, Allowed())))
    assert len(text) < 65_536
    assert f"{count} to replace" in text
    assert f"--allow-destroy {count}" in text
    shown = text.count("| `-/+` |")
    fields = text.count("```diff")
    assert f"the fields of {count - fields} more resources: " in text
    assert (f"no room for {count - shown} more resources: " in text) == (count == 1000)
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_plan_can_be_written(name: str) -> None:
    made = plan(*CASES[name])
    text = plan_markdown(document(made))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert text.count("<details>") == text.count("</details>")


def test_what_others_named_breaks_nothing() -> None:
    made = plan(FEW, observed(FEW))
    evil = "</details> | `x` *y* @all [z](http://e) <b> #1\n# head"
    changes = tuple(
        replace(one, obstacles=(evil,), details=(Detail("p", "``` `````", "one\ntwo"),))
        for one in made.changes
    )
    text = plan_markdown(document(replace(made, changes=changes)))
    assert text.count("</details>") == text.count("<details>")
    assert "&lt;/details&gt; \\| \\`x\\` \\*y\\* @&#8203;all" in text
    assert "<b>" not in text
    assert "\n# head" not in text
    assert "``````diff\n- p: ``` `````\n+ p: one\\ntwo\n``````" in text
