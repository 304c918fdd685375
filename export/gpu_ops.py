"""Building blocks of the graphs for GPUs, in two dialects: onnxruntime's fused nodes, or standard ONNX alone.

Under export/gpu_graph.py. Everything has static shapes and stays on the device; weights and cache are of one type.
New rows are scattered into the cache, whose input and output are to be bound at one address; attention is one
operator or several plain ones, always under an explicit mask, since lengths given otherwise can be lost.

onnxruntime's dialect keeps to opset 21, since a kernel serves the opsets it is registered for and no later ones;
the standard one needs 24, the first with TensorScatter and Attention over a cache, which TensorRT maps to its own
layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from attacca.export.graph import MICROSOFT, OPSET, GraphBuilder

STANDARD_OPSET = 24
DIALECTS = ("onnxruntime", "standard")
ATTENTIONS = ("plain", "operator")
PRECISIONS = ("fp32", "fp16")
BRANCHES = 2
_LOWEST = {"fp32": -3.0e38, "fp16": -6.0e4}
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GpuExport:
    """How to export for a GPU: `takes` rows of independent streams, `rows` of each a call, `capacity` cache slots.

    `history` steps of sampled tokens can be fed back on the device. `dialect` onnxruntime uses its fused nodes.
    """

    rows: int
    capacity: int
    history: int = 32
    takes: int = 1
    precision: str = "fp16"
    dialect: str = "onnxruntime"
    attention: str = "plain"

    def __post_init__(self) -> None:
        for name in ("rows", "capacity", "history", "takes"):
            if getattr(self, name) < 1:
                raise ValueError(f"GpuExport.{name} is {getattr(self, name)}, allowed: 1 or more")
        choices = {"precision": PRECISIONS, "dialect": DIALECTS, "attention": ATTENTIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"GpuExport.{name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
        if self.rows > self.capacity:
            raise ValueError(f"GpuExport.capacity is {self.capacity}, allowed: rows ({self.rows}) or more")


class GpuOps:
    """A GraphBuilder with the operators of a decoder, in one precision and dialect."""

    def __init__(self, name: str, options: GpuExport, *, heads: int, head_dim: int) -> None:
        self.b = GraphBuilder(name)
        self.options = options
        self.heads, self.head_dim = heads, head_dim
        self.half = options.precision == "fp16"
        self.fused = options.dialect == "onnxruntime"
        self.dtype = np.dtype(np.float16 if self.half else np.float32)
        self._onnx_type = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        self.opset = OPSET if self.fused else STANDARD_OPSET
        self._by_rows = self.fused and options.attention == "operator"  # queries stay [N, R, d]
        self._written = ""  # where cached rows go

    def ints(self, *values: int) -> str:
        """A constant vector, as axes and shapes are."""
        return self.b.constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def weight(self, name: str, array: Array) -> str:
        return self.b.constant(name, array.astype(self.dtype))

    def working(self, x: str) -> str:
        """A float32 input in the type that is computed in."""
        return self.b.node("Cast", [x], to=self._onnx_type) if self.half else x

    def float32(self, x: str) -> str:
        return self.b.node("Cast", [x], to=TensorProto.FLOAT) if self.half else x

    def linear(self, x: str, name: str, weight: Array) -> str:
        """x [..., in] times the transpose of weight [out, in]."""
        return self.b.node("MatMul", [x, self.weight(name, weight.T)])

    def reshape(self, x: str, *shape: int) -> str:
        return self.b.node("Reshape", [x, self.ints(*shape)])

    def split(self, x: str, sizes: list[int], axis: int) -> list[str]:
        return self.b.nodes("Split", [x, self.ints(*sizes)], len(sizes), axis=axis)

    def both(self, x: str) -> str:
        """An input per take, for both branches of each: a take's two lie side by side."""
        if self.options.takes == 1:
            return self.b.node("Concat", [x] * BRANCHES, axis=0)
        each = np.repeat(np.arange(self.options.takes, dtype=np.int64), BRANCHES)
        return self.b.node("Gather", [x, self.b.constant("take_of_branch", each)], axis=0)

    def interleaved(self, told: str, untold: str, *tail: int) -> str:
        """Branches [T, *tail] with and without conditions -> [2 T, *tail]."""
        takes = self.options.takes
        if takes == 1:
            return self.b.node("Concat", [told, untold], axis=0)
        apart = [self.reshape(x, takes, 1, *tail) for x in (told, untold)]
        return self.reshape(self.b.node("Concat", apart, axis=1), BRANCHES * takes, *tail)

    def branches(self, x: str, *tail: int) -> list[str]:
        """The inverse of `interleaved`: [2 T, *tail] -> each branch [T, *tail]."""
        takes = self.options.takes
        if takes == 1:
            return self.split(x, [1, 1], 0)
        parts = self.split(self.reshape(x, takes, BRANCHES, *tail), [1, 1], 1)
        return [self.reshape(part, takes, *tail) for part in parts]

    def norm(
        self, residual: str, delta: str, name: str, gamma: Array, beta: Array | None, epsilon: float
    ) -> tuple[str, str]:
        """(normed, residual + delta): layer norm with `beta`, else RMS norm. An empty delta adds nothing."""
        b = self.b
        scale = [self.weight(name, gamma)] + ([] if beta is None else [self.weight(f"{name}.bias", beta)])
        if self.fused and delta:
            op = "SkipSimplifiedLayerNormalization" if beta is None else "SkipLayerNormalization"
            outputs = [f"{name}.out", "", "", f"{name}.sum"]
            b.nodes(op, [residual, delta, *scale], outputs, domain=MICROSOFT, epsilon=epsilon)
            return outputs[0], outputs[3]
        total = b.node("Add", [residual, delta]) if delta else residual
        if beta is not None:
            return b.node("LayerNormalization", [total, *scale], axis=-1, epsilon=epsilon, stash_type=1), total
        op = "SimplifiedLayerNormalization" if self.fused else "RMSNormalization"
        return b.node(op, [total, *scale], axis=-1, epsilon=epsilon, stash_type=1), total

    def silu_times(self, gate: str, up: str) -> str:
        if self.fused:
            active = self.b.node("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
        else:
            active = self.b.node("Mul", [gate, self.b.node("Sigmoid", [gate])])
        return self.b.node("Mul", [active, up])

    def per_head(self, x: str, branches: int = BRANCHES) -> str:
        """[N, R, heads * size] -> [N, heads, R, size]."""
        takes = branches * self.options.takes
        if self.options.rows == 1:  # nothing moves
            return self.reshape(x, takes, -1, 1, self.head_dim)
        return self.b.node(
            "Transpose", [self.reshape(x, takes, self.options.rows, -1, self.head_dim)], perm=[0, 2, 1, 3]
        )

    def query(self, x: str, branches: int = BRANCHES) -> str:
        """[N, R, heads * size] as `attend` and `attend_across` take it."""
        return x if self._by_rows else self.per_head(x, branches)

    def _joined(self, x: str, branches: int) -> str:
        """[N, heads, R, size] -> [N, R, heads * size]."""
        rows = self.options.rows
        moved = x if rows == 1 else self.b.node("Transpose", [x], perm=[0, 2, 1, 3])
        return self.reshape(moved, branches * self.options.takes, rows, self.heads * self.head_dim)

    def turned(self, x: str) -> list[str]:
        """Rotary positions: queries and keys side by side [N, R, 2 d] -> [query, keys [N, heads, R, size]].

        Reads the inputs cos and sin [takes, R, size / 2].
        """
        o, b, half, dim = self.options, self.b, self.head_dim // 2, self.heads * self.head_dim
        if self.fused:
            tables = [self.reshape(self.working(name), o.takes * o.rows, half) for name in ("cos", "sin")]
            each = np.arange(o.takes * o.rows, dtype=np.int64).reshape(o.takes, o.rows)
            places = b.constant("row_places", np.repeat(each, BRANCHES, axis=0))
            turned = b.node("RotaryEmbedding", [x, places, *tables], domain=MICROSOFT)
            query, key = self.split(turned, [dim, dim], 2)
            return [self.query(query), self.per_head(key)]
        cos, sin = (
            self.reshape(self.both(self.working(n)), BRANCHES * o.takes, 1, o.rows, half) for n in ("cos", "sin")
        )
        first, second = self.split(self.per_head(x), [half, half], 3)
        left = b.node("Sub", [b.node("Mul", [first, cos]), b.node("Mul", [second, sin])])
        right = b.node("Add", [b.node("Mul", [second, cos]), b.node("Mul", [first, sin])])
        return self.split(b.node("Concat", [left, right], axis=3), [self.heads, self.heads], 1)

    def cached(self, name: str, rows: str) -> str:
        """The cache `name` with rows [N, heads, R, size] written at each take's write_slot; an output, in place."""
        o = self.options
        sizes: list[int | str] = [BRANCHES * o.takes, self.heads, o.capacity, self.head_dim]
        self.b.input(name, self.dtype, sizes)
        self.b.output(f"{name}.out", self.dtype, sizes)
        self._written = self._written or self._places()
        if self.fused:
            return self.b.node("ScatterElements", [name, self._written, rows], axis=2, out=f"{name}.out")
        return self.b.node("TensorScatter", [name, rows, self._written], axis=2, mode="linear", out=f"{name}.out")

    def _places(self) -> str:
        """write_slots of the takes of both branches; for ScatterElements, of every value [N, heads, R, size]."""
        b, o, slots = self.b, self.options, self.both("write_slots")
        if not self.fused:
            return slots
        each = b.constant("row_numbers", np.arange(o.rows, dtype=np.int64)[:, None])
        rows = b.node("Add", [self.reshape(slots, BRANCHES * o.takes, 1, 1, 1), each])
        return b.node("Expand", [rows, self.ints(BRANCHES * o.takes, self.heads, o.rows, self.head_dim)])

    def seen(self, mask: str) -> str:
        """A boolean mask [N, 1, R, S] as `attend` takes it."""
        if not self._by_rows:
            return mask
        zero, lowest = (
            self.b.constant(f"bias_{i}", np.array(v, self.dtype)) for i, v in enumerate((0.0, self._lowest))
        )
        return self.b.node("Where", [mask, zero, lowest])

    @property
    def _lowest(self) -> float:
        return _LOWEST[self.options.precision]

    def attend(self, query: str, key: str, value: str, mask: str) -> str:
        """Attention, [N, R, d], of a query over key and value [N, heads, S, size] where `seen` is true."""
        b, scale = self.b, float(self.head_dim**-0.5)
        if self._by_rows:
            return self._attend_by_rows(query, key, value, mask, scale)
        if self.options.attention == "operator":
            return self._joined(b.node("Attention", [query, key, value, mask], scale=scale), BRANCHES)
        scaled = b.node("Mul", [query, b.constant("attention_scale", np.array(scale, self.dtype))])
        scores = b.node("MatMul", [scaled, b.node("Transpose", [key], perm=[0, 1, 3, 2])])
        lowest = b.constant("attention_lowest", np.array(self._lowest, self.dtype))
        weights = b.node("Softmax", [b.node("Where", [mask, scores, lowest])], axis=-1)
        return self._joined(b.node("MatMul", [weights, value]), BRANCHES)

    def attend_across(self, query: str, key: str, value: str, bias: str) -> str:
        """The same in one branch over keys that are scaled already, `bias` [N, 1, R, S] added to the scores."""
        b = self.b
        if self._by_rows:
            return self._attend_by_rows(query, key, value, bias, 1.0)
        if self.options.attention == "operator":
            return self._joined(b.node("Attention", [query, key, value, bias], scale=1.0), 1)
        scores = b.node("MatMul", [query, b.node("Transpose", [key], perm=[0, 1, 3, 2])])
        return self._joined(
            b.node("MatMul", [b.node("Softmax", [b.node("Add", [scores, bias])], axis=-1), value]), 1
        )

    def _attend_by_rows(self, query: str, key: str, value: str, bias: str, scale: float) -> str:
        inputs = [query, key, value, "", "", bias]
        return self.b.node("MultiHeadAttention", inputs, domain=MICROSOFT, num_heads=self.heads, scale=scale)
