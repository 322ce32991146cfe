"""Reading GGUF headers: the size they promise, and nothing but GgufError for anything else."""

from __future__ import annotations

import struct

import pytest
from gguf import GGML_QUANT_SIZES
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write_tiny_gguf

from reconciler.core.gguf import BLOCKS, GgufError, least_size


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def value(key: bytes, kind: int, body: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + body


def tensor(shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(b"t") + sizes + struct.pack("<IQ", kind, offset)


def header(values: list[bytes], tensors: list[bytes], version: int = 3) -> bytes:
    counts = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(values))
    return counts + b"".join(values) + b"".join(tensors)


def padded(size: int, alignment: int = 32) -> int:
    return (size + alignment - 1) // alignment * alignment


def test_a_real_file_is_exactly_as_long_as_its_header_says(tiny: bytes) -> None:
    assert padded(least_size(tiny)) == len(tiny)


def test_the_header_alone_is_enough(tiny: bytes) -> None:
    whole = least_size(tiny)
    assert least_size(tiny[:20_000]) == whole
    assert least_size(memoryview(tiny)[:20_000].tobytes()) == whole


def test_a_header_cut_anywhere_is_no_header(tiny: bytes) -> None:
    with_header = next(at for at in range(len(tiny)) if _reads(tiny[:at]))
    for at in {*range(64), *range(0, with_header, 7), with_header - 1}:
        with pytest.raises(GgufError):
            least_size(tiny[:at])
    assert _reads(tiny[:with_header])


def _reads(data: bytes) -> bool:
    try:
        least_size(data)
    except GgufError:
        return False
    return True


@given(at=st.integers(0, 12_000), patch=st.binary(min_size=1, max_size=12))
def test_a_damaged_header_raises_nothing_else(tiny: bytes, at: int, patch: bytes) -> None:
    data = tiny[:at] + patch + tiny[at + len(patch) : 16_000]
    assert _reads(data) in {True, False}


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    assert _reads(b"GGUF\x03\0\0\0" + data) in {True, False}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a GGUF file"),
        (b"GGU", "not a GGUF file"),
        (b"<!DOCTYPE html>", "not a GGUF file"),
        (b"GGUF", "ends inside its header"),
        (header([], [], version=1), "version is 1; 2 and 3 are known"),
        (header([], [], version=0x03000000), "version is 50331648"),
        (header([value(b"k", 13, b"")], []), "unknown kind 13"),
        (header([value(b"k", 9, struct.pack("<IQ", 13, 1))], []), "unknown kind 13"),
        (header([value(b"k", 9, struct.pack("<IQ", 9, 1))], []), "array of arrays"),
        (header([value(b"k", 9, struct.pack("<IQ", 4, 2**62))], []), "ends inside its header"),
        (header([value(b"k", 9, struct.pack("<IQ", 8, 2**62))], []), "ends inside its header"),
        (header([value(b"k", 9, struct.pack("<IQQ", 8, 1, 9))], []), "ends inside its header"),
        (header([value(b"k", 9, struct.pack("<IQQ", 8, 2, 9))], []), "ends inside its header"),
        (
            header([value(b"k", 9, struct.pack("<IQQ", 8, 2, 2**64 - 1))], []),
            "ends inside its header",
        ),
        (header([value(b"k", 8, struct.pack("<Q", 2**63))], []), "ends inside its header"),
        (header([], [tensor((1,) * 9, 0, 0)]), "tensor of 9 dimensions"),
    ],
)
def test_what_is_wrong_with_it(data: bytes, said: str) -> None:
    with pytest.raises(GgufError, match=said):
        least_size(data)


@pytest.mark.parametrize("version", [2, 3])
def test_values_of_all_kinds_are_skipped(version: int) -> None:
    values = [value(b"k", kind, b"\0" * size) for kind, size in _SIZES.items()]
    values.append(value(b"s", 8, text(b"text")))
    values.append(value(b"a", 9, struct.pack("<IQ", 4, 2) + b"\0" * 8))
    values.append(value(b"b", 9, struct.pack("<IQ", 8, 2) + text(b"x") + text(b"yy")))
    data = header(values, [], version)
    assert least_size(data) == len(data)
    data = header(values, [tensor((32, 2), 8, 64)], version)
    assert least_size(data) == padded(len(data)) + 64 + 2 * 34


_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@pytest.mark.parametrize(("kind", "number", "used"), [(4, 64, 64), (4, 0, 32), (5, 64, 32)])
def test_alignment(kind: int, number: int, used: int) -> None:
    data = header(
        [value(b"general.alignment", kind, struct.pack("<I", number))], [tensor((), 0, 0)]
    )
    assert least_size(data) == padded(len(data), used) + 4


def test_a_tensor_of_a_newer_type_counts_as_one_byte() -> None:
    data = header([], [tensor((1000,), 999, 320), tensor((1,), 0, 0)])
    assert least_size(data) == padded(len(data)) + 321


def test_the_sizes_of_all_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): tuple(map(int, sizes)) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {kind: BLOCKS.get(kind) for kind in theirs} == theirs
