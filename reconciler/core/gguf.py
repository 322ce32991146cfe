"""Reading a GGUF header: is it one, how long must the file be, and what does it say of the model.

In: the first bytes of a file (a memory map will do). Out: the size that the header promises, and
the `Facts` of one or all headers of a model.
The layout is ggml's docs/gguf.md, version 2 and 3. It reads no weights and needs no file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.core.text import printable

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
_FIXED_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_WHOLE_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 8
_LENGTH = struct.Struct("<Q")
_CUT_OFF = "the file ends inside its header"
_LONGEST_KEPT = 1000
"""Values of an array or bytes of a text beyond which it is none of the facts."""
_KEPT = (
    b"general.architecture",
    b"general.file_type",
    b".block_count",
    b".attention.head_count",
    b".attention.head_count_kv",
    b".context_length",
)
"""How the keys end whose values are facts."""

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


_FILE_TYPES = (
    "F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S "
    "Q5_K_M Q6_K IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M "
    "IQ4_XS IQ1_M BF16 - - - TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0"
)
FILE_TYPES = dict(enumerate(_FILE_TYPES.split()))
"""The numbers of `general.file_type`: llama.h's `llama_ftype`, `-` for those that are gone."""


class GgufError(ValueError):
    """Not a GGUF file."""


class CutOffError(GgufError):
    """The data ends inside the header."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's header says of it; None where it does not."""

    architecture: str = ""
    layers: int | None = None
    heads: int | None = None
    """Of its attention; where layers differ, the most that one has."""
    kv_heads: int | None = None
    context_length: int | None = None
    """The longest that it was trained for, in tokens."""
    parameters: int | None = None
    """Its weights, counted."""
    file_type: str = ""
    """How most of its weights are stored, in llama.cpp's words (`Q4_K_M`)."""


@dataclass(slots=True)
class Header:
    """One file's header."""

    least_size: int = 0
    """Of the file; exact for all tensor types in `BLOCKS`, one of a newer type counts as a byte."""
    weights: int = 0
    """How many numbers its tensors hold."""
    values: dict[str, int | str] = field(default_factory=dict)


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
            raise CutOffError(_CUT_OFF)
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

    def value(self, kind: int) -> int | str | None:
        """A whole number, the largest of some, or a text; None for anything else, skipped."""
        if kind in _WHOLE_NUMBERS:
            return self._number(kind)
        if kind == _STRING:
            text = self.text()
            return printable(text.decode(errors="replace")) if len(text) < _LONGEST_KEPT else None
        if kind != _ARRAY:
            self.skip_value(kind)
            return None
        begin = self.offset
        inner, count = self.u32(), self.u64()
        if inner in _WHOLE_NUMBERS and 0 < count < _LONGEST_KEPT:
            return max(self._number(inner) for _ in range(count))
        self.offset = begin
        self.skip_value(kind)
        return None

    def _number(self, kind: int) -> int:
        return int(struct.unpack(_WHOLE_NUMBERS[kind], self.take(_FIXED_SIZES[kind]))[0])

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
            raise CutOffError(_CUT_OFF) from error
        self.skip(offset - self.offset)


def least_size(data: Bytes) -> int:
    """The least size in bytes that a file with this header can have.

    Raises:
        GgufError: the data is no GGUF header, or ends inside it.
    """
    return read_header(data).least_size


def read_header(data: Bytes) -> Header:
    """All that counts of a header.

    Raises:
        CutOffError: the data ends inside it.
        GgufError: it is none.
    """
    reader = _Reader(data)
    if len(data) < len(MAGIC) or reader.take(4) != MAGIC:
        raise GgufError("it is not a GGUF file")
    version = reader.u32()
    if version not in {2, 3}:
        raise GgufError(f"its GGUF version is {version}; 2 and 3 are known")
    tensors, values = reader.u64(), reader.u64()
    header, alignment = Header(), DEFAULT_ALIGNMENT
    for _ in range(values):
        key, kind = reader.text(), reader.u32()
        if key == b"general.alignment" and kind == 4:
            alignment = reader.u32() or DEFAULT_ALIGNMENT
        elif key.endswith(_KEPT) and (value := reader.value(kind)) is not None:
            header.values[key.decode(errors="replace")] = value
        elif not key.endswith(_KEPT):
            reader.skip_value(kind)
    end = 0
    for _ in range(tensors):
        count, last = _tensor(reader)
        header.weights += count
        end = max(end, last)
    start = -(-reader.offset // alignment) * alignment
    header.least_size = start + end if tensors else reader.offset
    return header


def facts_of(headers: Iterable[Header]) -> Facts:
    """What the headers of all files of a model say together; the first shard names most."""
    values: dict[str, int | str] = {}
    weights = 0
    for header in headers:
        values = header.values | values
        weights += header.weights
    architecture = str(values.get("general.architecture", ""))
    return Facts(
        architecture=architecture,
        layers=_number(values, f"{architecture}.block_count"),
        heads=_number(values, f"{architecture}.attention.head_count"),
        kv_heads=_number(values, f"{architecture}.attention.head_count_kv"),
        context_length=_number(values, f"{architecture}.context_length"),
        parameters=weights or None,
        file_type=_file_type(_number(values, "general.file_type")),
    )


def _file_type(number: int | None) -> str:
    if number is None:
        return ""
    name = FILE_TYPES.get(number, "-")
    return str(number) if name == "-" else name


def _number(values: Mapping[str, int | str], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None


def _tensor(reader: _Reader) -> tuple[int, int]:
    """How many weights a tensor has, and where it ends."""
    reader.text()
    dimensions = reader.u32()
    if dimensions > _MOST_DIMENSIONS:
        raise GgufError(f"its header has a tensor of {dimensions} dimensions")
    count = 1
    for _ in range(dimensions):
        count *= reader.u64()
    weights, size = BLOCKS.get(reader.u32(), (0, 0))
    offset = reader.u64()
    return count, offset + (count // weights * size if weights else 1)
