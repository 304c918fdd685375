"""Step graphs of several takes at once: rows of all of them go through the weights together, each attends alone.

Beside export/decoder.py and export/musicgen.py, whose writers these extend; engine/batch.py runs them. Rows of
takes lie one after another. Products, norms and heads see them as rows like any others; each take has attention
nodes of its own over its own cache, at its own position, as in the graph of one: so its tokens are the same.
A graph has room for a stated number of takes; places that stay empty attend to one slot of a cache of their own.
The weights are not written again: `share_weights` points into the file that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from attacca.export.decoder import DecoderExport, DecoderShape, DecoderWriter, Weights, cache_names
from attacca.export.graph import GraphBuilder
from attacca.export.musicgen import BRANCHES, MusicgenExport, StepWriter
from attacca.export.musicgen_checkpoint import MusicgenShape

TAKES = "attacca.takes"
DEFAULT_TAKES = 4  # more than a processor makes in time, of any model here
MAX_TAKES = 32
FILE = "decoder_batch.onnx"
_INLINE_BYTES = 1024  # smaller constants are written again


def build_decoder_batch(
    weights: Weights, options: DecoderExport, takes: int, kv_scales: Weights | None = None
) -> onnx.ModelProto:
    """build_decoder's graph for up to `takes` takes. R rows of T takes in all, T <= N = `takes`; A rows of one.

    Inputs as there, but: row_of_level int64 [T, K] among all rows, noise float32 [T, K, V], temperature, guidance
    float32 [T, 1, 1], top_k int64 [1] (the largest), threshold int64 [T, K, 1] (each take's top_k - 1); for each
    place @i: rows@i int64 [A] (rows that its attention reads, repeated where one would be alone), last_slot@i,
    total_slots@i and its cache; kept int64 [R] (each row's place among what all attended). Outputs: tokens [T, K],
    logits [T, K, V] and the caches.
    """
    _check_takes(takes)
    return _DecoderBatch(weights, DecoderShape.of(weights), options, kv_scales, takes=takes).write()


def build_step_batch(
    weights: Weights, shape: MusicgenShape, options: MusicgenExport, takes: int, kv_scales: Weights | None = None
) -> onnx.ModelProto:
    """build_step's graph for up to `takes` takes, each with a prompt of its own (cross_key_L@i, ...).

    `first_rows` int64 [T]: each take's first, in place of row_of_level.

    ValueError for melody checkpoints, whose conditions are rows.
    """
    _check_takes(takes)
    if not shape.cross:
        raise ValueError("a melody checkpoint has no graph of several takes")
    return _MusicgenBatch(weights, shape, options, kv_scales, takes=takes).write()


def _check_takes(takes: int) -> None:
    if not 2 <= takes <= MAX_TAKES:
        raise ValueError(f"takes {takes} is outside 2..{MAX_TAKES}")


class _DecoderBatch(DecoderWriter):
    def __init__(
        self,
        weights: Weights,
        shape: DecoderShape,
        options: DecoderExport,
        kv_scales: Weights | None,
        *,
        takes: int,
    ) -> None:
        super().__init__(weights, shape, options, kv_scales)
        self.takes = takes

    def _declare_inputs(self) -> None:
        b, s = self.b, self.shape
        b.input("stack", np.int64, ["rows", s.num_codebooks])
        b.input("level", np.int64, ["rows"])
        b.input("cos", np.float32, ["rows", self.head_dim // 2])
        b.input("sin", np.float32, ["rows", self.head_dim // 2])
        b.input("cond", np.float32, ["rows", s.conditioning_width])
        b.input("row_of_level", np.int64, ["takes", s.num_codebooks])
        _declare(b, s.num_codebooks, s.codebook_size, self.takes)
        cache_type = np.int8 if self.options.kv_bits == 8 else np.float32
        for take in range(self.takes):
            for name in cache_names(self.options.branches, s.layers):
                b.input(f"{name}@{take}", cache_type, [1, self.options.heads, f"slots@{take}", self.head_dim])

    def _metadata(self) -> dict[str, str]:
        return {TAKES: str(self.takes)}

    def _attend_all(self, turned: str, value: str, layer: int) -> str:
        packed = self.b.node("Concat", [turned, value], axis=-1)

        def attend(branch: int, rows: str, take: str) -> str:
            return self._attend(layer, branch, rows, "", "", take)

        return _attend_takes(self.b, packed, self.options.branches, self.takes, attend)

    def _logits(self, hidden: str) -> str:
        """Guided logits [T, K, V]."""
        b, branches = self.b, self.options.branches
        rows = b.node("Transpose", [b.node("Gather", [hidden, "row_of_level"], axis=1)], perm=[2, 1, 0, 3])
        stacked = b.node("Transpose", [self._heads(rows)], perm=[2, 1, 0, 3])  # [branches, T, K, V]
        return _guided(b, stacked, branches)

    def _sample(self, logits: str) -> None:
        _sample_takes(self.b, logits, self.shape.num_codebooks, self.shape.codebook_size)


class _MusicgenBatch(StepWriter):
    repeats_row = False  # each take's rows are named

    def __init__(
        self,
        weights: Weights,
        shape: MusicgenShape,
        options: MusicgenExport,
        kv_scales: Weights | None,
        *,
        takes: int,
    ) -> None:
        super().__init__(weights, shape, options, kv_scales)
        self.takes = takes

    def _declare_inputs(self) -> None:
        b, s = self.b, self.shape
        b.input("stack", np.int64, ["rows", s.num_codebooks])
        b.input("position", np.float32, ["rows", s.dim])
        b.input("first_rows", np.int64, ["takes"])
        _declare(b, s.num_codebooks, s.codebook_size, self.takes)
        for take in range(self.takes):
            tokens = f"tokens@{take}"
            b.input(f"cross_mask@{take}", np.float32, [tokens])
            for layer in range(s.layers):
                b.input(f"cross_key_{layer}@{take}", np.float32, [s.heads, self.head_dim, tokens])
                b.input(f"cross_value_{layer}@{take}", np.float32, [s.heads, tokens, self.head_dim])
            for name in cache_names(BRANCHES, s.layers):
                b.input(f"{name}@{take}", self._cache_type, [1, s.heads, f"slots@{take}", self.head_dim])

    def _metadata(self) -> dict[str, str]:
        return {TAKES: str(self.takes)}

    def _attend_all(self, qkv: str, layer: int) -> str:
        def attend(branch: int, rows: str, take: str) -> str:
            return self._attend(layer, branch, rows, take)

        return _attend_takes(self.b, qkv, BRANCHES, self.takes, attend)

    def _attend_across(self, query: str, layer: int) -> str:
        def attend(branch: int, rows: str, take: str) -> str:
            return self._across(rows, layer, take)

        return _attend_takes(self.b, query, 1, self.takes, attend)

    def _logits(self, hidden: str) -> str:
        """Guided logits [T, K, V]."""
        b, s = self.b, self.shape
        rows = b.node("Gather", [hidden, "first_rows"], axis=1)  # [2, T, d]
        sizes = b.constant("per_codebook", np.array([BRANCHES, -1, s.num_codebooks, s.codebook_size], np.int64))
        return _guided(b, b.node("Reshape", [self._heads(rows), sizes]), BRANCHES)

    def _sample(self, logits: str) -> None:
        _sample_takes(self.b, logits, self.shape.num_codebooks, self.shape.codebook_size)


def _declare(b: GraphBuilder, codebooks: int, size: int, takes: int) -> None:
    """Inputs that every kind has."""
    b.input("noise", np.float32, ["takes", codebooks, size])
    b.input("temperature", np.float32, ["takes", 1, 1])
    b.input("guidance", np.float32, ["takes", 1, 1])
    b.input("top_k", np.int64, [1])
    b.input("threshold", np.int64, ["takes", codebooks, 1])
    b.input("kept", np.int64, ["rows"])
    for take in range(takes):
        b.input(f"rows@{take}", np.int64, [f"rows@{take}"])
        b.input(f"last_slot@{take}", np.int32, [1])
        b.input(f"total_slots@{take}", np.int32, [])


def _attend_takes(
    b: GraphBuilder, packed: str, branches: int, takes: int, attend: Callable[[int, str, str], str]
) -> str:
    """Packed rows [branches, R, 3 d] -> [branches, R, d]: each take's rows through attention of its own."""
    ones, attended = b.constant("split_branches", np.ones(branches, np.int64)), []
    for take in range(takes):
        rows = b.node("Gather", [packed, f"rows@{take}"], axis=1)
        each = [rows] if branches == 1 else b.nodes("Split", [rows, ones], branches, axis=0)
        found = [attend(branch, part, f"@{take}") for branch, part in enumerate(each)]
        attended.append(found[0] if branches == 1 else b.node("Concat", found, axis=0))
    return b.node("Gather", [b.node("Concat", attended, axis=1), "kept"], axis=1)


def _guided(b: GraphBuilder, stacked: str, branches: int) -> str:
    """Logits [branches, T, K, V] -> [T, K, V], by each take's guidance."""
    axis_0 = b.constant("axis_0", np.array([0], np.int64))
    if branches == 1:
        return b.node("Squeeze", [stacked, axis_0], out="logits")
    parts = b.nodes("Split", [stacked, b.constant("split_branches", np.array([1, 1], np.int64))], 2, axis=0)
    given, without = (b.node("Squeeze", [part, axis_0]) for part in parts)
    toward = b.node("Mul", [b.node("Sub", [given, without]), "guidance"])
    return b.node("Add", [without, toward], out="logits")


def _sample_takes(b: GraphBuilder, logits: str, codebooks: int, size: int) -> None:
    """As export.decoder.sample, for takes with a top_k each: the threshold is one of the values kept for all."""
    kept, _ = b.nodes("TopK", [logits, "top_k"], 2, axis=2, largest=1, sorted=1)
    threshold = b.node("GatherElements", [kept, "threshold"], axis=2)
    scored = b.node("Add", [logits, b.node("Mul", ["noise", "temperature"])])
    lowest = b.constant("lowest", np.array(-3.0e38, np.float32))
    allowed = b.node("Where", [b.node("GreaterOrEqual", [logits, threshold]), scored, lowest])
    b.node("ArgMax", [allowed], axis=2, keepdims=0, out="tokens")
    b.output("tokens", np.int64, ["takes", codebooks])
    b.output("logits", np.float32, ["takes", codebooks, size])


# --- weights that lie in another file ---------------------------------------------------------------------------


def save_batch(model: onnx.ModelProto, graph: Path) -> str:
    """Write a graph of several takes beside the graph of one, whose weights it reads; the file's name."""
    graph.with_name(FILE).write_bytes(share_weights(model, graph).SerializeToString(deterministic=True))
    return FILE


def share_weights(model: onnx.ModelProto, graph: Path) -> onnx.ModelProto:
    """Let `model` read its weights from the file of `graph`, an ONNX file in the folder where it will lie.

    `graph` holds them itself, or says in which file beside it they are. ValueError if one is not found there.
    """
    places = _places(graph)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _INLINE_BYTES:
            continue
        location, offset, length = places.get(tensor.name, ("", 0, 0))
        if length != len(tensor.raw_data) or not _holds(graph.parent / location, offset, tensor.raw_data):
            raise ValueError(
                f"{graph} does not hold the weight {tensor.name!r} as the graph of several takes needs it"
            )
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return model


def _holds(path: Path, offset: int, data: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(len(data)) == data


def _places(graph: Path) -> dict[str, tuple[str, int, int]]:
    """Where the weights of an ONNX file are: name -> (file, offset, length)."""
    data = graph.read_bytes()
    found: dict[str, tuple[str, int, int]] = {}
    for start, stop in _fields(data, 0, len(data), 7):  # ModelProto.graph
        for begin, end in _fields(data, start, stop, 5):  # GraphProto.initializer
            raw = next(_fields(data, begin, end, 9), None)  # TensorProto.raw_data
            if raw is not None and raw[1] > raw[0]:
                name = next(_fields(data, begin, end, 8))
                found[data[name[0] : name[1]].decode()] = (graph.name, raw[0], raw[1] - raw[0])
    for tensor in onnx.load(str(graph), load_external_data=False).graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            given = {entry.key: entry.value for entry in tensor.external_data}
            found[tensor.name] = (given["location"], int(given.get("offset", 0)), int(given["length"]))
    return found


def _fields(data: bytes, start: int, stop: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Spans of a protobuf message's length-delimited fields of one number."""
    at = start
    while at < stop:
        key, at = _varint(data, at)
        if key & 7 == 0:
            _, at = _varint(data, at)
        elif key & 7 == 2:
            length, at = _varint(data, at)
            if key >> 3 == wanted:
                yield at, at + length
            at += length
        else:
            at += 8 if key & 7 == 1 else 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
