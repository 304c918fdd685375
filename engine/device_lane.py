"""A decoder's lane whose cache and tokens live on a device; stands where engine/runtime.py's StepLane stands.

Between the step loop and engine/device_step.py. Rows of a call are padded to the graph's fixed number. A stack's
entry can be pending: a token that an earlier queued step draws, which the graph looks up itself.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import DeviceError, ProgramMaker
from .device_step import DEPTH, DeviceStep, Result, Saved
from .gpu_spec import GpuSpec
from .manifest import Manifest
from .ring_slots import RingSlots, RingState
from .runtime import StepShape

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_IDLE = 2  # lanes kept for the next take: to allocate and capture costs more than to clear
_POSITION_BASE = 10000.0


@dataclass(frozen=True, eq=False)
class DeviceCacheState:
    """A snapshot of a lane's cache; the memory is given back with it."""

    ring: RingState
    saved: Saved


class DeviceCache(RingSlots):
    """Bookkeeping of a take's slots, and snapshots of what lies in them."""

    def __init__(self, spec: GpuSpec, step: DeviceStep) -> None:
        super().__init__(spec.ring)
        self._step = step

    def snapshot(self) -> Any:
        """See SlotCache.snapshot."""
        return DeviceCacheState(super().snapshot(), self._step.save())

    def restore(self, state: Any) -> None:
        """Go on exactly from a snapshot of a cache of the same configuration."""
        super().restore(state.ring)
        self._step.load(state.saved)


class DeviceRuntime:
    """A bundle's graph on a device. Lanes that are no longer used are kept for the next. Decode thread."""

    def __init__(self, maker: ProgramMaker, spec: GpuSpec, manifest: Manifest, *, name: str = "device") -> None:
        self.maker, self.spec, self.manifest, self.name = maker, spec, manifest, name
        self.shape = StepShape.of(manifest)
        self._idle: list[DeviceStep] = []
        self.failed = ""  # why the device is not to be used any more: most of its errors last

    def lane(self) -> DeviceLane:
        """Buffers and an empty cache for one stream. DeviceError if the device has no memory left."""
        return DeviceLane(self)

    def take_step(self) -> DeviceStep:
        """Memory and a bound program, all zeros."""
        if not self._idle:
            return DeviceStep(self.maker, self.spec)
        step = self._idle.pop()
        step.reset()
        return step

    def give_step(self, step: DeviceStep) -> None:
        """Take it back, to be used again or given up."""
        if len(self._idle) < _IDLE:
            self._idle.append(step)
        else:
            step.close()

    def close(self) -> None:
        """Give the device's memory back; lanes in use keep theirs."""
        while self._idle:
            self._idle.pop().close()


class DeviceLane:
    """One stream on a device. Not thread-safe; decode thread.

    Set `temperature`, `guidance`, `top_k` and `noise` in place, call `run`, then read `tokens` and `logits`. Unless
    `full_logits` is set, `logits` holds their sum alone, which is finite if they all are.
    """

    def __init__(self, runtime: DeviceRuntime) -> None:
        spec = self.spec = runtime.spec
        self._runtime = runtime
        self._step = runtime.take_step()
        self._finalizer = weakref.finalize(self, runtime.give_step, self._step)
        self.cache = DeviceCache(spec, self._step)
        self.max_rows = spec.rows
        self.full_logits = False
        books, size = spec.num_codebooks, spec.codebook_size
        self.noise: Floats = np.zeros((books, size), np.float32)
        self.temperature: Floats = np.ones(1, np.float32)
        self.guidance: Floats = np.ones(1, np.float32)
        self.top_k: Ints = np.full(1, size, np.int64)
        self.tokens: Ints = np.zeros(books, np.int64)
        self.logits: Floats = np.zeros(1, np.float32)
        half = spec.head_dim // 2
        self._frequencies = spec.rotary_base ** (-np.arange(half, dtype=np.float64) / half)
        if spec.prompted:
            half = spec.dim // 2
            self._frequencies = _POSITION_BASE ** (-np.arange(half, dtype=np.float64) / (half - 1))

    def run(
        self, stack: Ints, level: Ints, timestep: Ints, cond: Floats, *, slot: int, row_of_level: Ints | None = None
    ) -> None:
        """Rows [n, K], [n], [n], [n, C] written from cache slot `slot` on; waits, unless it is a prefill."""
        if row_of_level is not None:
            self.collect()  # of a prefill, which draws nothing that matters
        self.submit(stack, level, timestep, cond, slot=slot, row_of_level=row_of_level)
        if row_of_level is not None:
            self.take(self.collect()[-1])
            if self.full_logits:
                self.logits = self._step.logits()[0]

    def submit(
        self, stack: Ints, level: Ints, timestep: Ints, cond: Floats, *, slot: int, row_of_level: Ints | None = None
    ) -> None:
        """Queue the rows; a stack entry below zero is `pending`. A prefill makes room for itself.

        DeviceError if the queue is full, or the device fails.
        """
        count = len(level)
        if not 1 <= count <= self.spec.rows:
            raise ValueError(f"{count} rows in a call, allowed: 1..{self.spec.rows}")
        if row_of_level is None and self._step.queued >= DEPTH:
            self.collect()
        whole = self._step.inputs
        inputs = {name: array[0] for name, array in whole.items() if array.ndim > 1}
        whole["write_slots"][0] = self.cache.place(slot)
        self.cache.mask(slot, inputs["mask"])
        self._fill(inputs, count, stack, level, timestep, cond)
        if "row_of_level" in inputs:
            inputs["row_of_level"][:] = 0 if row_of_level is None else row_of_level
        inputs["noise"][:] = self.noise
        for name in ("temperature", "guidance", "top_k"):
            whole[name][:] = getattr(self, name)
        with self._noting():
            self._step.submit()

    def collect(self) -> list[Result]:
        """Wait for every queued step; what they drew, in order."""
        with self._noting():
            return self._step.collect()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except DeviceError as error:
            self._runtime.failed = str(error)
            raise

    def take(self, result: Result) -> None:
        """Show a step's result in `tokens` and `logits`."""
        self.tokens[:] = result.tokens[0]
        self.logits = result.checksum

    def pending(self, age: Ints, codebook: Ints) -> Ints:
        """Stack entries for what the steps `age` calls before drew for codebooks. ValueError if one is lost."""
        if not 1 <= age.min() <= age.max() <= self.spec.history:
            raise ValueError(f"ages {age.min()}..{age.max()} of pending tokens, allowed: 1..{self.spec.history}")
        return -1 - ((self.spec.history - age) * self.spec.num_codebooks + codebook)

    def tell(self, prompt: dict[str, npt.NDArray[Any]]) -> None:
        """Attend to a prompt from the next call on; see DeviceStep.tell."""
        self._step.tell(prompt)

    def _fill(
        self,
        inputs: dict[str, npt.NDArray[Any]],
        count: int,
        stack: Ints,
        level: Ints,
        timestep: Ints,
        cond: Floats,
    ) -> None:
        angles = timestep[:, None] * self._frequencies
        if self.spec.prompted:
            each = {"stack": stack, "position": np.concatenate([np.cos(angles), np.sin(angles)], axis=1)}
        else:
            each = {"stack": stack, "level": level, "cond": cond, "cos": np.cos(angles), "sin": np.sin(angles)}
        for name, rows in each.items():
            inputs[name][:count] = rows
            inputs[name][count:] = rows[:1]  # idle rows are the first again, and nobody sees them
