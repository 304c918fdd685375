"""The step loop on a device: several steps are queued before the first one's tokens come back.

A PatternDecoder (engine/decoder.py) that plans in batches over a DeviceLane. Which rows a step has follows from the
pattern alone; where a row needs a token that a queued step has yet to draw, it names that step, and the graph feeds
the token back itself. What is planned is what steps made one by one would be.
"""

from __future__ import annotations

import numpy as np

from .decoder import PatternDecoder
from .device_lane import DeviceLane
from .device_step import DEPTH
from .generator import ConditionSource, Sampling
from .pattern import Pattern
from .runtime import Floats, Ints
from .schedule import Schedule, StepRows


class DeviceDecoder(PatternDecoder):
    """A PatternDecoder over a DeviceRuntime. Not thread-safe; decode thread."""

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """As PatternDecoder's, a batch of steps at a time."""
        if self._known >= until_frame or (max_steps is not None and max_steps <= 0):
            return 0
        schedule = self._schedule or self._start_schedule()
        self._set(sampling)
        fetched: dict[int, Floats] = {}
        steps = 0
        while self._known < until_frame and (max_steps is None or steps < max_steps):
            most = DEPTH if max_steps is None else min(DEPTH, max_steps - steps)
            steps += self._batch(schedule, until_frame, most, source, sampling, fetched)
        return steps

    @property
    def _device_lane(self) -> DeviceLane:
        lane: object = self._lane
        assert isinstance(lane, DeviceLane)
        return lane

    def _before(self, timestep: int) -> None:
        """Called before the step of each row is queued, `timestep` being the newest one that it may draw for."""

    def _batch(
        self,
        schedule: Schedule,
        until_frame: int,
        most: int,
        source: ConditionSource,
        sampling: Sampling,
        fetched: dict[int, Floats],
    ) -> int:
        """Queue up to `most` steps, take what they drew; how many. Steps before one that is not finite stay."""
        lane, cache, ahead = self._device_lane, self._cache, schedule.clone()
        lane.collect()
        nothing = np.zeros(self._pattern.num_codebooks, np.int64)
        queued: list[tuple[StepRows, int]] = []  # and the slots that were kept before it
        while len(queued) < most and ahead.frontier < until_frame:
            rows = ahead.next_rows()
            self._before(ahead.origin + ahead.step)
            for codebook, timestep in enumerate(rows.target.tolist()):
                if timestep >= 0:
                    if sampling.temperature > 0.0:
                        lane.noise[codebook] = self._noise_row(sampling, timestep, codebook)
                    self._want_condition(timestep, source, fetched)
            queued.append((rows, cache.count))
            lane.submit(
                self._with_pending(rows, ahead, schedule.step),
                rows.level,
                rows.timestep,
                self._frames.conditions(rows.timestep),
                slot=cache.count - int(rows.rewrite),
                row_of_level=rows.row_of_level,
            )
            if rows.advance:
                cache.keep([rows.kept_timestep])
            ahead.accept(nothing)
        for (_, kept), result in zip(queued, lane.collect(), strict=True):
            if not np.isfinite(result.checksum[0]):  # tokens drawn from these would poison the cache
                cache.truncate(kept)
                raise FloatingPointError(f"the decoder's logits are not finite at frame {self._known}")
            lane.take(result)
            schedule.accept(lane.tokens)
            if schedule.frontier > self._known:
                codes = schedule.codes(self._known, schedule.frontier)
                self._put_codes(self._known, codes.astype(np.uint16))
                self._known = schedule.frontier
        return len(queued)

    def _with_pending(self, rows: StepRows, ahead: Schedule, first_queued: int) -> Ints:
        """The stack [R, K] of a step, pending entries in place of tokens that steps from `first_queued` on draw."""
        pattern, stack, books = self._pattern, rows.stack.copy(), np.arange(self._pattern.num_codebooks)
        delays = np.array([pattern.delay_of(k) for k in range(pattern.num_codebooks)])
        timestep = np.broadcast_to((rows.timestep - ahead.origin)[:, None], stack.shape)
        if pattern.name == "flat":
            timestep = timestep - (rows.level == 0)[:, None]
        elif pattern.family != "stack":
            timestep = timestep - 1 - delays
        step = first_steps(pattern, timestep) + delays
        pending = (stack != self._mask_token) & (timestep >= 0) & (step >= first_queued)
        if pending.any():
            places = np.nonzero(pending)
            stack[places] = self._device_lane.pending(ahead.step - step[places], books[places[1]])
        return stack


def first_steps(pattern: Pattern, timestep: Ints) -> Ints:
    """Pattern.first_step_of for many timesteps; below 0 it means nothing."""
    if pattern.name in ("flat", "stack"):
        return pattern.num_codebooks * timestep
    return timestep + timestep % (pattern.p + 1) * (pattern.p - 1)
