"""Whether a plan can be made again before its audio is due: asked by a take when controls change.

In real time a changed knob must not starve the ring, so what could not be remade in time is kept.
"""

from __future__ import annotations

from math import ceil

from .lookahead import LookAhead
from .planner import Planner
from .stream import Costs


class Remake:
    """Decode thread; one per take."""

    def __init__(self, *, planner: Planner, look_ahead: LookAhead, costs: Costs, host_rate: int) -> None:
        self._planner = planner
        self._look_ahead = look_ahead
        self._costs = costs
        self._host_rate = host_rate

    def start_in_time(self, changed_frame: int, last_frame: int, ahead_samples: int) -> bool:
        """Whether an armed take's first chunk, which uses frames up to `last_frame`, would still be there in time.

        `ahead_samples` are left until its start, host rate; frames from `changed_frame` on would be made again.
        """
        if not self._look_ahead.realtime:
            return True
        first = max(changed_frame, self._planner.context_end)
        missing = last_frame - first + self._costs.restart_steps
        needed = missing * self._costs.step_s * self._host_rate + self._look_ahead.remake_samples
        return self._planner.frontier <= first or ahead_samples >= needed

    def in_time(self, ahead_samples: int) -> bool:
        """Whether a plan can be dropped with so much committed (host rate), and the next chunk be there in time."""
        restart = ceil(self._costs.restart_steps * self._costs.step_s * self._host_rate)
        return not self._look_ahead.realtime or ahead_samples >= self._look_ahead.remake_samples + restart

    @property
    def first_free_frame(self) -> int:
        """No frame from here on has entered the pattern under older commands, while a plan is kept; no less."""
        return self._planner.frontier + self._costs.open_frames
