"""The herald: a real script and a real HTTP server are told, and what fails is said."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually, free_port

from reconciler.core.events import Event, event_values
from reconciler.drivers import heralds
from reconciler.drivers.heralds import Addressees, Herald
from reconciler.errors import UsageError

EVENT = Event(1.5, "given up", "instance.a", "3 times in a row no memory", 3)


class Hook(BaseHTTPRequestHandler):
    """Remembers what it is told; answers as `codes` says, else 204."""

    told: list[dict[str, Any]]
    codes: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.told.append({**json.loads(body), "auth": self.headers.get("authorization")})
        self.send_response(self.codes.pop(0) if self.codes else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hook() -> Iterator[tuple[type[Hook], int]]:
    made = type("Made", (Hook,), {"told": [], "codes": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made, server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def script(folder: Path, text: str) -> str:
    path = folder / "tell me.py"
    path.write_text(text)
    return f"{sys.executable} '{path}'"


def told(command: str | None = None, url: str | None = None, count: int = 1) -> list[str]:
    """Tell the event so often; what `failed` heard."""
    heard: list[str] = []
    with closing(Herald(Addressees.of(command, url), heard.append)) as herald:
        for _ in range(count):
            herald.tell(EVENT)
        eventually(lambda: len(heard) == count, f"{heard}")
    return heard


def test_a_command_gets_each_event_on_its_stdin(tmp_path: Path) -> None:
    keeps = "import sys, pathlib\nwith open('{}', 'a') as f: f.write(sys.stdin.read())\n"
    kept = tmp_path / "kept"
    assert told(script(tmp_path, keeps.format(kept)), count=2) == ["", ""]
    assert [json.loads(line) for line in kept.read_text().splitlines()] == [event_values(EVENT)] * 2


def test_a_url_gets_each_event_with_the_password_that_it_names() -> None:
    with hook() as (made, port):
        assert told(url=f"http://ann:s3cret@127.0.0.1:{port}/x") == [""]
    auth = f"Basic {base64.b64encode(b'ann:s3cret').decode()}"
    assert made.told == [{**event_values(EVENT), "auth": auth}]


def test_what_fails_is_said_without_what_is_secret_in_the_url(tmp_path: Path) -> None:
    fails = script(tmp_path, "import sys\nsys.exit('no such room')\n")
    assert told(fails) == [f"{sys.executable} failed (exit 1): no such room"]
    kills = script(tmp_path, "import os, signal\nos.kill(os.getpid(), 9)\n")
    assert told(kills) == [f"{sys.executable} failed (killed by signal 9)"]
    (missing,) = told(str(tmp_path / "missing"))
    assert missing.endswith("missing cannot be run: No such file or directory")
    with hook() as (made, port):
        made.codes = [500]
        (failed,) = told(url=f"http://ann:s3cret@127.0.0.1:{port}/s3cret?key=s3cret")
    assert failed == f"http://127.0.0.1:{port}/… answered 500"
    (away,) = told(kills, f"http://ann:s3cret@127.0.0.1:{free_port()}/s3cret")
    assert "(killed by signal 9); http://127.0.0.1" in away
    assert away.endswith("cannot be told: Connection refused")
    assert "s3cret" not in away


def test_one_that_hangs_is_ended_and_the_next_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heralds, "LIMIT_S", 0.2)
    hangs = script(tmp_path, "import time\ntime.sleep(600)\n")
    assert told(hangs, count=2) == [f"{sys.executable} gave no answer within 0.2 s"] * 2


def test_who_tells_never_waits_and_the_oldest_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heralds, "MOST_WAITING", 3)
    gate, kept = tmp_path / "gate", tmp_path / "kept"
    waits = f"""
import pathlib, sys, time
with open({str(kept)!r}, "a") as f: f.write(sys.stdin.read())
while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)
"""
    heard: list[str] = []
    herald = Herald(Addressees.of(script(tmp_path, waits), None), heard.append)
    herald.tell(EVENT)
    eventually(kept.exists)
    for number in range(8):
        herald.tell(Event(number, "over", "x", ""))
    gate.touch()
    eventually(lambda: len(heard) == 4)
    herald.close()
    times = [json.loads(line)["at"] for line in kept.read_text().splitlines()]
    assert times == [1.5, 5, 6, 7]


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "x", "http://", "file:///etc/passwd", "http://a:s3cret@:80/", "http://[x"]
)
def test_a_url_is_a_web_address(url: str) -> None:
    with pytest.raises(UsageError) as error:
        Addressees.of(None, url)
    assert "s3cret" not in str(error.value)


def test_a_command_has_its_quotes() -> None:
    with pytest.raises(UsageError, match="--notify-command"):
        Addressees.of("say 'x", None)
    assert Addressees.of("say 'a b'", None).command == ("say", "a b")
    assert Addressees.of(None, None) == Addressees()
