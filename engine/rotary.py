"""Cosines and sines of rows' positions, worked out for a range of positions at once and then looked up.

Inside the step runtime (engine/runtime.py). A take's rows move along by about a position a step, so a range serves
dozens of steps. The numbers are those of each position by itself, to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_POSITIONS = 64  # in a range


class RotaryTable:
    """For one lane. Not thread-safe."""

    def __init__(self, frequencies: npt.NDArray[np.float64]) -> None:
        """`frequencies` [H] in radians a position."""
        self._frequencies = frequencies
        self._first = 0
        self._cos: npt.NDArray[np.float32] = np.zeros((0, len(frequencies)), np.float32)
        self._sin = self._cos

    def look_up(
        self, positions: npt.NDArray[np.int64], cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]
    ) -> None:
        """Write those of positions [n] into `cos` and `sin` [n, H]."""
        given = positions.tolist()
        least, most = min(given), max(given)
        if least < self._first or most >= self._first + len(self._cos):
            if most - least >= _POSITIONS:  # of no take, but of nothing that is wrong
                cos[:], sin[:] = self._of(positions)
                return
            self._first = least
            self._cos, self._sin = self._of(np.arange(least, least + _POSITIONS))
        places = positions - self._first
        self._cos.take(places, axis=0, out=cos, mode="clip")
        self._sin.take(places, axis=0, out=sin, mode="clip")

    def _of(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        angles = positions[:, None] * self._frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
