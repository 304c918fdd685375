"""Steps of a pattern laid out ahead, a few dozen at once: all that is known of their rows before a token is drawn.

Under the schedule (engine/schedule.py), whose steps differ in tokens alone: which timesteps a step's rows are of,
their order, and where in the ring of codes their tokens lie, follow from the pattern. Worked out together they cost
a step next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attacca.engine.pattern import Pattern

Ints = npt.NDArray[np.int64]
STEPS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class StepLayouts:
    """Steps [first, first + n) of a schedule; entry i of each is step first + i's. Read-only, shared by clones."""

    first: int
    target: Ints  # [n, K] absolute timestep that codebook k is sampled for, -1 if none
    targets: list[list[int]]  # the same
    cells: Ints  # [n, K] of the flat ring: where that token goes, the spare row's where there is none
    entering: list[int]  # absolute timestep that begins, -1 if none
    completed: list[int]  # absolute timestep whose last token came K steps before, -1 if none
    active: list[int]  # codebooks that have a target

    def covers(self, step: int) -> bool:
        """Whether it holds this step."""
        return self.first <= step < self.first + len(self.entering)


@dataclass(frozen=True, slots=True, eq=False)
class StackLayouts:
    """The same steps' rows in the stack family, R = K + 1 each: memory row, active ones, idle ones."""

    memory: list[int]  # absolute timestep of the memory row
    level: Ints  # [n, R]
    timestep: Ints  # [n, R] absolute
    places: Ints  # [n, R] rows of the ring that hold their tokens, its mask row for those that have none
    row_of_level: Ints  # [n, K]


def lay_out(pattern: Pattern, origin: int, length: int, first: int) -> StepLayouts:
    """Steps from `first` on; the ring has `length` rows, then a mask row, then one to spare."""
    books, steps = np.arange(pattern.num_codebooks), np.arange(first, first + STEPS_AT_ONCE)
    delays = np.array([pattern.delay_of(k) for k in range(pattern.num_codebooks)])
    target = _absolute(entering(pattern, steps[:, None] - delays), origin)
    rows = np.where(target >= 0, target % length, length + 1)
    return StepLayouts(
        first=first,
        target=_fixed(target),
        targets=target.tolist(),
        cells=_fixed(rows * pattern.num_codebooks + books),
        entering=target[:, 0].tolist(),
        completed=_absolute(entering(pattern, steps - pattern.num_codebooks), origin).tolist(),
        active=np.count_nonzero(target >= 0, axis=1).tolist(),
    )


def lay_out_stack(steps: StepLayouts, length: int, last_memory: int) -> StackLayouts:
    """Rows of these steps; `last_memory` is the timestep of the memory row before the first of them."""
    target, num_codebooks = steps.target, steps.target.shape[1]
    memory = []
    for completed in steps.completed:
        last_memory = completed if completed >= 0 else last_memory
        memory.append(last_memory)
    # Active codebooks from the finest on, then the others: places in this order are rows, after the memory row.
    idle = target < 0
    order = np.argsort(np.where(idle, num_codebooks, -np.arange(num_codebooks)), axis=1, kind="stable")
    unused = np.take_along_axis(idle, order, axis=1)
    of_memory = np.array(memory)[:, None]
    timestep = np.concatenate(
        [of_memory, np.where(unused, of_memory, np.take_along_axis(target, order, axis=1))], axis=1
    )
    places = timestep % length
    # Of a timestep that begins nothing is known, and its place still holds what was there before.
    places[:, 1:][unused | (order == 0)] = length
    level = np.concatenate(
        [np.full_like(of_memory, num_codebooks), np.where(unused, num_codebooks - 1, order)], axis=1
    )
    row_of_level = np.where(idle, 0, np.argsort(order, axis=1) + 1)
    return StackLayouts(memory, _fixed(level), _fixed(timestep), _fixed(places), _fixed(row_of_level))


def entering(pattern: Pattern, step: Ints) -> Ints:
    """Pattern.entering of many steps: the timestep whose codebook 0 is computed in each, or -1."""
    if pattern.name in ("flat", "stack"):
        timestep, rest = np.divmod(step, pattern.num_codebooks)
        return np.where((step >= 0) & (rest == 0), timestep, -1)
    found: Ints = np.maximum(step - (-step) % (pattern.p + 1) * (pattern.p - 1), -1)
    return np.where(step < 0, -1, found)


def _absolute(timestep: Ints, origin: int) -> Ints:
    return np.where(timestep >= 0, timestep + origin, -1)


def _fixed(array: Ints) -> Ints:
    array.setflags(write=False)
    return array
