"""examples/08-review-in-ci: what its two files run, run here; pip and the forge are stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from e2e.lab import COMMAND

EXAMPLE = Path(__file__).parents[2] / "examples" / "08-review-in-ci"
FILE = "desired/models.yaml"
GH = '#!/bin/sh\necho "$@" >> "$HOME/gh.args"\n[ "$4" = --body-file ] && cp "$5" "$HOME/gh.body"\n'
MARK = "glpat-mark"


@dataclass
class Checkout:
    """A clone of a repository in which the example's file was changed on a branch."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        home = self.folder.parent
        return {
            "PATH": f"{home}/bin:{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **self.variables,
        }

    def bash(self, script: str, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def change(self, before: str, after: str) -> None:
        path = self.folder / FILE
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
        self.git("commit", "-qam", "Change it")

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        subprocess.run(["git", *who, *words], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "clone")
    shutil.copytree(EXAMPLE / "desired", made.folder / "desired")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    made.git("init", "-q", "-b", "main")
    made.git("add", ".")
    made.git("commit", "-qm", "First")
    made.git("clone", "-q", "--bare", ".", str(tmp_path / "origin"))
    made.git("remote", "add", "origin", str(tmp_path / "origin"))
    made.git("fetch", "-q", "origin")
    made.git("checkout", "-qb", "topic")
    return made


def on_github(checkout: Checkout) -> tuple[int, str]:
    """Run its steps as a runner does; the last exit code, and the comment."""
    job = yaml.safe_load((EXAMPLE / "github.yaml").read_text())["jobs"]["plan"]
    output, comment = checkout.folder.parent / "output", checkout.folder.parent / "gh.body"
    output.touch()
    known = {
        "github.base_ref": "main",
        "github.token": "t",
        "github.event.pull_request.number": "7",
    }

    def filled(values: Mapping[str, Any]) -> dict[str, str]:
        written = (line.partition("=") for line in output.read_text().splitlines())
        said = known | {f"steps.plan.outputs.{name}": value for name, _, value in written}
        return {
            name: re.sub(r"\$\{\{ (\S+) \}\}", lambda match: said[match[1]], str(value))
            for name, value in values.items()
        }

    code = 0
    for step in job["steps"]:
        script = step.get("run", "")
        if not script or script.startswith("pip install"):
            continue
        more = {"GITHUB_OUTPUT": str(output), **filled({**job["env"], **step.get("env", {})})}
        done = checkout.bash(script, more)
        code = done.returncode
        if code:
            break
    return code, comment.read_text() if comment.exists() else ""


@pytest.mark.parametrize(
    ("before", "after", "code", "said"),
    [
        ("quant: Q4_K_M", "quant: Q8_0", 0, "Download 506.4 MiB"),
        ("\n  qwen:", "\n  other:", 4, "**Refused:**"),
        ("ctx_size: 4096", "ctx_size: {}", 1, ""),
    ],
)
def test_a_pull_request_gets_its_plan(
    checkout: Checkout, before: str, after: str, code: int, said: str
) -> None:
    checkout.change(before, after)
    if code == 4:
        checkout.change("  embed:\n", "  another:\n")
    found, comment = on_github(checkout)
    assert found == code
    assert said in comment
    if said:
        words = (checkout.folder.parent / "gh.args").read_text().split()
        assert words[:3] == ["pr", "comment", "7"]


def test_by_the_snapshot_of_a_machine(checkout: Checkout) -> None:
    checkout.variables |= {"HF_ENDPOINT": "http://127.0.0.1:9", "XDG_STATE_HOME": "/nowhere"}
    pushed = checkout.bash(str(EXAMPLE / "push-snapshot.sh"), {})
    assert pushed.returncode == 0, pushed.stderr
    checkout.git("fetch", "-q", "origin")
    code, comment = on_github(checkout)
    assert code == 0
    assert "\nAgainst a snapshot of <code>" in comment
    assert not (checkout.folder / "snapshot.json").exists()


@dataclass
class Forge:
    """Where notes are posted to."""

    url: str
    posts: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def forge() -> Iterator[Forge]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            token = self.headers["PRIVATE-TOKEN"]
            made.posts.append((self.path, token, parse_qs(text)["body"][0]))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made = Forge(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.needs("curl")
def test_a_merge_request_gets_its_plan(checkout: Checkout, forge: Forge) -> None:
    job = yaml.safe_load((EXAMPLE / "gitlab.yaml").read_text())["plan"]
    more = {
        **job["variables"],
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "1",
        "CI_MERGE_REQUEST_IID": "7",
        "PLAN_TOKEN": MARK,
        "NO_PROXY": "127.0.0.1",
    }
    checkout.change("port: 8001", "port: 8002")
    done = checkout.bash("\n".join(job["script"]), more)
    assert done.returncode == 0, done.stderr
    [(path, token, body)] = forge.posts
    assert (path, token) == ("/projects/1/merge_requests/7/notes", MARK)
    assert "<code>gateway</code>" in body
    assert MARK not in done.stdout + done.stderr
    checkout.change("\n  qwen:", "\n  other:")
    checkout.change("  embed:\n", "  another:\n")
    assert checkout.bash("\n".join(job["script"]), more).returncode == 4
    assert "**Refused:**" in forge.posts[-1][2]
