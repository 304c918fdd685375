"""Laid-out sequences: every row that step-by-step decoding would feed, all at once, with one mask.

Sits between the schedule (engine/schedule.py) and the decoder's training (training/decoder_train.py). The rows
are those of a `Schedule` walked with markers for tokens, so training sees by construction what decoding feeds: a
prefix of known timesteps in ascending order, then the pattern restarted at its end, walked for as long as every row
of every step lies inside the crop. One layout serves a whole batch. Attention is two-part: every row sees memory
rows (all K/V that stays), a query row sees those before it in its own step; so no mask is ever rows x rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attacca.engine.pattern import Pattern
from attacca.engine.schedule import Schedule, StepRows, context_rows

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """L = M + S * W rows for a crop of T timesteps (row family: L = M).

    First the M memory rows in slot order, then the steps' query rows as a grid, W a step, where W is the most that
    any step has (stack: 1; stack-delay: K), each step from its finest codebook down. Cells of the grid that the
    schedule leaves empty hold a mask stack, are seen by no other row and have no target.
    """

    num_timesteps: int  # T
    num_memory: int  # M
    source: Ints  # [L, K] index of each token in codes.reshape(T * K), T * K for the mask token
    level: Ints  # [L]
    timestep: Ints  # [L] from the crop's start; -1 for BOS
    slot: Ints  # [L] cache slot that the row stands in
    memory_mask: Mask  # [L, M] row sees memory row
    step_mask: Mask  # [S, W, W] query row sees query row of the same step
    target_rows: tuple[Ints, ...]  # per codebook: rows whose output is its distribution,
    target_timesteps: tuple[Ints, ...]  # and the timesteps these rows stand for

    def full_mask(self) -> Mask:
        """Bool [L, L]: row sees row."""
        rows = len(self.level)
        full = np.zeros((rows, rows), dtype=np.bool_)
        full[:, : self.num_memory] = self.memory_mask
        num_steps, size, _ = self.step_mask.shape
        for step in range(num_steps):
            start = self.num_memory + step * size
            full[start : start + size, start : start + size] = self.step_mask[step]
        return full


class _Builder:
    """Collects rows of one sequence; tokens are markers t * K + k, the mask token is T * K."""

    def __init__(self, pattern: Pattern, num_timesteps: int, window_slots: int) -> None:
        self.pattern, self.num_timesteps, self.window_slots = pattern, num_timesteps, window_slots
        self.mask_token = num_timesteps * pattern.num_codebooks
        self.stack: list[Ints] = []
        self.level: list[int] = []
        self.timestep: list[int] = []
        self.grid: list[tuple[StepRows, int]] = []  # rows of each step, slot of its memory row
        self.targets: list[tuple[int, int, int]] = []  # (codebook, timestep, step or memory row)

    def keep(self, stack: Ints, level: int, timestep: int) -> None:
        self.stack.append(stack)
        self.level.append(level)
        self.timestep.append(timestep)

    def walk(self, prefix_timesteps: int, fresh: bool) -> None:
        num_codebooks = self.pattern.num_codebooks
        markers = np.arange(self.mask_token, dtype=np.int64).reshape(self.num_timesteps, num_codebooks)
        known = markers[:prefix_timesteps]
        for stack, level, timestep in zip(*context_rows(self.pattern, self.mask_token, known), strict=True):
            if fresh or timestep >= 0:
                self.keep(stack, int(level), int(timestep))
        history = self.num_timesteps + 2 * (self.pattern.lag_steps + num_codebooks + 1)
        schedule = Schedule(self.pattern, self.mask_token, prefix_timesteps, history_frames=history)
        schedule.prefix(known)
        while True:
            rows = schedule.next_rows()
            if int(rows.target.max()) >= self.num_timesteps:
                break
            if rows.advance:
                self.keep(rows.stack[0], int(rows.level[0]), int(rows.timestep[0]))
            place = len(self.grid) if self.pattern.family == "stack" else len(self.stack) - 1
            self.grid.append((rows, len(self.stack) - 1))
            self.targets += [(k, int(t), place) for k, t in enumerate(rows.target) if t >= 0]
            schedule.accept(np.where(rows.target >= 0, rows.target * num_codebooks + np.arange(num_codebooks), -1))


def _assemble(builder: _Builder) -> Layout:
    """Memory rows and, for the stack family, the grid of query rows, as arrays with their masks."""
    books = builder.pattern.num_codebooks
    memory, window = len(builder.stack), builder.window_slots
    steps = builder.grid if builder.pattern.family == "stack" else []
    size = max((int((step.target >= 0).sum()) for step, _ in steps), default=0)
    rows = memory + len(steps) * size
    source = np.full((rows, books), builder.mask_token, dtype=np.int64)
    level, timestep = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    slot = np.arange(rows, dtype=np.int64)
    source[:memory], level[:memory] = np.array(builder.stack), builder.level
    timestep[:memory] = builder.timestep
    newest = slot.copy()  # per row: newest memory slot it sees
    step_mask = np.tile(np.eye(size, dtype=np.bool_), (len(steps), 1, 1))
    cell_of = np.zeros((len(steps), books), dtype=np.int64)
    for index, (step, memory_slot) in enumerate(steps):
        start = memory + index * size
        newest[start : start + size] = memory_slot
        slot[start : start + size] = memory_slot + 1
        timestep[start : start + size] = step.kept_timestep
        active = np.flatnonzero(step.target >= 0)[::-1]  # the finest first
        cells = start + np.arange(len(active))
        source[cells], level[cells] = step.stack[step.row_of_level[active]], active
        timestep[cells] = step.target[active]
        slot[cells] = memory_slot + step.row_of_level[active]
        step_mask[index, : len(active), : len(active)] = np.tri(len(active), dtype=np.bool_)
        cell_of[index, active] = cells
    seen = np.arange(memory)
    memory_mask = (seen[None] <= newest[:, None]) & (seen[None] > slot[:, None] - window)
    targets: list[tuple[list[int], list[int]]] = [([], []) for _ in range(books)]
    for k, t, place in builder.targets:
        targets[k][0].append(int(cell_of[place, k]) if steps else place)
        targets[k][1].append(t)
    if not builder.targets:
        raise ValueError(f"no step fits into {builder.num_timesteps} timesteps after the prefix")
    return Layout(
        num_timesteps=builder.num_timesteps,
        num_memory=memory,
        source=source,
        level=level,
        timestep=timestep,
        slot=slot,
        memory_mask=memory_mask,
        step_mask=step_mask,
        target_rows=tuple(np.array(rows, dtype=np.int64) for rows, _ in targets),
        target_timesteps=tuple(np.array(times, dtype=np.int64) for _, times in targets),
    )


def build_layout(
    pattern: Pattern, num_timesteps: int, prefix_timesteps: int, window_slots: int, *, fresh: bool = True
) -> Layout:
    """Layout of a crop of T timesteps of which the first `prefix_timesteps` are known (no targets).

    `window_slots` is the decoder's attention window: a row in slot i sees slots above i - window_slots. With
    `fresh` the sequence begins with BOS; without (stack family, non-empty prefix) it begins as one does whose BOS
    has left the window. Raises ValueError on sizes out of range, or where no step fits into the crop.
    """
    if not 0 <= prefix_timesteps < num_timesteps:
        raise ValueError(f"prefix_timesteps is {prefix_timesteps}, must be 0..{num_timesteps - 1}")
    if window_slots <= pattern.num_codebooks + 1:
        raise ValueError(f"window_slots is {window_slots}, must be above {pattern.num_codebooks + 1}")
    if not fresh and (pattern.family == "row" or prefix_timesteps == 0):
        raise ValueError("a sequence without BOS needs the stack family and a known timestep")
    builder = _Builder(pattern, num_timesteps, window_slots)
    builder.walk(prefix_timesteps, fresh)
    return _assemble(builder)
