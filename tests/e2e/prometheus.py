"""The real Prometheus on an example's folder: started with its configuration, asked, ended.

In: a folder with prometheus.yml, alerts.yml, dashboard.json. Out: what Prometheus answers, and the
expressions that the two last ask with.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from waiting import eventually

from e2e import machine

SERVED = re.compile(r"\b(?:llamacpp:|llm_reconcile_)\w+")
"""The metrics that an expression speaks of."""
_FILLED_IN = {"$__rate_interval": "1m", "$model": ".*"}
"""What Grafana puts in the place of its variables."""


@dataclass(frozen=True)
class Server:
    """A Prometheus that runs."""

    port: int

    def ask(self, path: str, **query: str) -> Any:
        """`data` of its answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as reply:
            answer = json.loads(reply.read())
        assert answer["status"] == "success"
        return answer["data"]

    def values(self, expression: str) -> list[str]:
        """What an expression comes to now."""
        return [one["value"][1] for one in self.ask("query", query=expression)["result"]]

    def has(self, expression: str) -> bool:
        """Whether it comes to anything now."""
        return self.values(expression) != []

    def rules(self) -> list[dict[str, Any]]:
        """Its alerts, once all were evaluated."""
        groups: list[dict[str, Any]] = []

        def evaluated() -> bool:
            groups[:] = self.ask("rules")["groups"]
            return all(rule["health"] != "unknown" for one in groups for rule in one["rules"])

        eventually(evaluated, "the alerts are evaluated")
        return [rule for one in groups for rule in one["rules"]]

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("status/buildinfo"))
        return False


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[Server]:
    """Start it on a free port, with its data in the folder."""
    server = Server(machine.free_port())
    words = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/run/tsdb",
        f"--web.listen-address=127.0.0.1:{server.port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(server.is_up, "Prometheus answers")
        yield server
    finally:
        child.terminate()
        child.wait()


def check_page(page: str) -> list[str]:
    """What promtool has to complain about."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 3}, done.stderr
    return done.stderr.splitlines()


def expressions(folder: Path, *, panels_only: bool = False) -> list[str]:
    """All that the dashboard and the alerts ask with."""
    board = json.loads((folder / "dashboard.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    if not panels_only:
        asked += [one["expr"] for one in board["annotations"]["list"]]
        asked += [one["query"] for one in board["templating"]["list"]]
        alerts = yaml.safe_load((folder / "alerts.yml").read_text())
        asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    for variable, value in _FILLED_IN.items():
        asked = [text.replace(variable, value) for text in asked]
    return asked
