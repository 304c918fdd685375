"""Glide: what a session does while the host's tempo glides, and when; every block of a glide tells another tempo.

Between the session, which hears of each bend, and the engine. Frames made from a bend on are made for its tempo
anyway. Bar lines, and launches with them, are moved often, which is cheap. What is planned is made anew, which
costs as much as a turned knob, where the tempo has left it by a hundredth (4 ms in 0.4 s), and once it is steady.
"""

from __future__ import annotations

from typing import Final

REGRID_EVERY_S: Final = 0.05
REPLAN_SHARE: Final = 0.01
STEADY_S: Final = 0.1  # without a bend


class Glide:
    """Decode thread. `now` are seconds of the worker's clock."""

    def __init__(self) -> None:
        self._bent_s: float | None = None  # the last bend that no plan knows; None: the tempo is steady
        self._regrid_s = float("-inf")
        self._moved = False
        self._bpm = self._planned_bpm = 0.0

    @property
    def under_way(self) -> bool:
        """Whether something is still to be done."""
        return self._bent_s is not None

    def bend(self, now: float, *, before: float, bpm: float) -> None:
        """The tempo was `before` and is `bpm`."""
        if self._bent_s is None:
            self._planned_bpm = before
        self._bent_s, self._moved, self._bpm = now, True, bpm

    def regrids(self, now: float) -> bool:
        """Whether bar lines are to be moved now; True once, until they move again."""
        if not self._moved or now - self._regrid_s < REGRID_EVERY_S:
            return False
        self._regrid_s, self._moved = now, False
        return True

    def replans(self, now: float) -> bool:
        """Whether what is planned is to be made anew now; True once."""
        if self._bent_s is None:
            return False
        steady = now - self._bent_s >= STEADY_S
        if not steady and abs(self._bpm - self._planned_bpm) < REPLAN_SHARE * self._planned_bpm:
            return False
        self._planned_bpm = self._bpm
        if steady:
            self._bent_s = None
        return True
