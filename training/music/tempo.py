"""Tempo of a song as exact steps: ticks to seconds and samples and back, in integers; under the composer's song.

A tempo is a whole number of microseconds per quarter, as MIDI states it, from a tick on. A ramp is a stair with a
step each sixteenth, so a ramped song is as exact as a steady one: nothing is integrated in floating point.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

TICKS_PER_QUARTER = 960
STEP_TICKS = TICKS_PER_QUARTER // 4  # a sixteenth
BPM_RANGE = (60.0, 180.0)


def to_us(bpm: float) -> int:
    """Microseconds per quarter, nearest, within BPM_RANGE."""
    return round(60e6 / min(BPM_RANGE[1], max(BPM_RANGE[0], bpm)))


@dataclass(frozen=True, kw_only=True)
class TempoMap:
    """From `ticks[i]` on a quarter lasts `tempo_us[i]`; the first step is at tick 0."""

    ticks: tuple[int, ...]
    tempo_us: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ticks) != len(self.tempo_us) or not self.ticks or self.ticks[0] != 0:
            raise ValueError(f"a tempo map needs as many ticks as tempi, the first 0; got {self.ticks[:3]}")
        if any(b <= a for a, b in zip(self.ticks[:-1], self.ticks[1:], strict=True)):
            raise ValueError("the ticks of a tempo map must ascend")
        lowest, highest = round(60e6 / BPM_RANGE[1]), round(60e6 / BPM_RANGE[0])
        for tempo in self.tempo_us:
            if not lowest <= tempo <= highest:
                raise ValueError(f"tempo is {tempo} us per quarter, allowed {lowest}..{highest}")

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Times of `ticks` in units of 1 us / TICKS_PER_QUARTER."""
        out = [0]
        for i in range(1, len(self.ticks)):
            out.append(out[-1] + (self.ticks[i] - self.ticks[i - 1]) * self.tempo_us[i - 1])
        return tuple(out)

    def _scaled(self, tick: int) -> int:
        i = max(0, bisect_right(self.ticks, tick) - 1)
        return self._starts[i] + (tick - self.ticks[i]) * self.tempo_us[i]

    def seconds(self, tick: int) -> Fraction:
        """Exact time of a tick after ppq 0."""
        return Fraction(self._scaled(tick), 1_000_000 * TICKS_PER_QUARTER)

    def sample(self, tick: int, rate: int) -> int:
        """First sample at or after a tick."""
        return -(-self._scaled(tick) * rate // (1_000_000 * TICKS_PER_QUARTER))

    def us_at(self, tick: int) -> int:
        """Microseconds per quarter at a tick."""
        return self.tempo_us[bisect_right(self.ticks, tick) - 1]

    def at_samples(
        self, samples: npt.NDArray[np.int64], rate: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """For samples (>= 0): the last tick at or before each (exact), its ppq and its bpm."""
        time = samples.astype(np.int64) * (1_000_000 * TICKS_PER_QUARTER)
        starts = np.array(self._starts, dtype=np.int64) * rate
        index = np.searchsorted(starts, time, side="right") - 1
        per_tick = np.array(self.tempo_us, dtype=np.int64)[index] * rate
        first = np.array(self.ticks, dtype=np.int64)[index]
        within = time - starts[index]
        tick = first + within // per_tick
        ppq = (tick + (within % per_tick) / per_tick) / TICKS_PER_QUARTER
        return tick, ppq, 60e6 / np.array(self.tempo_us, dtype=np.float64)[index]


def steady(bpm: float) -> TempoMap:
    """One tempo throughout."""
    return TempoMap(ticks=(0,), tempo_us=(to_us(bpm),))


def build(start_bpm: float, changes: list[tuple[int, int, float]]) -> TempoMap:
    """From `start_bpm` by changes (tick, ramp ticks, bpm after): at once where ramp ticks is 0, else by a stair.

    A stair climbs evenly in bpm, a step each sixteenth, and has arrived at tick + ramp ticks. Changes ascend and do
    not overlap; both numbers of ticks are whole sixteenths.
    """
    ticks, tempi = [0], [to_us(start_bpm)]
    bpm = start_bpm
    for tick, ramp, target in changes:
        count = max(1, ramp // STEP_TICKS)
        for i in range(1, count + 1):
            at = tick + (ramp * i // count)
            if at == ticks[-1]:
                ticks.pop()
                tempi.pop()
            ticks.append(at)
            tempi.append(to_us(bpm + (target - bpm) * i / count))
        bpm = target
    kept = [i for i in range(len(ticks)) if i == 0 or tempi[i] != tempi[i - 1]]
    return TempoMap(ticks=tuple(ticks[i] for i in kept), tempo_us=tuple(tempi[i] for i in kept))
