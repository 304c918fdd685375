"""Where the beat of generated audio is: onset strength and, at a known tempo, the phase and rate of the beat.

Stands beside the micro time-stretch, behind the codec's decoder, for models that know no tempo. The host's tempo is
given, so nothing is searched over octaves: the sound is taken to start in phase, since it continues what was played
in time, and is followed from there. Onsets on beats, halves, thirds and quarters count alike, so that a change of
metrical level, off-beats or a half-time bar do not move the beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]

_HOP_S = 0.005
_WINDOW_HOPS = 4
_BAND_EDGES_HZ = (0.0, 150.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0, 24000.0)
_GAIN = 1000.0  # amplitudes from 0.001 of full scale on count
_MEAN_FRAMES = 40
_LEAST_RISE = 0.35  # nats, mean of the bands, above the usual: less is no onset
# An attack stands this long before the end of the frame that shows it most. 5.3 ms for clicks, 10 for instruments.
_RISE_S = 0.0076
_PEAKS = np.array([1, 2, 3, 4, 6, 8, 12])  # harmonics of the beat
_LATTICE = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # those that agree on every beat, half, third and quarter


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """Where a position lies on the grid: `beat`s of `period` samples, as good as `bar` beats away (0: none)."""

    beat: float
    period: float
    bar: float = 0.0
    known: bool = True  # False: there is no grid at present

    def nearest(self, beats: float) -> float:
        """A difference of beats at this point, of all that are equal to it the smallest."""
        return beats - self.bar * round(beats / self.bar) if self.bar else beats


class Grid(Protocol):
    """The host's beats, as a lock asks for them."""

    def at(self, position: float) -> GridPoint:
        """Of a position, in samples of the audio that is held to it. Never raises."""
        ...


class BeatGrid:
    """The host's beats as positions (float samples), evenly spaced before the first and after the last two."""

    def __init__(self, positions: Sequence[float] | Double, first_beat: int = 0) -> None:
        """`first_beat`: number of the beat at the first position. ValueError unless two or more, rising."""
        self.positions = np.asarray(positions, np.float64)
        if self.positions.ndim != 1 or len(self.positions) < 2 or not np.all(np.diff(self.positions) > 0):
            raise ValueError("BeatGrid takes two or more rising positions")
        self.first_beat = first_beat

    def at(self, position: float) -> GridPoint:
        """As Grid's."""
        return GridPoint(beat=self.beat_at(position), period=self.period_at(position))

    def _interval(self, position: float) -> int:
        last = len(self.positions) - 2
        return min(max(int(np.searchsorted(self.positions, position, "right")) - 1, 0), last)

    def beat_at(self, position: float) -> float:
        """Beats at a position."""
        index = self._interval(position)
        start = float(self.positions[index])
        return self.first_beat + index + (position - start) / self.period_at(position)

    def period_at(self, position: float) -> float:
        """Samples per beat there."""
        index = self._interval(position)
        return float(self.positions[index + 1] - self.positions[index])


class OnsetStrength:
    """Audio [n, channels] in, one value per `hop_samples` out: how much louder the bands got, above the usual."""

    def __init__(self, rate: int) -> None:
        if rate < 4000:
            raise ValueError(f"rate {rate} Hz: give at least 4000 Hz")
        self.hop_samples = round(rate * _HOP_S)
        self._size = _WINDOW_HOPS * self.hop_samples
        window = np.hanning(self._size + 1)[:-1]
        self._window = window * (2.0 / window.sum())
        edges = [round(hz * self._size / rate) for hz in _BAND_EDGES_HZ if hz < rate / 2]
        self._edges = np.unique(np.maximum(edges, 1))  # without DC
        self.reset()

    def reset(self) -> None:
        self._buffer = np.zeros(self._size - self.hop_samples)
        self._last = np.zeros(len(self._edges))
        self._rises = np.zeros(_MEAN_FRAMES)

    def snapshot(self) -> tuple[object, ...]:
        return self._buffer.copy(), self._last.copy(), self._rises.copy()

    def restore(self, snap: tuple[object, ...]) -> None:
        self._buffer, self._last, self._rises = (np.array(part) for part in cast("tuple[Double, ...]", snap))

    def push(self, pcm: Samples) -> Double:
        """Values [m] of the hops completed; each belongs to the instant its hop ends."""
        mono = np.zeros(len(pcm))
        for channel in range(pcm.shape[1]):
            mono += pcm[:, channel]
        self._buffer = np.concatenate([self._buffer, mono / pcm.shape[1]])
        count = (len(self._buffer) - self._size) // self.hop_samples + 1
        if count < 1:
            return np.zeros(0)
        frames = np.lib.stride_tricks.sliding_window_view(self._buffer, self._size)[:: self.hop_samples]
        spectra = np.abs(np.fft.rfft(frames * self._window, axis=1)) ** 2
        levels = np.log1p(_GAIN * np.sqrt(np.add.reduceat(spectra, self._edges, axis=1)))
        past = np.concatenate([self._last[None], levels[:-1]])
        rises = np.mean(np.maximum(levels - past, 0.0), axis=1)
        around = np.concatenate([self._rises, rises])
        usual = np.lib.stride_tricks.sliding_window_view(around, _MEAN_FRAMES)[:count].mean(axis=1)
        self._last, self._rises = levels[-1].copy(), around[-_MEAN_FRAMES:].copy()
        self._buffer = self._buffer[count * self.hop_samples :].copy()
        strengths: Double = np.maximum(rises - usual - _LEAST_RISE, 0.0)
        return strengths


