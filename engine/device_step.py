"""Steps of one or more takes on a device: their memory, a step's inputs in one copy, its results in another.

Between a lane (engine/device_lane.py) and a bound graph. Steps can be queued without waiting for what they sample:
results come in the order of the steps with `collect`. Buffers of the host are used in turn, so that a step can be
written while those before it are still being computed.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import ALIGNMENT, DeviceError, Driver, Program, ProgramMaker, Tensor
from .gpu_spec import Described, GpuSpec

Array = npt.NDArray[Any]
DEPTH = 16  # steps queued at most


@dataclass(frozen=True)
class Block:
    """Tensors side by side in one piece of memory."""

    places: Mapping[str, tuple[int, np.dtype[Any], tuple[int, ...]]]
    nbytes: int

    @classmethod
    def of(cls, described: Described) -> Block:
        places, end = {}, 0
        for name, (dtype, shape) in described.items():
            places[name] = (end, dtype, shape)
            end += -(-int(np.prod(shape)) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        return cls(places, max(end, ALIGNMENT))

    def tensors(self, address: int) -> dict[str, Tensor]:
        """The tensors, of a block at this address."""
        found = self.places.items()
        return {name: Tensor(address=address + at, dtype=dtype, shape=shape) for name, (at, dtype, shape) in found}

    def views(self, raw: npt.NDArray[np.uint8]) -> dict[str, Array]:
        """The tensors as arrays over a host's copy of the block."""
        found = {}
        for name, (at, dtype, shape) in self.places.items():
            nbytes = int(np.prod(shape)) * dtype.itemsize
            found[name] = raw[at : at + nbytes].view(dtype).reshape(shape)
        return found


@dataclass(frozen=True, eq=False)
class Result:
    """What a step drew: tokens int32 [T, K], checksum float32 [T]."""

    tokens: Array
    checksum: Array


