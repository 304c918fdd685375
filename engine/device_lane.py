"""A decoder's lane whose cache and tokens live on a device; stands where engine/runtime.py's StepLane stands.

Between the step loop and engine/device_step.py. Rows of a call are padded to the graph's fixed number. A stack's
entry can be pending: a token that an earlier queued step draws, which the graph looks up itself.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import DeviceError, Driver, ProgramMaker
from .device_memory import Saved
from .device_room import Room, Seat, open_room
from .device_step import DEPTH, DeviceStep
from .gpu_spec import GpuSpec
from .manifest import Manifest
from .ring_slots import RingSlots, RingState
from .runtime import StepShape

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_IDLE = 2  # seats kept for the next take: to allocate and capture costs more than to clear
_POSITION_BASE = 10000.0
Drawn = tuple[npt.NDArray[Any], float]  # tokens [K] of a step, and the sum of its logits


@dataclass(frozen=True, eq=False)
class DeviceCacheState:
    """A snapshot of a lane's cache; the memory is given back with it."""

    ring: RingState
    saved: Saved


class DeviceCache(RingSlots):
    """Bookkeeping of a take's slots, and snapshots of what lies in them."""

    def __init__(self, spec: GpuSpec, seat: Seat) -> None:
        super().__init__(spec.ring)
        self._seat = seat

    def snapshot(self) -> Any:
        """See SlotCache.snapshot."""
        return DeviceCacheState(super().snapshot(), self._seat.room.memory.save(self._seat.number))

    def restore(self, state: Any) -> None:
        """Go on exactly from a snapshot of a cache of the same configuration."""
        super().restore(state.ring)
        self._seat.room.memory.load(self._seat.number, state.saved)


