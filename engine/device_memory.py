"""What takes keep on a device from step to step: seats side by side in one piece of memory, each take on one.

Under engine/device_step.py. A seat has its share of every cache and prompt tensor, in one piece of each, so that a
graph of some takes runs on the memory of as many neighbouring seats, and a seat is copied or cleared in one call.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import ALIGNMENT, Array, DeviceError, Driver, Program, Rows, Tensor
from .gpu_spec import Described, GpuSpec


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


class SeatMemory:
    """Cache and prompts of `seats` takes. Not thread-safe; decode thread."""

    def __init__(self, driver: Driver, spec: GpuSpec, seats: int = 1) -> None:
        """All zeros. DeviceError if memory is full: then nothing stays allocated."""
        self.driver, self.spec, self.seats = driver, spec, seats
        addresses: list[int] = []
        self._finalizer = weakref.finalize(self, release, driver, addresses, [], [])
        self._cache, self._prompt = Block.of(spec.cache(seats)), Block.of(spec.prompt(seats))
        try:
            addresses += [driver.allocate(self._cache.nbytes)]
            addresses += [driver.allocate(self._prompt.nbytes)]
        except DeviceError:
            self.close()
            raise
        self._addresses = tuple(addresses)

    def tensors(self, first: int, count: int) -> dict[str, Tensor]:
        """Tensors of a graph of `count` takes over the seats from `first` on."""
        found = {}
        described = self.spec.cache(count), self.spec.prompt(count)
        kinds = zip((self._cache, self._prompt), described, self._addresses, strict=True)
        for block, tensors, address in kinds:
            for name, (dtype, shape) in tensors.items():
                each = int(np.prod(shape)) * dtype.itemsize // count
                place = address + block.places[name][0] + first * each
                found[name] = Tensor(address=place, dtype=dtype, shape=shape)
        return found

    def clear(self, seat: int) -> None:
        """A seat's cache as new: nothing in it is not finite."""
        self.driver.clear_rows(self._seat(self._cache, self._addresses[0], seat))

    def copy_from(self, seat: int, other: SeatMemory, source: int) -> None:
        """All that a seat holds, from a seat of this or another memory of the same bundle."""
        for mine, its in zip(self._blocks(seat), other._blocks(source), strict=True):
            self.driver.copy_rows(mine, its)

    def tell(self, seat: int, prompt: Mapping[str, Array]) -> None:
        """Replace a seat's prompt, in the shapes of a graph of one take; waits. ValueError if one does not fit."""
        tensors = self.tensors(seat, 1)
        for name, array in prompt.items():
            if array.shape != tensors[name].shape:
                raise ValueError(f"{name} has shape {array.shape}, allowed: {tensors[name].shape}")
            self.driver.upload(tensors[name].address, np.ascontiguousarray(array, tensors[name].dtype))
        self.driver.synchronize()

    def save(self, seat: int) -> Saved:
        """A copy of a seat's cache on the device."""
        rows = self._seat(self._cache, self._addresses[0], seat)
        saved = Saved(self.driver, rows)
        self.driver.copy_rows(saved.rows, rows)
        return saved

    def load(self, seat: int, saved: Saved) -> None:
        """Back to what was saved, of a seat of the same sizes. ValueError if they are others."""
        rows = self._seat(self._cache, self._addresses[0], seat)
        if (saved.rows.width, saved.rows.height) != (rows.width, rows.height):
            raise ValueError(f"saved memory has {saved.rows.nbytes} bytes, allowed: {rows.nbytes}")
        self.driver.copy_rows(rows, saved.rows)

    def pack(self, seat: int, slots: int) -> Packed:
        """A copy of a seat's first slots, of all its tensors."""
        pieces = self._slots(seat, slots)
        packed = Packed(self.driver, pieces)
        for target, source in zip(packed.pieces, pieces, strict=True):
            self.driver.copy_rows(target, source)
        return packed

    def unpack(self, seat: int, packed: Packed) -> None:
        """A seat's first slots are what was packed; the others stay."""
        width = packed.pieces[0].width
        slots = width // (self._slot_bytes)
        for target, source in zip(self._slots(seat, slots), packed.pieces, strict=True):
            self.driver.copy_rows(target, source)

    @property
    def _slot_bytes(self) -> int:
        """Of one head."""
        dtype, shape = next(iter(self.spec.cache(1).values()))
        return shape[3] * dtype.itemsize

    def _slots(self, seat: int, slots: int) -> list[Rows]:
        """A seat's first slots in each tensor, head by head of both branches."""
        _, shape = next(iter(self.spec.cache(1).values()))
        size = self._slot_bytes
        return [
            Rows(address=tensor.address, width=slots * size, pitch=shape[2] * size, height=shape[0] * shape[1])
            for name, tensor in self.tensors(seat, 1).items()
            if name in self._cache.places
        ]

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        self._finalizer()

    def _blocks(self, seat: int) -> list[Rows]:
        found = [self._seat(self._cache, self._addresses[0], seat)]
        if self._prompt.places:
            found.append(self._seat(self._prompt, self._addresses[1], seat))
        return found

    def _seat(self, block: Block, address: int, seat: int) -> Rows:
        """A seat's share of tensors that are all of one size."""
        (_, dtype, shape), height = next(iter(block.places.values())), len(block.places)
        width = int(np.prod(shape)) * dtype.itemsize // self.seats
        return Rows(address=address + seat * width, width=width, pitch=block.nbytes // height, height=height)


class Saved:
    """Memory of a device that a snapshot holds; given back when nothing refers to it."""

    def __init__(self, driver: Driver, like: Rows) -> None:
        addresses: list[int] = []
        self._finalizer = weakref.finalize(self, release, driver, addresses, [], [])
        addresses.append(driver.allocate(like.nbytes))
        self.rows = Rows(address=addresses[0], width=like.width, pitch=like.width, height=like.height)


class Packed:
    """Some slots of a seat without what lies between; given back when nothing refers to it."""

    def __init__(self, driver: Driver, like: Sequence[Rows]) -> None:
        addresses: list[int] = []
        self._finalizer = weakref.finalize(self, release, driver, addresses, [], [])
        addresses.append(driver.allocate(sum(rows.nbytes for rows in like)))
        self.pieces: list[Rows] = []
        place = addresses[0]
        for rows in like:
            self.pieces.append(Rows(address=place, width=rows.width, pitch=rows.width, height=rows.height))
            place += rows.nbytes


def release(
    driver: Driver, addresses: list[int], staged: list[npt.NDArray[np.uint8]], programs: list[Program]
) -> None:
    """Give all of this back; the lists are empty then."""
    with contextlib.suppress(DeviceError):  # what fails while it is given back would hide what failed before
        driver.synchronize()
        while programs:
            programs.pop().close()
        while staged:
            driver.unstage(staged.pop())
        while addresses:
            driver.free(addresses.pop())
