"""The songs as the codec's training sees them: frames analysed once, crops at random levels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from attacca.engine.channels import fold
from attacca.engine.spectral import analyse
from attacca.training.codec_model import CodecConfig
from attacca.training.music.catalogue import list_songs


def load_audio(path: Path, config: CodecConfig) -> np.ndarray:
    """A song's samples float32 [n] of a mono codec, [n, 2] of a stereo one. ValueError at another rate."""
    audio, rate = soundfile.read(path.with_suffix(".flac"), dtype="float32", always_2d=True)
    if rate != config.sample_rate:
        raise ValueError(f"{path} is at {rate} Hz, the codec at {config.sample_rate} Hz")
    return fold(audio, config.spectral.audio_channels)


class Songs:
    """Frames of the songs in folders, analysed once and kept in half precision; each folder's first `limit`."""

    def __init__(self, *folders: Path, config: CodecConfig, limit: int | None = None, workers: int = 2) -> None:
        paths = []
        for folder in folders:
            found = list_songs(folder)[:limit]
            if not found:
                raise ValueError(f"{folder} holds no songs: build the dataset first")
            paths += found
        self.floor, self.level_width = config.spectral.floor, config.spectral.level_width
        with ThreadPoolExecutor(workers) as pool:
            self.frames = list(
                pool.map(lambda path: analyse(load_audio(path, config), config.spectral).astype(np.float16), paths)
            )

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Frames [count, width] drawn from all songs alike."""
        each = -(-count // len(self.frames))
        parts = [song[rng.integers(len(song), size=each)] for song in self.frames]
        return np.concatenate(parts)[:count].astype(np.float32)

    def crops(self, batch: int, length: int, rng: np.random.Generator) -> Iterator[Tensor]:
        """Endless batches [batch, length, width] at random levels; one crop in fifty is near silence."""
        while True:
            out = []
            for song in rng.integers(len(self.frames), size=batch):
                frames = self.frames[song]
                start = int(rng.integers(max(1, len(frames) - length + 1)))
                crop = frames[start : start + length].astype(np.float32)
                silence = np.zeros((length - len(crop), crop.shape[1]), np.float32)
                silence[:, : self.level_width] = math.log(self.floor)
                crop = np.concatenate([crop, silence])
                decibels = -60.0 if rng.random() < 0.02 else float(np.clip(rng.normal(-3.0, 5.0), -20.0, 6.0))
                gain = 10.0 ** (decibels / 20.0)
                levels = crop[:, : self.level_width]
                levels[:] = np.log(np.maximum(np.exp(levels) - self.floor, 0.0) * gain + self.floor)
                out.append(crop)
            yield torch.from_numpy(np.stack(out))