class DeviceRuntime:
    """A bundle's graphs on a device. Seats that are no longer used are kept for the next. Decode thread."""

    def __init__(
        self,
        maker: ProgramMaker,
        spec: GpuSpec,
        manifest: Manifest,
        *,
        name: str = "device",
        several: Mapping[int, ProgramMaker] | None = None,
    ) -> None:
        """`maker` of the graph of one take; `several` of graphs of more, by how many, for takes to share steps."""
        self.spec, self.manifest, self.name = spec, manifest, name
        self._makers = {1: maker, **(several or {})}
        self.shape = StepShape.of(manifest)
        self.rooms: list[Room] = []
        self.failed = ""  # why the device is not to be used any more: most of its errors last

    def lane(self) -> DeviceLane:
        """Buffers and an empty cache for one stream. DeviceError if the device has no memory left."""
        return DeviceLane(self)

    def share(self, several: Mapping[int, ProgramMaker]) -> None:
        """From now on rooms have graphs of more takes too, by how many, or no longer. No lane may be in use."""
        self.close()
        self._makers = {1: self._makers[1], **several}

    @property
    def counts(self) -> tuple[int, ...]:
        """Takes of the graphs there are, 1 the first."""
        return tuple(sorted(self._makers))

    @property
    def driver(self) -> Driver:
        """The device's."""
        return self._makers[1].driver

    def sit(self) -> Seat:
        """A free seat, all zeros."""
        for room in self.rooms:
            number = room.free()
            if number is not None:
                return Seat(room, number)
        self.rooms.append(open_room(self._makers, self.spec))
        return Seat(self.rooms[-1], 0)

    def rise(self, seat: Seat) -> None:
        """Take a seat back, to be used again; its room's memory, if enough seats are free without."""
        seat.leave()
        empty = [room for room in self.rooms if not room.taken]
        while len(empty) > max(1, _IDLE // max(self._makers)):
            self._give_up(empty.pop())

    def warm(self) -> None:
        """Allocate a room and bind every graph over it, so that nothing is bound while takes play."""
        if not self.rooms:
            self.rooms.append(open_room(self._makers, self.spec))
        self.rooms[0].warm()

    def close(self) -> None:
        """Give the device's memory back; rooms in use keep theirs."""
        for room in [room for room in self.rooms if not room.taken]:
            self._give_up(room)

    def _give_up(self, room: Room) -> None:
        self.rooms.remove(room)
        room.close()


class DeviceLane:
    """One stream on a device. Not thread-safe; decode thread.

    Set `temperature`, `guidance`, `top_k` and `noise` in place, call `run`, then read `tokens` and `logits`. Unless
    `full_logits` is set, `logits` holds their sum alone, which is finite if they all are.
    """

    def __init__(self, runtime: DeviceRuntime) -> None:
        spec = self.spec = runtime.spec
        self._runtime = runtime
        self.seat = runtime.sit()
        self._finalizer = weakref.finalize(self, runtime.rise, self.seat)
        self.cache = DeviceCache(spec, self.seat)
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
        if spec.absolute:
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
            self.take(*self.collect()[-1])
            if self.full_logits:
                self.logits = self._step.logits()[0]

    @property
    def runtime(self) -> DeviceRuntime:
        """What it is a lane of."""
        return self._runtime

    @property
    def _step(self) -> DeviceStep:
        return self.seat.step

    def submit(
        self, stack: Ints, level: Ints, timestep: Ints, cond: Floats, *, slot: int, row_of_level: Ints | None = None
    ) -> None:
        """Queue the rows, alone; a stack entry below zero is `pending`. A prefill makes room for itself.

        DeviceError if the queue is full, or the device fails.
        """
        if row_of_level is None and self._step.queued >= DEPTH:
            self.collect()
        inputs = self._step.at(0)
        self.write(inputs, stack, level, timestep, cond, slot=slot, row_of_level=row_of_level)
        self.send()

    def write(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        stack: Ints,
        level: Ints,
        timestep: Ints,
        cond: Floats,
        *,
        slot: int,
        row_of_level: Ints | None = None,
    ) -> None:
        """All inputs of a step of these rows (DeviceStep.at)."""
        count = len(level)
        if not 1 <= count <= self.spec.rows:
            raise ValueError(f"{count} rows in a call, allowed: 1..{self.spec.rows}")
        inputs["write_slots"][0] = self.cache.place(slot)
        self.cache.mask(slot, inputs["mask"])
        self._fill(inputs, count, stack, level, timestep, cond)
        if "row_of_level" in inputs:
            inputs["row_of_level"][:] = 0 if row_of_level is None else row_of_level
        inputs["noise"][:] = self.noise
        for name in ("temperature", "guidance", "top_k"):
            inputs[name][:] = getattr(self, name)

    def own_inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the next step alone, for `write`; `send` queues it."""
        return self._step.at(0)

    def send(self) -> None:
        """Queue what was written. DeviceError if the queue is full, or the device fails."""
        with self.noting():
            self._step.submit()

    def collect(self) -> list[Drawn]:
        """Wait for every step queued alone; what they drew, in order."""
        with self.noting():
            return [(result.tokens[0], float(result.checksum[0])) for result in self._step.collect()]

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """The device's errors last: no other take is begun on it."""
        try:
            yield
        except DeviceError as error:
            self._runtime.failed = str(error)
            raise

    def take(self, tokens: npt.NDArray[Any], checksum: float) -> None:
        """Show a step's result in `tokens` and `logits`."""
        self.tokens[:] = tokens
        self.logits = np.full(1, checksum, np.float32)

    def pending(self, age: Ints, codebook: Ints) -> Ints:
        """Stack entries for what the steps `age` calls before drew for codebooks. ValueError if one is lost."""
        if not 1 <= age.min() <= age.max() <= self.spec.history:
            raise ValueError(f"ages {age.min()}..{age.max()} of pending tokens, allowed: 1..{self.spec.history}")
        return -1 - ((self.spec.history - age) * self.spec.num_codebooks + codebook)

    def tell(self, prompt: dict[str, npt.NDArray[Any]]) -> None:
        """Attend to a prompt from the next call on; see SeatMemory.tell."""
        self.seat.room.memory.tell(self.seat.number, prompt)

    def _fill(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        count: int,
        stack: Ints,
        level: Ints,
        timestep: Ints,
        cond: Floats,
    ) -> None:
        angles = timestep[:, None] * self._frequencies
        each: dict[str, npt.NDArray[Any]]
        each = {"stack": stack, "level": level, "cond": cond, "cos": np.cos(angles), "sin": np.sin(angles)}
        if self.spec.absolute:
            each = {"stack": stack, "position": np.concatenate([np.cos(angles), np.sin(angles)], axis=1)}
            if self.spec.rows > 1:
                each["level"] = level
        for name, rows in each.items():
            inputs[name][:count] = rows
            inputs[name][count:] = rows[:1]  # idle rows are the first again, and nobody sees them
