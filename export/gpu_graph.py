"""The step graph for GPUs: many takes at once, all shapes fixed, tokens fed back on the device, sampling in it.

Beside export/decoder.py, whose weights and arithmetic it shares: in fp32 it draws the same tokens. What a call
needs of a host is small and does not hang on what was sampled, so steps can be queued: a stack entry below zero
names a token of an earlier step, which the graph looks up in `history`. export/gpu_musicgen.py writes MusicGen's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from attacca.export.decoder import RMS_EPSILON, DecoderShape
from attacca.export.gpu_ops import BRANCHES, GpuExport, GpuOps

Weights = Mapping[str, npt.NDArray[np.float32]]
HISTORY = "history"


def build_gpu_decoder(weights: Weights, options: GpuExport, *, heads: int, window_frames: int) -> onnx.ModelProto:
    """The step graph of a stacked decoder. T takes, R rows, K codebooks, V codes, C conditions, S slots, H history.

    Inputs: stack int32 [T, R, K] (a token, or -1 - place in history), level int32 [T, R], cos and sin float32
    [T, R, hd/2], cond float32 [T, R, C], row_of_level int32 [T, K], write_slots int64 [T] (of the first row), mask
    bool [T, R, S] (what each row sees, itself included), noise float32 [T, K, V], temperature and guidance float32
    [T], top_k int32 [T], history int32 [T, H K] (the newest step last), key_L and value_L [2 T, heads, S, hd] (a
    take's two branches side by side, with conditions first: what belongs to one take is in one piece, and a graph
    of fewer takes runs on the memory of some of them). Outputs: tokens int32 [T, K], checksum float32 [T] (sum of
    the logits: not finite if any is not), logits float32 [T, K, V] (guided), history.out, key_L.out and value_L.out
    (at the inputs' address).
    """
    shape = DecoderShape.of(weights)
    if shape.dim % heads or (shape.dim // heads) % 8:
        raise ValueError(f"{heads} heads do not divide dim {shape.dim} into heads of a multiple of 8")
    writer = _StackedWriter(
        weights, shape, GpuOps("attacca_gpu", options, heads=heads, head_dim=shape.dim // heads)
    )
    return finish(writer.write(), window_frames)


def finish(ops: GpuOps, window_frames: int) -> onnx.ModelProto:
    """The model, with what a runtime checks."""
    stated = {"attacca.window_frames": window_frames, "attacca.precision": ops.options.precision}
    return ops.b.model({name: str(value) for name, value in stated.items()}, opset=ops.opset)


def declare_inputs(ops: GpuOps, num_codebooks: int, codebook_size: int) -> None:
    """Inputs that every step graph for GPUs has, but the cache."""
    b, o, k = ops.b, ops.options, num_codebooks
    b.input("stack", np.int32, [o.takes, o.rows, k])
    b.input("write_slots", np.int64, [o.takes])
    b.input("mask", np.bool_, [o.takes, o.rows, o.capacity])
    b.input("noise", np.float32, [o.takes, k, codebook_size])
    b.input("temperature", np.float32, [o.takes])
    b.input("guidance", np.float32, [o.takes])
    b.input("top_k", np.int32, [o.takes])
    b.input(HISTORY, np.int32, [o.takes, o.history * k])


def fed_back(ops: GpuOps, num_codebooks: int) -> str:
    """Tokens int32 [T, R, K]: `stack`, with what was sampled since in place of the entries below zero."""
    b, o = ops.b, ops.options
    zero, minus_one = (b.constant(f"int_{value}", np.array(value, np.int32)) for value in (0, -1))
    places = b.node("Max", [b.node("Sub", [minus_one, "stack"]), zero])
    flat = ops.reshape(places, o.takes, o.rows * num_codebooks)
    found = ops.reshape(b.node("GatherElements", [HISTORY, flat], axis=1), o.takes, o.rows, num_codebooks)
    return b.node("Where", [b.node("Less", ["stack", zero]), found, "stack"])


def embedded(ops: GpuOps, tables: npt.NDArray[np.float32], tokens: str) -> str:
    """Sum over codebooks of the rows of tables [K, tokens, d], [T, R, d]."""
    b, (books, count, dim) = ops.b, tables.shape
    table = ops.weight("tok_emb", tables.reshape(-1, dim))
    offsets = b.constant("codebook_offsets", np.arange(books, dtype=np.int32) * np.int32(count))
    rows = b.node("Gather", [table, b.node("Add", [tokens, offsets])], axis=0)
    return b.node("ReduceSum", [rows, ops.ints(2)], keepdims=0)


def visible(ops: GpuOps) -> str:
    """The mask for takes of both branches and all heads, [N, 1, R, S], as `attend` takes it."""
    o = ops.options
    return ops.seen(ops.reshape(ops.both("mask"), BRANCHES * o.takes, 1, o.rows, o.capacity))


def guided(ops: GpuOps, branches: str, num_codebooks: int, codebook_size: int) -> str:
    """Logits float32 [T, K, V] of logits [2 T, K, V]: without conditions, and `guidance` times what they add."""
    b, takes = ops.b, ops.options.takes
    told, untold = ops.branches(ops.float32(branches), num_codebooks, codebook_size)
    scale = ops.reshape("guidance", takes, 1, 1)
    return b.node("Add", [untold, b.node("Mul", [b.node("Sub", [told, untold]), scale])], out="logits")


def logits_by_level(ops: GpuOps, hidden: str, heads: npt.NDArray[np.float32]) -> str:
    """Logits [2 T, K, V] of rows [2 T, R, d] by heads [K, d, V]: each codebook's row is what row_of_level names."""
    b, o, dim = ops.b, ops.options, heads.shape[1]
    flat = ops.reshape(hidden, BRANCHES * o.takes * o.rows, dim)
    first = b.constant("first_rows", (np.arange(BRANCHES * o.takes, dtype=np.int32) * o.rows)[:, None])
    rows = b.node("Gather", [flat, b.node("Add", [ops.both("row_of_level"), first])], axis=0)  # [2 T, K, d]
    per_book = b.node("Transpose", [rows], perm=[1, 0, 2])
    logits = b.node("MatMul", [per_book, ops.weight("heads", heads)])
    return b.node("Transpose", [logits], perm=[1, 0, 2])


def draw(ops: GpuOps, logits: str, num_codebooks: int, codebook_size: int) -> None:
    """Outputs tokens, checksum, logits and history.out: argmax(logits + temperature * noise) over the top_k.

    The same rule as export/decoder.sample; the k-th best logit is looked up among all of them sorted, because the k
    of TopK would have to lie on the host.
    """
    b, o, sizes = ops.b, ops.options, [ops.options.takes, num_codebooks, codebook_size]
    ordered, _ = b.nodes("TopK", [logits, ops.ints(codebook_size)], 2, axis=2, largest=1, sorted=1)
    one = b.constant("int_1", np.array(1, np.int32))
    last = ops.reshape(b.node("Sub", ["top_k", one]), o.takes, 1, 1)
    last = b.node("Expand", [last, ops.ints(o.takes, num_codebooks, 1)])
    threshold = b.node("GatherElements", [ordered, last], axis=2)
    spread = b.node("Mul", ["noise", ops.reshape("temperature", o.takes, 1, 1)])
    lowest = b.constant("lowest", np.array(-3.0e38, np.float32))
    kept = b.node("Not", [b.node("Less", [logits, threshold])])
    scored = b.node("Where", [kept, b.node("Add", [logits, spread]), lowest])
    chosen = b.node("ArgMax", [scored], axis=2, keepdims=0)
    tokens = b.node("Cast", [chosen], to=TensorProto.INT32, out="tokens")
    b.node("ReduceSum", [logits, ops.ints(1, 2)], keepdims=0, out="checksum")
    older = ops.split(HISTORY, [num_codebooks, (o.history - 1) * num_codebooks], 1)[1]
    b.node("Concat", [older, tokens], axis=1, out=f"{HISTORY}.out")
    b.output("tokens", np.int32, sizes[:2])
    b.output("checksum", np.float32, sizes[:1])
    b.output("logits", np.float32, sizes)
    b.output(f"{HISTORY}.out", np.int32, [o.takes, o.history * num_codebooks])


class _StackedWriter:
    """The graph of a stacked decoder under construction."""

    def __init__(self, weights: Weights, shape: DecoderShape, ops: GpuOps) -> None:
        self.weights, self.shape, self.ops = weights, shape, ops

    def write(self) -> GpuOps:
        ops, s, o = self.ops, self.shape, self.ops.options
        declare_inputs(ops, s.num_codebooks, s.codebook_size)
        ops.b.input("level", np.int32, [o.takes, o.rows])
        for name in ("cos", "sin"):
            ops.b.input(name, np.float32, [o.takes, o.rows, ops.head_dim // 2])
        ops.b.input("cond", np.float32, [o.takes, o.rows, s.conditioning_width])
        ops.b.input("row_of_level", np.int32, [o.takes, s.num_codebooks])
        residual, delta, mask = self._embed(), "", visible(ops)
        for layer in range(s.layers):
            normed, residual = self._norm(residual, delta, f"layers.{layer}.norm1.weight")
            attended = self._linear(self._attention(normed, layer, mask), f"layers.{layer}.out.weight")
            normed, residual = self._norm(residual, attended, f"layers.{layer}.norm2.weight")
            delta = self._feed_forward(normed, layer)
        hidden, _ = self._norm(residual, delta, "norm.weight")
        draw(ops, self._logits(hidden), s.num_codebooks, s.codebook_size)
        return ops

    def _linear(self, x: str, name: str) -> str:
        return self.ops.linear(x, name, self.weights[name])

    def _norm(self, residual: str, delta: str, name: str) -> tuple[str, str]:
        return self.ops.norm(residual, delta, name, self.weights[name], None, RMS_EPSILON)

    def _embed(self) -> str:
        """Rows of all takes, [2 T, R, d]: of each take those with conditions first."""
        ops, b = self.ops, self.ops.b
        summed = embedded(ops, self.weights["tok_emb"], fed_back(ops, self.shape.num_codebooks))
        levels = b.node("Gather", [ops.weight("level_emb", self.weights["level_emb"]), "level"], axis=0)
        plain = b.node("Add", [summed, levels])
        told = b.node("Add", [plain, self._linear(ops.working("cond"), "cond.weight")])
        return ops.interleaved(told, plain, ops.options.rows, self.shape.dim)

    def _attention(self, x: str, layer: int, mask: str) -> str:
        ops, dim = self.ops, self.shape.dim
        turning, value = ops.split(self._linear(x, f"layers.{layer}.qkv.weight"), [2 * dim, dim], 2)
        query, key = ops.turned(turning)
        keys = ops.cached(f"key_{layer}", key)
        values = ops.cached(f"value_{layer}", ops.per_head(value))
        return ops.attend(query, keys, values, mask)

    def _feed_forward(self, x: str, layer: int) -> str:
        hidden = self.weights[f"layers.{layer}.ffn_out.weight"].shape[1]
        gate, up = self.ops.split(self._linear(x, f"layers.{layer}.ffn_in.weight"), [hidden, hidden], 2)
        return self._linear(self.ops.silu_times(gate, up), f"layers.{layer}.ffn_out.weight")

    def _logits(self, hidden: str) -> str:
        """Guided logits [T, K, V]: each codebook's head reads the row that row_of_level names, in both branches."""
        ops, s = self.ops, self.shape
        return guided(ops, logits_by_level(ops, hidden, self.weights["heads"]), s.num_codebooks, s.codebook_size)
