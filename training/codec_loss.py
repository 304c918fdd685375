"""What the codec's training holds the decoded frames against: levels and pans of the truth, by what is heard.

Used by training/codec_train.py in every stage, beside training/adversarial.py in the last.
"""

from __future__ import annotations

import torch
from torch import Tensor

PAN_LOSS, FAR_NATS = 0.15, 3.0


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
