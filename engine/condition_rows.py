"""What is commanded in frames, as a generator's rows: asked of the controller at the frames' host positions.

Between the controller, which knows host positions, and listener and planner, whose generators know frames.
"""

from __future__ import annotations

import numpy as np

from .conditioning import ConditioningLayout, encode
from .events import Controller
from .generator import Conditions
from .timeline import Timeline


class ConditionRows:
    """Condition rows of frames, asked of the controller at the frames' host positions."""

    def __init__(self, controller: Controller, timeline: Timeline, layout: ConditioningLayout) -> None:
        self._controller = controller
        self._timeline = timeline
        self._layout = layout

    def rows(self, first_frame: int, count: int) -> Conditions:
        """Float32 [count, conditioning width]."""
        return encode(self._controller.controls(self._timeline.positions(first_frame, count)), self._layout)

    def players(self, first_frame: int, count: int) -> list[int]:
        """How many instruments are commanded in each frame, [count]; 0 where that is not commanded."""
        if not any(name == "instruments" for name, _ in self._layout.groups):
            return [0] * count
        controls = self._controller.controls(self._timeline.positions(first_frame, count))
        players: list[int] = np.where(controls.instruments_known, controls.instruments.sum(axis=1), 0).tolist()
        return players
