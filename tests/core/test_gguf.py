"""Reading GGUF headers: the size they promise, and nothing but GgufError for anything else."""

from __future__ import annotations

import struct

import pytest
from gguf import GGML_QUANT_SIZES
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write_tiny_gguf

from reconciler.core.gguf import (
    BLOCKS,
    CutOffError,
    Facts,
    GgufError,
    facts_of,
    least_size,
    read_header,
)


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


# ---- what it says of the model


def test_a_real_header_says_what_the_model_is(tiny: bytes) -> None:
    facts = facts_of([read_header(tiny)])
    assert facts.architecture == "llama"
    assert (facts.layers, facts.heads, facts.kv_heads) == (1, 4, 4)
    assert facts.context_length == 2048
    assert facts.parameters == 2 * 354 * 32 + 4 * 32 * 32 + 3 * 64 * 32 + 3 * 32


def array(kind: int, numbers: list[int]) -> bytes:
    return struct.pack(f"<IQ{len(numbers)}I", kind, len(numbers), *numbers)


def test_facts_of_several_files_add_up() -> None:
    first = [
        value(b"general.architecture", 8, text(b"x\n")),
        value(b"general.file_type", 4, struct.pack("<I", 15)),
        value(b"x\\n.block_count", 10, struct.pack("<Q", 61)),
        value(b"x\\n.attention.head_count", 9, array(4, [0, 8, 4])),
        value(b"x\\n.attention.head_count_kv", 9, array(4, [])),
        value(b"x\\n.context_length", 6, struct.pack("<f", 1.0)),
    ]
    second = [value(b"general.file_type", 4, struct.pack("<I", 7))]
    headers = [
        read_header(header(first, [])),
        read_header(header(second, [tensor((2, 3), 0, 0)]) + bytes(64)),
    ]
    assert facts_of(headers) == Facts("x\\n", 61, 8, None, None, 6, "Q4_K_M")


@pytest.mark.parametrize(("number", "said"), [(0, "F32"), (4, "4"), (99, "99"), (41, "41")])
def test_a_file_type_without_a_name_is_its_number(number: int, said: str) -> None:
    kind = value(b"general.file_type", 4, struct.pack("<I", number))
    assert facts_of([read_header(header([kind], []))]) == Facts(file_type=said)


def test_a_text_that_is_too_long_is_no_fact() -> None:
    name = value(b"general.architecture", 8, text(b"x" * 5000))
    assert facts_of([read_header(header([name], []))]) == Facts()
    assert facts_of([]) == Facts()


def test_an_end_inside_the_header_is_told_from_no_header(tiny: bytes) -> None:
    with pytest.raises(CutOffError):
        read_header(tiny[:5000])
    with pytest.raises(GgufError) as caught:
        read_header(b"GGML" + tiny[4:])
    assert not isinstance(caught.value, CutOffError)
