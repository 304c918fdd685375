"""MusicGen's decoder in torch over laid-out rows, under any codebook pattern, with the names of its checkpoints.

For `attacca train --init`: begins at published delay weights (training/musicgen_weights.py), learns another pattern
on layouts (training/layout.py) and is exported by export/musicgen.py or export/musicgen_stacked.py. Under delay it
is the published model. The stack patterns add `level_emb` [K + 1, d], zeros at first, and positions as in
engine/stacked.py. Then a row whose input and whose context are those of a row of the delay model gives what that
gives: the first timestep's first two codebooks, whatever p. Later ones cannot: the delay model has read codes of
later timesteps there, and draws from the row that took in the last codes, where a query row begins with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attacca.engine.pattern import Pattern
from attacca.engine.stacked import positions
from attacca.export.musicgen import NORM_EPSILON, Weights
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import LEVELS
from attacca.training.decoder_model import LayoutTensors

_POSITION_BASE = 10000.0
_MASKED = -1e9


class Attention(nn.Module):
    """Projections without biases; who sees whom is the caller's matter."""

    def __init__(self, shape: MusicgenShape) -> None:
        super().__init__()
        self.heads = shape.heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(shape.dim, shape.dim, bias=False))

    def split(self, x: Tensor) -> Tensor:
        """[B, n, d] -> [B, H, n, head size]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def query(self, x: Tensor) -> Tensor:
        """Scaled."""
        query = self.split(self.q_proj(x))
        return query * query.shape[-1] ** -0.5

    def out(self, mixed: Tensor) -> Tensor:
        """[B, H, n, head size] -> [B, n, d]."""
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Layer(nn.Module):
    """Pre-norm: attention over rows, attention across to the text, feed-forward."""

    def __init__(self, shape: MusicgenShape) -> None:
        super().__init__()
        self.self_attn, self.encoder_attn = Attention(shape), Attention(shape)
        for name in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"):
            setattr(self, name, nn.LayerNorm(shape.dim, eps=NORM_EPSILON))
        self.fc1 = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.fc2 = nn.Linear(shape.hidden, shape.dim, bias=False)
        self.active = F.gelu if shape.activation == "gelu" else F.relu

    def forward(self, x: Tensor, layout: LayoutTensors, text: Tensor, text_bias: Tensor) -> Tensor:
        """Rows [B, L, d]; text [B, P, d], zeros where there is none; text_bias [B, 1, 1, P]."""
        attention, normed = self.self_attn, self.self_attn_layer_norm(x)
        key, value = (attention.split(part(normed)) for part in (attention.k_proj, attention.v_proj))
        x = x + attention.out(layout.attend(attention.query(normed), key, value))
        across = self.encoder_attn
        key, value = (across.split(part(text)) for part in (across.k_proj, across.v_proj))
        scores = across.query(self.encoder_attn_layer_norm(x)) @ key.transpose(-1, -2) + text_bias
        x = x + across.out(torch.softmax(scores, dim=-1) @ value)
        return x + self.fc2(self.active(self.fc1(self.final_layer_norm(x))))


class MusicgenModel(nn.Module):
    """The network; its state dict has the names and shapes of MusicgenShape.tensors, and `level_emb`."""

    def __init__(self, shape: MusicgenShape, pattern: Pattern, *, window_frames: int) -> None:
        """ValueError for melody weights, and for a pattern of another number of codebooks."""
        super().__init__()
        if not shape.cross:
            raise ValueError(
                "melody checkpoints have their conditions before the tokens: they cannot be trained here"
            )
        if pattern.num_codebooks != shape.num_codebooks:
            raise ValueError(f"pattern has {pattern.num_codebooks} codebooks, the weights {shape.num_codebooks}")
        self.shape, self.pattern, self.window_frames = shape, pattern, window_frames
        books, size, dim = shape.num_codebooks, shape.codebook_size, shape.dim
        self.embed_tokens = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(books))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.layer_norm = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.lm_heads = nn.ModuleList(nn.Linear(dim, size, bias=False) for _ in range(books))
        if shape.projects_text:
            self.enc_to_dec_proj = nn.Linear(shape.text_dim, dim)
        if pattern.family == "stack":
            self.level_emb = nn.Parameter(torch.zeros(books + 1, dim))
        self.recompute = False  # layers again in the backward pass, in place of keeping what they made

    def start(self, weights: Weights) -> None:
        """Take a checkpoint's weights; levels are zeros where it has none. RuntimeError if they do not fit."""
        given = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        if self.pattern.family == "stack":
            given.setdefault(LEVELS, torch.zeros_like(self.level_emb))
        else:
            given.pop(LEVELS, None)
        self.load_state_dict(given)

    def weights(self) -> Weights:
        """As a checkpoint has them, float32."""
        return {name: value.detach().float().cpu().numpy() for name, value in self.state_dict().items()}

    def forward_layout(self, codes: Tensor, text: Tensor, mask: Tensor, layout: LayoutTensors) -> Tensor:
        """codes int [B, T, K], the text encoder's states [B, P, text dim] and their mask [B, P] -> rows [B, L, d].

        Where the mask is zero there is no text; a whole row of zeros is the branch without a prompt.
        """
        flat = F.pad(codes.flatten(1), (0, 1), value=self.shape.codebook_size)
        stack = flat[:, layout.source]
        x = torch.stack([table(stack[..., k]) for k, table in enumerate(self.embed_tokens)]).sum(0)
        x = x + self._placed(layout)
        projected = self.enc_to_dec_proj(text) if self.shape.projects_text else text
        projected = projected * mask[..., None]
        bias = torch.zeros_like(mask).masked_fill(mask == 0, _MASKED)[:, None, None]
        for layer in self.layers:
            if self.recompute and self.training:
                x = checkpoint(layer, x, layout, projected, bias, use_reentrant=False)
            else:
                x = layer(x, layout, projected, bias)
        normed: Tensor = self.layer_norm(x)
        return normed

    def logits(self, outputs: Tensor, codebook: int) -> Tensor:
        """Normed rows [..., d] -> [..., V]."""
        found: Tensor = self.lm_heads[codebook](outputs)
        return found

    def _placed(self, layout: LayoutTensors) -> Tensor:
        """What position and level add to each row, [L, d]."""
        place = layout.timestep.cpu().numpy()
        if self.pattern.family == "stack":
            books, channels = self.shape.num_codebooks, self.shape.audio_channels
            place = positions(place, layout.level.cpu().numpy(), books, channels)
        half = self.shape.dim // 2
        angles = place[:, None] * _POSITION_BASE ** (-np.arange(half, dtype=np.float64) / (half - 1))
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        added = torch.from_numpy(waves).to(layout.timestep.device)
        return added + self.level_emb[layout.level] if self.pattern.family == "stack" else added


def codebook_bits(
    model: MusicgenModel, codes: Tensor, text: Tensor, mask: Tensor, layout: LayoutTensors, *, until: int
) -> Tensor:
    """Mean cross entropy in bits of each codebook [K] over the layout's targets below timestep `until`."""
    outputs = model.forward_layout(codes, text, mask, layout)
    losses = []
    for k, (rows, times) in enumerate(zip(layout.target_rows, layout.target_timesteps, strict=True)):
        counted = times < until
        logits = model.logits(outputs[:, rows[counted]], k)
        wanted = codes[:, times[counted], k]
        losses.append(F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten()))
    return torch.stack(losses) / float(np.log(2.0))


def load_state(model: MusicgenModel, state: Mapping[str, Any]) -> None:
    """Weights of a training checkpoint."""
    model.load_state_dict(dict(state))
