"""Clients of a gateway that never stop asking, while it and its servers are changed.

In: a lab, models. Out: what became of each request, counted. Nothing is left out: an answer that
is not whole counts under what was wrong with it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable

from waiting import eventually

from e2e.client import PATIENCE_S
from e2e.lab import Lab, completion

WHOLE = "whole"
"""Of a stream: each token came, and then its end."""


class Clients:
    """Threads that ask again and again; each answer is counted under what is said of it."""

    def __init__(self, count: int, pause_s: float, ask: Callable[[], str]) -> None:
        self._pause_s, self._ask = pause_s, ask
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.closing = contextlib.ExitStack()
        """What is closed once all have stopped."""
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def some_more(self, count: int = 20) -> None:
        """Wait for further answers."""
        seen = self.counts.total()
        eventually(lambda: self.counts.total() > seen + count, "requests are answered")

    def stop(self) -> dict[str, int]:
        """Let the last answers come."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self.closing.close()
        return dict(self.counts)

    def _go_on(self) -> None:
        while not self._end.is_set():
            try:
                said = self._ask()
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            with self._lock:
                self.counts[said] += 1
            # The machine is small, and servers have to be started meanwhile.
            self._end.wait(self._pause_s)


def requests(lab: Lab, model: str, clients: int = 4, pause_s: float = 0.005) -> Clients:
    """Short answers, each over a new connection."""

    def ask() -> str:
        answer = lab.complete(model, 2)
        if answer.status != 200:
            return repr(answer)
        return "200" if answer.json["choices"] else "200 without an answer"

    return Clients(clients, pause_s, ask)


def kept_requests(lab: Lab, model: str, clients: int, pause_s: float) -> Clients:
    """The same; each client keeps its connection."""
    kept = threading.local()

    def ask() -> str:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(
                "127.0.0.1", lab.listen, timeout=PATIENCE_S
            )
            made.closing.callback(kept.connection.close)
        body = json.dumps(completion(model, 2))
        kept.connection.request("POST", "/v1/completions", body)
        reply = kept.connection.getresponse()
        text = reply.read()
        return "200" if reply.status == 200 and json.loads(text)["choices"] else f"{text!r}"

    made = Clients(clients, pause_s, ask)
    return made


def streams(lab: Lab, model: str, count: int, tokens: int) -> Clients:
    """So many streams at any time, one after the other; all tokens are counted."""

    def ask() -> str:
        with contextlib.closing(lab.stream(model, tokens)) as stream:
            came = stream.rest()
            # One more that tells why it ends.
            if stream.status == 200 and stream.finished and came == tokens + 1:
                return WHOLE
            return f"status {stream.status}, {came} tokens, finished: {stream.finished}"

    return Clients(count, 0, ask)
