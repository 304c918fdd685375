"""The codec without its quantiser, from a training checkpoint, for benchmarks.robustness (needs torch)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from attacca.engine.spectral import analyse
from attacca.engine.vocoder import resynthesise
from attacca.training.codec_train import State


@lru_cache(maxsize=1)
def _state(checkpoint: Path) -> State:
    return State.load(checkpoint)


@torch.no_grad()
def unquantised(checkpoint: Path, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Samples as the decoder makes them from unrounded latents, in time with `audio` and of its length."""
    net = _state(checkpoint).net
    config = net.config.spectral
    frames = torch.from_numpy(analyse(audio, config))[None]
    return resynthesise(net.decode(net.encode(frames))[0].numpy(), config)
