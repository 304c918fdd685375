"""Weights of an ONNX file, read straight from the protobuf: names, shapes, bytes. The runtime has no onnx.

Under engine/native_weights.py, which hands them to our own kernels, and bridge/bench_bytes.py, which counts them.
Nothing is copied before it is asked for: a file is mapped, and so is one that holds the weights beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_GRAPH = 7  # field of ModelProto
_NODE, _INITIALIZER = 1, 5  # fields of GraphProto
_OPERATOR = 4  # field of NodeProto
_DIMS, _TYPE, _FLOATS, _INT32S, _INT64S, _NAME, _RAW, _DOUBLES, _UINT64S, _EXTERNAL, _PLACE = (
    *(1, 2, 4, 5, 7, 8, 9, 10, 11, 13, 14),  # fields of TensorProto
)
_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MAX_DIMS = 8

# ONNX's number of a type -> numpy's; bfloat16 is known by its size alone.
TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    4: np.dtype("<u2"),
    5: np.dtype("<i2"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
    16: np.dtype("<u2"),
}
_BFLOAT = 16
# Fields that hold numbers one by one: (field, type of a number in it).
_TYPED: dict[int, np.dtype[Any]] = {
    _FLOATS: np.dtype("<f4"),
    _DOUBLES: np.dtype("<f8"),
    _INT32S: np.dtype("<i4"),
    _INT64S: np.dtype("<i8"),
    _UINT64S: np.dtype("<u8"),
}

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Initializer:
    """A tensor of a graph, as it lies there."""

    name: str
    dims: tuple[int, ...]
    kind: int  # a key of TYPES
    data: Bytes | None  # as stored; None if it lies in another file
    place: tuple[Path, int, int] | None = None  # that file, offset and length

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.dims)

    @property
    def item_bytes(self) -> int:
        """Of a number, as stored."""
        return TYPES[self.kind].itemsize

    @property
    def half(self) -> bool:
        """Whether its numbers are IEEE halves, which onnxruntime widens on a CPU."""
        return TYPES[self.kind] == np.float16

    @property
    def read_bytes(self) -> int:
        """As read by a step of onnxruntime on a CPU."""
        return self.elements * (4 if self.half else self.item_bytes)

    def array(self) -> npt.NDArray[Any]:
        """Its numbers, read-only, where they lie if that can be. ValueError if there are not so many."""
        if self.kind == _BFLOAT:
            raise ValueError(f"tensor {self.name!r} is of bfloat16, which is not read here")
        found = self._bytes()
        wanted = self.elements * self.item_bytes
        if len(found) != wanted:
            raise ValueError(f"tensor {self.name!r} of {list(self.dims)} has {len(found)} bytes, needed: {wanted}")
        return found.view(TYPES[self.kind]).reshape(self.dims)

    def _bytes(self) -> Bytes:
        if self.data is not None:
            return self.data
        assert self.place is not None
        path, offset, length = self.place
        mapped = _mapped(path)
        if offset + length > len(mapped):
            raise ValueError(
                f"tensor {self.name!r} lies at {offset}..{offset + length} of {path}, which has {len(mapped)} bytes"
            )
        return mapped[offset : offset + length]


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """What is read of a model: its weights by name, and which operators it is made of."""

    weights: dict[str, Initializer]
    operators: frozenset[str]


def read_graph(graph: bytes | str | Path) -> GraphFile:
    """An ONNX model's, its bytes or its file. ValueError if it is none, or has a type unknown here.

    Weights in another file are looked for beside the model's, and only there: bytes can have none.
    """
    if isinstance(graph, bytes):
        return _read(np.frombuffer(graph, np.uint8), None)
    return _read(_mapped(Path(graph)), Path(graph).parent)


def initializers(graph: bytes | str | Path) -> list[Initializer]:
    """All tensors of an ONNX model, see `read_graph`."""
    return list(read_graph(graph).weights.values())


def _mapped(path: Path) -> Bytes:
    try:
        return np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _read(data: Bytes, folder: Path | None) -> GraphFile:
    view = data.data
    weights: dict[str, Initializer] = {}
    operators: set[str] = set()
    for field, begin, end in _fields(view, 0, len(view)):
        if field != _GRAPH:
            continue
        for inner, first, last in _fields(view, begin, end):
            if inner == _INITIALIZER:
                tensor = _tensor(view, first, last, folder)
                weights[tensor.name] = tensor
            elif inner == _NODE:
                operators |= {_text(view, a, b) for part, a, b in _fields(view, first, last) if part == _OPERATOR}
    if not weights:
        raise ValueError("no graph with weights in it")
    return GraphFile(weights=weights, operators=frozenset(operators))


def _tensor(view: memoryview, begin: int, end: int, folder: Path | None) -> Initializer:
    dims: list[int] = []
    kind, name, outside = 0, "", False
    spans: dict[int, list[tuple[int, int]]] = {}
    given: dict[str, str] = {}
    for field, first, last in _fields(view, begin, end):
        if field == _DIMS:
            dims += _numbers(view, first, last)
        elif field == _TYPE:
            kind = _numbers(view, first, last)[0]
        elif field == _NAME:
            name = _text(view, first, last)
        elif field == _EXTERNAL:
            pair = {part: _text(view, a, b) for part, a, b in _fields(view, first, last)}
            given[pair.get(_KEY, "")] = pair.get(_VALUE, "")
        elif field == _PLACE:
            outside = _numbers(view, first, last)[0] == 1
        elif field == _RAW or field in _TYPED:
            spans.setdefault(field, []).append((first, last))
    if kind not in TYPES:
        raise ValueError(f"tensor {name!r} is of type {kind}, known: {sorted(TYPES)}")
    if len(dims) > _MAX_DIMS or any(size < 0 or size >= 1 << 40 for size in dims):
        raise ValueError(f"tensor {name!r} has the shape {dims[:_MAX_DIMS]}")
    if outside:
        place = _place(name, given, folder)
        return Initializer(name=name, dims=tuple(dims), kind=kind, data=None, place=place)
    data = _stored(view, name, kind, spans)
    return Initializer(name=name, dims=tuple(dims), kind=kind, data=data)


def _place(name: str, given: dict[str, str], folder: Path | None) -> tuple[Path, int, int]:
    """Where a tensor lies in another file of the same folder."""
    location = given.get("location", "")
    try:
        offset, length = int(given.get("offset") or 0), int(given["length"])
    except (KeyError, ValueError):
        raise ValueError(f"tensor {name!r} lies in {location!r}, at a place that is not told") from None
    if folder is None or Path(location).name != location or location in ("", ".", "..") or min(offset, length) < 0:
        raise ValueError(f"tensor {name!r} lies in {location!r} at {offset}, allowed: a file beside the graph")
    return folder / location, offset, length


def _stored(view: memoryview, name: str, kind: int, spans: dict[int, list[tuple[int, int]]]) -> Bytes:
    """A tensor's numbers as bytes: raw as they lie, or put together from numbers one by one."""
    if _RAW in spans:
        first, last = spans[_RAW][-1]
        return np.frombuffer(view[first:last], np.uint8)
    parts = []
    for field, places in spans.items():
        stored = _TYPED[field]
        for first, last in places:
            if field in (_FLOATS, _DOUBLES):
                found = np.frombuffer(view[first : last - (last - first) % stored.itemsize], stored)
            else:
                found = np.array(_numbers(view, first, last), np.uint64).view(np.int64)
            parts.append(found)
    if not parts:
        return np.zeros(0, np.uint8)
    numbers = np.concatenate(parts)
    if TYPES[kind] == np.float16:  # its bits, as a number
        return numbers.astype("<u2").view(np.uint8)
    return numbers.astype(TYPES[kind]).view(np.uint8)


def _fields(view: memoryview, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of the fields of a message; of a varint, begin and end of its bytes."""
    at = begin
    while at < end:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, after = _varint(view, at)
        elif kind == _BYTES:
            size, at = _varint(view, at)
            after = at + size
        elif kind in (_FIXED32, _FIXED64):
            after = at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind} at byte {at}: no protobuf")
        if after > end:
            raise ValueError(f"a field at byte {at} ends beyond its message")
        yield number, at, after
        at = after


def _text(view: memoryview, begin: int, end: int) -> str:
    try:
        return bytes(view[begin:end]).decode()
    except UnicodeDecodeError:
        raise ValueError(f"the name at byte {begin} is no text: no protobuf") from None


def _numbers(view: memoryview, begin: int, end: int) -> list[int]:
    """The varints in a range: one, or several packed."""
    found = []
    while begin < end:
        number, begin = _varint(view, begin)
        found.append(number)
    return found


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError(f"a number at byte {at} has no end: no protobuf")
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
