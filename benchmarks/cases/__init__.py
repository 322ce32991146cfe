"""What is measured: one module a benchmark, named here in the document's order.

Each has `measure(bench) -> Section`: it starts what it needs in a `Lab`, measures in rounds that
take all rivals in turn, and returns rows. A new one is a module and a line in `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.cases import (
    changes,
    downtime,
    fetch,
    gateway,
    growth,
    memory,
    noop,
    startup,
    watch,
    ways,
)
from benchmarks.lab import Bench
from benchmarks.results import Section

CASES: Mapping[str, Callable[[Bench], Section]] = {
    "noop": noop.measure,
    "startup": startup.measure,
    "gateway": gateway.measure,
    "ways": ways.measure,
    "changes": changes.measure,
    "downtime": downtime.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "watch": watch.measure,
    "fetch": fetch.measure,
}
