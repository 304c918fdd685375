"""Weights read from the protobuf without onnx: however they are stored, in the file or beside it; no junk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoder_fixtures import TINY
from hypothesis import given
from hypothesis import strategies as st

from attacca.engine.onnx_weights import Initializer, initializers, read_graph

GRAPH = (TINY / "decoder.onnx").read_bytes()


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def part(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def model(*tensors: bytes) -> bytes:
    return part(7, b"".join(part(5, tensor) for tensor in tensors))


def tensor(kind: int, *dims: int, rest: bytes = b"", name: bytes = b"w") -> bytes:
    return b"".join(number(1, size) for size in dims) + number(2, kind) + part(8, name) + rest


def outside(location: str, offset: object, length: object) -> bytes:
    pairs = {"location": location, "offset": str(offset), "length": str(length)}
    given = (part(1, key.encode()) + part(2, value.encode()) for key, value in pairs.items())
    return b"".join(part(13, pair) for pair in given) + number(14, 1)


def only(graph: bytes | Path) -> Initializer:
    (found,) = initializers(graph)
    return found


FLOATS = np.array([[1.5, -2.0, 0.25]], "<f4")


@pytest.mark.parametrize(
    ("kind", "rest", "wanted"),
    [
        (1, part(9, FLOATS.tobytes()), FLOATS),
        (1, part(4, FLOATS.tobytes()), FLOATS),
        (1, b"".join(b"\x25" + value.tobytes() for value in FLOATS[0]), FLOATS),
        (10, part(9, FLOATS.astype("<f2").tobytes()), FLOATS.astype("<f2")),
        (10, part(5, b"".join(map(varint, FLOATS.astype("<f2").view("<u2")[0].tolist()))), FLOATS.astype("<f2")),
        (3, number(5, -3) + number(5, 4) + number(5, -128), np.array([[-3, 4, -128]], "i1")),
        (2, part(5, b"\x03\xff\x01\x00"), np.array([[3, 255, 0]], "u1")),
        (7, part(7, b"\x03\x04\x05"), np.array([[3, 4, 5]], "<i8")),
    ],
)
def test_every_way_to_store_numbers(kind: int, rest: bytes, wanted: np.ndarray) -> None:
    found = only(model(tensor(kind, 1, 3, rest=rest))).array()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_numbers_beside_the_graph(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\0" * 8 + FLOATS.tobytes())
    (tmp_path / "graph").write_bytes(model(tensor(1, 1, 3, rest=outside("data", 8, 12))))
    np.testing.assert_array_equal(only(tmp_path / "graph").array(), FLOATS)


@pytest.mark.parametrize(
    ("location", "offset", "length", "words"),
    [
        ("data", 12, 12, "which has 20 bytes"),
        ("data", 0, 8, "has 8 bytes, needed: 12"),
        ("nothing", 0, 12, "cannot be read"),
        ("../data", 0, 12, "a file beside the graph"),
        ("/etc/passwd", 0, 12, "a file beside the graph"),
        ("..", 0, 12, "a file beside the graph"),
        ("", 0, 12, "a file beside the graph"),
        ("data", -4, 12, "a file beside the graph"),
        ("data", 0, "many", "a place that is not told"),
    ],
)
def test_a_place_that_is_none_is_refused(
    tmp_path: Path, location: str, offset: object, length: object, words: str
) -> None:
    (tmp_path / "data").write_bytes(bytes(20))
    (tmp_path / "graph").write_bytes(model(tensor(1, 1, 3, rest=outside(location, offset, length))))
    with pytest.raises(ValueError, match=words):
        only(tmp_path / "graph").array()


def test_bytes_have_no_folder_to_look_in() -> None:
    with pytest.raises(ValueError, match="a file beside the graph"):
        initializers(model(tensor(1, 1, 3, rest=outside("data", 0, 12))))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (model(tensor(99, 1)), "is of type 99"),
        (model(tensor(1, -1)), "has the shape"),
        (model(tensor(1, *([1] * 9))), "has the shape"),
        (model(tensor(1, 3, rest=part(9, b"1234"))), "has 4 bytes, needed: 12"),
        (model(tensor(1, 3)), "has 0 bytes, needed: 12"),
        (model(tensor(16, 1, rest=part(9, b"12"))), "bfloat16"),
        (model(tensor(1, 1, name=b"\xff")), "no text"),
    ],
)
def test_what_cannot_be_is_refused(graph: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        only(graph).array()


def test_the_tiny_bundle_whole() -> None:
    graph = read_graph(TINY / "decoder.onnx")
    assert {"GroupQueryAttention", "RotaryEmbedding", "ArgMax"} <= graph.operators
    weights = {name: each.array() for name, each in graph.weights.items()}
    assert weights["tok_emb"].dtype == np.float32
    assert weights["norm.weight"].mean() == pytest.approx(1.0, abs=0.1)
    again = read_graph(GRAPH)
    for name, array in weights.items():
        np.testing.assert_array_equal(again.weights[name].array(), array)


@given(st.integers(0, len(GRAPH) - 1), st.integers(0, 255), st.booleans())
def test_damage_is_a_value_error_or_another_weight(place: int, byte: int, cut: bool) -> None:
    damaged = GRAPH[:place] if cut else GRAPH[:place] + bytes([byte]) + GRAPH[place + 1 :]
    try:
        for each in initializers(damaged):
            each.array()
    except ValueError:
        return
