"""The codec's training crops drawn on the device itself: all frames in its memory, in half precision.

In place of `Songs.crops` (training/codec_data.py) where there is a GPU, whose updates would wait for the
processor's exponentials. One frame of geometry v1 is 2640 bytes: 6000 songs of 44 s are 35 GB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from attacca.training.codec_data import Songs


class DeviceCrops:
    """The frames of `songs` on a device; crops as theirs, at random levels."""

    def __init__(self, songs: Songs, device: torch.device) -> None:
        """Moves the frames song by song; `songs` may then drop its own."""
        self.floor, self.level_width = songs.floor, songs.level_width
        lengths = np.array([len(frames) for frames in songs.frames])
        self.starts, self.lengths = np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths
        width = songs.frames[0].shape[1]
        self.frames = torch.empty((int(lengths.sum()), width), dtype=torch.float16, device=device)
        for start, frames in zip(self.starts, songs.frames, strict=True):
            self.frames[start : start + len(frames)] = torch.from_numpy(frames).to(device)

    def crops(self, batch: int, length: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Endless batches float32 [batch, length, width] at random levels; one crop in fifty is near silence."""
        device, silent = self.frames.device, math.log(self.floor)
        offsets = np.arange(length)
        while True:
            songs = rng.integers(len(self.lengths), size=batch)
            begins = (rng.random(batch) * np.maximum(1, self.lengths[songs] - length + 1)).astype(np.int64)
            inside = begins[:, None] + offsets
            past = torch.from_numpy(inside >= self.lengths[songs, None]).to(device)
            index = self.starts[songs, None] + np.minimum(inside, self.lengths[songs, None] - 1)
            out = self.frames[torch.from_numpy(index).to(device)].float()
            decibels = np.where(rng.random(batch) < 0.02, -60.0, np.clip(rng.normal(-3.0, 5.0, batch), -20.0, 6.0))
            gain = torch.from_numpy(10.0 ** (decibels / 20.0)).float().to(device)[:, None, None]
            levels = out[..., : self.level_width]
            levels.copy_(torch.log((torch.exp(levels) - self.floor).clamp(min=0.0) * gain + self.floor))
            levels.masked_fill_(past[..., None], silent)
            out[..., self.level_width :].masked_fill_(past[..., None], 0.0)
            yield out