@dataclass(frozen=True, kw_only=True)
class BeatEstimate:
    """At input sample `position` the audio is `beat` beats along and goes `tempo` times as fast as the grid."""

    position: float
    beat: float
    tempo: float
    confidence: float  # 0..1: how much of what starts, starts on beats, halves, thirds or quarters
    level: int  # onsets per beat that were told: 1, 2, 3 or 4; 0: unknown
    known: bool  # whether the audio said so, or it is only what was known before, carried on


@dataclass(frozen=True, kw_only=True)
class BeatConfig:
    """Spans in beats of the grid."""

    window_beats: float = 8.0
    fading_beats: float = 3.5  # an onset counts 1/e as much after so many
    every_beats: float = 0.25
    max_tempo: float = 0.045  # farthest from the grid's tempo that is looked for
    least_confidence: float = 0.65
    least_evidence: float = 2.4  # onsets, times the square of the confidence

    def __post_init__(self) -> None:
        if not 2.0 <= self.window_beats <= 32.0 or not 0.0 < self.every_beats <= 4.0:
            raise ValueError("window_beats: give 2 to 32; every_beats: more than 0, at most 4")
        if not 0.5 <= self.fading_beats <= 100.0:
            raise ValueError(f"fading_beats is {self.fading_beats}: give 0.5 to 100")
        if not 0.0 < self.max_tempo <= 0.1:
            raise ValueError(f"max_tempo is {self.max_tempo}: give more than 0, at most 0.1")


