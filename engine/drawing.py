"""What a step draws with: noise of its timesteps, leaned by the level's hold, worked out once for each timestep.

Inside the step loop (engine/decoder.py), between the noise (engine/noise.py) and the hold (engine/code_levels.py).
A timestep's codebooks are drawn in different steps, but with one table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .code_levels import LevelHold
from .generator import Sampling
from .noise import Floats, NoiseTable

_KEPT = 64  # timesteps in work


@dataclass(frozen=True, slots=True)
class _Leaned:
    """A timestep's noise [K, V] less its tilt, and what it was made of: it holds as long as these are the same."""

    values: Floats
    noise: Floats
    tilt: Floats
    temperature: float

    def made_of(self, noise: Floats, tilt: Floats, temperature: float) -> bool:
        return self.noise is noise and self.tilt is tilt and self.temperature == temperature


class DrawTable:
    """The noise that a graph draws by, by timestep. Not thread-safe; owned by one decoder."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self._noise = NoiseTable(num_codebooks, codebook_size)
        self._leaned: dict[int, _Leaned] = {}

    def of(self, timestep: int, frame: int, sampling: Sampling, hold: LevelHold | None) -> Floats:
        """float32 [K, V] of a timestep that is a take's `frame`, above temperature 0; read-only by convention."""
        noise = self._noise.of(sampling.seed, frame)
        tilt = None if hold is None else hold.tilts(timestep)
        if tilt is None:
            return noise
        found = self._leaned.get(timestep)
        if found is None or not found.made_of(noise, tilt, sampling.temperature):
            if len(self._leaned) >= _KEPT:
                del self._leaned[next(iter(self._leaned))]
            leaned = noise - tilt / np.float32(sampling.temperature)
            found = self._leaned[timestep] = _Leaned(leaned, noise, tilt, sampling.temperature)
        return found.values
