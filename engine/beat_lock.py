"""Holds audio whose model knows no tempo to the host's grid: listens to its beat and stretches it by up to 2 %.

Stands between the codec's decoder and the resampler of a take. The correction is computed ahead, not by hearing
what was corrected: the estimator follows the audio as generated, the stretch says where each sample will be heard,
and the ratio brings the two together. What 2 % cannot repair is said, so that the take begins anew at a bar.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from .beat_tracking import BeatConfig, BeatEstimator, Grid
from .stretch import MicroStretch, Samples, StretchConfig

_BLOCK_S = 0.02
_SLACK = 0.003  # of the tempo past the limit before it is given up: the estimate's own error


@dataclass(frozen=True, kw_only=True)
class LockConfig:
    """Correction rests below `rest_ms` and `rest_tempo`, and begins above `dead_zone_ms`.

    Where players are a few ms early or late from beat to beat that is theirs: only an error that stays outside for
    `patience_beats`, or is more than twice as large, is drift.
    """

    dead_zone_ms: float = 5.0
    patience_beats: float = 2.0
    rest_ms: float = 1.0
    rest_tempo: float = 0.0007
    settle_s: float = 0.5  # time constant in which an error is worked off
    slew_per_s: float = 0.04
    hold_beats: float = 8.0  # so long is a tempo believed that is not heard any more
    give_up_beats: float = 4.0  # so long past the limit before a new beginning is asked for
    realign_error_beats: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.rest_ms < self.dead_zone_ms <= 50.0:
            raise ValueError("rest_ms and dead_zone_ms: give 0 < rest_ms < dead_zone_ms <= 50")
        for name in (
            "patience_beats",
            "settle_s",
            "slew_per_s",
            "hold_beats",
            "give_up_beats",
            "realign_error_beats",
        ):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}: give more than 0")


@dataclass(frozen=True, kw_only=True)
class BeatReport:
    """Positive ms are late. Counters are since the lock was made."""

    drift_ms: float  # of the audio as generated
    error_ms: float  # after correction
    ratio: float  # output per input
    confidence: float
    level: int  # onsets a beat, 0 unknown
    known: bool
    correcting: bool
    realign: bool  # begin anew at the next bar, in phase
    realigns: int
    unknown_beats: float
    splices: int


@dataclass
class _State:
    ratio: float = 1.0
    correcting: bool = False
    heard: float | None = None  # input position of the last estimate that was heard
    near: float = 0.0  # input position up to which the error was within the dead zone
    within: float = 0.0  # and the tempo within the limit
    realign: bool = False
    realigns: int = 0
    unknown: float = 0.0  # samples
    error: float = 0.0  # beats


class BeatLock:
    """Audio in, audio on the grid out. Decode thread; any chunking gives the same samples and reports."""

    def __init__(
        self,
        rate: int,
        channels: int,
        grid: Grid,
        start_position: float,
        *,
        config: LockConfig | None = None,
        beat_config: BeatConfig | None = None,
        stretch_config: StretchConfig | None = None,
    ) -> None:
        """The first sample is heard at `start_position` of the grid, whose positions are samples of `rate`."""
        self.rate, self.config = rate, config or LockConfig()
        self.stretch = MicroStretch(
            rate, channels, stretch_config or StretchConfig(threshold_ms=3.0, overshoot_ms=4.5)
        )
        self._grid, self._start = grid, start_position
        self._block = max(1, round(_BLOCK_S * rate))
        point = grid.at(start_position)
        self._period = point.period
        self._beats = BeatEstimator(rate, point.period, point.beat, beat_config)
        self._origin = 0  # input position at which the estimator began
        self._state = _State()

    @property
    def position(self) -> float:
        """Grid position of the next sample that comes out."""
        return self._start + self.stretch.output_position

    @property
    def wanted_position(self) -> float:
        """Grid position at which the next sample to come in should be heard."""
        return self._start + self.stretch.wanted_position

    def push(self, pcm: Samples) -> Samples:
        """Audio float32 [n, channels] -> what is ready; its first sample lies at `position` as before the call."""
        out: list[Samples] = []
        at = 0
        while at < len(pcm):
            left = self._block - (self.stretch.input_position % self._block)
            part = pcm[at : at + left]
            out.append(self.stretch.push(part, self._state.ratio))
            self._beats.push(part)
            at += len(part)
            if self.stretch.input_position % self._block == 0:
                self._control()
        return np.concatenate(out) if out else pcm[:0]

    def flush(self) -> Samples:
        """What is held back, at the end."""
        return self.stretch.flush()

    def realigned(self) -> None:
        """The audio from here on is a new beginning, in phase with the grid where it will be heard."""
        state, at = self._state, self.wanted_position
        point = self._grid.at(at)
        self._period = point.period
        self._beats.reset(point.period, point.beat)
        self._origin = self.stretch.input_position
        state.realign, state.correcting, state.error, state.ratio = False, False, 0.0, 1.0
        state.heard, state.near, state.within = None, float(self._origin), float(self._origin)

    def snapshot(self) -> tuple[object, ...]:
        """Everything that decides what comes out."""
        return self.stretch.snapshot(), self._beats.snapshot(), self._period, self._origin, replace(self._state)

    def restore(self, snap: tuple[object, ...]) -> None:
        """Go on from a snapshot bit-exactly."""
        stretch, beats, period, origin, state = snap
        self.stretch.restore(cast("tuple[object, ...]", stretch))
        self._beats.restore(cast("tuple[object, ...]", beats))
        self._period, self._origin = cast(float, period), cast(int, origin)
        self._state = replace(cast(_State, state))

    @property
    def report(self) -> BeatReport:
        """As of the last block."""
        state, estimate = self._state, self._beats.estimate
        error_ms = 1000.0 * state.error * self._period / self.rate
        corrected = self.stretch.input_position - self.stretch.wanted_position
        return BeatReport(
            drift_ms=error_ms + 1000.0 * corrected / self.rate,
            error_ms=error_ms,
            ratio=state.ratio,
            confidence=estimate.confidence,
            level=estimate.level,
            known=estimate.known,
            correcting=state.correcting,
            realign=state.realign,
            realigns=state.realigns,
            unknown_beats=state.unknown / self._period,
            splices=self.stretch.splice_count,
        )

    # --- control ------------------------------------------------------------------------------------------------

    def _beat_at(self, input_position: float) -> float:
        """Beats into the grid that the audio is at an input sample."""
        estimate = self._beats.estimate
        since = input_position - self._origin - estimate.position
        return estimate.beat + since * estimate.tempo / self._period

    def _control(self) -> None:
        """Once a block: where the audio is, where it should be, and the ratio until the next."""
        state, config, estimate = self._state, self.config, self._beats.estimate
        now = self.stretch.input_position
        out = self.wanted_position
        point = self._grid.at(out)
        period = point.period
        tempo = estimate.tempo * period / self._period
        state.error = point.nearest(point.beat - self._beat_at(now))
        error_ms = abs(state.error) * period / self.rate * 1000.0
        if estimate.known:
            state.heard = float(now)
        else:
            state.unknown += self._block
        if error_ms <= config.dead_zone_ms:
            state.near = float(now)
        believed = point.known and state.heard is not None and now - state.heard <= config.hold_beats * period
        if not believed or (error_ms < config.rest_ms and abs(tempo - 1.0) < config.rest_tempo):
            state.correcting = False
        elif estimate.known and error_ms > config.dead_zone_ms * (
            1.0 if now - state.near >= config.patience_beats * period else 2.0
        ):
            state.correcting = True
        self._judge(tempo, now, period, believed=believed)
        wanted = tempo - state.error * period / self.rate / config.settle_s if state.correcting else 1.0
        limit, step = self.stretch.config.limit, config.slew_per_s * self._block / self.rate
        wanted = min(max(wanted, 1.0 - limit), 1.0 + limit)
        state.ratio = min(max(wanted, state.ratio - step), state.ratio + step)

    def _judge(self, tempo: float, now: int, period: float, *, believed: bool) -> None:
        """Whether correction is of no use any more."""
        state, config = self._state, self.config
        if not believed or abs(tempo - 1.0) <= self.stretch.config.limit + _SLACK:
            state.within = float(now)
        too_far = believed and abs(state.error) > config.realign_error_beats
        if not state.realign and (too_far or now - state.within >= config.give_up_beats * period):
            state.realign = True
            state.realigns += 1
