"""The codec's phases worked out one sub-frame at a time: the slow, obvious form of engine/phase.py, for tests."""

from __future__ import annotations

import math

import numpy as np

from attacca.engine.spectral import SpectralConfig

_LOW = -99.0


class PhaseReference:
    """Log amplitudes of sub-frames in, spectra out, one sub-frame later; all in float64."""

    def __init__(self, config: SpectralConfig, noise: np.ndarray) -> None:
        self.config, self.noise = config, noise
        hop, window, linear = config.sub_hop_samples, config.window_samples, config.linear_bins
        self.bins = min(linear + 1, config.num_bins)
        self.time_slope = hop * window / config.gamma / 2.0
        self.frequency_slope = -config.gamma / window / (2.0 * hop) / 2.0
        self.carrier = 2.0 * np.pi * hop / window * np.arange(self.bins)
        self.before = self.now = np.full(config.num_bins, math.log(config.floor))
        self.advance, self.phase, self.count = self.carrier.copy(), np.zeros(self.bins), 0

    def push(self, log_amplitude: np.ndarray) -> np.ndarray:
        """Log amplitudes [bins] of the next sub-frame -> spectrum [bins] of the one before it."""
        bins, linear = self.bins, self.config.linear_bins
        before, now = self.before[:bins], self.now[:bins]
        advance = self.carrier.copy()
        advance[1:-1] += self.time_slope * (now[2:] - now[:-2])
        along_time = self.phase + 0.5 * (self.advance + advance)
        rise = log_amplitude[:bins] - before
        along_frequency = np.append(0.0, np.cumsum((rise[1:] + rise[:-1]) * self.frequency_slope))
        self.phase = along_frequency + (along_time - along_frequency)[self._anchors(before, now)]
        amplitude = np.maximum(np.exp(self.now) - self.config.floor, 0.0)
        self.before, self.now, self.advance = self.now, log_amplitude, advance
        centre = np.where(np.arange(linear) % 2, -1.0, 1.0)
        spectrum = amplitude.astype(np.complex128)
        spectrum[:linear] *= centre * np.exp(1j * self.phase[:linear])
        spectrum[linear:] *= self.noise[self.count % len(self.noise)]
        self.count += 1
        return spectrum

    def _anchors(self, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        """For each bin, the peak that its phase comes from: walks to the louder side until a peak stands firm."""
        level = now - 1e-7 * np.arange(len(now))
        rising = np.concatenate([[True], level[1:] > level[:-1], [False]])
        peaks = [i for i in range(len(level)) if rising[i] and not rising[i + 1]]
        valleys = [i for i in range(len(level)) if not rising[i] and rising[i + 1]]
        past = [max(before[max(i - 1, 0)], before[i], before[min(i + 1, len(level) - 1)]) for i in peaks]
        left = [_LOW, *(level[i] for i in valleys)]
        right = [*(level[i] for i in valleys), _LOW]
        firm = [p >= max(a, b) or p == max(past) for p, a, b in zip(past, left, right, strict=True)]
        roots = []
        for i in range(len(peaks)):
            lower = next((j for j in range(i, -1, -1) if firm[j]), None)
            upper = next((j for j in range(i, len(peaks)) if firm[j]), None)
            go_left = upper is None or (lower is not None and left[i] >= right[i])
            roots.append(i if firm[i] else lower if go_left else upper)
        return np.array([peaks[roots[sum(v <= i for v in valleys)]] for i in range(len(level))])
