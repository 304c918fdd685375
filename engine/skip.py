"""A take that has fallen far behind the play head, after a stall of the machine, goes on from now.

Asked by a take before each slice. What it has made so far is moved by whole bars, so that it lies just before what
is played next: music is back at once, in phase, repeating what was last made for less than a bar, and then goes on.
Nothing that lies behind is generated any more.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from .events import TakeRequest
from .lookahead import LookAhead
from .planner import Planner
from .stream import StreamConfig
from .take_state import TakeState


class Skip:
    """Decode thread; one per take. Positions are host stream positions."""

    def __init__(self, *, request: TakeRequest, config: StreamConfig, look_ahead: LookAhead) -> None:
        self._request = request
        self._config = config
        self._look_ahead = look_ahead

    def is_due(self, state: TakeState, planner: Planner, head: int) -> bool:
        """Whether catching up is hopeless. Never while the host waits for audio, nor before a take is to sound."""
        if not self._look_ahead.realtime or state.start > head:
            return False
        allowed_s = self._config.max_lag_s
        if not state.announced:  # it may have begun that far behind, and catches up unheard
            allowed_s += self._config.max_catch_up_s
        lag = head - planner.timeline.position_of_frame(planner.frontier)
        return lag > allowed_s * planner.timeline.host_rate

    def over(self, state: TakeState, planner: Planner, head: int, chunk_samples: int) -> int:
        """Moves what is known up to now; returns how many chunks are given up by that."""
        frontier = planner.timeline.position_of_frame(planner.frontier)
        now = head + self._look_ahead.margin_samples
        begun = frontier if state.committed_end is None else Fraction(state.committed_end)
        planner.move(self._samples(frontier, now))
        state.start = max(state.start, ceil(planner.timeline.position_of_frame(planner.context_end)))
        state.planned, state.history, state.committed_end = None, (), None
        state.short_next = True
        return ceil((now - begun) / chunk_samples)

    def _samples(self, frontier: Fraction, now: int) -> int:
        """By how much: the fewest whole bars of the present grid after which nothing is missing at `now`."""
        missing = now - frontier
        bar = Fraction(0)
        if self._request.bar_position is not None:
            bar = Fraction(self._request.bar_position(now, 1)) - now
        return ceil(missing) if bar <= 0 else round(ceil(missing / bar) * bar)
