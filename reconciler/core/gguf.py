"""Reading a GGUF header: is it one, and how long must the file be.

In: the first bytes of a file (a memory map will do). Out: the size that the header promises.
The layout is ggml's docs/gguf.md, version 2 and 3. It reads no weights and needs no file.
"""

from __future__ import annotations

import struct
from typing import Protocol

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
_FIXED_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 8
_LENGTH = struct.Struct("<Q")
_CUT_OFF = "the file ends inside its header"

# ggml type -> (weights in a block, bytes of a block): ggml.c's type traits.
BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}


class GgufError(ValueError):
    """Not a GGUF file, or cut off inside its header."""


class Bytes(Protocol):
    """What can be read here: `bytes`, or a memory map of a file."""

    def __len__(self) -> int:
        """Its length."""
        ...

    def __getitem__(self, part: slice, /) -> bytes:
        """A copy of a part."""
        ...

    def __buffer__(self, flags: int, /) -> memoryview:
        """Itself, without a copy."""
        ...


class _Reader:
    def __init__(self, data: Bytes) -> None:
        self._data = data
        self.offset = 0

    def skip(self, size: int) -> int:
        """Move on, and return where the part began."""
        begin, self.offset = self.offset, self.offset + size
        if self.offset > len(self._data):
            raise GgufError(_CUT_OFF)
        return begin

    def take(self, size: int) -> bytes:
        begin = self.skip(size)
        return self._data[begin : self.offset]

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def text(self) -> bytes:
        return self.take(self.u64())

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.u64())
        elif kind == _ARRAY:
            inner, count = self.u32(), self.u64()
            if inner == _ARRAY:
                raise GgufError("its header has an array of arrays")
            if inner in _FIXED_SIZES:
                self.skip(_FIXED_SIZES[inner] * count)
            elif inner == _STRING:
                self._skip_strings(count)
            else:
                raise GgufError(f"its header has an array of the unknown kind {inner}")
        elif kind in _FIXED_SIZES:
            self.skip(_FIXED_SIZES[kind])
        else:
            raise GgufError(f"its header has a value of the unknown kind {kind}")

    def _skip_strings(self, count: int) -> None:
        """In a tight loop: a vocabulary has up to 300,000, and 20 models are read at once."""
        data, offset, length_at = self._data, self.offset, _LENGTH.unpack_from
        try:
            for _ in range(count):
                offset += 8 + length_at(data, offset)[0]
        except (struct.error, OverflowError) as error:
            raise GgufError(_CUT_OFF) from error
        self.skip(offset - self.offset)


def least_size(data: Bytes) -> int:
    """The least size in bytes that a file with this header can have.

    Exact for all tensor types in `BLOCKS`; a tensor of a newer type counts as one byte.

    Raises:
        GgufError: the data is no GGUF header, or ends inside it.
    """
    reader = _Reader(data)
    if len(data) < len(MAGIC) or reader.take(4) != MAGIC:
        raise GgufError("it is not a GGUF file")
    version = reader.u32()
    if version not in {2, 3}:
        raise GgufError(f"its GGUF version is {version}; 2 and 3 are known")
    tensors, values = reader.u64(), reader.u64()
    alignment = DEFAULT_ALIGNMENT
    for _ in range(values):
        key, kind = reader.text(), reader.u32()
        if key == b"general.alignment" and kind == 4:
            alignment = reader.u32() or DEFAULT_ALIGNMENT
        else:
            reader.skip_value(kind)
    end = 0
    for _ in range(tensors):
        end = max(end, _tensor_end(reader))
    start = -(-reader.offset // alignment) * alignment
    return start + end if tensors else reader.offset


def _tensor_end(reader: _Reader) -> int:
    reader.text()
    dimensions = reader.u32()
    if dimensions > _MOST_DIMENSIONS:
        raise GgufError(f"its header has a tensor of {dimensions} dimensions")
    count = 1
    for _ in range(dimensions):
        count *= reader.u64()
    weights, size = BLOCKS.get(reader.u32(), (0, 0))
    offset = reader.u64()
    return offset + (count // weights * size if weights else 1)
