"""A real browser: the machine's own Chromium, driven by Playwright.

In: nothing. Out: pages, each with what went wrong in it. The wheel of Playwright brings no browser.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, BrowserType, Page, expect, sync_playwright

PATIENCE_MS = 20_000
AXE = files("axe_playwright_python") / "axe.min.js"
expect.set_options(timeout=PATIENCE_MS)
OWN = "http://127.0.0.1:"
NOT_THERE = "Failed to load resource"
"""What the console says of an answer that is an error; whether it may be one, others judge."""


@dataclass(frozen=True)
class Window:
    """One page, and what its scripts complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def axe(self) -> list[str]:
        """What axe finds wrong, be it minor, with the elements it is about."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{one['id']}: {json.dumps([node['html'][:200] for node in one['nodes']])}"
            for one in found["violations"]
        ]

    def overflow(self) -> int:
        """By how many pixels it can be scrolled sideways."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") or 0
        )


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; it ends with all its pages.

    Not for longer than a module: while it runs, an event loop does.
    """
    with sync_playwright() as driver, _launch(driver.chromium) as browser:
        yield browser


@contextlib.contextmanager
def without_scripts(browser: Browser) -> Iterator[Browser]:
    """Another one, in which scripts are blocked as a user blocks them: `noscript` is shown."""
    with _launch(browser.browser_type, "--blink-settings=scriptEnabled=false") as made:
        yield made


@contextlib.contextmanager
def _launch(kind: BrowserType, *flags: str) -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium"
    # Its sandbox needs leave that a container may not give; it sees only our own page.
    words = ["--no-sandbox", "--disable-dev-shm-usage", *flags]
    browser = kind.launch(executable_path=program, args=words, env=_environment())
    try:
        yield browser
    finally:
        browser.close()


def _environment() -> dict[str, str | float | bool]:
    return {name: value for name, value in os.environ.items() if "COVERAGE" not in name}


@contextlib.contextmanager
def window(
    browser: Browser,
    *,
    scheme: Literal["light", "dark"] = "light",
    width: int = 1280,
    height: int = 900,
    scale: float = 1.0,
) -> Iterator[Window]:
    """A page of its own, without memory of any other."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        made = Window(context.new_page())
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on(
            "console",
            lambda said: (
                made.complaints.append(said.text)
                if said.type == "error" and not said.text.startswith(NOT_THERE)
                else None
            ),
        )
        made.page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(OWN) else made.complaints.append(f"asks {asked.url}")
            ),
        )
        yield made
    finally:
        context.close()
