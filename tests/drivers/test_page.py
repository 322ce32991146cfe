"""The status page in a real browser, over a real nginx with small servers behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from browser import Window, chromium, window, without_scripts
from gateway_rig import Rig, forget_requests, rig
from playwright.sync_api import Browser, Page, expect

from reconciler.core.pending import Coming, Watching, coming_text, watching_text
from reconciler.core.words import ModelName
from reconciler.drivers import effects, proc
from reconciler.drivers.clock import SystemClock

pytestmark = pytest.mark.needs("chromium")

MARKUP = "<img/src=x/onerror=alert(1)>"
LONG = "a-model-with-a-name-as-long-as-any-that-is-allowed-to-be-given"
KEY = "alice-key-1"
MODELS: dict[str, Any] = {
    "alpha": {"quant": "UD-Q4_K_XL", "aliases": (MARKUP, "org/alpha:Q4")},
    LONG: {"quant": "Q8_0"},
    "twin": {"replicas": 2},
    "down": {},
    "idle": {"state": "present"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        Path(made.site.root, "logs").mkdir(parents=True)
        made.apply(made.render(MODELS))
        for instance in ("alpha", LONG, "twin", "twin[1]"):
            made.backend(instance)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    for backend in whole_world.backends.values():
        backend.health = 200
    reason = f"{MARKUP} it ran out of memory"
    alpha = {"since": 1, "size_bytes": 2**30, "restarts": 2}
    whole_world.gateway.publish({"down": {"reason": reason}, "alpha": alpha})
    return whole_world


@pytest.fixture
def opened(browser: Browser, world: Rig) -> Iterator[Window]:
    with window(browser) as made:
        open_page(made, world)
        yield made
        assert made.complaints == []


def open_page(made: Window, world: Rig) -> None:
    made.page.goto(f"http://127.0.0.1:{world.listen}/")


def card(page: Page, name: str) -> Any:
    return page.get_by_role("listitem", name=name, exact=True)


def test_each_model_has_a_card(opened: Window) -> None:
    page = opened.page
    expect(page.locator("#summary")).to_have_text("3 of 4 ready, 1 exited")
    alpha = card(page, "alpha")
    expect(alpha.locator(".phase")).to_have_text("ready")
    for text in ("UD-Q4_K_XL", "1.0 GiB", "restarts2", f"also {MARKUP}, org/alpha:Q4"):
        expect(alpha).to_contain_text(text)
    expect(card(page, "twin")).to_contain_text("2 of 2 replicas")
    expect(card(page, "down").locator(".phase")).to_have_text("exited")
    expect(card(page, "down").locator(".reason")).to_have_text(f"{MARKUP} it ran out of memory")
    expect(card(page, "idle").locator(".phase")).to_have_text("absent")
    expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("img, #plain")).to_have_count(0)


def test_what_could_not_be_started_says_why_and_sends_nobody_to_a_log(
    opened: Window, world: Rig
) -> None:
    path = Path(world.site.gateway) / "status.json"
    left = {"type": "instance", "action": "blocked", "reason": f"{MARKUP} no such file"}
    down = card(opened.page, "down")
    try:
        pending = [left | {"name": name} for name in ("down", "alpha")]
        path.write_text(json.dumps({"at": 1, "file": "desired/x.yaml", "pending": pending}))
        expect(down.locator(".phase")).to_have_text("blocked")
        expect(down.locator(".reason")).to_have_text(f"{MARKUP} no such file")
        expect(opened.page.locator("#summary")).to_have_text("3 of 4 ready, 1 blocked")
        # What runs goes on, whatever keeps it from being changed.
        expect(card(opened.page, "alpha").locator(".phase")).to_have_text("ready")
    finally:
        path.unlink()
    expect(down.locator(".phase")).to_have_text("exited")


def test_a_phase_changes_on_the_open_page_and_what_was_opened_stays(
    opened: Window, world: Rig
) -> None:
    alpha = card(opened.page, "alpha")
    alpha.get_by_role("button", name="Call it").click()
    code = alpha.get_by_label("curl for alpha")
    expect(code).to_contain_text(f"http://127.0.0.1:{world.listen}/v1/chat/completions")
    world.backends["alpha.a"].health = 503
    expect(alpha.locator(".phase")).to_have_text("starting")
    expect(alpha.get_by_role("button", name="Try it")).to_be_disabled()
    expect(opened.page.locator("#summary")).to_have_text("2 of 4 ready, 1 exited, 1 starting")
    world.backends["alpha.a"].health = 200
    expect(alpha.locator(".phase")).to_have_text("ready")
    expect(code).to_be_visible()
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    alpha.get_by_role("button", name="Copy curl").click()
    expect(alpha.get_by_text("Copied")).to_be_visible()
    assert opened.page.evaluate("navigator.clipboard.readText()") == code.inner_text()


def test_a_log_is_live_and_no_markup(opened: Window, world: Rig) -> None:
    log = Path(world.site.root, "logs", "alpha.log")
    log.write_text(f"first\n\x1b[31m{MARKUP}\x1b[0m\n")
    alpha = card(opened.page, "alpha")
    alpha.get_by_role("button", name="Log").click()
    box = alpha.get_by_label("Log of alpha")
    expect(box).to_have_text(f"first\n{MARKUP}\n")
    with log.open("a") as file:
        file.write("more \u20ac\n")
    expect(box).to_contain_text(f"{MARKUP}\nmore \u20ac")
    log.write_text("new\n")
    expect(box).to_have_text("new\n")
    expect(opened.page.locator("img")).to_have_count(0)
    down = card(opened.page, "down")
    down.get_by_role("button", name="Log").click()
    expect(down).to_contain_text("there is no log of 'down' yet")


def ask(page: Page, model: str) -> None:
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_label("Message").fill(f"Hello {MARKUP}")
    page.keyboard.press("Enter")


def test_an_answer_streams_and_can_be_stopped(opened: Window, world: Rig) -> None:
    page, backend = opened.page, world.backends["alpha.a"]
    ask(page, "alpha")
    # It is shown while the server is still at it.
    expect(page.locator(".said.assistant p")).to_have_text(["<i>hm</i>", "<b>alpha.a</b>"])
    expect(page.locator(".said.user")).to_contain_text(f"Hello {MARKUP}")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".said .error")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.get_by_label("Message")).to_be_focused()
    backend.go_on.set()
    ask(page, "alpha")
    expect(page.locator("#chat-status")).to_contain_text("first token after")
    expect(page.locator(".said .error")).to_have_count(1)
    asked = [seen for seen in backend.seen if seen.method == "POST"]
    talk = json.loads(asked[1].body)["messages"]
    assert [one["role"] for one in talk] == ["user", "assistant", "user"]
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".said")).to_have_count(0)


def test_a_refusal_says_why_and_when_to_come_again(opened: Window) -> None:
    ask(opened.page, "down")
    said = opened.page.locator(".said .error")
    expect(said).to_contain_text("the server of model 'down' does not answer")
    expect(said).to_contain_text("says which. Try again in 2 s.")


def test_a_watch_and_what_stands_in_its_way_are_told_as_text(opened: Window, world: Rig) -> None:
    page, me = opened.page, proc.ref_of(os.getpid())
    assert me
    expect(page.locator("#held")).to_be_hidden()
    path = Path(world.site.gateway) / "watch.json"
    watching = Watching(SystemClock().now() - 7200, trouble=f"{MARKUP} x", held=f"{MARKUP} y")
    try:
        path.write_text(watching_text(watching, (me.pid, me.start_ticks)))
        expect(page.locator("#trouble")).to_contain_text(f"{MARKUP} x")
        expect(page.locator("#held")).to_contain_text(f"{MARKUP} y")
        expect(page.locator("#watch")).to_have_text(f"A watch keeps it so, for 2 h (pid {me.pid}).")
    finally:
        path.unlink()
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#watch")).to_be_empty()


def test_downloads_have_bars(opened: Window, world: Rig) -> None:
    me = proc.ref_of(os.getpid())
    assert me
    notes = Path(world.site.gateway, f"downloads.{me.pid}.json")
    at = SystemClock().now()
    for here in (2**30, 3 * 2**30):
        files = (Coming(ModelName("idle"), f"{MARKUP}.gguf", here, 4 * 2**30),)
        effects.write_atomic(notes, coming_text(files, at, (me.pid, me.start_ticks)))
        row = opened.page.get_by_role("region", name="Downloads").get_by_role("listitem")
        expect(row).to_contain_text(f"{MARKUP}.gguf")
        expect(row).to_contain_text(f"{here / 2**30:.1f} GiB of 4.0 GiB, {here * 25 // 2**30} %")
        assert row.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == here / 2**32
    notes.unlink()
    expect(opened.page.locator("#downloads")).to_be_hidden()


def test_a_hidden_tab_asks_nothing(browser: Browser, world: Rig) -> None:
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with window(browser) as opened:
        page = opened.page
        page.clock.install()
        open_page(opened, world)
        card(page, "alpha").get_by_role("button", name="Log").click()
        for path in ("**/api/logs/alpha*", "**/api/models"):
            with page.expect_request(path):
                page.clock.run_for(10_000)
        page.evaluate(hide, True)
        page.clock.run_for(10_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.run_for(120_000)
        assert asked == []
        with page.expect_request("**/api/models"):
            page.evaluate(hide, False)


def test_the_gateway_goes_and_comes_back(browser: Browser) -> None:
    with rig() as made, window(browser) as opened:
        rendered = made.render({"alpha": {}})
        made.apply(rendered)
        open_page(opened, made)
        expect(opened.page.locator(".phase")).to_have_text("exited")
        made.stop()
        expect(opened.page.get_by_role("alert")).to_contain_text("The gateway does not answer.")
        expect(opened.page.locator("#summary")).to_have_text("unreachable")
        expect(opened.page.locator("body.stale .card")).to_have_count(1)
        assert opened.axe() == []
        made.apply(rendered)
        expect(opened.page.locator("#lost")).to_be_hidden()
        expect(opened.page.locator("#summary")).to_have_text("0 of 1 ready, 1 exited")


def test_without_models_it_says_what_to_do(browser: Browser) -> None:
    with rig() as made, window(browser) as opened:
        made.apply(made.render({}))
        open_page(opened, made)
        expect(opened.page.get_by_text("No models yet.")).to_be_visible()
        assert opened.axe() == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 320), ("dark", 320), ("dark", 2560)])
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Browser, world: Rig, scheme: Literal["light", "dark"], width: int
) -> None:
    Path(world.site.root, "logs", "alpha.log").write_text("x" * 500 + "\n")
    with window(browser, scheme=scheme, width=width) as opened:
        open_page(opened, world)
        page = opened.page
        card(page, LONG).get_by_role("button", name="Call it").click()
        card(page, "alpha").get_by_role("button", name="Log").click()
        expect(card(page, "alpha").get_by_label("Log of alpha")).to_contain_text("xxx")
        page.get_by_label("Model", exact=True).select_option("down")
        page.get_by_label("Message").fill("Hello")
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".said .error")).to_be_visible()
        assert opened.axe() == []
        assert opened.overflow() == 0


@pytest.fixture(scope="module")
def keyed() -> Iterator[Rig]:
    with rig() as made:
        keys = Path(made.site.root, "secrets", "keys")
        keys.parent.mkdir(parents=True)
        keys.write_text(f"alice:{KEY}\n")
        keys.chmod(0o600)
        made.apply(made.render({"alpha": {}}, keys_file="secrets/keys"))
        yield made


def test_a_key_is_asked_for_and_kept_in_memory_only(browser: Browser, keyed: Rig) -> None:
    with window(browser) as opened:
        page = opened.page
        open_page(opened, keyed)
        field = page.get_by_label("An API key is needed")
        expect(field).to_be_focused()
        assert opened.axe() == []
        expect(page.locator(".card")).to_have_count(0)
        field.fill("wrong-key")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This key is not valid here.")
        field.fill(KEY)
        page.keyboard.press("Enter")
        expect(card(page, "alpha")).to_be_visible()
        card(page, "alpha").get_by_role("button", name="Call it").click()
        expect(page.get_by_label("curl for alpha")).to_contain_text("Bearer $API_KEY")
        assert KEY not in page.content()
        kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert page.evaluate(kept) == [0, 0, "", f"http://127.0.0.1:{keyed.listen}/"]
        # The key does no longer do: what was seen goes.
        page.route("**/api/models", lambda route: route.fulfill(status=401))
        expect(page.locator(".card")).to_have_count(0)
        expect(page.get_by_role("alert")).to_have_text("This key is not valid here.")
        page.unroute("**/api/models")
        page.reload()
        expect(field).to_be_focused()
        expect(page.get_by_role("alert")).to_have_count(0)
        assert opened.complaints == []


def test_without_scripts_it_is_a_table_or_with_keys_says_how_to_ask(
    browser: Browser, whole_world: Rig, keyed: Rig
) -> None:
    with without_scripts(browser) as bare, window(bare) as opened:
        open_page(opened, whole_world)
        page = opened.page
        row = page.get_by_role("row", name="alpha")
        expect(row).to_contain_text(MARKUP)
        expect(row.get_by_role("cell")).to_have_text(
            ["running", "UD-Q4_K_XL", "-", "/api/alpha/v1"]
        )
        expect(page.locator("noscript p")).to_be_visible()
        expect(page.locator("noscript p")).to_contain_text("They are blocked here")
        expect(page.locator("#empty")).to_be_hidden()
        open_page(opened, keyed)
        expect(page.locator("noscript p")).to_contain_text("cannot ask for the key")
        assert "alpha" not in page.content()