class DeviceStep:
    """Memory and program of `takes` takes. Not thread-safe; decode thread.

    Write what changes into `inputs` (arrays of a step's inputs), `submit`, and `collect` when it is wanted.
    """

    def __init__(self, maker: ProgramMaker, spec: GpuSpec, takes: int = 1) -> None:
        """DeviceError if the graph does not fit the spec or memory is full: then nothing stays allocated."""
        check_fit(maker.described, spec.described(takes))
        self.spec, self.takes, self.driver = spec, takes, maker.driver
        self._allocated: list[int] = []
        self._host: list[npt.NDArray[np.uint8]] = []  # staging memory
        self._program: Program | None = None
        self._finalizer = weakref.finalize(self, _release, self.driver, self._allocated, self._host, [])
        try:
            self._allocate()
            self._program = maker.bind(self._tensors)
            self._finalizer.detach()
            parts = (self._allocated, self._host, [self._program])
            self._finalizer = weakref.finalize(self, _release, self.driver, *parts)
            self.reset()
        except DeviceError:
            self.close()
            raise

    def _allocate(self) -> None:
        spec, driver, takes = self.spec, self.driver, self.takes
        self._in, self._out = Block.of(spec.step(takes)), Block.of(spec.results(takes))
        self._cache, self._prompt = Block.of(spec.cache(takes)), Block.of(spec.prompt(takes))
        fed = Block.of({"history": spec.described(takes)["history"]})
        blocks = (self._in, self._out, self._cache, self._prompt, fed, fed)
        for block in blocks:
            self._allocated.append(driver.allocate(block.nbytes))
        inputs, results, cache, prompt, history, later = (
            block.tensors(address) for block, address in zip(blocks, self._allocated, strict=True)
        )
        self._history, self._later = history["history"], later["history"]
        in_place = {f"{name}.out": tensor for name, tensor in cache.items()}
        self._tensors = inputs | results | cache | prompt | history | in_place | {"history.out": self._later}
        self._small = self._out.places["logits"][0]  # tokens and checksum lie before it
        for nbytes in [self._in.nbytes] * DEPTH + [self._small] * DEPTH + [self._tensors["logits"].nbytes]:
            self._host.append(driver.staging(nbytes))
        self._raw_in, self._raw_out, self._logits = self._host[:DEPTH], self._host[DEPTH:-1], self._host[-1]
        self._staged = [self._in.views(raw) for raw in self._raw_in]
        self._submitted = self._collected = 0

    @property
    def inputs(self) -> dict[str, Array]:
        """Arrays of the next step's inputs; what they hold is what was written `DEPTH` steps before: write all."""
        return self._staged[self._submitted % DEPTH]

    @property
    def queued(self) -> int:
        """Steps submitted and not collected; at most DEPTH."""
        return self._submitted - self._collected

    def submit(self) -> None:
        """Queue a step with `inputs`. DeviceError if DEPTH steps are queued already."""
        if self._program is None:
            raise DeviceError("the device's memory was given back")
        if self.queued >= DEPTH:
            raise DeviceError(f"{self.queued} steps are queued, allowed: {DEPTH}")
        turn, driver = self._submitted % DEPTH, self.driver
        driver.upload(self._allocated[0], self._raw_in[turn])
        self._program.launch()
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

    def tell(self, prompt: Mapping[str, Array]) -> None:
        """Replace the prompt, in the shapes of the graph's inputs; waits. ValueError if one does not fit."""
        for name, array in prompt.items():
            tensor = self._tensors[name]
            if array.shape != tensor.shape:
                raise ValueError(f"{name} has shape {array.shape}, allowed: {tensor.shape}")
            self.driver.upload(tensor.address, np.ascontiguousarray(array, tensor.dtype))
        self.driver.synchronize()

    def save(self) -> Saved:
        """A copy of cache and history on the device."""
        sizes = (self._cache.nbytes, self._history.nbytes)
        saved = Saved(self.driver, sizes)
        for target, source, nbytes in zip(saved.addresses, self._kept(), sizes, strict=True):
            self.driver.copy(target, source, nbytes)
        return saved

    def load(self, saved: Saved) -> None:
        """Back to what was saved, of the same sizes."""
        sizes = (self._cache.nbytes, self._history.nbytes)
        if saved.sizes != sizes:
            raise ValueError(f"saved memory has sizes {saved.sizes}, allowed: {sizes}")
        for target, source, nbytes in zip(self._kept(), saved.addresses, sizes, strict=True):
            self.driver.copy(target, source, nbytes)

    def reset(self) -> None:
        """Cache and history as new: what a graph's warm-up wrote is gone, and nothing in them is not finite."""
        self.driver.clear(self._allocated[2], self._cache.nbytes)
        self.driver.clear(self._history.address, self._history.nbytes)
        self.driver.synchronize()
        self._collected = self._submitted

    def close(self) -> None:
        """Give the device's memory back. Idempotent."""
        self._program = None
        self._finalizer()

    def _kept(self) -> tuple[int, int]:
        return self._allocated[2], self._history.address

    def _result(self, raw: npt.NDArray[np.uint8]) -> Result:
        views = {name: raw[at:] for name, (at, _, _) in self._out.places.items() if name != "logits"}
        shapes = self.spec.results(self.takes)
        found = {}
        for name, view in views.items():
            dtype, shape = shapes[name]
            found[name] = view[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape).copy()
        return Result(found["tokens"], found["checksum"])


class Saved:
    """Memory of a device that a snapshot holds; given back when nothing refers to it."""

    def __init__(self, driver: Driver, sizes: tuple[int, int]) -> None:
        self.sizes = sizes
        addresses: list[int] = []
        self._finalizer = weakref.finalize(self, _release, driver, addresses, [], [])
        addresses += [driver.allocate(nbytes) for nbytes in sizes]
        self.addresses = tuple(addresses)


def _release(
    driver: Driver, addresses: list[int], staged: list[npt.NDArray[np.uint8]], programs: list[Program]
) -> None:
    with contextlib.suppress(DeviceError):  # what fails while it is given back would hide what failed before
        driver.synchronize()
        for program in programs:
            program.close()
        while staged:
            driver.unstage(staged.pop())
        while addresses:
            driver.free(addresses.pop())


def check_fit(found: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], wanted: Described) -> None:
    """DeviceError naming the first tensor of a graph that is missing, unknown or other than wanted."""
    for name in sorted(set(found) | set(wanted)):
        if found.get(name) != wanted.get(name):
            raise DeviceError(f"the graph's {name!r} is {found.get(name)}, allowed by its list: {wanted.get(name)}")
