"""Melody models on a device: what they are told stands as rows before the first frame, as in engine/melody.py.

Beside engine/device_prompted.py. A prefix's keys and values are made once, by the graph itself on a seat of its
own, and copied to where a take's sequence begins.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .device_decoder import DeviceDecoder
from .device_lane import DeviceLane, DeviceRuntime
from .device_memory import Packed
from .melody import PREFIX, MelodyDecoder
from .musicgen import PromptBox
from .pattern import Pattern
from .prompted import Prompt
from .runtime import Floats, Ints
from .schedule import Schedule, StepRows

_KEPT_PREFIXES = 4


class DeviceMelodyRuntime(DeviceRuntime):
    """A melody bundle's graphs on a device, and the rows of prefixes that were made last. Decode thread."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._laid: OrderedDict[tuple[int, int], tuple[Prompt, Packed]] = OrderedDict()

    def lane(self) -> DeviceMelodyLane:
        """Buffers and an empty cache for one stream."""
        return DeviceMelodyLane(self)

    def laid(self, prompt: Prompt, rows: int) -> Packed:
        """A prefix as a seat holds it; rows beyond its own are zeros going in. As MelodyRuntime's."""
        key = id(prompt), rows  # the prompt is kept beside it, so that its id is its own
        if key in self._laid:
            self._laid.move_to_end(key)
            return self._laid[key][1]
        lane = self.lane()
        lane.run_prefix(prompt.values[PREFIX], rows)
        made = lane.seat.room.memory.pack(lane.seat.number, rows)
        self._laid[key] = prompt, made
        if len(self._laid) > _KEPT_PREFIXES:
            self._laid.popitem(last=False)
        return made

    def close(self) -> None:
        """As DeviceRuntime's, prefixes too."""
        self._laid.clear()
        super().close()


class DeviceMelodyLane(DeviceLane):
    """A lane whose positions count from the prefix's first row; `prefix_rows` rows stand before any other."""

    def __init__(self, runtime: DeviceMelodyRuntime) -> None:
        super().__init__(runtime)
        self._laid_by = runtime.laid
        self.prefix_rows = 0
        self.told: Prompt | None = None  # whose rows the prefix is
        self._given: Floats = np.zeros((2, 1, self.spec.dim), np.float32)

    def attend(self, shares: Sequence[tuple[Prompt, float]]) -> None:
        """As MelodyLane's: rows follow the last of these prompts from the next call on."""
        prompt = shares[-1][0]
        if prompt is self.told:
            return
        rows = prompt.values[PREFIX].shape[1]
        if self.cache.count == 0:
            self.prefix_rows = rows
            self.cache.place(0)
            self.cache.keep(list(range(-rows, 0)))
        elif rows > self.prefix_rows or self.cache.count >= self.cache.config.period:
            return
        self.told = prompt
        self.seat.room.memory.unpack(self.seat.number, self._laid_by(prompt, self.prefix_rows))

    def run_prefix(self, prefix: Floats, rows: int) -> None:
        """Run a prefix [2, P, d] into the empty cache, `rows` rows in all, and keep them."""
        self.prefix_rows = rows
        nothing = np.full((1, self.spec.num_codebooks), self.spec.codebook_size + 1, np.int64)
        for row in range(rows):
            self._given[:] = prefix[:, row : row + 1] if row < prefix.shape[1] else 0.0
            timestep = np.array([row - rows])
            self.run(nothing, np.zeros(1, np.int64), timestep, np.zeros((1, 0), np.float32), slot=row)
            self.cache.keep(timestep.tolist())
        self._given[:] = 0.0
        self.collect()

    def _fill(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        count: int,
        stack: Ints,
        level: Ints,
        timestep: Ints,
        cond: Floats,
    ) -> None:
        super()._fill(inputs, count, stack, level, timestep + self.prefix_rows, cond)
        inputs["given"][:] = self._given


class DeviceMelodyDecoder(DeviceDecoder, MelodyDecoder):
    """A melody model over a DeviceMelodyRuntime. Not thread-safe; decode thread."""

    def __init__(self, runtime: Any, pattern: Pattern, box: PromptBox) -> None:
        super().__init__(runtime, pattern, box)

    def _before(self, ahead: Schedule, rows: StepRows) -> None:
        self._begin()
        told = self.track.heard(ahead.origin + ahead.step + self.origin)
        self._melody_lane.attend(((told, 1.0),))

    @property
    def _prompted_lane(self) -> Any:
        return self._lane

    @property
    def _melody_lane(self) -> Any:
        return self._lane
