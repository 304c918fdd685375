"""Log-mel spectra of sound and how far apart two are: what sampled audio is compared by. Not on the path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .events import Pcm

BANDS = 64
LOWEST_HZ = 40.0
WINDOW_S, HOP_S = 0.064, 0.016
FLOOR_DB = -80.0  # of a full-scale sine: below it nothing is heard

Bands = npt.NDArray[np.float64]


def log_mel(pcm: Pcm, sample_rate: int) -> Bands:
    """Level in dB [frames, BANDS], not below FLOOR_DB, of samples [n] or [n, channels], the mean of them.

    Bands are triangles on the mel scale (O'Shaughnessy's) up to half the rate; what is short is padded to a frame.
    """
    mono = pcm if pcm.ndim == 1 else pcm.mean(axis=1)
    size, hop = round(WINDOW_S * sample_rate), round(HOP_S * sample_rate)
    padded = np.pad(mono.astype(np.float64), (0, max(0, size - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = np.hanning(size + 2)[1:-1]
    power = np.abs(np.fft.rfft(frames * window, axis=1) * (2.0 / window.sum())) ** 2
    levels = np.maximum(power @ _triangles(size, sample_rate).T, 10.0 ** (FLOOR_DB / 10.0))
    return np.asarray(10.0 * np.log10(levels))


def mel_distance_db(one: Pcm, other: Pcm, sample_rate: int) -> float:
    """Mean absolute difference of two log-mel spectra, dB, over the length that both have."""
    near, far = (log_mel(pcm, sample_rate) for pcm in (one, other))
    frames = min(len(near), len(far))
    return float(np.mean(np.abs(near[:frames] - far[:frames])))


def _triangles(size: int, sample_rate: int) -> Bands:
    """Weights [BANDS, bins]; every band has at least the bin nearest to its middle."""

    def mel(hz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hz / 700.0))

    edges = 700.0 * (10.0 ** (np.linspace(mel(LOWEST_HZ), mel(sample_rate / 2.0), BANDS + 2) / 2595.0) - 1.0)
    hz = np.arange(size // 2 + 1) * (sample_rate / size)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = np.maximum(0.0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    weights[np.arange(BANDS), np.rint(edges[1:-1] * size / sample_rate).astype(int)] = 1.0
    return np.asarray(weights)
