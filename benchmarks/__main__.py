"""`python -m benchmarks [NAME...] [--quick] [--out FILE] [--json FILE]`; `make bench` runs all.

In: which benchmarks. Out: the document on stdout or in FILE, the raw numbers as JSON where asked.
Progress goes to stderr. A benchmark that fails fails the run: a document with holes would pass for
a whole one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from engine_programs import real_engines

from benchmarks import machine
from benchmarks.cases import CASES
from benchmarks.document import render
from benchmarks.lab import Bench, BenchmarkError
from reconciler.core.site import Site
from reconciler.drivers.nginx import NginxGateway


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for and write it down."""
    options = _options(argv)
    # A shell lets what it begins in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _terminated)
    engines = real_engines()
    if not engines:
        sys.stderr.write(
            "no engine is installed: run .ci/build-llama-server, or install xllamacpp\n"
        )
        return 1
    # The real llama-server comes last, and is taken where it is there.
    bench = Bench(engines[-1], quick=options.quick)
    nginx, _ = NginxGateway(Site("/", "/", "")).locate("auto")
    facts = machine.facts(bench.engine.name, bench.engine.command, nginx)
    try:
        sections = [CASES[name](bench) for name in options.names or CASES]
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        values = {"facts": facts, "sections": [asdict(one) for one in sections]}
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    text = render(_command(options), facts, sections, quick=options.quick)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth: to try it out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the document there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers there")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in CASES]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(CASES)}")
    return options


def _command(options: argparse.Namespace) -> str:
    """What measures the same; where the files went is this machine's own affair."""
    quick = ["--quick"] if options.quick else []
    return shlex.join(["python", "-m", "benchmarks", *options.names, *quick])


def _terminated(_number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C: through every `with` block, so that nothing is left running."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; everything that was started has been ended\n")
        sys.exit(130)
