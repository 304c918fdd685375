"""MusicGen's step graph for GPUs: many takes at once, each with its own prompt; shapes fixed, sampling in it.

Beside export/musicgen.py, whose arithmetic it shares, and export/gpu_graph.py, whose inputs and sampling it has.
Only the branch with a prompt attends across to it. Weights with levels are those of stack patterns
(export/musicgen_stacked.py); melody weights attend across to nothing: what they are told comes in as rows.
"""

from __future__ import annotations

import numpy as np
import onnx

from attacca.export.gpu_graph import (
    Weights,
    declare_inputs,
    draw,
    embedded,
    fed_back,
    finish,
    guided,
    logits_by_level,
    visible,
)
from attacca.export.gpu_ops import BRANCHES, GpuExport, GpuOps
from attacca.export.musicgen import NORM_EPSILON
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import LEVELS


def build_gpu_musicgen(
    weights: Weights, shape: MusicgenShape, options: GpuExport, *, window_frames: int, prompt_tokens: int
) -> onnx.ModelProto:
    """The step graph. Inputs as build_gpu_decoder's, but for cos, sin and cond; level and row_of_level with levels.

    Besides, for P prompt tokens: position float32 [T, R, d], cross_key_L and cross_value_L [T, heads, P, hd] in the
    cache's type (keys scaled by hd ** -0.5), cross_mask float32 [T, P] (added to the scores; no lower than -3e4).
    A melody checkpoint has none of these but position, and `given` float32 [T, 2, R, d], added to each branch's
    rows. Without levels outputs are those of each take's first row. ValueError for P that does not fit the shape.
    """
    if (prompt_tokens > 0) != shape.cross:
        raise ValueError(f"prompt_tokens is {prompt_tokens}, allowed: {'1 or more' if shape.cross else 0}")
    ops = GpuOps("attacca_gpu_musicgen", options, heads=shape.heads, head_dim=shape.dim // shape.heads)
    return finish(_Writer(weights, shape, ops, prompt_tokens).write(), window_frames)


class _Writer:
    """One graph under construction."""

    def __init__(self, weights: Weights, shape: MusicgenShape, ops: GpuOps, prompt_tokens: int) -> None:
        self.weights, self.shape, self.ops, self.tokens = weights, shape, ops, prompt_tokens
        self.stacked = LEVELS in weights

    def write(self) -> GpuOps:
        ops, s, o = self.ops, self.shape, self.ops.options
        declare_inputs(ops, s.num_codebooks, s.codebook_size)
        ops.b.input("position", np.float32, [o.takes, o.rows, s.dim])
        if self.stacked:
            ops.b.input("level", np.int32, [o.takes, o.rows])
            ops.b.input("row_of_level", np.int32, [o.takes, s.num_codebooks])
        residual, silent = self._embed()
        delta, mask = "", visible(ops)
        seen = self._prompt_mask() if s.cross else ""
        for layer in range(s.layers):
            prefix = f"layers.{layer}."
            normed, residual = self._norm(residual, delta, f"{prefix}self_attn_layer_norm")
            delta = self._linear(self._self_attention(normed, layer, mask), f"{prefix}self_attn.out_proj.weight")
            if s.cross:
                normed, residual = self._norm(residual, delta, f"{prefix}encoder_attn_layer_norm")
                told = ops.branches(normed, o.rows, s.dim)[0]
                delta = ops.interleaved(self._cross_attention(told, layer, seen), silent, o.rows, s.dim)
            normed, residual = self._norm(residual, delta, f"{prefix}final_layer_norm")
            hidden = self._linear(normed, f"{prefix}fc1.weight")
            active = ops.b.node("Gelu" if s.activation == "gelu" else "Relu", [hidden])
            delta = self._linear(active, f"{prefix}fc2.weight")
        out, _ = self._norm(residual, delta, "layer_norm")
        draw(ops, self._logits(out), s.num_codebooks, s.codebook_size)
        return ops

    def _linear(self, x: str, name: str) -> str:
        return self.ops.linear(x, name, self.weights[name])

    def _norm(self, residual: str, delta: str, name: str) -> tuple[str, str]:
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.ops.norm(residual, delta, name, scale, shift, NORM_EPSILON)

    def _embed(self) -> tuple[str, str]:
        """Rows of all takes [2 T, R, d], both branches alike; and zeros [T, R, d] for the one without a prompt."""
        ops, s, o = self.ops, self.shape, self.ops.options
        tables = np.stack([self.weights[f"embed_tokens.{k}.weight"] for k in range(s.num_codebooks)])
        if not s.cross and tables.shape[1] == s.codebook_size + 1:  # and the token that stands for nothing
            tables = np.pad(tables, ((0, 0), (0, 1), (0, 0)))
        summed = embedded(ops, tables, fed_back(ops, s.num_codebooks))
        rows = ops.b.node("Add", [summed, ops.working("position")])
        if self.stacked:
            table = ops.weight(LEVELS, self.weights[LEVELS])
            rows = ops.b.node("Add", [rows, ops.b.node("Gather", [table, "level"], axis=0)])
        if not s.cross:
            ops.b.input("given", np.float32, [o.takes, BRANCHES, o.rows, s.dim])
            given = ops.reshape(ops.working("given"), BRANCHES * o.takes, o.rows, s.dim)
            return ops.b.node("Add", [ops.both(rows), given]), ""
        silent = ops.b.constant("silent", np.zeros((o.takes, o.rows, s.dim), ops.dtype))
        return ops.both(rows), silent

    def _prompt_mask(self) -> str:
        """What is added to the scores, [T, 1, R, P]."""
        ops, o = self.ops, self.ops.options
        ops.b.input("cross_mask", np.float32, [o.takes, self.tokens])
        mask = ops.reshape(ops.working("cross_mask"), o.takes, 1, 1, self.tokens)
        return mask if o.rows == 1 else ops.b.node("Expand", [mask, ops.ints(o.takes, 1, o.rows, self.tokens)])

    def _self_attention(self, x: str, layer: int, mask: str) -> str:
        ops, s, prefix = self.ops, self.shape, f"layers.{layer}.self_attn."
        stacked = np.concatenate([self.weights[f"{prefix}{part}_proj.weight"] for part in "qkv"])
        parts = ops.split(ops.linear(x, f"{prefix}qkv", stacked), [s.dim] * 3, 2)
        keys = ops.cached(f"key_{layer}", ops.per_head(parts[1]))
        values = ops.cached(f"value_{layer}", ops.per_head(parts[2]))
        return ops.attend(ops.query(parts[0]), keys, values, mask)

    def _cross_attention(self, told: str, layer: int, mask: str) -> str:
        """Rows [T, R, d] of the branch with a prompt, over its keys and values."""
        ops, s, o, prefix = self.ops, self.shape, self.ops.options, f"layers.{layer}.encoder_attn."
        names = [f"cross_{part}_{layer}" for part in ("key", "value")]
        for name in names:
            ops.b.input(name, ops.dtype, [o.takes, s.heads, self.tokens, ops.head_dim])
        query = ops.query(self._linear(told, f"{prefix}q_proj.weight"), branches=1)
        return self._linear(ops.attend_across(query, *names, mask), f"{prefix}out_proj.weight")

    def _logits(self, hidden: str) -> str:
        """Guided logits [T, K, V] of each take's first row; with levels, of the row that row_of_level names."""
        ops, s, o = self.ops, self.shape, self.ops.options
        if self.stacked:
            each = np.stack([self.weights[f"lm_heads.{k}.weight"].T for k in range(s.num_codebooks)])
            return guided(ops, logits_by_level(ops, hidden, each), s.num_codebooks, s.codebook_size)
        row = hidden
        if o.rows > 1:
            row = ops.split(hidden, [1, o.rows - 1], 1)[0]
        heads = np.concatenate([self.weights[f"lm_heads.{k}.weight"] for k in range(s.num_codebooks)])
        flat = ops.reshape(row, BRANCHES * o.takes, s.dim)
        logits = ops.reshape(
            ops.linear(flat, "lm_heads", heads), BRANCHES * o.takes, s.num_codebooks, s.codebook_size
        )
        return guided(ops, logits, s.num_codebooks, s.codebook_size)
