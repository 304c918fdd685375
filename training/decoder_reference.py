"""Step-by-step decoding in plain torch: the slow, obvious reference for training and export, used by tests only.

Feeds the rows of a `Schedule` one step at a time with a Python list of kept rows per layer, as the runtime
(engine/decoder.py) does with its cache, window included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacca.engine.schedule import ContextRows, StepRows
from attacca.training.decoder_model import HEAD_DIM, Decoder, rotary_table, rotate


class ReferenceStepper:
    """One sequence (batch 1). `cond` [frames, C] is indexed by timestep + 1, so that BOS has a frame."""

    def __init__(self, model: Decoder, cond: Tensor) -> None:
        self.model, self.cond = model, cond
        self.keys: list[list[Tensor]] = [[] for _ in model.layers]  # per layer, per slot [H, 64]
        self.values: list[list[Tensor]] = [[] for _ in model.layers]

    def prefill(self, rows: ContextRows) -> None:
        """Feeds rows one at a time; each is kept."""
        for stack, level, timestep in zip(*rows, strict=True):
            self._feed(torch.from_numpy(stack)[None], [int(level)], [int(timestep)], keep=1)

    def step(self, rows: StepRows) -> Tensor:
        """Feeds a step -> logits [K, V]; those of codebooks without a target mean nothing."""
        if rows.rewrite:
            for kept in self.keys + self.values:
                kept.pop()
        outputs = self._feed(torch.from_numpy(rows.stack), rows.level.tolist(), rows.timestep.tolist(), keep=1)
        return torch.stack([self.model.logits(outputs[row], k) for k, row in enumerate(rows.row_of_level)])

    def _feed(self, stack: Tensor, level: list[int], timestep: list[int], keep: int) -> Tensor:
        model = self.model
        times = torch.tensor(timestep)
        x = model.embed(stack[None], torch.tensor(level), self.cond[None, times + 1])[0]
        rotary = rotary_table(times)
        for layer, keys, values in zip(model.layers, self.keys, self.values, strict=True):
            qkv = layer.qkv(layer.norm1(x)).view(len(level), 3, layer.heads, HEAD_DIM).permute(1, 2, 0, 3)
            q, k, v = rotate(qkv[0], rotary), rotate(qkv[1], rotary), qkv[2]
            length, mixed = len(keys), []
            for row in range(len(level)):
                keys.append(k[:, row])
                values.append(v[:, row])
                oldest = max(0, length + row + 1 - model.config.window_frames)
                scores = torch.einsum("hd,shd->hs", q[:, row], torch.stack(keys[oldest:])) * HEAD_DIM**-0.5
                mixed.append(torch.einsum("hs,shd->hd", scores.softmax(-1), torch.stack(values[oldest:])).flatten())
            del keys[length + keep :], values[length + keep :]
            x = x + layer.out(torch.stack(mixed))
            a, b = layer.ffn_in(layer.norm2(x)).chunk(2, dim=-1)
            x = x + layer.ffn_out(torch.nn.functional.silu(a) * b)
        return model.norm(x)
