"""What a generator remembers of its last frames: codes and the conditions they were made under, in rings.

Sits inside the step loop; bounded, so that a take has no end. A timestep keeps the vector it entered with, so that
a row prefilled again after a rollback is the row that was there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .generator import Codes, Conditions

_NONE = -2  # no timestep: -1 is that of the row before the first


class FrameStore:
    """Rings of `length` frames, addressed by absolute timestep. The caller keeps to the last `length`."""

    def __init__(self, length: int, num_codebooks: int, width: int) -> None:
        self.length = length
        self.width = width
        self._codes = np.zeros((length, num_codebooks), np.uint16)
        self._conditions = np.zeros((length, width), np.float32)
        self._conditioned = np.full(length, _NONE, np.int64)  # timestep whose conditions stand at this place

    def put_codes(self, first: int, codes: Codes) -> None:
        """Store codes [n, K] of [first, first + n)."""
        _put(self._codes, first, codes)

    def codes(self, start: int, stop: int) -> Codes:
        """A copy of the codes of [start, stop), uint16 [n, K]."""
        found: Codes = self._codes[np.arange(start, stop) % self.length]
        return found

    def put_conditions(self, first: int, conditions: Conditions) -> None:
        """Store vectors [n, width] of [first, first + n)."""
        _put(self._conditions, first, conditions)
        _put(self._conditioned, first, np.arange(first, first + len(conditions)))

    def has_conditions(self, timestep: int) -> bool:
        """Whether this timestep has its vector."""
        return bool(self._conditioned[timestep % self.length] == timestep)

    def conditions(self, timesteps: npt.NDArray[np.int64]) -> Conditions:
        """Vectors float32 [n, width]; zeros for the timestep before the first, which never was."""
        places = timesteps % self.length
        found: Conditions = self._conditions.take(places, axis=0)
        without = self._conditioned.take(places) != timesteps
        if np.count_nonzero(without):
            found[without] = 0.0
        return found

    def conditions_before(self, timestep: int, count: int) -> Conditions:
        """Vectors [n, width] of those of the `count` timesteps before this one that have theirs."""
        timesteps = np.arange(max(0, timestep - count), timestep)
        places = timesteps % self.length
        found: Conditions = self._conditions[places[self._conditioned[places] == timesteps]]
        return found

    def forget(self, first: int) -> None:
        """Drop the conditions of every timestep from `first` on."""
        self._conditioned[self._conditioned >= first] = _NONE

    def copy(self) -> FrameStore:
        """An independent copy."""
        other = FrameStore(self.length, self._codes.shape[1], self.width)
        other._codes[:] = self._codes
        other._conditions[:] = self._conditions
        other._conditioned[:] = self._conditioned
        return other


def _put(ring: npt.NDArray[Any], first: int, rows: npt.NDArray[Any]) -> None:
    """Write rows [n], no more than the ring has, from place `first` on."""
    begin = first % len(ring)
    before_end = len(ring) - begin
    if len(rows) <= before_end:
        ring[begin : begin + len(rows)] = rows
    else:
        ring[begin:], ring[: len(rows) - before_end] = rows[:before_end], rows[before_end:]
