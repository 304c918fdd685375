"""Run-time walk over a pattern: which rows each decoder step feeds, and what its sampled tokens are.

Sits between the pattern (engine/pattern.py) and the step loop (engine/decoder.py), which turns `StepRows` into the
tensors of the exported graph. Training lays out whole sequences by the same rules (training/layout.py).

Stack family. A step has one memory row (the full stack of the timestep completed in the step before), then its
active query rows from the finest codebook to the coarsest, then idle rows, K + 1 rows in all. Where nothing was
completed in the step before, the last memory row is fed again into its own slot (`rewrite`). A sequence that
nothing precedes begins with the row of a timestep that never was: BOS, all mask, level K, position first - 1; it
takes slot 0 and stays there until the attention window leaves it behind.

Row family. A step has one row, and it stays. Delay: position s, tokens (s - 1 - k, k), and output k is (s - k, k).
Parallel: position t, the stack of t - 1, and output k is (t, k). Flat: position t, level k, the token before
(t, k). Tokens before the sequence's beginning are mask, so its first row is a BOS row by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attacca.engine.pattern import Pattern
from attacca.engine.step_layout import StackLayouts, StepLayouts, lay_out, lay_out_stack

Ints = npt.NDArray[np.int64]
DEFAULT_HISTORY_FRAMES = 1024


@dataclass(slots=True)
class StepRows:
    """One step's inputs. R = K + 1 rows for the stack family, 1 for the row family. All but `stack` is read-only.

    The cache of n slots is passed to the step with length n - 1 if `rewrite`, else n; row r then stands in slot
    length + r. After the step the cache has n + advance slots, and the last one is the memory row's.
    """

    stack: Ints  # [R, K] tokens, mask_token where not known or not used
    level: Ints  # [R] query row: k; memory row, and rows with all codebooks as outputs: K
    timestep: Ints  # [R] absolute: rotary position and conditioning frame
    row_of_level: Ints  # [K] row whose output is codebook k's distribution; 0 where target is -1
    target: Ints  # [K] absolute timestep that codebook k is sampled for, -1 if none
    advance: int  # slots kept after the step that were not there before: 0 or 1
    kept_timestep: int  # of the slot that this step's first row fills (again, if `rewrite`)
    rewrite: bool  # the first row fills the last kept slot again, with what it holds
    used: int  # rows that do not idle; they come first


class ContextRows(NamedTuple):
    """Rows of known timesteps for prefill, in slot order; see `context_rows`."""

    stack: Ints  # [N, K]
    level: Ints  # [N]
    timestep: Ints  # [N] absolute: rotary position, conditioning frame and kept timestep of the slot


@dataclass(frozen=True, slots=True)
class ScheduleSnapshot:
    """State of a Schedule, opaque; restored bit-exactly by `Schedule.restore`."""

    origin: int
    step: int
    known_from: int
    last_memory: int
    newest: int
    frontier: int
    fresh: bool
    ring: Ints


class Schedule:
    """Walks the steps of a pattern that restarts at timestep `origin`. Not thread-safe; owned by one take.

    Repeat `rows = next_rows()`, sample, `accept(tokens)`. `next_rows` changes nothing, so it can be asked again.
    Codes of the last `history_frames` timesteps are remembered, so cost and size stay constant in a long take.
    """

    def __init__(
        self,
        pattern: Pattern,
        mask_token: int,
        origin: int = 0,
        *,
        history_frames: int = DEFAULT_HISTORY_FRAMES,
        end: int | None = None,
    ) -> None:
        """`end`: the sequence has so many timesteps. Row family: what is sampled for later ones is never fed."""
        least = 2 * (pattern.lag_steps + pattern.num_codebooks + 1)
        if history_frames < least:
            raise ValueError(f"history_frames is {history_frames}, must be at least {least} for {pattern}")
        if mask_token < 1:
            raise ValueError(f"mask_token is {mask_token}, must be the codebook size, 1 or more")
        if origin < 0:
            raise ValueError(f"origin is {origin}, must be 0 or more")
        self._pattern = pattern
        self._mask_token = mask_token
        self._origin = origin
        self._end = end
        self._step = 0
        self._known_from = origin
        self._last_memory = origin - 1
        self._newest = origin - 1
        self._frontier = origin
        self._fresh = True
        self._length = history_frames
        # A row for each frame, one that is always mask, and one for tokens of no timestep.
        self._ring: Ints = np.full((history_frames + 2, pattern.num_codebooks), mask_token, dtype=np.int64)
        self._layouts: StepLayouts | None = None
        self._stack_layouts: StackLayouts | None = None

    @property
    def pattern(self) -> Pattern:
        return self._pattern

    @property
    def origin(self) -> int:
        """Absolute timestep at which the pattern restarts."""
        return self._origin

    @property
    def step(self) -> int:
        """Steps accepted so far."""
        return self._step

    @property
    def frontier(self) -> int:
        """Absolute: every timestep below has all its codebooks."""
        return self._frontier

    def prefix(self, codes: npt.ArrayLike) -> None:
        """Known codes [n, K] of timesteps origin - n .. origin - 1, whose `context_rows` are in the cache.

        To be given before the first step; without it (or with n = 0) the sequence begins at origin with BOS. Only
        the last K timesteps matter as inputs; more can be given, to be read back with `codes`.
        """
        if self._step:
            raise RuntimeError(f"prefix given after {self._step} steps, must be given before the first")
        known = _checked_codes(codes, self._pattern, self._mask_token)[-self._length :]
        if len(known):
            self._fresh = False
            self._known_from = self._origin - len(known)
            self._ring[np.arange(self._known_from, self._origin) % self._length] = known

    def next_rows(self) -> StepRows:
        """Rows of the step to be computed now; the same until `accept`."""
        return self._stack_rows() if self._pattern.family == "stack" else self._single_row()

    def accept(self, tokens: npt.ArrayLike) -> None:
        """Sampled tokens [K] of the step; entries whose target is -1 are ignored. Moves on to the next step."""
        sampled = np.asarray(tokens, dtype=np.int64)
        if sampled.shape != (self._pattern.num_codebooks,):
            raise ValueError(f"tokens have shape {sampled.shape}, must be {(self._pattern.num_codebooks,)}")
        layouts = self._laid_out()
        index = self._step - layouts.first
        pairs = zip(sampled.tolist(), layouts.targets[index], strict=True)
        chosen = [token for token, target in pairs if target >= 0]
        if chosen and not 0 <= min(chosen) <= max(chosen) < self._mask_token:
            raise ValueError(f"tokens {chosen} must be 0..{self._mask_token - 1}")
        entering = layouts.entering[index]
        if entering >= 0:
            self._newest = max(self._newest, entering)
            self._ring[entering % self._length] = self._mask_token
        self._ring.put(layouts.cells[index], sampled)
        completed = layouts.completed[index]
        if completed >= 0:
            self._last_memory = completed
        self._step += 1
        finest = self._pattern.num_codebooks - 1
        while self._pattern.step_of(self._frontier - self._origin, finest) < self._step:
            self._frontier += 1

    def codes(self, start: int, stop: int) -> Ints:
        """Codes int64 [stop - start, K] of absolute timesteps [start, stop), all below the frontier.

        Raises ValueError for timesteps at or past the frontier, before the known prefix, or forgotten.
        """
        oldest = max(self._known_from, self._newest + 1 - self._length)
        if not oldest <= start <= stop <= self._frontier:
            raise ValueError(f"codes [{start}, {stop}) asked for, must lie in [{oldest}, {self._frontier})")
        begin, count = start % self._length, stop - start
        if begin + count <= self._length:
            return self._ring[begin : begin + count].copy()
        found: Ints = self._ring[np.arange(start, stop) % self._length]
        return found

    def snapshot(self) -> ScheduleSnapshot:
        """All state, independent of what happens later."""
        return ScheduleSnapshot(
            self._origin,
            self._step,
            self._known_from,
            self._last_memory,
            self._newest,
            self._frontier,
            self._fresh,
            self._ring[: self._length].copy(),
        )

    def restore(self, snapshot: ScheduleSnapshot) -> None:
        """Back to a snapshot of a schedule with the same pattern and history."""
        ring = self._ring[: self._length]
        if snapshot.ring.shape != ring.shape:
            raise ValueError(f"snapshot has history {snapshot.ring.shape}, must be {ring.shape}")
        self._origin = snapshot.origin
        self._step = snapshot.step
        self._known_from = snapshot.known_from
        self._last_memory = snapshot.last_memory
        self._newest = snapshot.newest
        self._frontier = snapshot.frontier
        self._fresh = snapshot.fresh
        ring[:] = snapshot.ring
        self._layouts = None

    def clone(self) -> Schedule:
        """An independent schedule in the same state."""
        other = copy.copy(self)
        other._ring = self._ring.copy()
        return other

    def _laid_out(self) -> StepLayouts:
        """What is known of this step and of others around it."""
        layouts = self._layouts
        if layouts is None or not layouts.covers(self._step):
            layouts = self._layouts = lay_out(self._pattern, self._origin, self._length, self._step)
            self._stack_layouts = None
        return layouts

    def _stack_rows(self) -> StepRows:
        layouts = self._laid_out()
        if self._stack_layouts is None:
            self._stack_layouts = lay_out_stack(layouts, self._length, self._last_memory)
        rows, index = self._stack_layouts, self._step - layouts.first
        new = layouts.completed[index] >= 0 or (self._fresh and self._step == 0)
        return StepRows(
            self._ring.take(rows.places[index], axis=0),
            rows.level[index],
            rows.timestep[index],
            rows.row_of_level[index],
            layouts.target[index],
            advance=int(new),
            kept_timestep=rows.memory[index],
            rewrite=not new,
            used=1 + layouts.active[index],
        )

    def _single_row(self) -> StepRows:
        pattern, num_codebooks, layouts = self._pattern, self._pattern.num_codebooks, self._laid_out()
        t, k = divmod(self._step, pattern.steps_per_timestep)
        position = self._origin + t
        level = k if pattern.name == "flat" else num_codebooks
        stack = _row_inputs(pattern, self._mask_token, self._token, position, k)[None]
        return StepRows(
            stack,
            np.array([level], dtype=np.int64),
            np.array([position], dtype=np.int64),
            np.zeros(num_codebooks, dtype=np.int64),
            layouts.target[self._step - layouts.first],
            advance=1,
            kept_timestep=position,
            rewrite=False,
            used=1,
        )

    def _token(self, t: int, k: int) -> int:
        past = t < self._known_from or (self._end is not None and t >= self._end)
        return self._mask_token if past else int(self._ring[t % self._length, k])


def context_rows(
    pattern: Pattern, mask_token: int, codes: npt.ArrayLike, *, first: int = 0, start: int | None = None
) -> ContextRows:
    """Rows that put known timesteps [start, first + n) into the cache, given codes [n, K] of [first, first + n).

    `start` is `first` by default: the sequence begins there (stack family: BOS, then a row per timestep). With a
    later `start` the rows before it are in the cache already; the row family then reads up to K codes before it,
    so let `first` <= start - K there (or be the sequence's beginning). A Schedule with origin first + n and these
    codes as its prefix goes on from here; without codes there are no rows, it feeds BOS itself.
    """
    known = _checked_codes(codes, pattern, mask_token)
    stop = first + len(known)
    fresh = stop > first and start in (None, first)
    begin = first if start is None else start
    if not first <= begin <= stop:
        raise ValueError(f"start is {begin}, must be {first}..{stop}")
    if pattern.family == "stack":
        bos = np.full((int(fresh), pattern.num_codebooks), mask_token, dtype=np.int64)
        stack = np.concatenate([bos, known[begin - first :]])
        timestep = np.arange(begin - int(fresh), stop, dtype=np.int64)
        return ContextRows(stack, np.full(len(stack), pattern.num_codebooks, dtype=np.int64), timestep)

    def token(t: int, k: int) -> int:
        return int(known[t - first, k]) if t >= first else mask_token

    per = pattern.steps_per_timestep
    cells = [(t, k) for t in range(begin, stop) for k in range(per)]
    rows = [_row_inputs(pattern, mask_token, token, t, k) for t, k in cells]
    levels = [k if pattern.name == "flat" else pattern.num_codebooks for _, k in cells]
    return ContextRows(
        np.array(rows, dtype=np.int64).reshape(-1, pattern.num_codebooks),
        np.array(levels, dtype=np.int64),
        np.array([t for t, _ in cells], dtype=np.int64),
    )


def _row_inputs(pattern: Pattern, mask_token: int, token: Callable[[int, int], int], t: int, k: int) -> Ints:
    """Tokens [K] of the row family's row at position t (flat: of codebook k); `token(t, k)` looks one up."""
    num_codebooks = pattern.num_codebooks
    if pattern.name == "flat":
        before = (t, k - 1) if k else (t - 1, num_codebooks - 1)
        row = np.full(num_codebooks, mask_token, dtype=np.int64)
        row[before[1]] = token(*before)
        return row
    return np.array([token(t - 1 - pattern.delay_of(j), j) for j in range(num_codebooks)], dtype=np.int64)


def _checked_codes(codes: npt.ArrayLike, pattern: Pattern, mask_token: int) -> Ints:
    known = np.asarray(codes, dtype=np.int64)
    if known.ndim != 2 or known.shape[1] != pattern.num_codebooks:
        raise ValueError(f"codes have shape {known.shape}, must be [n, {pattern.num_codebooks}]")
    if known.size and (int(known.min()) < 0 or int(known.max()) >= mask_token):
        raise ValueError(f"codes are {known.min()}..{known.max()}, must be 0..{mask_token - 1}")
    return known
