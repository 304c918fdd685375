"""MusicGen's step graph under the stack patterns: rows with levels, each codebook's head on a row of its own.

Beside export/musicgen.py, of whose graph it changes what comes in and what goes out; the layers are the same. The
weights are those of a checkpoint and `level_emb` float32 [K + 1, d], which training/musicgen_model.py adds.
"""

from __future__ import annotations

import numpy as np
import onnx

from attacca.export.musicgen import MusicgenExport, StepWriter, Weights
from attacca.export.musicgen_checkpoint import MusicgenShape

LEVELS = "level_emb"


def build_stacked_step(
    weights: Weights, shape: MusicgenShape, options: MusicgenExport, kv_scales: Weights | None = None
) -> onnx.ModelProto:
    """As build_step, with two more inputs: level int64 [R] and row_of_level int64 [K].

    ValueError for melody weights.
    """
    if not shape.cross:
        raise ValueError("melody weights have their conditions before the tokens: not made for stack patterns")
    return _StackedWriter(weights, shape, options, kv_scales).write()


class _StackedWriter(StepWriter):
    """One graph under construction."""

    repeats_row = False  # a step has several

    def _declare_inputs(self) -> None:
        super()._declare_inputs()
        self.b.input("level", np.int64, ["rows"])
        self.b.input("row_of_level", np.int64, [self.shape.num_codebooks])

    def _position(self) -> str:
        """Few values, added to every row: never quantized."""
        table = self.b.constant(LEVELS, self.weights[LEVELS].astype(np.float32))
        return self.b.node("Add", ["position", self.b.node("Gather", [table, "level"], axis=0)])

    def _logits(self, hidden: str) -> str:
        """Guided logits [K, V]: each codebook's head reads the row that row_of_level names, in both branches."""
        b, s = self.b, self.shape
        rows = b.node("Transpose", [b.node("Gather", [hidden, "row_of_level"], axis=1)], perm=[1, 0, 2])
        ones = b.constant("split_levels", np.ones(s.num_codebooks, np.int64))
        each = [rows] if s.num_codebooks == 1 else b.nodes("Split", [rows, ones], s.num_codebooks, axis=0)
        logits = [self._linear(x, f"lm_heads.{k}.weight") for k, x in enumerate(each)]
        # [K, 2, V], branches first
        return self._guided(b.node("Transpose", [b.node("Concat", logits, axis=0)], perm=[1, 0, 2]))
