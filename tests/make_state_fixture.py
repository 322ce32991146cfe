"""Keep what this version leaves on a machine, for the tests of every later one (BARS 8).

Run once for a release: `.venv/bin/python tests/make_state_fixture.py`. Out: a folder in
tests/data/state, to be committed and never changed again; tests/e2e/test_upgrade.py reads them all.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from e2e import machine, old_state
from e2e.lab import Lab
from tiny_gguf import write_tiny_gguf

from reconciler import __version__


def make(lab: Lab, target: Path) -> None:
    old_state.make_ready(lab)
    port = machine.free_port()
    words = old_state.Wordings.of(lab, {"@PORT0@": lab.listen, "@PORT1@": port})
    models = {name: {**old_state.HUB, **fields} for name, fields in old_state.MODELS.items()}
    models["flags"]["port"] = port
    lab.write(models)
    lab.apply(code=3)
    lab.run("stop", "off", "--reason", old_state.REASON)
    old_state.keep(lab, target, words)


def main() -> None:
    target = old_state.KEPT / __version__
    if target.exists():
        sys.exit(f"{target} is there already: what was released is not made anew")
    folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
    lab = Lab(folder, write_tiny_gguf(folder / "tiny.gguf"), engine=old_state.ENGINE)
    try:
        make(lab, target)
    finally:
        complaints = lab.close()
        shutil.rmtree(folder)
    sys.exit("\n".join(complaints) or 0)


if __name__ == "__main__":
    main()
