"""Holds a take to the level of what was played: a slow gain on what the codec's decoder gives.

Stands in the chunker between decoder and resampler. A model that hears itself a little louder goes on louder still;
here it is brought back, within a tolerance that leaves music its dynamics. Inside the tolerance every sample passes
untouched. The listener measures what was played by the same rule, and a take by its own frames alone, so that how
the stream is cut changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import log10
from typing import Any

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]

_KEPT_STATES = 128  # frames that a stream can begin again before its end, without a jump

_LIMITS = {
    "tolerance_db": (0.5, 24.0),
    "quiet_tolerance_db": (0.5, 24.0),
    "most_fall_db": (0.0, 60.0),
    "most_lift_db": (0.0, 12.0),
    "fall_db_per_s": (0.1, 60.0),
    "rise_db_per_s": (0.05, 20.0),
    "short_s": (0.5, 20.0),
    "long_s": (1.0, 60.0),
    "own_s": (0.5, 20.0),
    "silence_dbfs": (-90.0, -20.0),
    "gate_db": (3.0, 60.0),
    "added_db": (0.0, 24.0),
    "lost_db": (3.0, 60.0),
}


@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """When the gain acts and how fast. Levels are of RMS over all channels.

    A level is the louder of two means: over the last `short_s` of sound, so that growth is seen soon, and over the
    last `long_s`, so that a break of some bars stays a break.
    """

    tolerance_db: float = 3.0  # louder than what was played by more: is brought down to it
    quiet_tolerance_db: float = 5.0  # quieter by more, up to `gate_db`: is lifted
    most_fall_db: float = 24.0
    most_lift_db: float = 3.0
    fall_db_per_s: float = 6.0  # the gain's fastest way down
    rise_db_per_s: float = 1.0  # and up
    short_s: float = 4.0  # under a raised cosine, blind to beats and bars
    long_s: float = 16.0
    own_s: float = 4.0  # of a take where nothing was played before: its first so many seconds are its level
    silence_dbfs: float = -50.0  # frames below are no sound and change nothing
    gate_db: float = 20.0  # nor are those so far below the others
    added_db: float = 6.0  # more players than at first may be louder by up to so much
    lost_db: float = 7.0  # brought down by so much a take is no music any more: it begins anew at a bar line

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, (low, high) = getattr(self, entry.name), _LIMITS[entry.name]
            if not low <= value <= high:
                raise ValueError(f"LevelConfig.{entry.name} {value} is outside {low:g}..{high:g}")
        if self.short_s > self.long_s:
            raise ValueError(f"LevelConfig.short_s {self.short_s} is outside 0.5..long_s, {self.long_s}")


@lru_cache(maxsize=16)
def _weights(frames: int) -> Double:
    """A raised cosine, highest in the middle."""
    weights: Double = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(frames) + 0.5) / frames)
    return weights


class LevelMeter:
    """Frame energies (mean squares) to a level. Immutable."""

    def __init__(self, config: LevelConfig, frames_per_s: float) -> None:
        self.config = config
        self.frames_per_s = frames_per_s
        self.short_frames = max(1, round(config.short_s * frames_per_s))
        self.long_frames = max(1, round(config.long_s * frames_per_s))
        self.own_frames = max(1, round(config.own_s * frames_per_s))
        self._silence = 10.0 ** (config.silence_dbfs / 10.0)
        self._gate = 10.0 ** (-config.gate_db / 10.0)

    def sounds(self, energy: float) -> bool:
        """Whether a frame is more than silence."""
        return bool(energy > self._silence)

    def energy_of(self, frame: Samples) -> float:
        """Mean square of a frame [samples] or [samples, channels]."""
        wide = frame.astype(np.float64).ravel()
        return float(np.sum(wide * wide)) / len(wide)

    def levels(self, energies: Double) -> tuple[float, float]:
        """Of sounding frames, at least one, oldest first: the louder of the short and the long mean; the short."""
        recent = energies[-self.short_frames :]
        short = self._mean(recent, _weights(self.short_frames)[-len(recent) :])
        return max(short, self._mean(energies, None)), short

    def _mean(self, energies: Double, weights: Double | None) -> float:
        """Of the frames that are not far below the mean of all."""
        counts = np.ones(len(energies)) if weights is None else weights
        weighed = counts * energies
        mean = float(np.sum(weighed)) / float(np.sum(counts))
        loud = energies >= mean * self._gate
        return float(np.sum(weighed[loud])) / float(np.sum(counts[loud]))


class Loudness:
    """The level of what is heard, of the sound of the last `long_s`. Decode thread; part of the listener."""

    def __init__(self, meter: LevelMeter, hop_samples: int, *, channels: int = 1) -> None:
        self._meter = meter
        self._hop = hop_samples
        self._frame = () if channels == 1 else (channels,)
        self.reset()

    def reset(self) -> None:
        """Back to before the first sample."""
        self._rest: Samples = np.zeros((0, *self._frame), np.float32)
        self._energies: Double = np.zeros(0)

    def push(self, pcm: Samples) -> None:
        """Samples at the model's rate, [n] or [n, channels], any n."""
        joined = np.concatenate([self._rest, pcm])
        count = len(joined) // self._hop
        self._rest = joined[count * self._hop :].copy()
        found = [self._meter.energy_of(joined[t * self._hop : (t + 1) * self._hop]) for t in range(count)]
        sounding = [energy for energy in found if self._meter.sounds(energy)]
        self._energies = np.concatenate([self._energies, sounding])[-self._meter.long_frames :]

    @property
    def energy(self) -> float | None:
        """Mean square of what was played, pauses apart; None if that was less than a second."""
        if len(self._energies) < self._meter.frames_per_s:
            return None
        return self._meter.levels(self._energies)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    """After a frame. Arrays are never written to."""

    energies: Double  # of the take's sounding frames, and of what was played before them
    reference: float | None  # energy; None until it is known
    gain_db: float = 0.0
    players: int = 0  # commanded at first; 0: none were so far