class BeatEstimator:
    """Audio in, an estimate every quarter of a beat out. Decode thread; any chunking gives the same."""

    def __init__(self, rate: int, period_samples: float, beat: float, config: BeatConfig | None = None) -> None:
        """The grid's `period_samples` per beat; the first sample is at `beat` and taken to be in phase."""
        self.rate, self.config = rate, config or BeatConfig()
        self._onsets = OnsetStrength(rate)
        self.reset(period_samples, beat)

    def reset(self, period_samples: float, beat: float) -> None:
        """The audio starts anew here, in phase; what was heard is forgotten."""
        if not (isfinite(period_samples) and self.rate * 0.15 <= period_samples <= self.rate * 4.0):
            raise ValueError(f"period_samples is {period_samples}: give 0.15 to 4 s of samples")
        self._period = period_samples
        self._onsets.reset()
        self._position = 0.0  # of the next hop's end, less the rise
        self._hops = self._judged = 0
        self._strengths = np.zeros(0)
        self._estimate = BeatEstimate(position=0.0, beat=beat, tempo=1.0, confidence=0.0, level=0, known=False)

    @property
    def estimate(self) -> BeatEstimate:
        """The latest."""
        return self._estimate

    def snapshot(self) -> tuple[object, ...]:
        return (
            self._onsets.snapshot(),
            self._period,
            self._hops,
            self._judged,
            self._strengths.copy(),
            self._estimate,
        )

    def restore(self, snap: tuple[object, ...]) -> None:
        onsets, period, hops, judged, strengths, estimate = snap
        self._onsets.restore(cast("tuple[object, ...]", onsets))
        self._period, self._estimate = cast(float, period), cast(BeatEstimate, estimate)
        self._hops, self._judged, self._strengths = cast(int, hops), cast(int, judged), np.array(strengths)

    def push(self, pcm: Samples) -> list[BeatEstimate]:
        """Audio [n, channels] -> the estimates that became due."""
        hop = self._onsets.hop_samples
        every = max(1, round(self.config.every_beats * self._period / hop))
        kept = round(self.config.window_beats * self._period / hop)
        found: list[BeatEstimate] = []
        values = self._onsets.push(pcm)
        while len(values):
            taken = min(len(values), every - self._hops % every)
            self._strengths = np.concatenate([self._strengths, values[:taken]])[-kept:]
            self._hops += taken
            values = values[taken:]
            if self._hops % every == 0:
                self._estimate = self._judge()
                found.append(self._estimate)
        return found

    # --- one estimate -------------------------------------------------------------------------------------------

    def _judge(self) -> BeatEstimate:
        """Carry the last estimate on to now, corrected by what starts within the window."""
        hop, last = self._onsets.hop_samples, self._estimate
        now = float(self._hops * hop)
        carried = replace(
            last, position=now, beat=last.beat + (now - last.position) * last.tempo / self._period, known=False
        )
        strong = np.flatnonzero(self._strengths)
        # Beats before now (negative), by the grid's tempo; an attack is shown a little after it began.
        ago = (strong.astype(np.float64) + 1.0 - len(self._strengths)) * (hop / self._period)
        ago -= _RISE_S * self.rate / self._period
        weights = np.sqrt(self._strengths[strong]) * np.exp(ago / self.config.fading_beats)
        events = _events(strong, weights)
        if events < 2.0:
            return replace(carried, confidence=0.0, level=0)
        total = float(weights.sum())
        tempo, sums = self._tempo(weights, ago, carried.beat, last.tempo)
        shift = _shift(sums)
        turned = sums * np.exp(-2j * np.pi * _PEAKS * shift)
        confidence = max(0.0, float(max(turned[2].real, turned[3].real)) / total)
        known = confidence >= self.config.least_confidence and events * confidence**2 >= self.config.least_evidence
        if not known:
            return replace(carried, confidence=confidence, level=0)
        clear = np.abs(sums[:4]) >= 0.6 * np.abs(sums[:4]).max()
        return replace(
            carried,
            beat=carried.beat + shift,
            tempo=tempo,
            confidence=confidence,
            level=int(np.argmax(clear)) + 1,
            known=True,
        )

    def _tempo(
        self, weights: Double, ago: Double, beat: float, guess: float
    ) -> tuple[float, npt.NDArray[np.complex128]]:
        """The tempo at which onsets fall together most, and there the sums over onsets at the harmonics."""
        most = self.config.max_tempo
        tempos = 1.0 + np.linspace(-most, most, 37)
        for zoom in (most / 18.0, most / 90.0):
            sums = _sums(weights, beat + np.outer(tempos, ago))
            score = np.sum(np.abs(sums[:, 2:]) ** 2, axis=1)
            score *= np.exp(-0.5 * ((tempos - guess) / most) ** 2)  # few onsets leave it open: stay near
            best = float(tempos[int(np.argmax(score))])
            tempos = best + np.linspace(-zoom, zoom, 11)
        sums = _sums(weights, beat + best * ago)
        return best, sums


def _events(places: npt.NDArray[np.int64], weights: Double) -> float:
    """About how many onsets of equal strength a strength curve holds."""
    if len(places) == 0:
        return 0.0
    starts = np.flatnonzero(np.diff(places, prepend=-9) > 2)
    strengths = np.add.reduceat(weights, starts)
    return float(strengths.sum() ** 2 / np.sum(strengths**2))


def _sums(weights: Double, beats: Double) -> npt.NDArray[np.complex128]:
    """Sums over onsets of exp(-2 pi i L beat) for every harmonic L, [..., harmonics]."""
    turn = np.exp(-2j * np.pi * beats)
    second = turn * turn
    third, fourth = second * turn, second * second
    powers = (turn, second, third, fourth, third * third, fourth * fourth, fourth * fourth * fourth)
    return np.stack([np.sum(weights * power, axis=-1) for power in powers], axis=-1)


def _shift(sums: npt.NDArray[np.complex128]) -> float:
    """By how many beats, within an eighth, the beat is further than taken."""
    shifts = np.linspace(-0.125, 0.125, 101)
    for zoom in (0.0025, 0.0):
        match = np.exp(-2j * np.pi * np.outer(shifts, _PEAKS)) @ (sums * _LATTICE)
        best = float(shifts[int(np.argmax(match.real))])
        shifts = best + np.linspace(-zoom, zoom, 21)
    return best
