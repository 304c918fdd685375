"""The step loop: a pattern decoder as a Generator. Listens by prefill, plans by steps, rolls back to the bit.

Sits between the stream (engine/service.py) and the step runtime. The schedule says which rows a step has, the lane
computes them, the frame store remembers codes and conditions of the last window; all state of a stream is in one
object. Noise comes from (seed, timestep, codebook), so a plan made again is the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from .cache import CacheState
from .code_levels import CodeLevels, LevelHold
from .drawing import DrawTable
from .emphasis import Emphasis
from .frames import FrameStore
from .generator import Codes, Conditions, ConditionSource, Sampling
from .pattern import Pattern
from .runtime import PREFILL_ROWS, Floats, StepLane, StepRuntime
from .schedule import Schedule, ScheduleSnapshot, StepRows, context_rows

_FETCH_FRAMES = 8  # conditions asked for at once within one plan
# Frames [K] that a step's codebooks are of, -1 for none, and their logits [K, V] -> the tokens [K] to go on with.
Choose = Callable[[npt.NDArray[np.int64], npt.NDArray[np.float32]], npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class DecoderState:
    """A snapshot of a PatternDecoder; never changed after it was taken."""

    known: int
    cache: CacheState
    frames: FrameStore
    schedule: ScheduleSnapshot | None
    end: int | None
    hold: LevelHold | None = None


class PatternDecoder:
    """Implements engine.generator.Generator for all patterns. Not thread-safe; decode thread."""

    def __init__(self, runtime: StepRuntime, pattern: Pattern, *, levels: CodeLevels | None = None) -> None:
        """`levels`: of its codes, to keep what is planned as loud as what was heard; None: it is left alone."""
        shape = runtime.shape
        if pattern.num_codebooks != shape.num_codebooks:
            raise ValueError(f"pattern has {pattern.num_codebooks} codebooks, the graph {shape.num_codebooks}")
        self._runtime = runtime
        self._pattern = pattern
        self._mask_token = shape.codebook_size
        self._lane = runtime.lane()
        self._cache = self._lane.cache
        self._reach = pattern.lag_steps + pattern.num_codebooks + 1  # frames that one frame can be out of order
        config = self._cache.config
        self._frames = FrameStore(
            config.capacity + config.attic_blocks * config.block + 2 * self._reach,
            pattern.num_codebooks,
            shape.conditioning_width,
        )
        self._draws = DrawTable(shape.num_codebooks, shape.codebook_size)
        self._levels = levels
        self._hold = None if levels is None else LevelHold(levels, self._frames.length)
        self._emphasis = Emphasis.of(runtime.manifest)
        self.origin = 0  # frame of the take that timestep 0 is: noise and conditions are that frame's
        self.choose: Choose | None = None  # in place of sampling, for scoring; a fork has none
        self._known = 0
        self._end: int | None = None
        self._schedule: Schedule | None = None
        self._opened: StepRows | None = None

    @property
    def frontier(self) -> int:
        """Every timestep below it is known: listened or planned."""
        return self._known

    @property
    def lag_frames(self) -> int:
        """Steps that a plan needs beyond its frames: how far frames finish out of order."""
        return self._pattern.lag_steps

    def end_at(self, end_frame: int | None) -> None:
        """The sequence has so many frames, as when a whole piece is made at once; None: it has no end.

        Row family: a model trained on pieces of one length is fed no frames past the end while it finishes the last
        ones. To be told before they are begun. ValueError below the frontier.
        """
        if end_frame is not None and end_frame < self._known:
            raise ValueError(f"end_frame {end_frame} is below the frontier {self._known}")
        self.rollback(self._known)
        self._end = end_frame

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        """Append known frames codes [n, K] with conditions [n, C] at the frontier; unfinished frames are dropped.

        ValueError on other shapes or a code out of range; then nothing has changed.
        """
        self._listen(codes, conditions, heard=True)

    def _listen(self, codes: Codes, conditions: Conditions, *, heard: bool) -> None:
        self._check(codes)
        if conditions.shape != (len(codes), self._frames.width):
            raise ValueError(
                f"conditions have shape {conditions.shape}, allowed: {(len(codes), self._frames.width)}"
            )
        self.rollback(self._known)
        for start in range(0, len(codes), PREFILL_ROWS):
            part = codes[start : start + PREFILL_ROWS]
            first = self._known
            self._put_codes(first, part, heard=heard)
            rows = conditions[start : start + PREFILL_ROWS]
            if heard:
                self._frames.put_conditions(first, rows)
            else:
                for index, row in enumerate(rows):
                    self._put_condition(first + index, row)
            self._known += len(part)
            self._prefill(list(range(first, self._known)))

    def force(self, codes: Codes, source: ConditionSource) -> None:
        """Take known frames at the frontier as if they had been planned, under the conditions of `source`."""
        self._check(codes)
        if len(codes):
            self._listen(codes, source.rows(self._known, len(codes)), heard=False)

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """Run steps until `frontier >= until_frame` or `max_steps` were run; returns the steps run."""
        if self._known >= until_frame or (max_steps is not None and max_steps <= 0):
            return 0
        schedule = self._schedule or self._start_schedule()
        self._set(sampling)
        fetched: dict[int, npt.NDArray[np.float32]] = {}
        steps = 0
        while self._known < until_frame and (max_steps is None or steps < max_steps):
            self._step(schedule, source, sampling, fetched)
            steps += 1
        return steps

    def read(self, start_frame: int, stop_frame: int) -> Codes:
        """Known codes uint16 [n, K] of [start_frame, stop_frame); ValueError outside what is kept."""
        oldest = max(0, self._known + self._reach - self._frames.length)
        if not oldest <= start_frame <= stop_frame <= self._known:
            raise ValueError(f"frames [{start_frame}, {stop_frame}) are outside the kept {oldest}..{self._known}")
        return self._frames.codes(start_frame, stop_frame)

    def rollback(self, to_frame: int) -> None:
        """Forget every timestep at or after `to_frame`; equals never having known them.

        ValueError if it is past the frontier or older than the kept window. Costs at most a prefill of the few
        frames that finished out of order.
        """
        if not 0 <= to_frame <= self._known:
            raise ValueError(f"rollback to frame {to_frame} is outside 0..{self._known}")
        if self._schedule is None and to_frame == self._known:
            return
        timesteps = self._cache.timesteps()
        beyond = np.flatnonzero(timesteps >= to_frame)
        keep = self._cache.count - len(timesteps) + int(beyond[0] if len(beyond) else len(timesteps))
        if to_frame == 0:
            keep = 0  # the row before the first goes too: whatever comes next writes it
        if keep < self._cache.oldest_cut():
            raise ValueError(f"rollback to frame {to_frame} is further back than the kept window")
        self._cache.truncate(keep)
        self._schedule = None
        self._known = to_frame
        self._frames.forget(to_frame)
        if self._hold is not None:
            self._hold.forget(to_frame)
        kept = set(self._cache.timesteps().tolist())
        missing = [t for t in range(max(0, to_frame - self._reach), to_frame) if t not in kept]
        self._prefill(missing)

    def fork(self) -> Self:
        """An independent copy with the same state; the weights are shared."""
        other = type(self)(self._runtime, self._pattern, levels=self._levels)
        other.restore(self.snapshot())
        return other

    def reset(self) -> None:
        """Forget everything; timestep 0 is next."""
        self._cache.clear()
        self._frames.forget(0)
        if self._hold is not None:
            self._hold.forget(-1)
        self._schedule = None
        self._end = None
        self._known = 0

    def snapshot(self) -> DecoderState:
        """The whole state; `restore` of it continues to the bit."""
        schedule = None if self._schedule is None else self._schedule.snapshot()
        hold = None if self._hold is None else self._hold.copy()
        return DecoderState(self._known, self._cache.snapshot(), self._frames.copy(), schedule, self._end, hold)

    def restore(self, state: object) -> None:
        """Back to a snapshot of a decoder of the same model. TypeError on anything else."""
        if not isinstance(state, DecoderState):
            raise TypeError(f"state is a {type(state).__name__}, allowed: a PatternDecoder's snapshot")
        self._known = state.known
        self._cache.restore(state.cache)
        self._frames = state.frames.copy()
        self._hold = None if state.hold is None else state.hold.copy()
        self._end = state.end
        self._schedule = None
        if state.schedule is not None:
            self._schedule = self._new_schedule(0)
            self._schedule.restore(state.schedule)

    def _new_schedule(self, origin: int) -> Schedule:
        return Schedule(self._pattern, self._mask_token, origin, history_frames=2 * self._reach, end=self._end)

    def _check(self, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != self._pattern.num_codebooks:
            raise ValueError(f"codes have shape {codes.shape}, allowed: [n, {self._pattern.num_codebooks}]")
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < self._mask_token:
            raise ValueError(f"codes lie in {codes.min()}..{codes.max()}, allowed: 0..{self._mask_token - 1}")

    def _set(self, sampling: Sampling) -> None:
        lane = self._lane
        lane.temperature[0] = sampling.temperature
        lane.guidance[0] = sampling.guidance
        lane.top_k[0] = min(sampling.top_k or self._mask_token, self._mask_token)

    def _start_schedule(self) -> Schedule:
        schedule = self._new_schedule(self._known)
        schedule.prefix(self._frames.codes(max(0, self._known - self._pattern.num_codebooks), self._known))
        self._schedule = schedule
        return schedule

    def _step(
        self,
        schedule: Schedule,
        source: ConditionSource,
        sampling: Sampling,
        fetched: dict[int, npt.NDArray[np.float32]],
    ) -> None:
        rows, conditions, slot = self._next(schedule, source, sampling, fetched)
        # Rows that idle come last, and are seen by none: as a schedule begins most of them do.
        used = rows.used
        stack, level, timestep = rows.stack[:used], rows.level[:used], rows.timestep[:used]
        self._lane.run(stack, level, timestep, conditions[:used], slot=slot, row_of_level=rows.row_of_level)
        self._take(schedule, rows)

    def open_step(
        self, source: ConditionSource, sampling: Sampling, fetched: dict[int, npt.NDArray[np.float32]]
    ) -> StepLane:
        """Write the next step into the lane, for a batch to run (engine/batch.py); `close_step` takes what came.

        A step that is not closed never was.
        """
        schedule = self._schedule or self._start_schedule()
        self._set(sampling)
        rows, conditions, slot = self._next(schedule, source, sampling, fetched)
        level = rows.row_of_level
        self._lane.prepare(rows.stack, rows.level, rows.timestep, conditions, slot=slot, row_of_level=level)
        self._opened = rows
        return self._lane

    def close_step(self) -> None:
        """Go on from the lane's tokens. FloatingPointError if its logits are not finite; nothing has changed."""
        assert self._schedule is not None and self._opened is not None
        rows, self._opened = self._opened, None
        self._take(self._schedule, rows)

    def _next(
        self,
        schedule: Schedule,
        source: ConditionSource,
        sampling: Sampling,
        fetched: dict[int, npt.NDArray[np.float32]],
    ) -> tuple[StepRows, Conditions, int]:
        """What comes before the graph: noise, rows, their conditions and their first slot."""
        rows = schedule.next_rows()
        self._enter(rows, source, sampling, fetched, self._lane.noise)
        slot = self._cache.count - int(rows.rewrite)
        return rows, self._frames.conditions(rows.timestep), slot

    def _take(self, schedule: Schedule, rows: StepRows) -> None:
        """What comes after it: tokens become frames."""
        lane = self._lane
        if not math.isfinite(lane.logits.sum()):  # tokens drawn from these would poison the cache
            raise FloatingPointError(f"the decoder's logits are not finite at frame {self._known}")
        if self.choose is None:
            schedule.accept(lane.tokens)
        else:
            frames = np.where(rows.target >= 0, rows.target + self.origin, -1)
            schedule.accept(self.choose(frames, lane.logits))
        if rows.advance:
            self._cache.keep([rows.kept_timestep])
        if schedule.frontier > self._known:
            self._put_codes(self._known, schedule.codes(self._known, schedule.frontier).astype(np.uint16))
            self._known = schedule.frontier

    def _put_codes(self, first: int, codes: Codes, *, heard: bool = False) -> None:
        self._frames.put_codes(first, codes)
        if self._hold is not None:
            self._hold.put(first, codes, heard=heard)

    def _enter(
        self,
        rows: StepRows,
        source: ConditionSource,
        sampling: Sampling,
        fetched: dict[int, npt.NDArray[np.float32]],
        noise: Floats,
    ) -> None:
        """Noise [K, V] that a step's rows draw by, written in place, and conditions of the timestep it begins."""
        targets = rows.target.tolist()
        if sampling.temperature > 0.0:
            draws = self._draws
            draws.use(sampling, self._hold, self.origin)
            for codebook, timestep in enumerate(targets):
                if timestep >= 0:
                    noise[codebook] = draws.of(timestep)[codebook]
        if targets[0] >= 0:  # a timestep begins with its codebook 0
            self._want_condition(targets[0], source, fetched)

    def _want_condition(
        self, timestep: int, source: ConditionSource, fetched: dict[int, npt.NDArray[np.float32]]
    ) -> None:
        """Ask for the vector of a timestep that enters; it keeps it, whatever is commanded later."""
        if self._frames.has_conditions(timestep):
            return
        if timestep not in fetched:
            rows = source.rows(timestep + self.origin, _FETCH_FRAMES)
            fetched.update((timestep + i, row) for i, row in enumerate(rows))
        self._put_condition(timestep, fetched.pop(timestep))

    def _put_condition(self, timestep: int, row: npt.NDArray[np.float32]) -> None:
        """Keep the vector [C] of a timestep that is made, not heard: as its players are insisted on."""
        if self._emphasis is not None and self._emphasis.concerns(row):
            row = self._emphasis.told(row, self._frames.conditions_before(timestep, self._emphasis.window))
        self._frames.put_conditions(timestep, row[None])

    def _prefill(self, timesteps: list[int]) -> None:
        """Append the rows of known timesteps to the cache, in bounded calls."""
        if not timesteps:
            return
        fresh = self._cache.count == 0
        begin, stop = timesteps[0], timesteps[-1] + 1
        first = begin if fresh else max(0, begin - self._pattern.num_codebooks - 1)
        rows = context_rows(
            self._pattern,
            self._mask_token,
            self._frames.codes(first, stop),
            first=first,
            start=None if fresh else begin,
        )
        chosen = np.flatnonzero(np.isin(rows.timestep, [*timesteps, begin - 1] if fresh else timesteps))
        stack, level, timestep = rows.stack[chosen], rows.level[chosen], rows.timestep[chosen]
        start = 0
        while start < len(timestep):
            slot = self._cache.count
            part = slice(start, start + min(PREFILL_ROWS, self._cache.room(slot)))
            conditions = self._frames.conditions(timestep[part])
            self._lane.run(stack[part], level[part], timestep[part], conditions, slot=slot)
            self._cache.keep(timestep[part].tolist())
            start = part.stop
