"""The status page over real servers: an answer, what is counted, what runs leave behind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from browser import Window, chromium, window
from playwright.sync_api import Browser, expect

from e2e.lab import Lab

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def world(tiny_model: Path) -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
    made = Lab(folder, tiny_model)
    made.write({"talker": {}, "lost": {"source": {"path": "nowhere.gguf"}}})
    made.apply(code=3)
    yield made
    assert made.close() == []
    shutil.rmtree(folder)


@pytest.fixture
def opened(browser: Browser, world: Lab) -> Iterator[Window]:
    with window(browser) as made:
        made.page.goto(f"http://127.0.0.1:{world.listen}/")
        expect(made.page.locator(".card")).to_have_count(2)
        yield made
        assert made.complaints == []


def ask(opened: Window, text: str) -> None:
    opened.page.get_by_role("listitem", name="talker").get_by_role("button", name="Try it").click()
    question = opened.page.get_by_label("Message")
    expect(question).to_be_focused()
    question.fill(text)
    opened.page.keyboard.press("Enter")


def test_an_answer_comes_and_is_counted(opened: Window, world: Lab) -> None:
    page = opened.page
    ask(opened, "Say <b>something</b>")
    expect(page.get_by_text("Say <b>something</b>")).to_be_visible()
    expect(page.locator("#chat-status")).to_contain_text("tokens, ")
    expect(page.locator("#chat-status")).to_contain_text("first token after")
    expect(page.locator(".said.assistant p").last).not_to_be_empty()
    assert page.locator(".error").count() == 0
    talker = page.get_by_role("listitem", name="talker")
    expect(talker.get_by_role("img", name="tokens/s: ")).to_be_visible()
    expect(talker).to_contain_text("memory")
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".said")).to_have_count(0)


@pytest.mark.needs("curl")
def test_what_can_be_copied_works(opened: Window, world: Lab) -> None:
    talker = opened.page.get_by_role("listitem", name="talker")
    expect(talker).to_contain_text(re.compile(r"slots0 of \d+ busy"))
    talker.get_by_role("button", name="Call it").click()
    curl = ["sh", "-c", talker.get_by_label("curl for talker").inner_text()]
    python = [sys.executable, "-c", talker.get_by_label("Python for talker").inner_text()]
    done = [
        subprocess.run(words, capture_output=True, text=True, check=False)
        for words in (curl, python)
    ]
    assert [one.returncode for one in done] == [0, 0], done
    assert json.loads(done[0].stdout)["model"] == "talker"
    assert done[1].stdout
    zed = json.loads(talker.get_by_label("Zed for talker").inner_text())
    provider = zed["language_models"]["openai_compatible"]["llm-reconcile"]
    context = world.ask("/api/talker/props").json["default_generation_settings"]["n_ctx"]
    assert provider["available_models"] == [{"name": "talker", "max_tokens": context}]
    assert json.loads(talker.get_by_label("VS Code for talker").inner_text())
    settings = yaml.safe_load(talker.get_by_label("Continue for talker").inner_text())
    assert settings["models"][0]["apiBase"] == f"http://127.0.0.1:{world.listen}/v1"


def test_what_was_done_and_what_was_not(opened: Window, world: Lab) -> None:
    page = opened.page
    pending = page.get_by_role("region", name="Not applied yet")
    expect(pending.get_by_role("listitem")).to_contain_text("lost blocked")
    expect(pending).to_contain_text("nowhere.gguf")
    expect(pending).to_contain_text("llm-reconcile apply desired/x.yaml")
    record = page.get_by_role("region", name="What was applied").get_by_role("listitem").first
    expect(record).to_contain_text("apply")
    expect(record).to_contain_text("blocked")
    expect(record).to_contain_text("talker create")


def test_what_was_suspended_says_why_and_when_to_come_again(opened: Window, world: Lab) -> None:
    page = opened.page
    ask(opened, "Hello")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    world.run("stop", "talker", "--reason", "<i>not today</i>")
    talker = page.get_by_role("listitem", name="talker")
    expect(talker.locator(".phase")).to_have_text("suspended")
    expect(talker.locator(".reason")).to_contain_text("<i>not today</i>")
    page.get_by_label("Message").fill("Still there?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".said .error")).to_contain_text("<i>not today</i>")
    world.run("start", "talker")
    expect(talker.locator(".phase")).to_have_text("ready")
