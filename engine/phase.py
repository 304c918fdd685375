"""Streaming phase from log amplitudes alone: phase gradients with peak locking; decoder net to overlap-add.

For a Gaussian window the derivatives of the phase follow from those of the log amplitude (Prusa and Sondergaard
2016, real-time phase gradient heap integration, RTPGHI). Here the heap is replaced by whole-array steps: every
spectral peak takes its phase from the frame before (trapezoidal rule along time), unless the way along frequency
from a stronger neighbour is louder, as at an onset; all other bins take theirs from their peak, along frequency.
Which bin follows which is known from levels alone, so it is worked out for all sub-frames of a call at once; only
the sum over time goes from one to the next. Bins above `linear_bins` know only a band's power and get a fixed
noise's spectrum. One sub-frame of look-ahead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from attacca.engine.spectral import SpectralConfig

Double = npt.NDArray[np.float64]

_LOW = -99.0  # below any log amplitude
_NOISE_SEED = 7
_NOISE_SUB_FRAMES = 256


class BandExpansion:
    """Log amplitudes of bands to those of bins, straight lines between the middles of groups."""

    def __init__(self, config: SpectralConfig) -> None:
        centres = config.band_starts + (config.band_widths - 1) / 2
        bins = np.arange(config.linear_bins, config.num_bins)
        right = np.clip(np.searchsorted(centres, bins), 1, len(centres) - 1)
        gap = np.diff(centres)[right - 1]
        self._linear, self._right = config.linear_bins, right
        self._share = np.clip((bins - centres[right - 1]) / gap, 0.0, 1.0).astype(np.float32)

    def __call__(self, bands: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """[..., bands] -> [..., bins], as precise as the bands."""
        out = np.empty((*bands.shape[:-1], self._linear + len(self._right)), bands.dtype)
        out[..., : self._linear] = bands[..., : self._linear]
        low = bands.take(self._right - 1, axis=-1)
        above = bands.take(self._right, axis=-1)
        above -= low
        above *= self._share
        np.add(low, above, out=out[..., self._linear :])
        return out


def noise_spectra(config: SpectralConfig) -> npt.NDArray[np.complex64]:
    """Spectra [n, bins - linear_bins] of consecutive sub-frames of a closed loop of white noise, mean power 1."""
    hop = config.sub_hop_samples
    noise = np.random.default_rng(_NOISE_SEED).standard_normal(_NOISE_SUB_FRAMES * hop)
    starts = np.arange(_NOISE_SUB_FRAMES) * hop
    index = (starts[:, None] + np.arange(config.window_samples)) % len(noise)
    spectra = np.fft.rfft(noise[index] * config.window, axis=1)[:, config.linear_bins :]
    if spectra.size == 0:
        return spectra.astype(np.complex64)
    levelled: npt.NDArray[np.complex64] = (spectra / np.sqrt(np.mean(np.abs(spectra) ** 2))).astype(np.complex64)
    return levelled


class StreamingPhase:
    """Log amplitudes of sub-frames in, spectra out, one sub-frame later. One per stream, not thread-safe."""

    delay_sub_frames = 1

    def __init__(self, config: SpectralConfig, noise: npt.NDArray[np.complex64]) -> None:
        self.config = config
        hop, window = config.sub_hop_samples, config.window_samples
        # Phases of single bins only, and of one more, for the difference along frequency.
        self._bins = bins = min(config.linear_bins + 1, config.num_bins)
        self._noise = noise
        self._time_slope = hop * window / config.gamma / 2.0  # central difference along frequency
        self._carrier = 2.0 * np.pi * hop / window * np.arange(bins)
        self._frequency_slope = -config.gamma / window / (2.0 * hop) / 2.0  # central along time, mean of two bins
        self._tilt = -1e-7 * np.arange(bins)  # breaks ties, so that every plateau has one peak
        # The formulas are for a window centred on time 0; the spectrum counts time from the window's start.
        self._centre = np.where(np.arange(config.linear_bins) % 2, -1.0, 1.0).astype(np.float32)
        self.reset()

    def reset(self) -> None:
        self._past = np.full((2, self.config.num_bins), math.log(self.config.floor), np.float32)
        self._advance = self._carrier.copy()
        self._phase = np.zeros(self._bins)
        self._count = 0

    def snapshot(self) -> tuple[object, ...]:
        """Everything the stream is; its arrays are never written again."""
        return self._past, self._advance, self._phase, self._count

    def restore(self, snap: tuple[Any, ...]) -> None:
        self._past, self._advance, self._phase, self._count = snap

    def push(self, log_amplitudes: npt.NDArray[np.floating]) -> npt.NDArray[np.complex64]:
        """Log amplitudes [n, bins] of the next sub-frames -> spectra [n, bins], each of the sub-frame before."""
        count, linear = len(log_amplitudes), self.config.linear_bins
        levels = np.concatenate([self._past, log_amplitudes.astype(np.float32, copy=False)])
        phase = self._phases(levels[:, : self._bins].astype(np.float64)).astype(np.float32)
        amplitude = np.maximum(np.exp(levels[1:-1]) - np.float32(self.config.floor), np.float32(0.0))
        self._past = levels[-2:].copy()

        spectra = np.empty((count, self.config.num_bins), np.complex64)
        single = amplitude[:, :linear] * self._centre
        np.multiply(single, np.cos(phase), out=spectra.real[:, :linear])
        np.multiply(single, np.sin(phase), out=spectra.imag[:, :linear])
        places = np.arange(self._count, self._count + count) % len(self._noise)
        np.multiply(amplitude[:, linear:], self._noise[places], out=spectra[:, linear:])
        self._count += count
        return spectra

    def _phases(self, levels: Double) -> Double:
        """Levels [2 + n, bins], two of them known before -> phases [n, linear bins] of all but first and last."""
        before, now = levels[:-2], levels[1:-1]
        count, bins = now.shape
        advance = np.empty((count + 1, bins))
        advance[0], advance[1:] = self._advance, self._carrier
        advance[1:, 1:-1] += self._time_slope * (now[:, 2:] - now[:, :-2])
        rise = levels[2:] - before
        along_frequency = np.zeros((count, bins))
        np.cumsum((rise[:, 1:] + rise[:, :-1]) * self._frequency_slope, axis=1, out=along_frequency[:, 1:])
        change = 0.5 * (advance[:-1] + advance[1:]) - along_frequency
        anchors = self._anchors(before, now)
        phase, phases = self._phase, np.empty((count, bins))
        for i in range(count):
            phase = along_frequency[i] + (phase + change[i])[anchors[i]]
            phase -= 2.0 * np.pi * np.round(phase / (2.0 * np.pi))
            phases[i] = phase
        self._advance, self._phase = advance[-1].copy(), phase
        return phases[:, : self.config.linear_bins]

    def _anchors(self, before: Double, now: Double) -> npt.NDArray[np.intp]:
        """For each bin [n, bins], the bin of the peak from which its phase is integrated along frequency."""
        count, bins = now.shape
        level = now + self._tilt
        rising = np.empty((count, bins + 1), np.bool_)
        rising[:, 0], rising[:, -1] = True, False
        np.greater(level[:, 1:], level[:, :-1], out=rising[:, 1:-1])
        valley = ~rising[:, :-1] & rising[:, 1:]
        # Peaks of all sub-frames in one row; between two of the same sub-frame lies one valley.
        peaks = np.flatnonzero(rising[:, :-1] & ~rising[:, 1:])
        row, bin_ = np.divmod(peaks, bins)
        first = np.searchsorted(row, np.arange(count))
        last = np.append(first[1:], len(peaks)) - 1
        left_saddle, right_saddle = np.full(len(peaks), _LOW), np.full(len(peaks), _LOW)
        inner = np.ones(len(peaks), np.bool_)
        inner[first] = False
        left_saddle[inner] = level[valley]
        right_saddle[:-1] = left_saddle[1:]
        below, above = np.maximum(bin_ - 1, 0), np.minimum(bin_ + 1, bins - 1)
        past = np.maximum(np.maximum(before[row, below], before[row, above]), before[row, bin_])
        rooted = past >= np.maximum(left_saddle, right_saddle)
        rooted |= past == np.maximum.reduceat(past, first)[row]
        order = np.arange(len(peaks))
        left = np.maximum.accumulate(np.where(rooted, order, -1))
        right = np.minimum.accumulate(np.where(rooted, order, len(peaks))[::-1])[::-1]
        go_left = (left >= first[row]) & ((right > last[row]) | (left_saddle >= right_saddle))
        root = np.where(rooted, order, np.where(go_left, left, np.minimum(right, last[row])))
        places = np.cumsum(valley.reshape(-1)).reshape(count, bins) + np.arange(count)[:, None]
        anchors: npt.NDArray[np.intp] = bin_[root][places]
        return anchors
