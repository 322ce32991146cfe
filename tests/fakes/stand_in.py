"""A stand-in for an engine's process, without its HTTP: it lives, obeys or ignores, and says so.

In: flags like a server's, and `--say TEXT`, `--exit CODE`, `--ignore-term`, `--child`. Out: lines
in its log: `up` when its signal handlers are set, `TERM` for each TERM, `child PID`.
It must import nothing but the standard library, and ends by itself when a test forgets it.
"""

from __future__ import annotations

import os
import signal
import sys

LONGEST_LIFE_S = 120


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def on_term(*_: object) -> None:
    say("TERM")
    if "--ignore-term" not in sys.argv:
        sys.exit(0)


def value_of(flag: str) -> str | None:
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else None


def main() -> None:
    signal.alarm(LONGEST_LIFE_S)
    text, code = value_of("--say"), value_of("--exit")
    if text is not None:
        say(text)
    if code is not None:
        sys.exit(int(code))
    child = os.fork() if "--child" in sys.argv else os.getpid()
    if child == 0:
        signal.alarm(LONGEST_LIFE_S)
    else:
        signal.signal(signal.SIGTERM, on_term)
        say("up" if child == os.getpid() else f"child {child}\nup")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
