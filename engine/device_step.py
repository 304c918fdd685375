"""Steps of one or more takes on a device: a graph over neighbouring seats, inputs in one copy, results in another.

Between a lane (engine/device_lane.py) and a bound graph. Steps can be queued without waiting for what they sample:
results come in the order of the steps with `collect`. Buffers of the host are used in turn, so that a step can be
written while those before it are still being computed. A seat that a step is not written for changes nothing: its
rows go where no row stays, and see themselves alone.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import Array, DeviceError, Program, ProgramMaker
from .device_memory import Block, SeatMemory, release
from .gpu_spec import Described, GpuSpec

DEPTH = 16  # steps queued at most


@dataclass(frozen=True, eq=False)
class Result:
    """What a step drew: tokens int32 [T, K], checksum float32 [T]."""

    tokens: Array
    checksum: Array


class DeviceStep:
    """A bound graph of `takes` takes. Not thread-safe; decode thread.

    Write inputs of each take that steps (`at`), `submit`, and `collect` when it is wanted.
    """

    def __init__(
        self,
        maker: ProgramMaker,
        spec: GpuSpec,
        takes: int = 1,
        memory: SeatMemory | None = None,
        *,
        first: int = 0,
    ) -> None:
        """Over the seats of `memory` from `first` on; without it, over seats of its own.

        What lies there stays as it is. DeviceError if the graph does not fit the spec or memory is full: then
        nothing stays allocated.
        """
        check_fit(maker.described, spec.described(takes))
        self.spec, self.takes, self.first, self.driver = spec, takes, first, maker.driver
        self.memory = SeatMemory(maker.driver, spec, takes) if memory is None else memory
        self._allocated: list[int] = []
        self._host: list[npt.NDArray[np.uint8]] = []  # staging memory
        self._programs: list[Program] = []
        self._finalizer = weakref.finalize(self, release, self.driver, self._allocated, self._host, self._programs)
        try:
            self._allocate()
            for take in range(takes):
                self.idle(take)
            self.driver.upload(self._allocated[0], self._raw_in[0])  # to bind is to run
            self._programs.append(maker.bind(self._tensors))
            self.driver.clear(self._history.address, self._history.nbytes)
            self.driver.synchronize()
        except DeviceError:
            self.close()
            raise

    def _allocate(self) -> None:
        spec, driver, takes = self.spec, self.driver, self.takes
        self._in, self._out = Block.of(spec.step(takes)), Block.of(spec.results(takes))
        fed = Block.of({"history": spec.described(takes)["history"]})
        blocks = (self._in, self._out, fed, fed)
        for block in blocks:
            self._allocated.append(driver.allocate(block.nbytes))
        inputs, results, history, later = (
            block.tensors(address) for block, address in zip(blocks, self._allocated, strict=True)
        )
        self._history, self._later = history["history"], later["history"]
        kept = self.memory.tensors(self.first, takes)
        in_place = {f"{name}.out": kept[name] for name in spec.cache(takes)}
        self._tensors = inputs | results | kept | history | in_place | {"history.out": self._later}
        self._small = self._out.places["logits"][0]  # tokens and checksum lie before it
        for nbytes in [self._in.nbytes] * DEPTH + [self._small] * DEPTH + [self._tensors["logits"].nbytes]:
            self._host.append(driver.staging(nbytes))
        self._raw_in, self._raw_out, self._logits = self._host[:DEPTH], self._host[DEPTH:-1], self._host[-1]
        self._staged = [self._in.views(raw) for raw in self._raw_in]
        self._submitted = self._collected = 0
        self._written: set[int] = set()  # takes of the next step
        self._idles: list[set[int]] = [set() for _ in range(DEPTH)]  # that stand so in each buffer

    @property
    def queued(self) -> int:
        """Steps submitted and not collected; at most DEPTH."""
        return self._submitted - self._collected

    def at(self, take: int) -> dict[str, Array]:
        """A take's inputs of the next step, arrays of one entry where each take has one; all are to be written."""
        turn = self._submitted % DEPTH
        self._written.add(take)
        self._idles[turn].discard(take)
        return {
            name: array[take] if array.ndim > 1 else array[take : take + 1]
            for name, array in self._staged[turn].items()
        }

    def idle(self, take: int) -> None:
        """A take does not step in the next step, whatever was written for it."""
        inputs, ring = self.at(take), self.spec.ring
        for array in inputs.values():
            array[...] = 0
        inputs["top_k"][0] = 1
        inputs["write_slots"][0] = ring.period
        rows = np.arange(ring.rows)
        inputs["mask"][rows, ring.period + rows] = True
        self._written.discard(take)
        self._idles[self._submitted % DEPTH].add(take)

    def submit(self, *, again: bool = False) -> None:
        """Queue a step of the takes that were written; `again`: as it was written `DEPTH` steps before.

        DeviceError if DEPTH steps are queued already.
        """
        if not self._programs:
            raise DeviceError("the device's memory was given back")
        if self.queued >= DEPTH:
            raise DeviceError(f"{self.queued} steps are queued, allowed: {DEPTH}")
        turn, driver = self._submitted % DEPTH, self.driver
        for take in () if again else set(range(self.takes)) - self._written - self._idles[turn]:
            self.idle(take)
        self._written.clear()
        driver.upload(self._allocated[0], self._raw_in[turn])
        self._programs[0].launch()
        driver.copy(self._history.address, self._later.address, self._history.nbytes)
        driver.download(self._raw_out[turn], self._allocated[1])
        self._submitted += 1

    def collect(self) -> list[Result]:
        """Wait for all that is queued; its results in order."""
        self.driver.synchronize()
        turns = [step % DEPTH for step in range(self._collected, self._submitted)]
        self._collected = self._submitted
        return [self._result(self._raw_out[turn]) for turn in turns]

    def logits(self) -> Array:
        """Guided logits float32 [T, K, V] of the last step; waits."""
        self.driver.download(self._logits, self._tensors["logits"].address)
        self.driver.synchronize()
        tensor = self._tensors["logits"]
        return self._logits.view(tensor.dtype).reshape(tensor.shape).copy()

    def close(self) -> None:
        """Give the device's memory back, but no seats of others. Idempotent."""
        self._finalizer()

    def _result(self, raw: npt.NDArray[np.uint8]) -> Result:
        views = {name: raw[at:] for name, (at, _, _) in self._out.places.items() if name != "logits"}
        shapes = self.spec.results(self.takes)
        found: dict[str, Any] = {}
        for name, view in views.items():
            dtype, shape = shapes[name]
            found[name] = view[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape).copy()
        return Result(found["tokens"], found["checksum"])


def check_fit(found: Any, wanted: Described) -> None:
    """DeviceError naming the first tensor of a graph that is missing, unknown or other than wanted."""
    for name in sorted(set(found) | set(wanted)):
        if found.get(name) != wanted.get(name):
            raise DeviceError(f"the graph's {name!r} is {found.get(name)}, allowed by its list: {wanted.get(name)}")
