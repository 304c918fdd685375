"""The decoder: a causal transformer over rows, one level embedding and one head per codebook.

Trained by training/decoder_train.py on laid-out sequences (training/layout.py) and exported by export/decoder.py,
which reads the weights by name:

| name | shape | |
|-|-|-|
| tok_emb | [K, V + 1, d] | token embeddings, summed over codebooks; index V is the mask |
| level_emb | [K + 1, d] | query row: k; memory row: K |
| cond.weight | [d, C] | conditioning of the row's frame, no bias: a dropped row (zeros) adds nothing |
| layers.N.norm1.weight, layers.N.norm2.weight, norm.weight | [d] | RMSNorm before attention, FFN and heads |
| layers.N.qkv.weight | [3 d, d] | q, k, v; each heads x 64 |
| layers.N.out.weight | [d, d] | |
| layers.N.ffn_in.weight | [2 f, d] | SwiGLU: silu(a) * b, a first |
| layers.N.ffn_out.weight | [d, f] | |
| heads | [K, d, V] | logits of codebook k = norm(x) @ heads[k] |

Rotary positions are timesteps (head dim 64, base 10000, split halves); attention scale is 1 / 8; a bundle's heads
of another width turn and scale by theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacca.engine.pattern import Pattern, make_pattern
from attacca.training.layout import Layout

HEAD_DIM = 64
ROTARY_BASE = 10000.0
NORM_EPS = 1e-5
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q (scaled), k, v [B, H, L, head_dim] -> the same


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of a decoder. `window_frames` W counts cache slots: a row in slot i sees those above i - W."""

    num_codebooks: int
    codebook_size: int
    dim: int
    layers: int
    heads: int
    ffn_dim: int
    cond_width: int
    pattern: str
    p: int
    window_frames: int

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % (8 * self.heads):
            raise ValueError(f"dim is {self.dim}, must be heads = {self.heads} times a multiple of 8")
        for name in ("codebook_size", "layers", "ffn_dim", "cond_width", "window_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 1 or more")
        self.make_pattern()

    @property
    def head_dim(self) -> int:
        """Width of a head: HEAD_DIM in what `sized` makes, another in bundles from elsewhere."""
        return self.dim // self.heads

    def make_pattern(self) -> Pattern:
        """The codebook pattern, validated."""
        return make_pattern(self.pattern, self.num_codebooks, p=self.p)

    def as_dict(self) -> dict[str, Any]:
        """For checkpoints and manifests."""
        return asdict(self)


