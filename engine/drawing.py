"""What a step draws with: noise of its timesteps, leaned by the level's hold, worked out once for each timestep.

Inside the step loop (engine/decoder.py), between the noise (engine/noise.py) and the hold (engine/code_levels.py).
A timestep's codebooks are drawn in different steps, but with one table.
"""

from __future__ import annotations

import numpy as np

from .code_levels import LevelHold
from .generator import Sampling
from .noise import Floats, NoiseTable

_KEPT = 64  # timesteps in work


class DrawTable:
    """The noise that a graph draws by, by timestep. Not thread-safe; owned by one decoder."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self._noise = NoiseTable(num_codebooks, codebook_size)
        self._tables: dict[int, Floats] = {}
        self._made_for: tuple[object, ...] = ()
        self._hold: LevelHold | None = None
        self._seed, self._origin, self._temperature = 0, 0, np.float32(1.0)

    def use(self, sampling: Sampling, hold: LevelHold | None, origin: int) -> None:
        """From here on draw as these say, above temperature 0; timestep 0 is a take's frame `origin`."""
        forgotten = 0 if hold is None else hold.forgotten
        made_for = (sampling.seed, sampling.temperature, origin, forgotten)
        if made_for != self._made_for or hold is not self._hold:
            self._tables.clear()
            self._made_for, self._hold = made_for, hold
            self._seed, self._origin = sampling.seed, origin
            self._temperature = np.float32(sampling.temperature)

    def of(self, timestep: int) -> Floats:
        """float32 [K, V]; read-only by convention."""
        found = self._tables.get(timestep)
        if found is None:
            if len(self._tables) >= _KEPT:
                del self._tables[next(iter(self._tables))]
            found = self._tables[timestep] = self._make(timestep)
        return found

    def _make(self, timestep: int) -> Floats:
        noise = self._noise.of(self._seed, timestep + self._origin)
        tilt = None if self._hold is None else self._hold.tilts(timestep)
        if tilt is None:
            return noise
        lean: Floats = tilt / self._temperature
        return np.subtract(noise, lean, out=lean)
