"""The step loop on a device: several steps are queued before the first one's tokens come back.

A PatternDecoder (engine/decoder.py) that plans in batches over a DeviceLane. Which rows a step has follows from the
pattern alone; where a row needs a token that a queued step has yet to draw, it names that step, and the graph feeds
the token back itself. What is planned is what steps made one by one would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .decoder import PatternDecoder
from .device_lane import DeviceLane, Drawn
from .device_step import DEPTH
from .generator import ConditionSource, Sampling
from .pattern import Pattern
from .runtime import Floats, Ints
from .schedule import Schedule, StepRows


@dataclass(frozen=True, eq=False)
class Queued:
    """Steps of one decoder that are queued: the schedule as of what is known, and as far ahead as they go."""

    schedule: Schedule
    ahead: Schedule
    until_frame: int
    source: ConditionSource
    sampling: Sampling
    fetched: dict[int, Floats]
    kept: list[int] = field(default_factory=list)  # slots that were kept before each

    @property
    def wanting(self) -> bool:
        """Whether the frame is not reached yet."""
        return self.ahead.frontier < self.until_frame


class DeviceDecoder(PatternDecoder):
    """A PatternDecoder over a DeviceRuntime. Not thread-safe; decode thread."""

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """As PatternDecoder's, a batch of steps at a time."""
        if self._known >= until_frame or (max_steps is not None and max_steps <= 0):
            return 0
        lane, steps = self._device_lane, 0
        fetched: dict[int, Floats] = {}
        while self._known < until_frame and (max_steps is None or steps < max_steps):
            most = DEPTH if max_steps is None else min(DEPTH, max_steps - steps)
            lane.collect()  # of a prefill, which draws nothing that matters
            queued = self.open_batch(until_frame, source, sampling, fetched)
            while queued.wanting and len(queued.kept) < most:
                self.queue_step(queued, lane.own_inputs())
                lane.send()
            self.close_batch(queued, lane.collect())
            steps += len(queued.kept)
        return steps

    @property
    def device_lane(self) -> DeviceLane:
        """Its lane."""
        return self._device_lane

    @property
    def _device_lane(self) -> DeviceLane:
        lane: object = self._lane
        assert isinstance(lane, DeviceLane)
        return lane

    @cached_property
    def _nothing(self) -> Ints:
        """Tokens of a step that is queued, which are not known yet."""
        return np.zeros(self._pattern.num_codebooks, np.int64)

    @cached_property
    def _delays(self) -> tuple[Ints, Ints]:
        """Codebooks, and the delay of each."""
        books = range(self._pattern.num_codebooks)
        return np.array(books), np.array([self._pattern.delay_of(k) for k in books])

    def _before(self, ahead: Schedule, rows: StepRows) -> None:
        """Called before a step of these rows is written."""

    def open_batch(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, fetched: dict[int, Floats]
    ) -> Queued:
        """Begin to queue steps towards a frame; `queue_step` writes each, `close_batch` takes what they drew."""
        schedule = self._schedule or self._start_schedule()
        self._set(sampling)
        return Queued(schedule, schedule.clone(), until_frame, source, sampling, fetched)

    def queue_step(self, queued: Queued, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the next step. What `source` raises leaves all as it was before this step."""
        lane, cache, ahead = self._device_lane, self._cache, queued.ahead
        rows = ahead.next_rows()
        self._before(ahead, rows)
        self._enter(rows, queued.source, queued.sampling, queued.fetched, lane.noise)
        lane.write(
            inputs,
            self._with_pending(rows, ahead, queued.schedule.step),
            rows.level,
            rows.timestep,
            self._frames.conditions(rows.timestep),
            slot=cache.count - int(rows.rewrite),
            row_of_level=rows.row_of_level,
        )
        queued.kept.append(cache.count)
        if rows.advance:
            cache.keep([rows.kept_timestep])
        ahead.accept(self._nothing)

    def close_batch(self, queued: Queued, drawn: Sequence[Drawn]) -> None:
        """Go on from what the steps drew. FloatingPointError at one that is not finite; those before it stay."""
        lane, schedule = self._device_lane, queued.schedule
        for kept, (tokens, checksum) in zip(queued.kept, drawn, strict=True):
            if not np.isfinite(checksum):  # tokens drawn from these would poison the cache
                self._cache.truncate(kept)
                raise FloatingPointError(f"the decoder's logits are not finite at frame {self._known}")
            lane.take(tokens, checksum)
            schedule.accept(lane.tokens)
            if schedule.frontier > self._known:
                codes = schedule.codes(self._known, schedule.frontier)
                self._put_codes(self._known, codes.astype(np.uint16))
                self._known = schedule.frontier

    def _with_pending(self, rows: StepRows, ahead: Schedule, first_queued: int) -> Ints:
        """The stack [R, K] of a step, pending entries in place of tokens that steps from `first_queued` on draw."""
        pattern, stack, (books, delays) = self._pattern, rows.stack.copy(), self._delays
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
