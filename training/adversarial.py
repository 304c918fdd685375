"""Discriminators over maps of levels at several resolutions, for the last stage of the codec's training.

Used by training/codec_train.py where --adversarial-minutes asks for it. The codec's decoder gives levels in bands
and pans, and phase comes from the vocoder at run time; so what is judged here is the picture of a spectrum, in
patches (Isola et al. 2017), at several resolutions in time and frequency (Jang et al. 2021, "UnivNet"; Défossez et
al. 2022, "EnCodec", whose convolutions dilated in time these are), by the hinge loss (Lim and Ye 2017) or least
squares (Mao et al. 2017), with feature matching (Larsen et al. 2016; Kumar et al. 2019, "MelGAN").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from attacca.engine.spectral import SpectralConfig
from attacca.training.codec_loss import FAR_NATS
from attacca.training.codec_model import CodecConfig

_SLOPE = 0.2
_LOSSES = ("hinge", "least-squares")


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Weights are relative to the spectral loss, which stays with weight 1."""

    loss: str = "hinge"
    adversarial: float = 0.1
    features: float = 0.5
    learning_rate: float = 2e-4  # of the discriminators
    decoder_learning_rate: float = 1e-4
    warm_up: int = 200  # updates of the discriminators alone, then as many in which their weight rises
    every: int = 1  # updates of the decoder for one of the discriminators
    channels: int = 32
    resolutions: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (1, 4), (4, 4))  # (sub-frames, bands) averaged

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise ValueError(f"loss is {self.loss!r}, allowed: {', '.join(_LOSSES)}")
        for name in ("adversarial", "features"):
            if not 0.0 <= getattr(self, name) <= 100.0:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed 0..100")
        for name in ("learning_rate", "decoder_learning_rate"):
            if not 0.0 < getattr(self, name) <= 0.01:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: above 0, up to 0.01")
        for name, low in (("warm_up", 0), ("every", 1), ("channels", 2)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: {low} and up")
        if not self.resolutions or any(min(pair) < 1 or len(pair) != 2 for pair in self.resolutions):
            raise ValueError(f"resolutions are {self.resolutions}, allowed: pairs of 1 and up")

    def share(self, updates: int) -> float:
        """What part of the adversarial weights counts after so many updates: 0 in the warm-up, then rising to 1."""
        return min(1.0, max(0, updates - self.warm_up) / max(1, self.warm_up))


class Maps(nn.Module):
    """Frames [B, T, width] -> maps [B, C, T * sub_frames, bands]: levels, pans if stereo, place of the band."""

    mean: Tensor
    band_of_pan: Tensor
    place: Tensor

    def __init__(self, config: CodecConfig, mean: Tensor, deviation: Tensor) -> None:
        """mean [width] and deviation [] are the codec's normalisation."""
        super().__init__()
        spectral = config.spectral
        self.spectral: SpectralConfig = spectral
        self.register_buffer("mean", mean.detach().clone())
        self.deviation = float(deviation)
        middle = spectral.band_starts + spectral.band_widths // 2
        pans = np.searchsorted(spectral.pan_edges, middle, side="right") - 1 if spectral.pan_bands else middle * 0
        self.register_buffer("band_of_pan", torch.from_numpy(pans.astype(np.int64)))
        self.register_buffer("place", torch.linspace(-1.0, 1.0, spectral.num_bands))

    @property
    def channels(self) -> int:
        return 3 if self.spectral.pan_bands else 2

    def forward(self, frames: Tensor) -> Tensor:
        spectral, (batch, count, _) = self.spectral, frames.shape
        times, level_width = count * spectral.sub_frames, spectral.level_width
        levels = (frames[..., :level_width] - self.mean[:level_width]) / self.deviation
        maps = [levels.reshape(batch, times, spectral.num_bands)]
        if spectral.pan_bands:
            pans = frames[..., level_width:].reshape(batch, times, spectral.pan_bands) / FAR_NATS
            maps.append(torch.tanh(pans)[..., self.band_of_pan])
        maps.append(self.place.expand(batch, times, -1))
        return torch.stack(maps, dim=1)


class Patches(nn.Module):
    """One discriminator: maps [B, C, t, f] averaged over `pool` -> features of each layer, logits last."""

    def __init__(self, in_channels: int, channels: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.pool = pool
        layers = [nn.Conv2d(in_channels, channels, (3, 9), stride=(1, 2), padding=(1, 4))]
        for dilation in (1, 2, 4):
            padding = (dilation, 4)
            layers.append(
                nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=padding)
            )
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, 1, 3, padding=1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, maps: Tensor) -> list[Tensor]:
        x = F.avg_pool2d(maps, self.pool, ceil_mode=True)
        found = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), _SLOPE)
            found.append(x)
        return [*found, self.layers[-1](x)]


