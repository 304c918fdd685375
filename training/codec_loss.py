"""What the codec's training holds the decoded frames against: levels and pans of the truth, by what is heard.

Used by training/codec_train.py in every stage, beside training/adversarial.py in the last.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from attacca.training.codec_model import CodecConfig, band_weights

PAN_LOSS, FAR_NATS = 0.15, 3.0
ENERGY_LOSS, _ENERGY_BANDS = 0.5, 24  # about one per critical band


def spectral_loss(guess: Tensor, truth: Tensor, weights: Tensor, level_width: int) -> tuple[Tensor, Tensor]:
    """L1 of log amplitudes (nats), of compressed amplitudes (the loud counts more) and of pans; the first alone."""
    apart = (guess - truth).abs()
    level, guess, truth = weights[:level_width], guess[..., :level_width], truth[..., :level_width]
    log_l1 = (apart[..., :level_width] * level).mean()
    loud_l1 = ((torch.exp(0.4 * guess.clamp(max=3.0)) - torch.exp(0.4 * truth)).abs() * level).mean()
    loss = log_l1 + 4.0 * loud_l1
    if apart.shape[-1] > level_width:  # what stands far to one side has an uncertain pan: it counts only so much
        loss = loss + PAN_LOSS * apart[..., level_width:].clamp(max=FAR_NATS).mean()
    return loss, log_l1


class Energy:
    """L1 of the log energy in wide bands, in nats of amplitude.

    Where codes leave open in which bin a tone stands, the L1 of single bins is least at their median: too quiet,
    and a lone tone most of all. The energy of a critical band is what is heard of its level, wherever in it the
    tone is.
    """

    def __init__(self, config: CodecConfig, device: torch.device) -> None:
        spectral = config.spectral
        self._shape = (spectral.sub_frames, spectral.num_bands)
        self._floor = spectral.floor**2
        share = np.cumsum(band_weights(config)[: spectral.num_bands].astype(np.float64))
        group = np.minimum((_ENERGY_BANDS * share / share[-1]).astype(int), _ENERGY_BANDS - 1)
        widths = np.zeros((spectral.num_bands, _ENERGY_BANDS), np.float32)
        widths[np.arange(spectral.num_bands), group] = spectral.band_widths
        self._widths = torch.from_numpy(widths[:, widths.any(axis=0)]).to(device)

    def _log_energy(self, frames: Tensor) -> Tensor:
        levels = frames[..., : self._shape[0] * self._shape[1]].unflatten(-1, self._shape).clamp(max=3.0)
        return 0.5 * torch.log(torch.exp(2.0 * levels) @ self._widths + self._floor)

    def __call__(self, guess: Tensor, truth: Tensor) -> Tensor:
        """Frames [..., width] in nats -> scalar."""
        return (self._log_energy(guess) - self._log_energy(truth)).abs().mean()
