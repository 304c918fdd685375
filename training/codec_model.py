"""The codec's networks: a causal frame-rate autoencoder of log-amplitude spectra.

Between the front end (`attacca.engine.spectral`) and the quantiser. ConvNeXt-like blocks (Liu et al. 2022) with
causal depthwise convolutions; the outer projections start as a PCA of the data, so training starts from the best
linear codec and not from noise.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from attacca.engine.spectral import SpectralConfig

_PAN_WEIGHT = 0.5  # of a pan band in the PCA, where a level's is 1 on average


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Sizes of the codec; every one travels to the bundle's manifest."""

    sample_rate: int = 32000
    num_codebooks: int = 4
    codebook_size: int = 1024
    channels: int = 384
    expansion: int = 4
    kernel: int = 7
    encoder_blocks: int = 3
    decoder_blocks: int = 4
    latent_dim: int = 64
    spectral: SpectralConfig = field(default_factory=SpectralConfig)

    def __post_init__(self) -> None:
        limits = {
            "sample_rate": (8000, 192000),
            "num_codebooks": (1, 32),
            "codebook_size": (2, 65536),
            "channels": (4, 4096),
            "expansion": (1, 16),
            "kernel": (2, 63),
            "encoder_blocks": (0, 64),
            "decoder_blocks": (0, 64),
            "latent_dim": (1, self.channels),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed {low}..{high}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodecConfig:
        """Inverse of `to_dict`. Raises TypeError on unknown names, ValueError on values out of range."""
        return cls(**{**values, "spectral": SpectralConfig(**values["spectral"])})


def v1_config() -> CodecConfig:
    """48 kHz stereo, six codebooks, 3 kbit/s."""
    spectral = SpectralConfig(
        hop_samples=960, sub_hop_samples=480, window_samples=3072, linear_bins=512, group_bins=8, pan_bands=20
    )
    return CodecConfig(sample_rate=48000, num_codebooks=6, latent_dim=96, spectral=spectral)


def tiny_config() -> CodecConfig:
    """A few kilobytes of weights, for tests and the tiny bundle."""
    return CodecConfig(
        codebook_size=16,
        channels=16,
        expansion=2,
        kernel=3,
        encoder_blocks=1,
        decoder_blocks=1,
        latent_dim=8,
        spectral=SpectralConfig(window_samples=1280, linear_bins=64, group_bins=16),
    )


def band_weights(config: CodecConfig) -> np.ndarray:
    """[width] weight of each value. Of levels, mean 1: density of the mel scale, so that bass and tones count."""
    spectral = config.spectral
    centres = spectral.band_starts + (spectral.band_widths - 1) / 2
    hz = centres * config.sample_rate / spectral.window_samples
    weights = spectral.band_widths / (700.0 + hz)
    weights = weights / weights.mean()
    pans = np.full(spectral.width - spectral.level_width, _PAN_WEIGHT)
    return np.concatenate([np.tile(weights, spectral.sub_frames), pans]).astype(np.float32)


class Block(nn.Module):
    """Causal depthwise convolution, layer norm, two linear layers, scaled residual; [B, T, C] to the same."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels, hidden = config.channels, config.channels * config.expansion
        self.past = config.kernel - 1
        self.mix = nn.Conv1d(channels, channels, config.kernel, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, hidden)
        self.narrow = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(functional.pad(x.transpose(1, 2), (self.past, 0))).transpose(1, 2)
        return x + self.scale * self.narrow(functional.gelu(self.widen(self.norm(mixed))))


class Encoder(nn.Module):
    """Frames [B, T, width] -> latents [B, T, latent_dim]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.spectral.width, config.channels)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.encoder_blocks)])
        self.leave = nn.Linear(config.channels, config.latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


class Decoder(nn.Module):
    """Latents [B, T, latent_dim] -> frames [B, T, width]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.latent_dim, config.channels)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.decoder_blocks)])
        self.leave = nn.Linear(config.channels, config.spectral.width)

    def forward(self, z: Tensor) -> Tensor:
        x = self.enter(z)
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


class CodecNet(nn.Module):
    """Encoder and decoder with the data's normalisation (buffers, saved with the weights)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        mean = torch.zeros(config.spectral.width)
        mean[: config.spectral.level_width] = math.log(config.spectral.floor)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", torch.ones(()))

    def encode(self, log_amplitudes: Tensor) -> Tensor:
        """Levels and pans [B, T, width] in nats -> latents [B, T, latent_dim]."""
        return self.encoder((log_amplitudes - self.mean) / self.deviation)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, T, latent_dim] -> levels and pans [B, T, width] in nats."""
        return self.decoder(latents).float() * self.deviation + self.mean

    @torch.no_grad()
    def start_from_pca(self, frames: np.ndarray) -> None:
        """Set the normalisation and the four projections from frames [N, width]; blocks stay random."""
        weights = np.sqrt(band_weights(self.config))
        mean = frames.mean(axis=0)
        deviation = float(frames[:, : self.config.spectral.level_width].std())
        scaled = (frames - mean) / deviation * weights
        values, vectors = np.linalg.eigh(np.cov(scaled, rowvar=False).astype(np.float64))
        channels, latent = self.config.channels, self.config.latent_dim
        take = min(channels, len(values))
        values = np.maximum(values[::-1][:take], 1e-6)
        vectors = vectors[:, ::-1][:, :take]
        gain = values**-0.25  # half-whitened: small components are heard by the blocks, large ones stay large
        into = np.zeros((channels, len(weights)))
        into[:take] = (vectors * weights[:, None] * gain).T
        out = np.zeros((len(weights), channels))
        out[:, :take] = vectors / weights[:, None] / gain
        self.mean.copy_(torch.from_numpy(mean.astype(np.float32)))
        self.deviation.fill_(deviation)
        eye = torch.eye(channels)
        for layer, weight in (
            (self.encoder.enter, torch.from_numpy(into)),
            (self.encoder.leave, eye[:latent]),
            (self.decoder.enter, eye[:, :latent]),
            (self.decoder.leave, torch.from_numpy(out)),
        ):
            layer.weight.copy_(weight)
            layer.bias.zero_()
