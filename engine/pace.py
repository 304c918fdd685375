"""How many takes are stepped together, by measurement when a model is loaded: only what pays, only with equal bits.

Between engine/batch.py and the company that forms batches (engine/company.py). Rows of noise over a cache of noise
are stepped alone and together; what differs in one bit, or gains too little, is not used on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .runtime import Ints, StepLane, StepRuntime
from .sharing import Together

LEAST_GAIN = 1.1  # below that a batch is not worth that its takes wait for one another
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Pace:
    """`cost[n - 1]`: time of a step of n takes together, that of one alone being 1. `equal`: with the same bits."""

    cost: tuple[float, ...]
    equal: bool = True

    def __post_init__(self) -> None:
        if not self.cost or min(self.cost) <= 0.0:
            raise ValueError(f"Pace.cost {self.cost} must be above 0, for one take or more")

    def takes(self, waiting: int) -> int:
        """How many of so many takes are best stepped together; 1 if that does not pay."""
        worth = {n: n / cost for n, cost in enumerate(self.cost[:waiting], 1) if n / cost >= LEAST_GAIN}
        return max(worth, key=lambda n: (worth[n], n), default=1) if self.equal else 1

    @property
    def pays(self) -> bool:
        """Whether any number of takes is worth stepping together."""
        return self.takes(len(self.cost)) > 1


class LanesTogether(Protocol):
    """What runs up to `takes` lanes of a model at once."""

    @property
    def takes(self) -> int: ...

    def stepper(self) -> Together:
        """For one thread."""
        ...


def measure_pace(
    single: StepRuntime, batch: LanesTogether, *, rows: int, clock: Callable[[], float] = time.perf_counter
) -> Pace:
    """Steps of `rows` rows a take, half a window behind them, for every number of takes.

    Load thread; some seconds for a large model. `clock` may be the thread's own where no other thread computes.
    """
    lanes = [_noise_lane(single, rows, number) for number in range(batch.takes)]
    stepper = batch.stepper()
    alone, together = [np.inf] * len(lanes), [np.inf] * (len(lanes) + 1)
    equal = True
    for _ in range(_ROUNDS):
        expected = []
        for number, lane in enumerate(lanes):
            began = clock()
            lane.execute()
            alone[number] = min(alone[number], clock() - began)
            expected.append((lane.tokens.copy(), lane.logits.copy()))
        for count in range(2, len(lanes) + 1):
            began = clock()
            stepper.run(lanes[:count])
            together[count] = min(together[count], clock() - began)
            for lane, (tokens, logits) in zip(lanes[:count], expected, strict=False):
                equal &= bool(np.array_equal(lane.tokens, tokens) and np.array_equal(lane.logits, logits))
    unit = float(np.median(alone))
    return Pace(cost=(1.0, *(found / unit for found in together[2:])), equal=equal)


def _noise_lane(runtime: StepRuntime, rows: int, seed: int) -> StepLane:
    """A lane prepared for a step; each has another length and another way of drawing."""
    shape, lane, random = runtime.shape, runtime.lane(), np.random.default_rng(seed)
    books, width = shape.num_codebooks, shape.conditioning_width
    kept = max(1, shape.window // 2 - seed)
    live = lane.cache.live
    live[:] = random.integers(-64, 64, live.shape) if live.dtype == np.int8 else random.standard_normal(live.shape)
    lane.cache.keep(list(range(kept)))
    lane.noise[:] = random.gumbel(size=lane.noise.shape)
    lane.guidance[0], lane.temperature[0] = 1.0 + 0.5 * seed, 1.0
    lane.top_k[0] = min(shape.codebook_size, 50 + seed)
    stack: Ints = random.integers(0, shape.codebook_size, (rows, books))
    level: Ints = np.full(rows, books, np.int64)
    level[1:] = np.arange(rows - 1)[::-1] % books
    conditions = random.standard_normal((rows, width)).astype(np.float32)
    timestep: Ints = np.arange(kept, kept + rows)
    row_of_level: Ints = np.arange(books) % rows
    lane.prepare(stack, level, timestep, conditions, slot=kept, row_of_level=row_of_level)
    return lane
