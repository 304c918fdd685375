"""MusicGen's decoder as ONNX graphs: the step, and the prompt's keys and values that it attends to.

Sits between a checked checkpoint (export/musicgen_checkpoint.py) and engine/prompted.py. As in export/decoder.py,
step and prefill are one graph with dynamic rows, and each guidance branch and layer has one GroupQueryAttention
node over its own linear cache. Positions are an input, so a window can count them anew. Only the branch with a
prompt attends to it: the other's states would be zeros, and projections without bias make nothing of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from attacca.export.decoder import KV_BITS, cache_names, sample
from attacca.export.graph import BLOCK, MICROSOFT, PRECISIONS, GraphBuilder
from attacca.export.musicgen_checkpoint import MusicgenShape

Weights = Mapping[str, npt.NDArray[np.float32]]
BRANCHES = 2
NORM_EPSILON = 1e-5
INT4_BLOCK = 256  # a step takes a seventh less than with 128, logits are off by a twelfth more (docs/LOG.md)
LONE_ROWS = "attacca.lone_rows"  # metadata: a call of one row is as good as one of several
SINGLE_SLOT = "attacca.single_slot"  # metadata: attention too sees one row where there is one


@dataclass(frozen=True, kw_only=True)
class MusicgenExport:
    """How to export: `precision` of the weights, `kv_bits` of the cache, slots that a row attends to."""

    window_frames: int
    precision: str = "fp32"
    kv_bits: int = 32

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"MusicgenExport.precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.kv_bits not in KV_BITS:
            raise ValueError(f"MusicgenExport.kv_bits {self.kv_bits} is not one of {KV_BITS}")
        if self.window_frames < 1:
            raise ValueError(f"MusicgenExport.window_frames {self.window_frames} must be >= 1")


def build_step(
    weights: Weights, shape: MusicgenShape, options: MusicgenExport, kv_scales: Weights | None = None
) -> onnx.ModelProto:
    """The step graph. Rows R, cache slots S and prompt tokens P are dynamic; K codebooks, V codes, d, hd head size.

    Inputs: stack int64 [R, K], position float32 [R, d], last_slot int32 [1] (past + R - 1), total_slots int32 []
    (past + R), noise float32 [K, V], temperature and guidance float32 [1], top_k int64 [1], cross_key_L
    [heads, hd, P] (scaled by hd ** -0.5), cross_value_L [heads, P, hd], cross_mask float32 [P] (0, very low where
    padded), key_B_L and value_B_L [1, heads, S, hd] for branch B and layer L. Outputs: tokens int64 [K] and logits
    float32 [K, V] of the first row (guided, before temperature), key_B_L.out and value_B_L.out (in place).
    A melody checkpoint's graph has no cross inputs but `given` float32 [2, R, d], added to each branch's rows: its
    conditions are rows before the first, whose tokens are all V + 1, which stands for nothing.
    `kv_scales` (key_L, value_L float32 [d], a channel's largest magnitude / 127) is needed for kv_bits 8.
    """
    if (options.kv_bits == 8) != (kv_scales is not None):
        raise ValueError(f"kv_scales must be given for an 8-bit cache and only then (kv_bits {options.kv_bits})")
    return StepWriter(weights, shape, options, kv_scales).write()


def build_prompt(weights: Weights, shape: MusicgenShape, options: MusicgenExport) -> onnx.ModelProto:
    """The prompt graph: the text encoder's states float32 [P, text dim] -> cross_key_L, cross_value_L of a step.

    States of padded tokens count as zeros (`mask` float32 [P] of ones and zeros), as in transformers.
    """
    b, head_dim = GraphBuilder("attacca_prompt"), shape.dim // shape.heads
    masked = _masked_text(b, weights, shape, options)
    heads = b.constant("heads", np.array([0, shape.heads, head_dim], np.int64))
    scale = np.float32(head_dim**-0.5)
    for layer in range(shape.layers):
        prefix = f"layers.{layer}.encoder_attn."
        for part, name, order, factor in (("key", "k", [1, 2, 0], scale), ("value", "v", [1, 0, 2], np.float32(1))):
            weight = weights[f"{prefix}{name}_proj.weight"] * factor
            rows = b.linear(masked, f"{prefix}{name}", weight, _stored(options))
            b.node("Transpose", [b.node("Reshape", [rows, heads])], perm=order, out=f"cross_{part}_{layer}")
            sizes: list[int | str] = [shape.heads, "tokens", head_dim]
            b.output(f"cross_{part}_{layer}", np.float32, [sizes[i] for i in (0, 2, 1)] if part == "key" else sizes)
    return b.model()


def build_prefix(weights: Weights, shape: MusicgenShape, options: MusicgenExport) -> onnx.ModelProto:
    """The prompt graph of a melody checkpoint: what stands before the tokens.

    Inputs as build_prompt's and chroma float32 [C, 12]; output `prefix` float32 [2, C + P, d]: the melody's rows,
    then the text's. The branch without a prompt has no melody (all of it pitch class 0) and zeros for the text.
    """
    b = GraphBuilder("attacca_prefix")
    text = _masked_text(b, weights, shape, options)
    b.input("chroma", np.float32, ["frames", shape.num_chroma])
    none = b.constant("no_melody", np.eye(1, shape.num_chroma, dtype=np.float32))
    blank = b.node("Add", [b.node("Sub", ["chroma", "chroma"]), none])
    bias = b.constant("audio_enc_to_dec_bias", weights["audio_enc_to_dec_proj.bias"])
    rows = []
    for melody, words in (("chroma", text), (blank, b.node("Sub", [text, text]))):
        plain = b.linear(melody, "audio_enc_to_dec_proj", weights["audio_enc_to_dec_proj.weight"], "fp32")
        both = b.node("Concat", [b.node("Add", [plain, bias]), words], axis=0)
        rows.append(b.node("Unsqueeze", [both, b.constant("axis_0", np.array([0], np.int64))]))
    b.node("Concat", rows, axis=0, out="prefix")
    b.output("prefix", np.float32, [BRANCHES, "rows", shape.dim])
    return b.model()


def _masked_text(b: GraphBuilder, weights: Weights, shape: MusicgenShape, options: MusicgenExport) -> str:
    """The text's states at the decoder's size, padded ones as zeros; declares the inputs states and mask."""
    b.input("states", np.float32, ["tokens", shape.text_dim])
    b.input("mask", np.float32, ["tokens"])
    projected = "states"
    if shape.projects_text:
        plain = b.linear("states", "enc_to_dec_proj", weights["enc_to_dec_proj.weight"], _stored(options))
        projected = b.node("Add", [plain, b.constant("enc_to_dec_bias", weights["enc_to_dec_proj.bias"])])
    return b.node("Mul", [projected, b.node("Unsqueeze", ["mask", b.constant("axis_1", np.array([1], np.int64))])])


def _stored(options: MusicgenExport) -> str:
    """Run once per prompt and small: halves are enough below fp32, nothing is quantized."""
    return "fp32" if options.precision == "fp32" else "fp16"


class StepWriter:
    """One graph under construction.

    `repeats_row`: a call may have a single row, which the graph repeats where kernels sum a row by itself in
    another order: for attention over a cache of floats, and for the prompted branch's own products, which take rows
    by twos. Attention over an 8-bit cache is the same to the bit for one row and for several.
    """

    repeats_row = True

    def __init__(
        self, weights: Weights, shape: MusicgenShape, options: MusicgenExport, kv_scales: Weights | None
    ) -> None:
        self.weights = weights
        self.shape = shape
        self.options = options
        self.kv_scales = kv_scales
        self.head_dim = shape.dim // shape.heads
        self.b = GraphBuilder("attacca_musicgen")
        self._counted = False

    def write(self) -> onnx.ModelProto:
        self._declare_inputs()
        residual, silent = self._embed()
        delta = ""
        for layer in range(self.shape.layers):
            prefix = f"layers.{layer}."
            normed, residual = self._norm(residual, delta, f"{prefix}self_attn_layer_norm")
            delta = self._linear(self._self_attention(normed, layer), f"{prefix}self_attn.out_proj.weight")
            if self.shape.cross:
                normed, residual = self._norm(residual, delta, f"{prefix}encoder_attn_layer_norm")
                crossed = self._cross_attention(self._branches(normed)[0], layer)
                delta = self.b.node("Concat", [crossed, silent], axis=0)
            normed, residual = self._norm(residual, delta, f"{prefix}final_layer_norm")
            delta = self._feed_forward(normed, prefix)
        hidden, _ = self._norm(residual, delta, "layer_norm")
        self._sample(self._logits(hidden))
        return self.b.model({"attacca.window_frames": str(self.options.window_frames)} | self._metadata())

    def _metadata(self) -> dict[str, str]:
        if not self._repeats:
            return {}
        return {LONE_ROWS: "1"} if self._pairs_attention else {LONE_ROWS: "1", SINGLE_SLOT: "1"}

    @property
    def _repeats(self) -> bool:
        return self.repeats_row and self.shape.cross

    @property
    def _pairs_attention(self) -> bool:
        return self.options.kv_bits != 8

    def _pair(self, rows: str, *, even: bool = False) -> str:
        """Rows [n, R, .] with one of them again: where it is alone, or also (`even`) where they are odd."""
        if not self._repeats:
            return rows
        return self.b.node("Gather", [rows, self._row_numbers("even" if even else "pair")], axis=1)

    def _unpair(self, rows: str) -> str:
        """What _pair repeated is left out."""
        return self.b.node("Gather", [rows, self._row_numbers("each")], axis=1) if self._repeats else rows

    def _row_numbers(self, name: str) -> str:
        """int64 "pair" [max(R, 2)] or "even" [R + R % 2], counting to R and anew, or "each" [R]; made once."""
        b = self.b
        if not self._counted:
            zero, one, two = (b.constant(f"rows_{n}", np.array(n, np.int64)) for n in range(3))
            rows = b.node("Squeeze", [b.node("Shape", ["stack"], start=0, end=1)])
            odd = b.node("Mod", [rows, two])
            ends = {"even": b.node("Add", [rows, odd]), "each": rows}
            if self._pairs_attention:
                ends["pair"] = b.node("Max", [rows, two])
            for (
                counted,
                end,
            ) in ends.items():  # Mod throughout: of a bare Range onnxruntime makes a Slice that fails
                b.node("Mod", [b.node("Range", [zero, end, one]), rows], out=counted)
            self._counted = True
        return name

    def _sample(self, logits: str) -> None:
        sample(self.b, logits, self.shape.num_codebooks, self.shape.codebook_size)

    def _declare_inputs(self) -> None:
        b, s = self.b, self.shape
        b.input("stack", np.int64, ["rows", s.num_codebooks])
        b.input("position", np.float32, ["rows", s.dim])
        b.input("last_slot", np.int32, [1])
        b.input("total_slots", np.int32, [])
        b.input("noise", np.float32, [s.num_codebooks, s.codebook_size])
        b.input("temperature", np.float32, [1])
        b.input("guidance", np.float32, [1])
        b.input("top_k", np.int64, [1])
        if s.cross:
            b.input("cross_mask", np.float32, ["tokens"])
        else:
            b.input("given", np.float32, [BRANCHES, "rows", s.dim])
        for layer in range(s.layers if s.cross else 0):
            b.input(f"cross_key_{layer}", np.float32, [s.heads, self.head_dim, "tokens"])
            b.input(f"cross_value_{layer}", np.float32, [s.heads, "tokens", self.head_dim])
        for name in cache_names(BRANCHES, s.layers):
            b.input(name, self._cache_type, [1, s.heads, "slots", self.head_dim])

    @property
    def _cache_type(self) -> npt.DTypeLike:
        return np.int8 if self.options.kv_bits == 8 else np.float32

    def _linear(self, x: str, name: str) -> str:
        return self._product(x, name, self.weights[name])

    def _product(self, x: str, name: str, weight: npt.NDArray[np.float32]) -> str:
        block = INT4_BLOCK if self.options.precision == "int4" else BLOCK
        return self.b.linear(x, name, weight, self.options.precision, block=block)

    def _embed(self) -> tuple[str, str]:
        """Rows of both branches, [2, R, d], which enter alike; and zeros [1, R, d] for the one without a prompt."""
        b, s, half = self.b, self.shape, self.options.precision != "fp32"
        nothing = np.zeros((0 if s.cross else 1, s.dim), np.float32)
        names = [f"embed_tokens.{k}.weight" for k in range(s.num_codebooks)]
        tables = np.concatenate([part for name in names for part in (self.weights[name], nothing)])
        table = b.constant("embed_tokens", tables.astype(np.float16 if half else np.float32))
        offsets = np.arange(s.num_codebooks, dtype=np.int64) * (len(tables) // s.num_codebooks)
        places = b.node("Add", ["stack", b.constant("codebook_offsets", offsets)])
        rows = b.node("Gather", [table, places], axis=0)
        if half:
            rows = b.node("Cast", [rows], to=onnx.TensorProto.FLOAT)
        summed = b.node("ReduceSum", [rows, b.constant("axis_1", np.array([1], np.int64))], keepdims=0)
        placed = b.node("Add", [summed, self._position()])
        branch = b.node("Unsqueeze", [placed, b.constant("axis_0", np.array([0], np.int64))])
        if not s.cross:
            return b.node("Add", [branch, "given"]), ""
        return b.node("Concat", [branch, branch], axis=0), b.node("Sub", [branch, branch])

    def _position(self) -> str:
        return "position"

    def _branches(self, x: str) -> list[str]:
        ones = self.b.constant("split_branches", np.array([1, 1], np.int64))
        return self.b.nodes("Split", [x, ones], 2, axis=0)

    def _norm(self, residual: str, delta: str, name: str) -> tuple[str, str]:
        """Layer norm of residual + delta; returns (normed, sum). An empty delta adds nothing."""
        b = self.b
        scale = [b.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        # Sum, for onnxruntime makes one node of Add and this norm, which takes five times as long as the two.
        total = b.node("Sum", [residual, delta], out=f"{name}.sum") if delta else residual
        return b.node(
            "LayerNormalization", [total, *scale], axis=-1, epsilon=NORM_EPSILON, out=f"{name}.out"
        ), total

    def _self_attention(self, x: str, layer: int) -> str:
        prefix = f"layers.{layer}.self_attn."
        stacked = np.concatenate([self.weights[f"{prefix}{part}_proj.weight"] for part in "qkv"])
        return self._attend_all(self._product(x, f"{prefix}qkv", stacked), layer)

    def _attend_all(self, qkv: str, layer: int) -> str:
        """Attention of both branches: packed rows [2, R, 3 d] -> [2, R, d]."""
        rows = self._pair(qkv) if self._pairs_attention else qkv
        outputs = [self._attend(layer, branch, part) for branch, part in enumerate(self._branches(rows))]
        joined = self.b.node("Concat", outputs, axis=0)
        return self._unpair(joined) if self._pairs_attention else joined

    def _attend(self, layer: int, branch: int, qkv: str, take: str = "") -> str:
        """One node over one cache, whose inputs' names end in `take`."""
        b, s = self.b, self.shape
        past = [f"key_{branch}_{layer}{take}", f"value_{branch}_{layer}{take}"]
        inputs = [qkv, "", "", *past, f"last_slot{take}", f"total_slots{take}"]
        attributes: dict[str, Any] = {}
        if self.kv_scales is not None:
            inputs += ["", "", "", "", ""]
            for part in ("key", "value"):
                inputs.append(b.constant(f"{part}_scale_{layer}", self.kv_scales[f"{part}_{layer}"]))
            attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        for name in past:
            b.output(f"{name}.out", self._cache_type, [1, s.heads, "slots", self.head_dim])
        return b.nodes(
            "GroupQueryAttention",
            inputs,
            [f"attended_{branch}_{layer}{take}", *(f"{name}.out" for name in past)],
            domain=MICROSOFT,
            num_heads=s.heads,
            kv_num_heads=s.heads,
            local_window_size=self.options.window_frames,
            scale=float(self.head_dim**-0.5),
            **attributes,
        )[0]

    def _cross_attention(self, x: str, layer: int) -> str:
        """Rows [1, R, d] of the branch with conditions over the prompt's keys and values."""
        prefix = f"layers.{layer}.encoder_attn."
        query = self._linear(self._pair(x, even=True), f"{prefix}q_proj.weight")
        return self._unpair(self._linear(self._attend_across(query, layer), f"{prefix}out_proj.weight"))

    def _attend_across(self, query: str, layer: int) -> str:
        return self._across(query, layer)

    def _across(self, query: str, layer: int, take: str = "") -> str:
        """Queries [1, R, d] over one prompt, whose inputs' names end in `take`."""
        b = self.b
        per_head = b.constant("per_head", np.array([0, 0, self.shape.heads, self.head_dim], np.int64))
        joined = b.constant("joined", np.array([0, 0, self.shape.dim], np.int64))
        turned = b.node("Transpose", [b.node("Reshape", [query, per_head])], perm=[0, 2, 1, 3])
        scores = b.node("Add", [b.node("MatMul", [turned, f"cross_key_{layer}{take}"]), f"cross_mask{take}"])
        mixed = b.node("MatMul", [b.node("Softmax", [scores], axis=-1), f"cross_value_{layer}{take}"])
        return b.node("Reshape", [b.node("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])

    def _feed_forward(self, x: str, prefix: str) -> str:
        hidden = self._linear(x, f"{prefix}fc1.weight")
        active = self.b.node("Gelu" if self.shape.activation == "gelu" else "Relu", [hidden])
        return self._linear(active, f"{prefix}fc2.weight")

    def _logits(self, hidden: str) -> str:
        """Guided logits [K, V] of the first row."""
        b, s = self.b, self.shape
        row = b.node("Gather", [hidden, b.constant("first_row", np.array(0, np.int64))], axis=1)  # [2, d]
        flat = self._heads(row)
        per_codebook = b.constant("per_codebook", np.array([BRANCHES, s.num_codebooks, s.codebook_size], np.int64))
        return self._guided(b.node("Reshape", [flat, per_codebook]))

    def _guided(self, logits: str) -> str:
        """Logits [2, K, V] of both branches -> [K, V]."""
        b, axis_0 = self.b, self.b.constant("axis_0", np.array([0], np.int64))
        prompted, without = (b.node("Squeeze", [part, axis_0]) for part in self._branches(logits))
        toward = b.node("Mul", [b.node("Sub", [prompted, without]), "guidance"])
        return b.node("Add", [without, toward], out="logits")

    def _heads(self, rows: str) -> str:
        """Rows [..., d] -> logits of all codebooks [..., K * V]."""
        heads = np.concatenate([self.weights[f"lm_heads.{k}.weight"] for k in range(self.shape.num_codebooks)])
        return self._product(rows, "lm_heads", heads)
