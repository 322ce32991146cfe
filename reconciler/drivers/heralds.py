"""The herald: tells an operator's command or URL what has become of things.

In: events. Out: each as JSON on a command's stdin, or as the body of a POST; and why that failed.
It has a thread of its own: whoever has something told never waits. One is told at a time, in their
order, for `LIMIT_S` at most; of too many that wait the oldest are dropped. The URL may be a secret
as a whole, as that of a chat's webhook is: only its host is said.
"""

from __future__ import annotations

import queue
import shlex
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.core.events import Event, event_line
from reconciler.core.git_branch import masked
from reconciler.drivers.programs import ask
from reconciler.errors import UsageError

LIMIT_S = 10.0
MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Addressees:
    """Whom to tell; empty: nobody."""

    command: tuple[str, ...] = ()
    url: str = ""

    @classmethod
    def of(cls, command: str | None, url: str | None) -> Addressees:
        """As they were typed.

        Raises:
            UsageError: that is no command, or no http(s) URL.
        """
        try:
            words = tuple(shlex.split(command or ""))
        except ValueError as error:
            hint = "quote it as a shell wants it; a shell is used only if you name one: sh -c '...'"
            raise UsageError(f"--notify-command cannot be read: {error}", hint=hint) from error
        if url and not _is_web(url):
            raise UsageError(
                "--notify-url is no http or https URL",
                hint="like https://example.com/hook",
            )
        return cls(words, url or "")


NOBODY = Addressees()


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _host_of(url: str) -> str:
    """All of it that may be said."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


class Herald:
    """Tells, one after the other."""

    def __init__(self, addressees: Addressees, failed: Callable[[str], None]) -> None:
        """`failed` hears why somebody could not be told; empty: all could."""
        self._to, self._failed = addressees, failed
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._go_on, name="herald", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Have this told, soon."""
        self._put(event_line(event))

    def close(self) -> None:
        """Tell what waits, for as long as one of them may take; then no more."""
        self._put(None)
        self._thread.join(LIMIT_S)

    def _put(self, text: str | None) -> None:
        while True:
            try:
                self._waiting.put_nowait(text)
            except queue.Full:
                with suppress(queue.Empty):
                    self._waiting.get_nowait()
            else:
                return

    def _go_on(self) -> None:
        while (text := self._waiting.get()) is not None:
            failures = [self._run(text), self._post(text)]
            self._failed("; ".join(one for one in failures if one))

    def _run(self, text: str) -> str:
        if not self._to.command:
            return ""
        name = self._to.command[0]
        try:
            answer = ask(self._to.command, timeout=LIMIT_S, given=text)
        except TimeoutError as error:
            return str(error)
        except OSError as error:
            return f"{name} cannot be run: {error.strerror or error}"
        said = answer.talk.strip().splitlines()[-1:]
        end = f"exit {answer.code}" if answer.code > 0 else f"killed by signal {-answer.code}"
        return "" if answer.code == 0 else masked(": ".join([f"{name} failed ({end})", *said]))

    def _post(self, text: str) -> str:
        if not self._to.url:
            return ""
        import httpx  # noqa: PLC0415 - 40 ms that only who is told by a URL need pay

        where = _host_of(self._to.url)
        headers = {"content-type": "application/json"}
        try:
            with (
                httpx.Client(timeout=LIMIT_S) as client,
                client.stream("POST", self._to.url, content=text, headers=headers) as answer,
            ):
                code = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # As the resolver and the kernel say it, and without their numbers.
            said = masked(str(error)).rpartition("] ")[2]
            return f"{where} cannot be told: {said or type(error).__name__}"
        return "" if 200 <= code < 300 else f"{where} answered {code}"
