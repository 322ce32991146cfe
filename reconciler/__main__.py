"""The `llm-reconcile` command, and `python -m reconciler`.

In: argv. Out: an exit code. It only calls `cli.main`, after it has made sure that Ctrl-C during
the imports is no traceback, and that stdout and stderr are there to be written to. The verb puts
another handler in the place of this one.
"""

import atexit
import gc
import importlib
import os
import signal
import sys
import threading

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - kept open
    # What the imports make stays until the end: to look through it for garbage, again and again,
    # is a sixth of a short verb's time.
    gc.disable()
    cli = importlib.import_module("reconciler.cli.main")
    app = cli.command_line(sys.argv[1] if len(sys.argv) > 1 else None)
    gc.freeze()
    gc.enable()
    try:
        cli.run(app)
    except SystemExit as done:
        _end(done.code)
        raise


def _end(code: object) -> None:
    """End at once: to take the interpreter apart is a twentieth of a short verb's time."""
    if threading.active_count() > 1 or not isinstance(code, int):
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


if __name__ == "__main__":
    main()
