"""Make the README's pictures from a real run: `make pictures`. Needs tmux and chromium.

In: examples/02-many-small-models in a throw-away root, a hub on this machine that has the tests'
tiny model under the names that the example asks for. Out: terminal.svg (what a terminal showed, in
its colours) and page.png (the status page). Nothing in them is written by hand.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
EXAMPLE = PROJECT / "examples" / "02-many-small-models"
sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "tests" / "fakes")]

from browser import chromium, window
from engine_programs import llama_server
from hub_server import hub_server
from tiny_gguf import write_tiny_gguf

COLUMNS, LINES = 80, 50
PATIENCE_S = 120.0
ASKED = [("qwen", 900), ("gemma", 400), ("qwen", 1500), ("coder", 300), ("qwen", 700)]
"""Models, and for how many tokens."""
EDIT = "sed -i 's/ctx_size: 8192/ctx_size: 16384/' desired/small.yaml"
FILES = {
    "unsloth/Qwen3-0.6B-GGUF": "Qwen3-0.6B-Q4_K_M.gguf",
    "ggml-org/gemma-3-1b-it-GGUF": "gemma-3-1b-it-Q4_K_M.gguf",
    "bartowski/Llama-3.2-1B-Instruct-GGUF": "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF": "qwen2.5-coder-0.5b-instruct-q8_0.gguf",
    "ggml-org/embeddinggemma-300M-GGUF": "embeddinggemma-300M-Q8_0.gguf",
}


class Terminal:
    """A shell in tmux: a real terminal that nobody looks at."""

    def __init__(self, base: Path, root: Path, environment: dict[str, str]) -> None:
        self._socket, self._prompts = base / "tmux", base / "prompts"
        self._prompts.touch()
        settings = environment | {"PS1": "$ ", "PROMPT_COMMAND": f"echo >> {self._prompts}"}
        variables = [f"{name}={value}" for name, value in settings.items()]
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        shell = ["env", "-i", *variables, "bash", "--norc", "--noprofile"]
        self._tmux("-f", os.devnull, "new-session", "-d", *size, "-c", str(root), *shell)
        self._wait(lambda: self._count() > 0)

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _count(self) -> int:
        return len(self._prompts.read_text())

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                sys.exit(f"It takes too long:\n{self.screen()}")
            time.sleep(0.05)

    def screen(self, *words: str) -> str:
        """What it shows; with `-e` in colour."""
        return self._tmux("capture-pane", "-p", *words).rstrip()

    def run(self, line: str, answer: str = "") -> None:
        """Type a line, answer its question, wait for its end."""
        before = self._count()
        self._type(line)
        if answer:
            self._wait(lambda: self.screen().endswith("(yes/no)"))
            self._type(answer)
        self._wait(lambda: self._count() > before)

    def _type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def close(self) -> None:
        """End it."""
        self._tmux("kill-server")


def draw(screen: str, target: Path) -> None:
    """An SVG of a screen; no font is fetched from anywhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title="", theme=DIMMED_MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    fonts = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono"
    target.write_text(svg.replace("Fira Code", fonts), encoding="utf-8")


def photograph(url: str, target: Path) -> None:
    """A picture of the page, after its models were asked for a while."""
    with chromium() as browser, window(browser, width=1360, height=920, scale=1.5) as opened:
        opened.page.goto(url)
        opened.page.wait_for_selector(".card")
        for turn, (model, tokens) in enumerate(ASKED * 3):
            body = {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
            httpx.post(f"{url}v1/completions", json=body, timeout=PATIENCE_S).raise_for_status()
            opened.page.wait_for_timeout(3000 + turn % 3 * 1000)
        opened.page.wait_for_timeout(6000)
        opened.page.screenshot(path=target)


def commit(root: Path) -> None:
    """So that the history has something to name."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@localhost"]
    for words in (["init", "-q"], ["add", "desired"], ["commit", "-q", "-m", "Small models"]):
        subprocess.run(["git", *who, *words], cwd=root, check=True)


def main() -> None:
    if not shutil.which("tmux"):
        sys.exit("tmux is missing: install it, it is the terminal")
    base = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
    root, programs = base / "set-up", base / "bin"
    shutil.copytree(EXAMPLE / "desired", root / "desired")
    # The sizes of the models that tiny ones stand for.
    file = root / "desired" / "small.yaml"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.lstrip().startswith("quants:")]
    file.write_text("".join(kept), encoding="utf-8")
    programs.mkdir()
    if engine := llama_server():
        (programs / "llama-server").symlink_to(engine)
    model = write_tiny_gguf(base / "tiny.gguf").read_bytes()
    with hub_server() as hub:
        for repo, file in FILES.items():
            hub.add(repo, {file: model})
        environment = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(base),
            "LANG": "C.UTF-8",
            "TERM": "screen-256color",
            "HF_ENDPOINT": hub.endpoint,
        }
        terminal = Terminal(base, root, environment)
        try:
            commit(root)
            terminal.run("llm-reconcile apply -y desired/small.yaml")
            if "Ready. Gateway" not in terminal.screen():
                sys.exit(f"The example does not come up:\n{terminal.screen()}")
            terminal.run("clear")
            terminal.run(EDIT)
            terminal.run("llm-reconcile apply desired/small.yaml", answer="yes")
            terminal.run("llm-reconcile status")
            draw(terminal.screen("-e").removesuffix("$").rstrip(), HERE / "terminal.svg")
            terminal.run("llm-reconcile stop llama --reason 'not needed today'")
            photograph("http://127.0.0.1:8888/", HERE / "page.png")
        finally:
            terminal.run("llm-reconcile down -y")
            terminal.close()
            shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
