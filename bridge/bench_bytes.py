"""How many bytes a decoder step must read: the weights in its graph, and the cache that it attends to.

Beside the path, for `attacca bench`. Reads names, types and shapes of a graph's initializers straight from the
protobuf (the runtime has no onnx); what is stored as halves is widened by onnxruntime on loading and counts so.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from attacca.engine.runtime import BRANCHES, StepShape

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_DIMS, _TYPE, _NAME = 1, 2, 8  # of TensorProto
_HALF = 10
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, _HALF: 2, 11: 8, 16: 2}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
TABLES = ("tok_emb", "level_emb", "embed_tokens")  # of which a step reads single rows

View = memoryview | mmap.mmap


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """A tensor of a graph."""

    name: str
    elements: int
    item_bytes: int  # as stored
    half: bool

    @property
    def read_bytes(self) -> int:
        """As read by a step on a CPU, where halves have become floats."""
        return self.elements * (4 if self.half else self.item_bytes)


def initializers(graph: bytes | Path) -> list[Initializer]:
    """All tensors of an ONNX model, its bytes or its file. ValueError if it is none, or has a type unknown here."""
    if isinstance(graph, bytes):
        return _read(memoryview(graph))
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _read(mapped)


def _read(view: View) -> list[Initializer]:
    found = []
    for field, begin, end in _fields(view, 0, len(view)):
        if field == _GRAPH:
            for inner, first, last in _fields(view, begin, end):
                if inner == _INITIALIZER:
                    found.append(_tensor(view, first, last))
    if not found:
        raise ValueError("no graph with weights in it")
    return found


def weight_bytes(tensors: list[Initializer]) -> int:
    """Bytes of all that a step reads whole: every tensor but the embedding tables."""
    return sum(tensor.read_bytes for tensor in tensors if tensor.name not in TABLES)


def cache_bytes(shape: StepShape, context: int) -> int:
    """Keys and values of `context` slots in every layer and guidance branch."""
    slot = 2 * BRANCHES * shape.layers * shape.heads * shape.head_dim * shape.kv_bits // 8
    return context * slot


def _tensor(view: View, begin: int, end: int) -> Initializer:
    dims, kind, name = [], 0, ""
    for field, first, last in _fields(view, begin, end):
        if field == _DIMS:
            dims += _numbers(view, first, last)
        elif field == _TYPE:
            kind = _numbers(view, first, last)[0]
        elif field == _NAME:
            name = bytes(view[first:last]).decode()
    if kind not in _ITEM_BYTES:
        raise ValueError(f"tensor {name!r} is of type {kind}, known: {sorted(_ITEM_BYTES)}")
    return Initializer(name=name, elements=prod(dims), item_bytes=_ITEM_BYTES[kind], half=kind == _HALF)


def _fields(view: View, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
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


def _numbers(view: View, begin: int, end: int) -> list[int]:
    """The varints in a range: one, or several packed."""
    found = []
    while begin < end:
        number, begin = _varint(view, begin)
        found.append(number)
    return found


def _varint(view: View, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError(f"a number at byte {at} has no end: no protobuf")
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
