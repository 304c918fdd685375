"""Counter-based noise: what makes a draw depend on (seed, timestep, codebook) alone, never on order or history.

Sits beside the step loop, which feeds it to the graph (no graph draws random numbers). Because a timestep draws the
same noise whenever it is reached, a plan made again after a rollback repeats unless its inputs changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_BITS = 52  # with the half added, still exact in float64
_KEPT = 64


def gumbel_noise(seed: int, timestep: int, shape: tuple[int, int]) -> Floats:
    """Standard Gumbel noise float32 [codebooks, codebook_size] of one timestep.

    Philox4x64-10 (Salmon et al. 2011) with key (seed, timestep); codebook k owns the k-th run of `codebook_size`
    draws, so the values of a codebook do not depend on how many others there are.
    """
    bits = np.random.Philox(key=np.array([seed, timestep], dtype=np.uint64)).random_raw(shape[0] * shape[1])
    uniform = ((bits >> np.uint64(64 - _BITS)) + 0.5) * 2.0**-_BITS  # inside (0, 1): finite below
    noise: Floats = (-np.log(-np.log(uniform))).astype(np.float32)
    return noise.reshape(shape)


class NoiseTable:
    """Noise by timestep for one seed; holds the few timesteps in work so that each is drawn once."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self._shape = (num_codebooks, codebook_size)
        self._seed = -1
        self._rows: dict[int, Floats] = {}

    def row(self, seed: int, timestep: int, codebook: int) -> Floats:
        """float32 [codebook_size]; read-only by convention."""
        if seed != self._seed:
            self._seed = seed
            self._rows.clear()
        table = self._rows.get(timestep)
        if table is None:
            if len(self._rows) >= _KEPT:
                del self._rows[next(iter(self._rows))]
            table = self._rows[timestep] = gumbel_noise(seed, timestep, self._shape)
        row: Floats = table[codebook]
        return row