class Discriminators(nn.Module):
    """All resolutions over the same maps."""

    def __init__(self, config: AdversarialConfig, codec: CodecConfig, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.maps = Maps(codec, mean, deviation)
        self.parts = nn.ModuleList(
            Patches(self.maps.channels, config.channels, pool) for pool in config.resolutions
        )

    def forward(self, frames: Tensor) -> list[list[Tensor]]:
        """Frames [B, T, width] in nats -> features of each discriminator."""
        maps = self.maps(frames)
        return [part(maps) for part in self.parts]


def discriminator_loss(real: list[list[Tensor]], made: list[list[Tensor]], loss: str) -> Tensor:
    """Mean over the discriminators: what is real should score 1 and up (1), what is made -1 and down (0)."""
    parts = []
    for truth, guess in zip(real, made, strict=True):
        yes, no = truth[-1].float(), guess[-1].float()
        if loss == "hinge":
            parts.append(F.relu(1.0 - yes).mean() + F.relu(1.0 + no).mean())
        else:
            parts.append((yes - 1.0).square().mean() + no.square().mean())
    return torch.stack(parts).mean()


def generator_loss(real: list[list[Tensor]], made: list[list[Tensor]], loss: str) -> tuple[Tensor, Tensor]:
    """Adversarial loss of what is made, and distance of its features from the real ones' relative to their size."""
    scores, apart = [], []
    for truth, guess in zip(real, made, strict=True):
        logits = guess[-1].float()
        scores.append(-logits.mean() if loss == "hinge" else (logits - 1.0).square().mean())
        for a, b in zip(truth[:-1], guess[:-1], strict=True):
            wanted = a.detach().float()
            apart.append((b.float() - wanted).abs().mean() / wanted.abs().mean().clamp(min=1e-4))
    return torch.stack(scores).mean(), torch.stack(apart).mean()


class Opponent:
    """The discriminators in training: their optimiser, the updates so far, and what they hold against a batch."""

    def __init__(
        self, config: AdversarialConfig, codec: CodecConfig, mean: Tensor, deviation: Tensor, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.net = Discriminators(config, codec, mean.cpu(), deviation.cpu()).to(device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=config.learning_rate, betas=(0.5, 0.9))
        self.updates = 0

    def learn(self, real: Tensor, made: Tensor) -> float:
        """An update on frames [B, T, width], every so many calls; its loss (nan where there was none)."""
        self.updates += 1
        if self.updates % self.config.every:
            return float("nan")
        self.net.requires_grad_(True)
        with self._half():
            loss = discriminator_loss(self.net(real), self.net(made.detach()), self.config.loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()
        return float(loss.detach())

    def against(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be added to the decoder's loss, gradients flowing into `made`; the adversarial loss alone."""
        self.net.requires_grad_(False)
        with self._half():
            with torch.no_grad():
                truth = self.net(real)
            score, apart = generator_loss(truth, self.net(made), self.config.loss)
        share = self.config.share(self.updates)
        return share * (self.config.adversarial * score + self.config.features * apart), score.detach()

    def _half(self) -> torch.autocast:
        """bfloat16 on a GPU; on a CPU small convolutions are slower in it than in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type != "cpu")

    def state(self) -> dict[str, Any]:
        """For the codec's checkpoint."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`. RuntimeError if its discriminators have other sizes."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])
