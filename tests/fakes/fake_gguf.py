"""How the fake llama-server looks at a model file: just enough to refuse what llama.cpp refuses.

In: a path. Out: nothing, or a `LoadError` in llama.cpp's words: missing, foreign, truncated.
It must import nothing but the standard library (see fake_llama_server.py).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

# Of ggml's types what test models use: number -> (values in a block, bytes of a block).
_TENSOR_TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 14: (256, 210)}
_GGUF_SCALARS = "BbHhIif???Qqd"
_GGUF_STRING, _GGUF_ARRAY = 8, 9


class LoadError(Exception):
    """The model file cannot be loaded."""


def check_gguf(path: Path) -> None:
    """Read the file's directory and compare its end with the file's.

    Raises:
        LoadError: with llama.cpp's words.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != b"GGUF":
                raise LoadError(f"invalid magic characters: {magic!r}, expected 'GGUF'")
            needed = _data_end(file)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise LoadError(f"failed to open GGUF file '{path}' ({error.strerror})") from error
    except (struct.error, IndexError) as error:
        raise LoadError("the file ends within its header") from error
    if needed > size:
        raise LoadError("data is not within the file bounds, model is corrupted or incomplete")


def _data_end(file: BinaryIO) -> int:
    def number(kind: str) -> Any:
        return struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0]

    def text() -> str:
        return str(file.read(number("Q")), "utf-8", "replace")

    def value(kind: int) -> Any:
        if kind == _GGUF_STRING:
            return text()
        if kind == _GGUF_ARRAY:
            inner, count = number("I"), number("Q")
            return [value(inner) for _ in range(count)]
        return number(_GGUF_SCALARS[kind])

    number("I")
    tensors, pairs = number("Q"), number("Q")
    metadata = {text(): value(number("I")) for _ in range(pairs)}
    end = 0
    for _ in range(tensors):
        text()
        count = 1
        for _ in range(number("I")):
            count *= number("Q")
        block, size = _TENSOR_TYPES.get(number("I"), (1, 0))
        end = max(end, number("Q") + count // block * size)
    alignment = int(metadata.get("general.alignment", 32))
    return -(-file.tell() // alignment) * alignment + end
