"""Beats and bars of a recording, with how sure we are; between a user's audio and its labels.

Beats are librosa's dynamic-programming tracker's (Ellis 2007), smoothed over a bar to undo its grid of 12 ms. It
finds a pulse in anything, rain included, so each beat has a confidence of our own: how well the onsets around it
repeat after one, two or four beats. Bars are taken to be 4/4: of four phases the one with the most bass onsets and
changes of harmony on it, and it must win clearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import numpy.typing as npt

from attacca.training.own.sound import ANALYSIS_RATE, Pcm

Array = npt.NDArray[np.float64]

BEATS_PER_BAR = 4
HOP_SAMPLES = 256  # 12 ms
_LATENCY_S = 0.025  # of the tracker's onset envelope: 15 ms after a click, 30 ms after a drum's attack begins
_FEWEST = 16
_FAINTEST_DB = 1.0  # mean rise over the mel bands that the strongest twentieth of frames must have
_AROUND_BEATS = 8  # to either side, of a local confidence
_BASS_BANDS = 8  # of 128 mel bands: below 200 Hz


@dataclass(frozen=True, kw_only=True, eq=False)
class Beats:
    """Quarter notes of a recording. `first_bar` is the index of the first beat that begins a bar, 0..3."""

    times_s: Array  # [B] ascending
    confidence: Array  # [B] 0..1
    first_bar: int
    bar_confidence: float  # 0..1

    @property
    def bpm(self) -> float:
        """Median tempo."""
        return float(60.0 / np.median(np.diff(self.times_s)))

    def ppq(self, times_s: Array) -> Array:
        """Quarter notes at times [T], bars at multiples of four; beyond the first and last beat at their tempo."""
        index = np.arange(len(self.times_s), dtype=np.float64)
        inside = np.interp(times_s, self.times_s, index)
        first, last = self.times_s[0], self.times_s[-1]
        before = (np.minimum(times_s, first) - first) / (self.times_s[1] - first)
        after = (np.maximum(times_s, last) - last) / (last - self.times_s[-2])
        return np.asarray(inside + before + after + (BEATS_PER_BAR - self.first_bar) % BEATS_PER_BAR)

    def sureness(self, times_s: Array) -> Array:
        """Confidence of the beat at times [T]; none a beat beyond the ends."""
        found = np.interp(times_s, self.times_s, self.confidence)
        spacing = 60.0 / self.bpm
        outside = (times_s < self.times_s[0] - spacing) | (times_s > self.times_s[-1] + spacing)
        return np.where(outside, 0.0, found)


def track_beats(mono: Pcm, chroma: Array, chroma_hop_samples: int) -> Beats | None:
    """Beats of float32 [n] at ANALYSIS_RATE with its chroma [12, frames]; None where it has too few."""
    mel = librosa.feature.melspectrogram(y=mono, sr=ANALYSIS_RATE, hop_length=HOP_SAMPLES, fmax=8000.0)
    decibels = librosa.power_to_db(mel, ref=np.max)
    strength = librosa.onset.onset_strength(S=decibels, sr=ANALYSIS_RATE, hop_length=HOP_SAMPLES)
    if float(np.percentile(strength, 95.0)) < _FAINTEST_DB:
        return None
    _, frames = librosa.beat.beat_track(
        onset_envelope=strength, sr=ANALYSIS_RATE, hop_length=HOP_SAMPLES, trim=False
    )
    if len(frames) < _FEWEST:
        return None
    smooth = _smoothed(np.asarray(frames, dtype=np.float64))
    bass = librosa.onset.onset_strength(S=decibels[:_BASS_BANDS], sr=ANALYSIS_RATE, hop_length=HOP_SAMPLES)
    first_bar, bar_confidence = _bars(smooth, bass, chroma, chroma_hop_samples)
    return Beats(
        times_s=smooth * (HOP_SAMPLES / ANALYSIS_RATE) - _LATENCY_S,
        confidence=_pulse(np.asarray(strength, dtype=np.float64), smooth),
        first_bar=first_bar,
        bar_confidence=bar_confidence,
    )


def _smoothed(frames: Array) -> Array:
    """Each beat on the line through its neighbours, two to either side: the tracker's are whole frames."""
    index = np.arange(len(frames))
    smooth = np.empty(len(frames))
    for i in index:
        near = slice(max(0, i - 2), i + 3)
        smooth[i] = np.polyfit(index[near] - i, frames[near], 1)[1]
    return smooth


def _pulse(strength: Array, beats: Array) -> Array:
    """Confidence [B]: correlation of the onsets around each beat with those one, two or four beats on, the best."""
    soft = np.convolve(strength, np.hanning(7) / np.hanning(7).sum(), mode="same")
    grid = np.arange(len(soft))
    found = np.zeros(len(beats))
    for i in range(len(beats)):
        low, high = max(0, i - _AROUND_BEATS), min(len(beats) - 1, i + _AROUND_BEATS)
        period = (beats[high] - beats[low]) / (high - low)
        best = 0.0
        for lag in (1, 2, 4):
            here = np.arange(beats[low], beats[high] - lag * period)
            if len(here) < 4.0 * period:
                continue
            now, later = np.interp(here, grid, soft), np.interp(here + lag * period, grid, soft)
            if now.std() > 1e-6 and later.std() > 1e-6:
                best = max(best, float(np.corrcoef(now, later)[0, 1]))
        found[i] = best
    return found


def _bars(beats: Array, bass: npt.NDArray[np.float32], chroma: Array, chroma_hop: int) -> tuple[int, float]:
    """(first beat of a bar 0..3, confidence): by how many standard errors the best phase leads the next."""
    around = np.clip(np.rint(beats).astype(int)[:, None] + np.arange(-2, 3), 0, len(bass) - 1)
    low = bass[around].max(axis=1).astype(np.float64)
    edges = np.clip(np.rint(beats * HOP_SAMPLES / chroma_hop).astype(int), 0, chroma.shape[1] - 1)
    of_beats = np.stack([chroma[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(edges)])
    of_beats -= of_beats.mean(axis=1, keepdims=True)  # what is flat is drums
    of_beats /= np.linalg.norm(of_beats, axis=1, keepdims=True) + 1e-9
    change = np.zeros(len(beats))
    change[1 : len(of_beats)] = 1.0 - np.sum(of_beats[1:] * of_beats[:-1], axis=1)
    accent = sum((part - part.mean()) / (part.std() + 1e-9) for part in (low, change))
    phases = [accent[p::BEATS_PER_BAR] for p in range(BEATS_PER_BAR)]
    order = np.argsort([-part.mean() for part in phases])
    best, second = phases[order[0]], phases[order[1]]
    error = np.sqrt(best.var() / len(best) + second.var() / len(second)) + 1e-9
    lead = float((best.mean() - second.mean()) / error)
    return int(order[0]), float(1.0 - np.exp(-max(lead, 0.0) / 3.0))
