"""The `llm-reconcile` command, and `python -m reconciler`.

In: argv. Out: an exit code. It only calls `cli.main`, after it has made sure that Ctrl-C during
the imports is no traceback, and that stdout and stderr are there to be written to. The verb puts
another handler in the place of this one.
"""

import gc
import importlib
import os
import signal
import sys

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
    cli.run(app)


if __name__ == "__main__":
    main()
