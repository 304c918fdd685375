"""Streaming phase from log amplitudes alone: phase gradients with peak locking; decoder net to overlap-add.

For a Gaussian window the derivatives of the phase follow from those of the log amplitude (Prusa and Sondergaard
2016, real-time phase gradient heap integration, RTPGHI). Here the heap is replaced by whole-array steps: every
spectral peak takes its phase from the frame before (trapezoidal rule along time), unless the way along frequency
from a stronger neighbour is louder, as at an onset; all other bins take theirs from their peak, along frequency.
Bins above `linear_bins` know only a band's power and get a fixed noise's spectrum. One sub-frame of look-ahead.
"""

from __future__ import annotations

import math

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
        self._share = np.clip((bins - centres[right - 1]) / gap, 0.0, 1.0)

    def __call__(self, bands: npt.NDArray[np.floating]) -> Double:
        """[..., bands] -> [..., bins] in float64."""
        values = bands.astype(np.float64)
        low = values[..., self._right - 1]
        above = low + (values[..., self._right] - low) * self._share
        return np.concatenate([values[..., : self._linear], above], axis=-1)


def noise_spectra(config: SpectralConfig) -> npt.NDArray[np.complex128]:
    """Spectra [n, bins - linear_bins] of consecutive sub-frames of a closed loop of white noise, mean power 1."""
    hop = config.sub_hop_samples
    noise = np.random.default_rng(_NOISE_SEED).standard_normal(_NOISE_SUB_FRAMES * hop)
    starts = np.arange(_NOISE_SUB_FRAMES) * hop
    index = (starts[:, None] + np.arange(config.window_samples)) % len(noise)
    spectra = np.fft.rfft(noise[index] * config.window, axis=1)[:, config.linear_bins :]
    if spectra.size == 0:
        return spectra
    return np.asarray(spectra / np.sqrt(np.mean(np.abs(spectra) ** 2)))


class StreamingPhase:
    """Log amplitudes of sub-frames in, spectra out, one sub-frame later. One per stream, not thread-safe."""

    delay_sub_frames = 1

    def __init__(self, config: SpectralConfig, noise: npt.NDArray[np.complex128]) -> None:
        self.config = config
        hop, window = config.sub_hop_samples, config.window_samples
        # Phases of single bins only, and of one more, for the difference along frequency.
        self._bins = bins = min(config.linear_bins + 1, config.num_bins)
        self._noise = noise
        self._silence = math.log(config.floor)
        self._time_slope = hop * window / config.gamma / 2.0  # central difference along frequency
        self._carrier = 2.0 * np.pi * hop / window * np.arange(bins)
        self._frequency_slope = -config.gamma / window / (2.0 * hop) / 2.0  # central along time, mean of two bins
        self._tilt = -1e-7 * np.arange(bins)  # breaks ties, so that every plateau has one peak
        # The formulas are for a window centred on time 0; the spectrum counts time from the window's start.
        self._centre = np.where(np.arange(config.linear_bins) % 2, -1.0, 1.0)
        self.reset()

    def reset(self) -> None:
        self._before = np.full(self.config.num_bins, self._silence)
        self._now = self._before.copy()
        self._advance = self._carrier.copy()
        self._phase = np.zeros(self._bins)
        self._count = 0

    def snapshot(self) -> tuple[object, ...]:
        arrays = (self._before, self._now, self._advance, self._phase)
        return (*(a.copy() for a in arrays), self._count)

    def restore(self, snap: tuple[object, ...]) -> None:
        before, now, advance, phase, count = snap
        self._before, self._now = np.array(before), np.array(now)
        self._advance, self._phase = np.array(advance), np.array(phase)
        self._count = int(count)  # type: ignore[call-overload]

    def push(self, log_amplitude: Double) -> npt.NDArray[np.complex128]:
        """Log amplitudes [bins] of the next sub-frame -> spectrum [bins] of the one before it."""
        bins, linear = self._bins, self.config.linear_bins
        before, now = self._before[:bins], self._now[:bins]
        advance = self._carrier.copy()
        advance[1:-1] += self._time_slope * (now[2:] - now[:-2])
        along_time = self._phase + 0.5 * (self._advance + advance)
        rise = log_amplitude[:bins] - before
        along_frequency = np.zeros(len(now))
        np.cumsum((rise[1:] + rise[:-1]) * self._frequency_slope, out=along_frequency[1:])
        base = self._anchors(before, now, along_time - along_frequency)
        phase = along_frequency + base
        self._phase = phase - 2.0 * np.pi * np.round(phase / (2.0 * np.pi))
        amplitude = np.maximum(np.exp(self._now) - self.config.floor, 0.0)
        self._before, self._now, self._advance = self._now, log_amplitude, advance

        spectrum = np.empty(self.config.num_bins, np.complex128)
        spectrum[:linear] = (amplitude[:linear] * self._centre) * np.exp(1j * self._phase[:linear])
        spectrum[linear:] = amplitude[linear:] * self._noise[self._count % len(self._noise)]
        self._count += 1
        return spectrum

    def _anchors(self, before: Double, now: Double, offsets: Double) -> Double:
        """For each bin, the value of `offsets` at the peak from which its phase is integrated."""
        level = now + self._tilt
        rising = np.empty(len(level) + 1, np.bool_)
        rising[0], rising[-1] = True, False
        np.greater(level[1:], level[:-1], out=rising[1:-1])
        peaks = np.flatnonzero(rising[:-1] & ~rising[1:])
        valley = ~rising[:-1] & rising[1:]
        saddles = level[valley]
        count = len(peaks)
        left_saddle, right_saddle = np.full(count, _LOW), np.full(count, _LOW)
        left_saddle[1:] = saddles
        right_saddle[:-1] = saddles
        below, above = np.maximum(peaks - 1, 0), np.minimum(peaks + 1, len(level) - 1)
        past = np.maximum(np.maximum(before[below], before[above]), before[peaks])
        rooted = past >= np.maximum(left_saddle, right_saddle)
        rooted[np.argmax(past)] = True
        order = np.arange(count)
        left = np.maximum.accumulate(np.where(rooted, order, -1))
        right = np.minimum.accumulate(np.where(rooted, order, count)[::-1])[::-1]
        go_left = (left >= 0) & ((right >= count) | (left_saddle >= right_saddle))
        root = np.where(rooted, order, np.where(go_left, left, np.minimum(right, count - 1)))
        value: Double = offsets[peaks[root]]
        return value[np.cumsum(valley)]
