"""Counter-based noise: what makes a draw depend on (seed, timestep, codebook) alone, never on order or history.

Sits beside the step loop, which feeds it to the graph (no graph draws random numbers). Because a timestep draws the
same noise whenever it is reached, a plan made again after a rollback repeats unless its inputs changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_BITS = 52  # of a draw that are kept: with the half added, still exact in float64
_ONE = np.uint64(0x3FF0000000000000)  # 1.0 as float64: with these bits below it, 1.0 to 2.0
_HALF_BELOW_ONE = 1.0 - 2.0 ** -(_BITS + 1)
_KEPT = 64
_DRAWN_AT_ONCE = 8  # timesteps: the first is asked for, the others soon


class GumbelNoise:
    """Draws noise by (seed, timestep). One generator, told its key anew each time: making one takes longer."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=np.zeros(2, np.uint64))
        self._state = self._philox.state  # before the first draw

    def draw(self, seed: int, timestep: int, shape: tuple[int, int]) -> Floats:
        """Standard Gumbel noise float32 [codebooks, codebook_size] of one timestep.

        Philox4x64-10 (Salmon et al. 2011) with key (seed, timestep); codebook k owns the k-th run of
        `codebook_size` draws, so the values of a codebook do not depend on how many others there are.
        """
        self._state["state"]["key"][:] = seed, timestep
        self._philox.state = self._state
        bits = self._philox.random_raw(shape[0] * shape[1])
        bits >>= np.uint64(64 - _BITS)
        bits |= _ONE
        values = bits.view(np.float64)
        values -= _HALF_BELOW_ONE  # (draw + 0.5) / 2 ** 52, inside (0, 1): finite below
        np.log(values, out=values)
        np.negative(values, out=values)
        np.log(values, out=values)
        noise = np.empty(shape, np.float32)
        np.negative(values.reshape(shape), out=noise, casting="same_kind")
        return noise


def gumbel_noise(seed: int, timestep: int, shape: tuple[int, int]) -> Floats:
    """As GumbelNoise.draw, for one timestep alone."""
    return GumbelNoise().draw(seed, timestep, shape)


class NoiseTable:
    """Noise by timestep for one seed; holds the few timesteps in work so that each is drawn once.

    A few are drawn at once: after a step the processor's caches hold the model's weights, and none of this.
    """

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self._shape = (num_codebooks, codebook_size)
        self._source = GumbelNoise()
        self._seed = -1
        self._tables: dict[int, Floats] = {}

    def of(self, seed: int, timestep: int) -> Floats:
        """float32 [codebooks, codebook_size]; read-only by convention."""
        if seed != self._seed:
            self._seed = seed
            self._tables.clear()
        table = self._tables.get(timestep)
        if table is None:
            self._draw(timestep)
            table = self._tables[timestep]
        return table

    def row(self, seed: int, timestep: int, codebook: int) -> Floats:
        """float32 [codebook_size] of one codebook."""
        row: Floats = self.of(seed, timestep)[codebook]
        return row

    def _draw(self, first: int) -> None:
        for timestep in range(first, first + _DRAWN_AT_ONCE):
            if timestep not in self._tables:
                if len(self._tables) >= _KEPT:
                    del self._tables[next(iter(self._tables))]
                self._tables[timestep] = self._source.draw(self._seed, timestep, self._shape)
