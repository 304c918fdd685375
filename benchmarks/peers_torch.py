"""Our decoders in plain torch, behind the interface of a step runtime: what one would write without ONNX.

A peer of `python -m benchmarks.peers`. The same weights, rows, cache layout, window and sampling, driven by the
same step loop (engine/decoder.py), so its tokens are those of the exported graph; eager, or through torch.compile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacca.engine.cache import CacheConfig, SlotCache
from attacca.engine.manifest import Manifest
from attacca.engine.runtime import BRANCHES, PREFILL_ROWS, StepShape
from attacca.export.shapes import TEXT_TOKENS, Shape, manifest_of

Weights = Mapping[str, Any]
_LOW = -1e9


class Stacked(nn.Module):
    """Rotary positions, conditions, RMS norms, SwiGLU (export/decoder.py)."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.w = {name: torch.from_numpy(np.ascontiguousarray(weights[name])) for name in weights}

    def begin(self, stack: Tensor, level: Tensor, timestep: Tensor, cond: Tensor) -> tuple[Tensor, Any]:
        """Rows [2, R, d] of both branches, and the turns of their positions."""
        table, books = self.w["tok_emb"], self.shape.num_codebooks
        tokens = table[torch.arange(books), stack].sum(dim=1)
        plain = tokens + self.w["level_emb"][level]
        half = self.shape.dim // self.shape.heads // 2
        angle = timestep[:, None].double() * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        rows = torch.stack([plain + cond @ self.w["cond.weight"].T, plain])
        return rows, (angle.cos().float(), angle.sin().float())

    def layer(self, index: int, x: Tensor, turn: Any, attend: Any) -> Tensor:
        prefix, (cos, sin) = f"layers.{index}.", turn
        normed = F.rms_norm(x, x.shape[-1:], self.w[prefix + "norm1.weight"], 1e-5)
        q, k, v = _heads(normed @ self.w[prefix + "qkv.weight"].T, self.shape.heads)

        def turned(a: Tensor) -> Tensor:
            first, second = a.chunk(2, dim=-1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

        x = x + attend(index, turned(q), turned(k), v) @ self.w[prefix + "out.weight"].T
        normed = F.rms_norm(x, x.shape[-1:], self.w[prefix + "norm2.weight"], 1e-5)
        gate, up = (normed @ self.w[prefix + "ffn_in.weight"].T).chunk(2, dim=-1)
        return x + (F.silu(gate) * up) @ self.w[prefix + "ffn_out.weight"].T

    def logits(self, x: Tensor, row_of_level: Tensor) -> Tensor:
        """[2, K, V]."""
        x = F.rms_norm(x, x.shape[-1:], self.w["norm.weight"], 1e-5)[:, row_of_level]
        return torch.einsum("bkd,kdv->bkv", x, self.w["heads"])


class Musicgen(nn.Module):
    """Sinusoids, layer norms, attention across to a prompt of zeros on one branch (export/musicgen.py)."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.w = {name: torch.from_numpy(np.ascontiguousarray(weights[name])) for name in weights}
        for index in range(shape.layers):
            prefix = f"layers.{index}.self_attn."
            parts = [self.w.pop(f"{prefix}{part}_proj.weight") for part in "qkv"]
            self.w[prefix + "qkv"] = torch.cat(parts)
        self.w["embed"] = torch.stack([self.w.pop(f"embed_tokens.{k}.weight") for k in range(shape.num_codebooks)])
        self.w["heads"] = torch.stack([self.w.pop(f"lm_heads.{k}.weight") for k in range(shape.num_codebooks)])
        size = shape.dim // shape.heads
        self.across = torch.zeros(1, shape.heads, TEXT_TOKENS, size)

    def begin(self, stack: Tensor, level: Tensor, timestep: Tensor, cond: Tensor) -> tuple[Tensor, Any]:
        """Rows [2, R, d], alike in both branches."""
        half = self.shape.dim // 2
        angle = timestep[:, None].double() * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        place = torch.cat([angle.cos(), angle.sin()], dim=1).float()
        rows = self.w["embed"][torch.arange(self.shape.num_codebooks), stack].sum(dim=1) + place
        return torch.stack([rows, rows]), None

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], 1e-5)

    def layer(self, index: int, x: Tensor, turn: Any, attend: Any) -> Tensor:
        prefix, heads = f"layers.{index}.", self.shape.heads
        q, k, v = _heads(self._norm(x, prefix + "self_attn_layer_norm") @ self.w[prefix + "self_attn.qkv"].T, heads)
        x = x + attend(index, q, k, v) @ self.w[prefix + "self_attn.out_proj.weight"].T
        normed = self._norm(x, prefix + "encoder_attn_layer_norm")[:1]
        (query,) = _heads(normed @ self.w[prefix + "encoder_attn.q_proj.weight"].T, heads, parts=1)
        mixed = F.scaled_dot_product_attention(query, self.across, self.across)
        crossed = mixed.transpose(1, 2).reshape(normed.shape) @ self.w[prefix + "encoder_attn.out_proj.weight"].T
        x = x + torch.cat([crossed, torch.zeros_like(crossed)])
        hidden = F.gelu(self._norm(x, prefix + "final_layer_norm") @ self.w[prefix + "fc1.weight"].T)
        return x + hidden @ self.w[prefix + "fc2.weight"].T

    def logits(self, x: Tensor, row_of_level: Tensor) -> Tensor:
        """[2, K, V] of the first row."""
        return torch.einsum("bd,kvd->bkv", self._norm(x, "layer_norm")[:, 0], self.w["heads"])


def _heads(x: Tensor, heads: int, parts: int = 3) -> tuple[Tensor, ...]:
    """[2, R, parts d] -> parts of [2, H, R, hd]."""
    rows = x.view(x.shape[0], x.shape[1], parts, heads, -1)
    return rows.permute(2, 0, 3, 1, 4).unbind(0)


class TorchStep(nn.Module):
    """Rows in, tokens and guided logits out; keys and values are written into the cache in place."""

    def __init__(self, net: Stacked | Musicgen, window: int) -> None:
        super().__init__()
        self.net, self.window = net, window

    def forward(
        self,
        cache: Tensor,  # [branches, layers, 2, H, S, hd]
        slots: Tensor,  # [R]
        rows: tuple[Tensor, Tensor, Tensor, Tensor],
        row_of_level: Tensor,
        noise: Tensor,
        scalars: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        x, turn = self.net.begin(*rows)
        places = torch.arange(cache.shape[4])
        seen = (places <= slots[:, None]) & (places > slots[:, None] - self.window)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = cache[:, layer, 0], cache[:, layer, 1]
            keys.index_copy_(2, slots, k)
            values.index_copy_(2, slots, v)
            mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen)
            return mixed.transpose(1, 2).reshape(x.shape)

        for index in range(self.net.shape.layers):
            x = self.net.layer(index, x, turn, attend)
        temperature, guidance, top_k = scalars
        prompted, without = self.net.logits(x, row_of_level).unbind(0)
        logits = without + (prompted - without) * guidance
        ordered = logits.sort(dim=1, descending=True).values
        least = ordered.gather(1, (top_k - 1).expand(len(logits))[:, None])
        scored = torch.where(logits >= least, logits + noise * temperature, _LOW)
        return scored.argmax(dim=1), logits


class TorchRuntime:
    """Stands in for a StepRuntime."""

    def __init__(self, weights: Weights, shape: Shape, window: int, *, compiler: str | None = None) -> None:
        """`compiler`: torch.compile's backend; None runs eagerly."""
        self.manifest: Manifest = manifest_of(shape, "fp32", 32, window)
        self.shape = StepShape.of(self.manifest)
        net = Musicgen(weights, shape) if shape.musicgen else Stacked(weights, shape)
        step = TorchStep(net, window)
        self.step = step if compiler is None else torch.compile(step, backend=compiler, dynamic=False)

    def lane(self) -> TorchLane:
        return TorchLane(self)


class TorchLane:
    """Stands in for a StepLane: what PatternDecoder reads and sets."""

    def __init__(self, runtime: TorchRuntime) -> None:
        shape, self._step = runtime.shape, runtime.step
        k, v = shape.num_codebooks, shape.codebook_size
        self.max_rows = max(PREFILL_ROWS, k + 1)
        tensors = 2 * BRANCHES * shape.layers
        sizes = {"heads": shape.heads, "head_dim": shape.head_dim, "window": shape.window}
        self.cache = SlotCache(CacheConfig(tensors=tensors, max_rows=self.max_rows, **sizes))
        live = torch.from_numpy(self.cache.live)
        self._live = live.view(BRANCHES, shape.layers, 2, *live.shape[1:])
        self.noise = np.zeros((k, v), np.float32)
        self.temperature, self.guidance = np.ones(1, np.float32), np.ones(1, np.float32)
        self.top_k = np.full(1, v, np.int64)
        self.tokens, self.logits = np.zeros(k, np.int64), np.zeros((k, v), np.float32)

    def run(
        self, stack: Any, level: Any, timestep: Any, cond: Any, *, slot: int, row_of_level: Any | None = None
    ) -> None:
        """As StepLane's."""
        past = self.cache.place(slot)
        parts = [np.asarray(part) for part in (stack, level, timestep, cond)]
        chosen = np.zeros(len(self.tokens), np.int64) if row_of_level is None else row_of_level
        slots = torch.arange(past, past + len(parts[1]))
        scalars = tuple(torch.from_numpy(value) for value in (self.temperature, self.guidance, self.top_k))
        with torch.inference_mode():
            rows = tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
            tokens, logits = self._step(
                self._live, slots, rows, torch.from_numpy(chosen), torch.from_numpy(self.noise), scalars
            )
        self.tokens[:], self.logits[:] = tokens.numpy(), logits.numpy()
