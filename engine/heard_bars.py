"""The last bars heard before a take: their beat, which it is held to, and the phrase that it begins anew with.

Stands between a take's planner and the beat lock in its chunker. Where more is wrong than 2 % of stretch repairs,
and where a take has lost its level, the model hears the phrase once more at a bar line and goes on from there: it
was in time, and as loud as wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from .beat_lock import BeatLock, LockConfig
from .beat_tracking import GridPoint
from .events import Controller
from .generator import Codes, Generator
from .timeline import Timeline

_PHRASE_S = 8.0  # of what was played is heard once more, and
_TOLD_PHRASE_S = 4.0  # by a model that is told the beat and has none to find
_SAME_TEMPO = 0.023  # the host's may differ so much from that of what was played, else nothing could be in time
_SHORTEST_BEAT_S, _LONGEST_BEAT_S = 0.2, 2.0  # others are taken double or half


class HostGrid:
    """Beats in the bar, at model samples after a timeline's anchor, as the controller knows them now."""

    def __init__(self, controller: Controller, timeline: Timeline) -> None:
        self._controller = controller
        self._timeline = timeline

    def at(self, position: float) -> GridPoint:
        """As Grid's; not known while the host stands or no tempo is commanded."""
        line = self._timeline
        host = float(line.anchor_position) + position * line.host_rate / line.model_rate
        told = self._controller.controls(np.array([host]))
        per_quarter = float(told.meter_den[0]) / 4.0
        beat = (float(told.ppq[0]) - float(told.bar_start_ppq[0])) * per_quarter
        period_s = 60.0 / (float(told.bpm[0]) * per_quarter)
        bar = float(told.meter_num[0])
        while period_s < _SHORTEST_BEAT_S:
            beat, period_s, bar = beat / 2.0, period_s * 2.0, bar / 2.0
        while period_s > _LONGEST_BEAT_S:
            beat, period_s, bar = beat * 2.0, period_s / 2.0, bar * 2.0
        return GridPoint(beat=beat, period=period_s * line.model_rate, bar=bar, known=bool(told.beat_known[0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Phrase:
    """Codes of what was played up to a bar line, `rest_samples` of model time after the last whole frame."""

    codes: Codes
    rest_samples: int


class HeardBars:
    """Those before one take. Decode thread; nothing in it changes."""

    def __init__(
        self,
        config: LockConfig | None,
        *,
        controller: Controller,
        timeline: Timeline,
        generator: Generator,
        channels: int,
    ) -> None:
        """`generator`: as it has heard what was played, and nothing more. Without `config` nothing is stretched."""
        self._config = config
        self._controller = controller
        self._channels = channels
        end = generator.frontier * timeline.hop_samples - timeline.anchor_sample
        point = HostGrid(controller, timeline).at(float(end))
        self._period = point.period if point.known else None
        self.phrase = self._phrase(point, timeline, generator)

    @property
    def locks(self) -> bool:
        """Whether takes are held to the beat, or just begun anew with the phrase."""
        return self._config is not None

    def lock(self, timeline: Timeline, start: int) -> BeatLock:
        """For audio whose first sample lies `start` model samples after the timeline's anchor; where it `locks`."""
        assert self._config is not None
        grid = HostGrid(self._controller, timeline)
        return BeatLock(timeline.model_rate, self._channels, grid, float(start), config=self._config)

    def next_bar(self, timeline: Timeline, position: int) -> int | None:
        """Host position of the first bar line from `position` on; None where beginning anew there is of no use."""
        sample = float(Fraction(position - timeline.anchor_position) * timeline.model_rate / timeline.host_rate)
        point = HostGrid(self._controller, timeline).at(sample)
        if self._period is None or not point.known or abs(point.period / self._period - 1.0) > _SAME_TEMPO:
            return None
        ahead = (point.bar - point.beat) * point.period * timeline.host_rate / timeline.model_rate
        return position + max(1, round(ahead))

    def _phrase(self, point: GridPoint, timeline: Timeline, generator: Generator) -> Phrase | None:
        end = generator.frontier * timeline.hop_samples - round(point.beat * point.period)
        last, rest = divmod(end, timeline.hop_samples)
        seconds = _TOLD_PHRASE_S if self._config is None else _PHRASE_S
        count = min(last, ceil(seconds * timeline.model_rate / timeline.hop_samples))
        while point.known and count * timeline.hop_samples >= point.period:
            try:
                return Phrase(codes=generator.read(last - count, last), rest_samples=rest)
            except ValueError:  # longer than what the generator keeps
                count //= 2
        return None