class Leveller:
    """One take's gain. Decode thread; the gain of a frame hangs on the frames up to it and on nothing else."""

    def __init__(self, meter: LevelMeter, *, reference: float | None, first_frame: int) -> None:
        """`reference`: energy of what was played, None if nothing was; the take's own begin at `first_frame`."""
        self._meter = meter
        self._first = first_frame
        self._fall = meter.config.fall_db_per_s / meter.frames_per_s
        self._rise = meter.config.rise_db_per_s / meter.frames_per_s
        known = 0 if reference is None else meter.long_frames
        self._state = _State(energies=np.full(known, reference or 0.0), reference=reference)
        self._past: tuple[tuple[int, _State], ...] = ()  # (frame, state before it) of the last frames

    @property
    def gain_db(self) -> float:
        """After the last frame pushed."""
        return self._state.gain_db

    @property
    def lost(self) -> bool:
        """Whether the take has run away from what was played."""
        return self._state.gain_db <= -self._meter.config.lost_db

    def renew(self) -> None:
        """What follows goes on from what was played, not from the take so far."""
        reference = self._state.reference
        if reference is not None:
            self._state = replace(self._state, energies=np.full(self._meter.long_frames, reference), gain_db=0.0)
            self._past = ()

    def begin(self, frame: int) -> None:
        """The stream goes on with this frame, or once more: then as it was before it, or as early as is known."""
        kept = tuple(entry for entry in self._past if entry[0] < frame)
        if len(kept) < len(self._past):
            self._state = self._past[len(kept)][1]
            self._past = kept

    def push(self, frame: int, pcm: Samples, players: Sequence[int]) -> Samples:
        """Finite samples [n] or [n, channels] of the frames from `frame` on: the same, or at its gain.

        `players`: how many are commanded to play in each of the frames, 0 where that is not commanded.
        """
        count = len(players)
        hop = len(pcm) // count if count else 0
        out: Samples | None = None
        for index in range(count):
            rows = slice(index * hop, (index + 1) * hop)
            before = self._state
            self._past = (*self._past[1 - _KEPT_STATES :], (frame + index, before))
            if frame + index >= self._first:
                self._state = self._after(before, self._meter.energy_of(pcm[rows]), players[index])
            if before.gain_db == 0.0 and self._state.gain_db == 0.0:
                continue
            if out is None:
                out = pcm.copy()
            out[rows] = _ramped(pcm[rows], before.gain_db, self._state.gain_db)
        return pcm if out is None else out

    def snapshot(self) -> object:
        """Everything that decides the gains to come."""
        return self._state, self._past

    def restore(self, snap: Any) -> None:
        """Go on from a snapshot bit-exactly."""
        self._state, self._past = snap

    def _after(self, state: _State, energy: float, players: int) -> _State:
        meter = self._meter
        if players and not state.players:
            state = replace(state, players=players)
        if not meter.sounds(energy):
            return state  # a rest is no reason to be louder or quieter after it
        energies = np.append(state.energies[1 - meter.long_frames :], energy)
        if state.reference is None:
            if len(energies) < meter.own_frames:
                return replace(state, energies=energies)
            own, _ = meter.levels(energies)
            return replace(state, energies=np.full(meter.long_frames, own), reference=own)
        added_db = 10.0 * log10(players / state.players) if players else 0.0
        level, now = (10.0 * log10(energy / state.reference) for energy in meter.levels(energies))
        wanted = self._wanted(level, now, added_db)
        gain = min(max(wanted, state.gain_db - self._fall), state.gain_db + self._rise)
        return replace(state, energies=energies, gain_db=gain)

    def _wanted(self, louder_db: float, now_db: float, added_db: float) -> float:
        """The gain in dB for a take so much louder than what was played, of late and just now.

        `added_db`: by players who were not commanded at first.
        """
        config = self._meter.config
        change = min(max(added_db, -config.added_db), config.added_db)
        high = config.tolerance_db + max(change, 0.0)
        low = -config.quiet_tolerance_db + min(change, 0.0)
        if louder_db > high:
            return max(high - louder_db, -config.most_fall_db)
        if louder_db < low and now_db > -config.gate_db:
            return min(low - louder_db, config.most_lift_db)
        return 0.0


def _ramped(frame: Samples, before_db: float, after_db: float) -> Samples:
    """A frame at gains that go in a straight line from one to the other."""
    start, end = 10.0 ** (before_db / 20.0), 10.0 ** (after_db / 20.0)
    gains = start + (end - start) * (np.arange(len(frame)) + 1.0) / len(frame)
    scaled: Samples = (frame * gains.reshape(-1, *[1] * (frame.ndim - 1))).astype(np.float32)
    return scaled
