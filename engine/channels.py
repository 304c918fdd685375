"""Between the channels of a host and those of a codec: one or two inside the engine, any number at its edge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.float32]


def fold(samples: Pcm, audio_channels: int) -> Pcm:
    """Host samples [n, C] for a codec: [n], the mean of all, or [n, 2].

    Mono goes to both sides; of more than two channels the even ones are left and the odd ones right.
    """
    if audio_channels == 1:
        return np.asarray(samples.mean(axis=1, dtype=np.float32))
    if samples.shape[1] <= 2:
        return np.broadcast_to(samples, (len(samples), 2)).astype(np.float32)
    sides = [samples[:, side::2].mean(axis=1, dtype=np.float32) for side in (0, 1)]
    return np.stack(sides, axis=1)


def spread(pcm: Pcm, channels: int) -> Pcm:
    """A codec's samples [n] or [n, 2] for a host of so many channels: [n, channels], sides in turn."""
    if pcm.ndim == 1:
        return np.repeat(pcm[:, None], channels, axis=1)
    if channels == 1:
        return np.asarray(pcm.mean(axis=1, dtype=np.float32, keepdims=True))
    return np.ascontiguousarray(pcm[:, np.arange(channels) % 2])
