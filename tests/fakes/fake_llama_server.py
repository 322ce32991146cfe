#!/usr/bin/env python3
"""A stand-in for llama-server that fails on demand; plain Python, started as `engine.command`.

In: llama-server's flags (those of its .help file) and `--fake-…` switches, given like any other of
a model's args: `fake-load-seconds: 3`, `fake-ignore-term: true`. Out: the same life, answers,
messages and exit codes as the real one; tests/engines holds both to one contract.
It must import nothing but the standard library: it runs under whatever python3 is found.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

HELP = Path(__file__).with_suffix(".help").read_text(encoding="utf-8")

_FLAG = r"-{1,2}[A-Za-z][\w-]*"
_HELP_LINE = re.compile(rf"^({_FLAG}(?:,\s+{_FLAG})*)(?: (\S+))?(?:  .*)?$", re.MULTILINE)


def fail(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.exit(1)


def parse(arguments: list[str]) -> dict[str, str]:
    """The flags by their last long name; a bare switch is "1", its `--no-` form "0"."""
    known: dict[str, tuple[str, bool]] = {}
    for match in _HELP_LINE.finditer(HELP):
        names = re.findall(_FLAG, match[1])
        positive = [name for name in names if not name.lstrip("-").startswith("no-")]
        known |= {name: (positive[-1].lstrip("-"), bool(match[2])) for name in names}
    values: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name = word.replace("_", "-") if word.startswith("--") else word
        if name not in known:
            fail(f"error: invalid argument: {name}")
        key, takes_value = known[name]
        is_on = "0" if name.lstrip("-").startswith("no-") else "1"
        value = next(words, None) if takes_value else is_on
        if value is None:
            fail(f'error while handling argument "{name}": expected value for argument')
        if key == "draft-max":
            fail(f'error while handling argument "{name}": the argument has been removed')
        values[key] = str(value)
    return values


def end_like(path: Path) -> None:
    head, _, log = path.read_text(encoding="utf-8").partition("\n\n")
    sys.stderr.write(log)
    sys.stderr.flush()
    code = int(head.splitlines()[0].removeprefix("exit: "))
    if code < 0:
        if -code != signal.SIGKILL:
            # Python catches SIGINT, and ignores SIGXFSZ.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def main() -> None:
    if {"-h", "--help", "--usage"} & set(sys.argv):
        sys.stdout.write(HELP)
        return
    if "--version" in sys.argv:
        sys.stdout.write("version: 0 (fake)\n")
        return
    flags = parse(sys.argv[1:])
    if "fake-end" in flags:
        end_like(Path(flags["fake-end"]))
    # Only now: who asks for help need not wait for an HTTP server to be imported.
    from fake_serving import serve

    serve(flags)


if __name__ == "__main__":
    main()
