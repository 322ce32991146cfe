"""The configurations of other programs that `import` is tried on, and what is made of them.

`PYTHONPATH=tests:tests/core:. .venv/bin/python tests/core/import_cases.py` writes what is expected
anew; look at what changed before you commit it.
"""

from pathlib import Path

from reconciler.core.importing.carried import Imported
from reconciler.core.importing.llama_swap import read_llama_swap
from reconciler.core.importing.preset import read_preset
from reconciler.core.importing.recognise import SourceKind, recognise
from reconciler.core.importing.registry import read_registry
from reconciler.core.importing.settle import settled
from reconciler.core.parse import SourceText

FOLDER = Path(__file__).parent.parent / "data" / "imports"
CASES = sorted(path for path in FOLDER.iterdir() if path.suffix in {".json", ".yml", ".ini"})
VARIABLES = {"HOME": "/home/ann", "API_KEY_1": "sk-hunter2"}


def read(name: str, content: bytes) -> Imported:
    text = SourceText(name, content)
    match recognise(text):
        case SourceKind.MODELS_JSON:
            return read_registry(text)
        case SourceKind.LLAMA_SWAP:
            return read_llama_swap(text, VARIABLES)
        case _:
            return read_preset(text)


def expected(case: Path) -> Path:
    return case.with_name(f"{case.name}.yaml")


if __name__ == "__main__":
    for one in CASES:
        expected(one).write_text(settled(read(one.name, one.read_bytes())), encoding="utf-8")
