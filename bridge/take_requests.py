"""From what a trigger asks for to what the engine is asked for: parameters, grid and seed in one request.

Beside bridge/session.py, on the decode thread. The request asks the timeline back for bar lines and launches, so a
start that moves later moves on the grid as it is then.
"""

from __future__ import annotations

from fractions import Fraction

from attacca.engine.events import LatePolicy, TakeMode, TakeRequest

from .actions import Ask, Start
from .params import Values
from .protocol import Late, Mode
from .transport import Timeline, nearest_sample


def take_request(start: Start, seed: int, values: Values, timeline: Timeline) -> TakeRequest:
    """What the engine is to start."""
    ask, playing = start.ask, timeline.playing
    waits = ask.late is Late.WAIT and playing
    grid = _Grid(timeline, ask)
    return TakeRequest(
        take=ask.take,
        epoch=timeline.epoch,
        position=ask.position,
        start_position=start.start_position,
        end_position=start.end_position,
        sampling=values.sampling(seed, temperature=ask.temperature),
        late=LatePolicy.WAIT if waits else LatePolicy.JOIN,
        next_launch=grid.next_launch if waits else None,
        mode=TakeMode(ask.mode.value),
        bar_position=grid.bar_position if playing else None,
        bar_line=grid.bar_line if playing else None,
        bars=ask.bars if ask.mode is not Mode.CONTINUE else None,
        beats_per_bar=timeline.segment.snapshot.meter_num if playing else 4,
        variation=values["variation"] if ask.variation is None else ask.variation,
    )


class _Grid:
    """Positions on the present grid; where the transport stands, there is none."""

    def __init__(self, timeline: Timeline, ask: Ask) -> None:
        self._timeline, self._ask = timeline, ask

    def next_launch(self, position: int) -> int:
        if not self._timeline.playing:
            return position
        ask = self._ask
        return self._timeline.next_launch(position, bars=ask.bars_quantum, quarters=ask.quarters_quantum).position

    def bar_line(self, position: int) -> int:
        if not self._timeline.playing:
            return position
        return self._timeline.next_launch(position, bars=Fraction(1)).position

    def bar_position(self, position: int, bars: int) -> Fraction:
        if not self._timeline.playing:
            return Fraction(position)
        return Fraction(nearest_sample(self._timeline.bars_after(position, bars)))
