"""Crops of token songs with their encoded labels: what the decoder's training draws its batches from.

Between training/tokenise.py and training/decoder_train.py. Conditioning is dropped here: for guidance (all of it,
or a group) and because a musician's past comes with less knowledge than the future that is commanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attacca.engine.conditioning import WIDTH, Controls, encode, group_slices

# Groups that a host commands together are dropped together.
_TOGETHER = (("beat", "tempo"), ("chord",), ("instruments",), ("style",))


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Probabilities, per sequence."""

    everything: float = 0.1
    group: float = 0.1
    group_in_prefix: float = 0.15
    bos: float = 0.5  # conditioning of the BOS row, whose frame may be before all time

    def __post_init__(self) -> None:
        for name in ("everything", "group", "group_in_prefix", "bos"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 0..1")


class TokenSongs:
    """All songs of one split in memory: codes int16-sized [T, K] and conditioning float16 [T, C]."""

    def __init__(self, data: Path, split: str, *, limit: int | None = None) -> None:
        """Reads DATA/tokens/SPLIT/*.npy and DATA/SPLIT/*.npz. Raises ValueError where none fit together."""
        self.codes: list[np.ndarray] = []
        self.conditioning: list[np.ndarray] = []
        for path in sorted((data / "tokens" / split).glob("*.npy"))[:limit]:
            codes = np.load(path)
            with np.load(data / split / f"{path.stem}.npz") as labels:
                controls = Controls(**{name: labels[name] for name in Controls.__dataclass_fields__})
            frames = min(len(codes), len(controls))
            self.codes.append(codes[:frames].astype(np.int64))
            self.conditioning.append(encode(controls)[:frames].astype(np.float16))
        if not self.codes:
            raise ValueError(f"no tokens in {data / 'tokens' / split}")
        self.num_codebooks = self.codes[0].shape[1]
        self.total_frames = sum(map(len, self.codes))
        self._weights = np.array([len(song) for song in self.codes]) / self.total_frames

    def crop(self, song: int, start: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """codes [frames, K] and conditioning float32 [frames + 1, C] from one frame earlier (zeros before 0)."""
        cond = np.zeros((frames + 1, WIDTH), dtype=np.float32)
        begin = max(start - 1, 0)
        cond[begin - start + 1 :] = self.conditioning[song][begin : start + frames]
        return self.codes[song][start : start + frames], cond

    def batch(self, rng: np.random.Generator, size: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Random crops: codes int64 [B, frames, K], conditioning [B, frames + 1, C]."""
        songs = rng.choice(len(self.codes), size=size, p=self._weights)
        crops = [self.crop(s, int(rng.integers(len(self.codes[s]) - frames + 1)), frames) for s in songs]
        codes, cond = (np.stack(part) for part in zip(*crops, strict=True))
        return codes, cond

    def fixed(self, size: int, frames: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The same crops each time, spread over all songs; for evaluation."""
        rng = np.random.default_rng(seed)
        songs = [i % len(self.codes) for i in range(size)]
        crops = [self.crop(s, int(rng.integers(len(self.codes[s]) - frames + 1)), frames) for s in songs]
        codes, cond = (np.stack(part) for part in zip(*crops, strict=True))
        return torch.from_numpy(codes), torch.from_numpy(cond)


def drop(cond: np.ndarray, prefix_frames: int, dropout: Dropout, rng: np.random.Generator) -> np.ndarray:
    """Conditioning [B, T + 1, C] with groups zeroed at random per sequence; frame -1 is the first."""
    dropped = cond.copy()
    slices = group_slices()
    size = len(dropped)
    nothing = rng.random(size) < dropout.everything
    for together in _TOGETHER:
        whole = nothing | (rng.random(size) < dropout.group)
        early = rng.random(size) < dropout.group_in_prefix
        for name in together:
            dropped[whole, :, slices[name]] = 0.0
            dropped[early, : prefix_frames + 1, slices[name]] = 0.0
    dropped[rng.random(size) < dropout.bos, 0] = 0.0
    return dropped
