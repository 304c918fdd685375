"""The decoder as one ONNX graph: step and prefill are the same session with another number of rows.

Sits between the trained state dict (training/decoder_model.py names) and engine/runtime.py. Rows of one call share
the weights over both guidance branches; each branch and layer has one GroupQueryAttention node over its own linear
cache, because onnxruntime takes several rows with a past only at batch 1. A prefill ignores the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from attacca.export.graph import MICROSOFT, PRECISIONS, GraphBuilder

Weights = Mapping[str, npt.NDArray[np.float32]]
RMS_EPSILON = 1e-5
KV_BITS = (8, 32)


@dataclass(frozen=True, kw_only=True)
class DecoderExport:
    """How to export: `precision` of the weights, `kv_bits` of the cache, guidance `branches`, attention window."""

    heads: int
    window_frames: int
    precision: str = "fp32"
    kv_bits: int = 32
    branches: int = 2

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"DecoderExport.precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.kv_bits not in KV_BITS:
            raise ValueError(f"DecoderExport.kv_bits {self.kv_bits} is not one of {KV_BITS}")
        if self.branches not in (1, 2):
            raise ValueError(f"DecoderExport.branches {self.branches} is not 1 or 2")
        if self.heads < 1 or self.window_frames < 1:
            raise ValueError(
                f"DecoderExport.heads {self.heads} and window_frames {self.window_frames} must be >= 1"
            )


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """Sizes read off a state dict."""

    layers: int
    dim: int
    num_codebooks: int
    codebook_size: int
    conditioning_width: int

    @classmethod
    def of(cls, weights: Weights) -> DecoderShape:
        """ValueError naming the first tensor that is missing or has another shape than the rest imply."""
        for name in ("tok_emb", "level_emb", "cond.weight", "norm.weight", "heads"):
            if name not in weights:
                raise ValueError(f"decoder weights lack {name!r}")
        codebooks, tokens, dim = weights["tok_emb"].shape
        layers = 0
        while f"layers.{layers}.qkv.weight" in weights:
            layers += 1
        expected = {
            "level_emb": (codebooks + 1, dim),
            "heads": (codebooks, dim, tokens - 1),
            "cond.weight": (dim, weights["cond.weight"].shape[1]),
            "norm.weight": (dim,),
        }
        for layer in range(layers):
            hidden = weights[f"layers.{layer}.ffn_out.weight"].shape[1]
            expected |= {
                f"layers.{layer}.norm1.weight": (dim,),
                f"layers.{layer}.qkv.weight": (3 * dim, dim),
                f"layers.{layer}.out.weight": (dim, dim),
                f"layers.{layer}.norm2.weight": (dim,),
                f"layers.{layer}.ffn_in.weight": (2 * hidden, dim),
                f"layers.{layer}.ffn_out.weight": (dim, hidden),
            }
        for name, shape in expected.items():
            if name not in weights or weights[name].shape != shape:
                found = weights[name].shape if name in weights else None
                raise ValueError(f"decoder weight {name!r} has shape {found}, expected {shape}")
        return cls(
            layers=layers,
            dim=dim,
            num_codebooks=codebooks,
            codebook_size=tokens - 1,
            conditioning_width=weights["cond.weight"].shape[1],
        )


def build_decoder(weights: Weights, options: DecoderExport, kv_scales: Weights | None = None) -> onnx.ModelProto:
    """The step graph. Rows R and cache slots S are dynamic; K codebooks, V codes, C conditions, hd head size.

    Inputs: stack int64 [R, K], level int64 [R], cos and sin float32 [R, hd/2], cond float32 [R, C],
    last_slot int32 [1] (past + R - 1), total_slots int32 [] (past + R), row_of_level int64 [K],
    noise float32 [K, V], temperature and guidance float32 [1], top_k int64 [1], key_B_L and value_B_L [1, heads,
    S, hd] for branch B and layer L. Outputs: tokens int64 [K], logits float32 [K, V] (guided, before temperature),
    key_B_L.out and value_B_L.out (to be bound to the memory of the inputs).
    `kv_scales` (key_L, value_L float32 [heads * hd], a channel's largest magnitude / 127) is needed for kv_bits 8.
    """
    shape = DecoderShape.of(weights)
    if shape.dim % options.heads or (shape.dim // options.heads) % 8:
        raise ValueError(f"{options.heads} heads do not divide dim {shape.dim} into heads of a multiple of 8")
    if (options.kv_bits == 8) != (kv_scales is not None):
        raise ValueError(f"kv_scales must be given for an 8-bit cache and only then (kv_bits {options.kv_bits})")
    writer = DecoderWriter(weights, shape, options, kv_scales)
    return writer.write()


def save_decoder(path: Path, weights: Weights, options: DecoderExport, kv_scales: Weights | None = None) -> None:
    """Write build_decoder's graph to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build_decoder(weights, options, kv_scales).SerializeToString(deterministic=True))


class DecoderWriter:
    """One graph under construction."""

    def __init__(
        self, weights: Weights, shape: DecoderShape, options: DecoderExport, kv_scales: Weights | None
    ) -> None:
        self.weights = weights
        self.shape = shape
        self.options = options
        self.kv_scales = kv_scales
        self.head_dim = shape.dim // options.heads
        self.b = GraphBuilder("attacca_decoder")

    def write(self) -> onnx.ModelProto:
        self._declare_inputs()
        residual = self._embed()
        delta = ""
        for layer in range(self.shape.layers):
            normed, residual = self._norm(residual, delta, f"layers.{layer}.norm1.weight")
            attended = self._linear(self._attention(normed, layer), f"layers.{layer}.out.weight")
            normed, residual = self._norm(residual, attended, f"layers.{layer}.norm2.weight")
            delta = self._feed_forward(normed, layer)
        hidden, _ = self._norm(residual, delta, "norm.weight")
        self._sample(self._logits(hidden))
        return self.b.model({"attacca.window_frames": str(self.options.window_frames)} | self._metadata())

    def _metadata(self) -> dict[str, str]:
        return {}

    def _sample(self, logits: str) -> None:
        sample(self.b, logits, self.shape.num_codebooks, self.shape.codebook_size)

    def _declare_inputs(self) -> None:
        b, s = self.b, self.shape
        b.input("stack", np.int64, ["rows", s.num_codebooks])
        b.input("level", np.int64, ["rows"])
        b.input("cos", np.float32, ["rows", self.head_dim // 2])
        b.input("sin", np.float32, ["rows", self.head_dim // 2])
        b.input("cond", np.float32, ["rows", s.conditioning_width])
        b.input("last_slot", np.int32, [1])
        b.input("total_slots", np.int32, [])
        b.input("row_of_level", np.int64, [s.num_codebooks])
        b.input("noise", np.float32, [s.num_codebooks, s.codebook_size])
        b.input("temperature", np.float32, [1])
        b.input("guidance", np.float32, [1])
        b.input("top_k", np.int64, [1])
        cache_type = np.int8 if self.options.kv_bits == 8 else np.float32
        for name in cache_names(self.options.branches, s.layers):
            b.input(name, cache_type, [1, self.options.heads, "slots", self.head_dim])

    def _linear(self, x: str, name: str) -> str:
        """A product within a layer, which all rows of a call go through."""
        if self.options.precision == "int8":
            return self.b.linear_by_rows(x, name, self.weights[name])
        return self.b.linear(x, name, self.weights[name], self.options.precision)

    def _table(self, name: str, array: npt.NDArray[np.float32]) -> str:
        """An embedding table as a constant, fp16 below fp32 precision (gathered rows are widened)."""
        return self.b.constant(name, array.astype(np.float32 if self.options.precision == "fp32" else np.float16))

    def _gather(self, table: str, indices: str) -> str:
        rows = self.b.node("Gather", [table, indices], axis=0)
        return rows if self.options.precision == "fp32" else self.b.node("Cast", [rows], to=onnx.TensorProto.FLOAT)

    def _embed(self) -> str:
        """Rows of all branches, [branches, R, d]: the conditioned one first, then the one without conditions."""
        b, s = self.b, self.shape
        tokens = self.weights["tok_emb"]
        table = self._table("tok_emb", tokens.reshape(-1, s.dim))
        offsets = b.constant("codebook_offsets", np.arange(s.num_codebooks, dtype=np.int64) * tokens.shape[1])
        stacked = self._gather(table, b.node("Add", ["stack", offsets]))
        summed = b.node("ReduceSum", [stacked, b.constant("axis_1", np.array([1], np.int64))], keepdims=0)
        plain = b.node("Add", [summed, self._gather(self._table("level_emb", self.weights["level_emb"]), "level")])
        # Few inputs and small beside the rest: not quantized, so that phases and flags arrive exactly.
        stored = "fp32" if self.options.precision == "fp32" else "fp16"
        projected = b.linear("cond", "cond.weight", self.weights["cond.weight"], stored)
        branches = [b.node("Add", [plain, projected]), plain][: self.options.branches]
        axis_0 = b.constant("axis_0", np.array([0], np.int64))
        rows = [b.node("Unsqueeze", [branch, axis_0]) for branch in branches]
        return rows[0] if len(rows) == 1 else b.node("Concat", rows, axis=0)

    def _norm(self, residual: str, delta: str, name: str) -> tuple[str, str]:
        """RMS norm of residual + delta; returns (normed, sum). An empty delta adds nothing."""
        gamma = self.b.constant(name, self.weights[name].astype(np.float32))
        if not delta:
            return self.b.node(
                "SimplifiedLayerNormalization", [residual, gamma], axis=-1, epsilon=RMS_EPSILON, stash_type=1
            ), residual
        total = f"{name}.sum"
        normed = self.b.nodes(
            "SkipSimplifiedLayerNormalization",
            [residual, delta, gamma],
            [f"{name}.out", "", "", total],
            domain=MICROSOFT,
            epsilon=RMS_EPSILON,
        )[0]
        return normed, total

    def _attention(self, x: str, layer: int) -> str:
        b, dim = self.b, self.shape.dim
        qkv = self._linear(x, f"layers.{layer}.qkv.weight")
        split = b.constant("split_qk_v", np.array([2 * dim, dim], np.int64))
        qk, value = b.nodes("Split", [qkv, split], 2, axis=-1)
        # Queries and keys turn alike, so one node turns both as twice the heads. Position = row of cos and sin.
        first_row = b.constant("first_row", np.array([0], np.int64))
        turned = b.node("RotaryEmbedding", [qk, first_row, "cos", "sin"], domain=MICROSOFT)
        return self._attend_all(turned, value, layer)

    def _attend_all(self, turned: str, value: str, layer: int) -> str:
        """Attention of every branch: turned queries and keys [branches, R, 2 d] and values -> [branches, R, d]."""
        b, o, dim = self.b, self.options, self.shape.dim
        query, key = b.nodes("Split", [turned, b.constant("split_q_k", np.array([dim, dim], np.int64))], 2, axis=-1)
        parts = [self._per_branch(value_name) for value_name in (query, key, value)]
        outputs = [self._attend(layer, branch, *(p[branch] for p in parts)) for branch in range(o.branches)]
        return outputs[0] if o.branches == 1 else b.node("Concat", outputs, axis=0)

    def _per_branch(self, x: str) -> list[str]:
        if self.options.branches == 1:
            return [x]
        return self.b.nodes("Split", [x, self.b.constant("split_branches", np.array([1, 1], np.int64))], 2, axis=0)

    def _attend(self, layer: int, branch: int, query: str, key: str, value: str, take: str = "") -> str:
        """One node over one cache, whose inputs' names end in `take`; packed rows come as the query alone."""
        b, o = self.b, self.options
        past = [f"key_{branch}_{layer}{take}", f"value_{branch}_{layer}{take}"]
        inputs = [query, key, value, *past, f"last_slot{take}", f"total_slots{take}"]
        attributes: dict[str, object] = {}
        if self.kv_scales is not None:
            scales = [b.constant(f"{part}_scale_{layer}", self._scale(part, layer)) for part in ("key", "value")]
            inputs += ["", "", "", "", "", *scales]
            attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        cache_type = np.int8 if o.kv_bits == 8 else np.float32
        for name in past:
            b.output(f"{name}.out", cache_type, [1, o.heads, "slots", self.head_dim])
        return b.nodes(
            "GroupQueryAttention",
            inputs,
            [f"attended_{branch}_{layer}{take}", *(f"{name}.out" for name in past)],
            domain=MICROSOFT,
            num_heads=o.heads,
            kv_num_heads=o.heads,
            local_window_size=o.window_frames,
            scale=float(self.head_dim**-0.5),
            **attributes,
        )[0]

    def _scale(self, part: str, layer: int) -> npt.NDArray[np.float32]:
        assert self.kv_scales is not None
        return self.kv_scales[f"{part}_{layer}"].astype(np.float32)

    def _feed_forward(self, x: str, layer: int) -> str:
        b = self.b
        hidden = self.weights[f"layers.{layer}.ffn_out.weight"].shape[1]
        split = b.constant("split_gate", np.array([hidden, hidden], np.int64))
        gate, up = b.nodes("Split", [self._linear(x, f"layers.{layer}.ffn_in.weight"), split], 2, axis=-1)
        silu = b.node("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
        return self._linear(b.node("Mul", [silu, up]), f"layers.{layer}.ffn_out.weight")

    def _logits(self, hidden: str) -> str:
        """Guided logits [K, V]: each codebook's head reads the row that row_of_level names, in every branch."""
        b, branches = self.b, self.options.branches
        rows = b.node("Transpose", [b.node("Gather", [hidden, "row_of_level"], axis=1)], perm=[1, 0, 2])
        stacked = self._heads(rows)  # [K, branches, V]
        axis_1 = b.constant("axis_1", np.array([1], np.int64))
        if branches == 1:
            return b.node("Squeeze", [stacked, axis_1], out="logits")
        with_conditions, without = (
            b.node("Squeeze", [part, axis_1])
            for part in b.nodes(
                "Split", [stacked, b.constant("split_branches", np.array([1, 1], np.int64))], 2, axis=1
            )
        )
        toward = b.node("Mul", [b.node("Sub", [with_conditions, without]), "guidance"])
        return b.node("Add", [without, toward], out="logits")

    def _heads(self, rows: str) -> str:
        """Rows [K, ..., d] -> logits [K, ..., V], each codebook's by its own head."""
        b, levels = self.b, self.shape.num_codebooks
        split = b.constant("split_levels", np.ones(levels, np.int64))
        each = [rows] if levels == 1 else b.nodes("Split", [rows, split], levels, axis=0)
        heads = self.weights["heads"]
        logits = [
            b.linear(x, f"heads.{k}", np.ascontiguousarray(heads[k].T), self.options.precision)
            for k, x in enumerate(each)
        ]
        return b.node("Concat", logits, axis=0)


def sample(b: GraphBuilder, logits: str, num_codebooks: int, codebook_size: int) -> None:
    """Outputs `tokens` [K] and `logits` [K, V]: argmax(logits + temperature * Gumbel noise) over the top_k.

    That is exact sampling, and greedy at temperature 0. Reads the inputs noise, temperature and top_k.
    """
    kept, _ = b.nodes("TopK", [logits, "top_k"], 2, axis=1, largest=1, sorted=0)
    axis_1 = b.constant("axis_1", np.array([1], np.int64))
    threshold = b.node("ReduceMin", [kept, axis_1], keepdims=1)
    scored = b.node("Add", [logits, b.node("Mul", ["noise", "temperature"])])
    lowest = b.constant("lowest", np.array(-3.0e38, np.float32))
    allowed = b.node("Where", [b.node("GreaterOrEqual", [logits, threshold]), scored, lowest])
    b.node("ArgMax", [allowed], axis=1, keepdims=0, out="tokens")
    b.output("tokens", np.int64, [num_codebooks])
    b.output("logits", np.float32, [num_codebooks, codebook_size])


def cache_names(branches: int, layers: int) -> list[str]:
    """Cache inputs in graph order; the output of each has `.out` appended."""
    return [
        f"{part}_{branch}_{layer}"
        for branch in range(branches)
        for layer in range(layers)
        for part in ("key", "value")
    ]