def sized(size: str, **rest: Any) -> DecoderConfig:
    """Config from "6x384" (layers x dim): SwiGLU width 8/3 dim, rounded to 64."""
    layers, dim = (int(part) for part in size.split("x"))
    ffn_dim = max(64, round(dim * 8 / 3 / 64) * 64)
    return DecoderConfig(layers=layers, dim=dim, heads=dim // HEAD_DIM, ffn_dim=ffn_dim, **rest)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPS)


class Layer(nn.Module):
    """Pre-norm attention and SwiGLU, no biases."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim, ffn = config.dim, config.ffn_dim
        self.heads, self.head_dim = config.heads, config.head_dim
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.ffn_in = nn.Linear(dim, 2 * ffn, bias=False)
        self.ffn_out = nn.Linear(ffn, dim, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """x [B, L, d]; rotary: cos, sin [L or B x L, head_dim / 2]."""
        batch, rows, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, rows, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = attend(rotate(q, rotary) * self.head_dim**-0.5, rotate(k, rotary), v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, rows, dim))
        a, b = self.ffn_in(self.norm2(x)).chunk(2, dim=-1)
        return x + self.ffn_out(F.silu(a) * b)


def rotary_table(timestep: Tensor, head_dim: int = HEAD_DIM) -> tuple[Tensor, Tensor]:
    """cos and sin [..., head_dim / 2] of integer timesteps, in float64 first: takes are long."""
    half = head_dim // 2
    exponent = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angle = timestep[..., None].to(torch.float64) * ROTARY_BASE**-exponent
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates the halves of the last axis: (x1 cos - x2 sin, x2 cos + x1 sin)."""
    cos, sin = rotary[0].to(x.dtype), rotary[1].to(x.dtype)
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


class Decoder(nn.Module):
    """The network; see the module's docstring for its weights."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        books, size, dim = config.num_codebooks, config.codebook_size, config.dim
        self.tok_emb = nn.Parameter(torch.randn(books, size + 1, dim) * 0.1)
        self.level_emb = nn.Parameter(torch.randn(books + 1, dim) * 0.1)
        self.cond = nn.Linear(config.cond_width, dim, bias=False)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(dim)
        self.heads = nn.Parameter(torch.randn(books, dim, size) * 0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "ffn_out.weight")):
                nn.init.zeros_(weight)
            elif name.endswith(("qkv.weight", "ffn_in.weight", "cond.weight")):
                nn.init.normal_(weight, std=0.5 * dim**-0.5)

    def token_table(self) -> Tensor:
        """Embeddings [K, V + 1, d]."""
        return self.tok_emb

    def head(self, codebook: int) -> Tensor:
        """[d, V]: logits are normed outputs times this."""
        return self.heads[codebook]

    def embed(self, stack: Tensor, level: Tensor, cond: Tensor) -> Tensor:
        """stack int [B, L, K], level int [L] or [B, L], cond [B, L, C] -> [B, L, d]."""
        table = self.token_table()
        books, vocabulary, dim = table.shape
        index = stack + vocabulary * torch.arange(books, device=stack.device)
        tokens = F.embedding_bag(index.reshape(-1, books), table.reshape(-1, dim), mode="sum")
        return tokens.view(*stack.shape[:-1], dim) + self.level_emb[level] + self.cond(cond)

    def trunk(self, x: Tensor, timestep: Tensor, attend: Attend) -> Tensor:
        """Rows [B, L, d] at timesteps [L] -> normed outputs [B, L, d]."""
        rotary = rotary_table(timestep, self.config.head_dim)
        for layer in self.layers:
            x = layer(x, rotary, attend)
        return self.norm(x)

    def forward_rows(self, stack: Tensor, level: Tensor, timestep: Tensor, cond: Tensor, mask: Tensor) -> Tensor:
        """The plain form: any rows under any mask bool [L, L] -> normed outputs [B, L, d]."""

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            scores = (q @ k.transpose(-1, -2)).masked_fill(~mask, float("-inf"))
            return torch.softmax(scores, dim=-1) @ v

        return self.trunk(self.embed(stack, level, cond), timestep, attend)

    def forward_layout(self, codes: Tensor, cond: Tensor, layout: LayoutTensors) -> Tensor:
        """codes int [B, T, K] and cond [B, T + 1, C] of timesteps -1 .. T - 1 -> normed outputs [B, L, d].

        Equal to `forward_rows` on the laid-out rows, in a form whose cost does not grow with rows x rows.
        """
        flat = F.pad(codes.flatten(1), (0, 1), value=self.config.codebook_size)
        stack = flat[:, layout.source]
        rows = self.embed(stack, layout.level, cond[:, layout.timestep + 1])
        return self.trunk(rows, layout.timestep, layout.attend)

    def logits(self, outputs: Tensor, codebook: int) -> Tensor:
        """Normed outputs [..., d] -> [..., V]."""
        return outputs @ self.head(codebook)


class LayoutTensors:
    """A Layout on a device, and attention over it: memory rows for all, the step's own rows for query rows."""

    def __init__(self, layout: Layout, device: torch.device, dtype: torch.dtype) -> None:
        self.num_memory, self.num_timesteps = layout.num_memory, layout.num_timesteps
        self.num_steps, self.size = layout.step_mask.shape[:2]
        self.source = torch.from_numpy(layout.source).to(device)
        self.level = torch.from_numpy(layout.level).to(device)
        self.timestep = torch.from_numpy(layout.timestep).to(device)
        self.memory_bias = _bias(layout.memory_mask, device, dtype)
        self.step_bias = _bias(layout.step_mask, device, dtype)
        self.target_rows = [torch.from_numpy(rows).to(device) for rows in layout.target_rows]
        self.target_timesteps = [torch.from_numpy(times).to(device) for times in layout.target_timesteps]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax over both parts at once; q is scaled. [B, H, L, head_dim] each."""
        memory = self.num_memory
        kept_k, kept_v = k[:, :, :memory], v[:, :, :memory]
        scores = q @ kept_k.transpose(-1, -2) + self.memory_bias
        if not self.num_steps:
            return torch.softmax(scores, dim=-1) @ kept_v
        batch, heads, rows, width = q.shape
        grid = (batch, heads, self.num_steps, self.size)
        step_q, step_k, step_v = (x[:, :, memory:].reshape(*grid, width) for x in (q, k, v))
        own = (step_q @ step_k.transpose(-1, -2) + self.step_bias).view(batch, heads, rows - memory, self.size)
        of_memory = torch.softmax(scores[:, :, :memory], dim=-1) @ kept_v
        weights = torch.softmax(torch.cat([scores[:, :, memory:], own], dim=-1), dim=-1)
        of_steps = weights[..., memory:].reshape(*grid, self.size) @ step_v
        of_queries = weights[..., :memory] @ kept_v + of_steps.view(batch, heads, rows - memory, width)
        return torch.cat([of_memory, of_queries], dim=2)


def _bias(mask: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bool mask -> 0 where seen, -inf where not."""
    seen = torch.from_numpy(mask).to(device)
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, float("-inf"))
