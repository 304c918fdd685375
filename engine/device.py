"""What the runtimes for GPUs ask of a device: memory, copies, one stream, graphs. Small, so a fake can stand in.

Under engine/device_step.py. `HostDriver` is this machine's own memory, where every call is done when it returns:
the same code runs on the CPU for parity and rehearsal. engine/cuda_driver.py is NVIDIA's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ALIGNMENT = 256


class DeviceError(RuntimeError):
    """A device, its driver or its packages failed; the message says which call and what it answered."""


class OutOfMemory(DeviceError):
    """The device's memory is full."""


class NotAvailable(DeviceError):
    """A backend cannot be used on this machine: no package, no device, a driver that is too old."""


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """What a device is."""

    name: str
    compute_capability: tuple[int, int]
    driver_version: int  # as CUDA counts: 13000 is 13.0
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor in a device's memory."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Rows:
    """`height` pieces of `width` bytes, whose beginnings lie `pitch` bytes apart."""

    address: int
    width: int
    pitch: int
    height: int

    @property
    def nbytes(self) -> int:
        return self.width * self.height


class Driver(Protocol):
    """One device with one stream. Calls are queued in order unless they say that they wait; failed: DeviceError."""

    @property
    def kind(self) -> str:
        """The device's name for onnxruntime: cuda or cpu."""

    @property
    def stream(self) -> int:
        """Handle of the stream."""

    def info(self) -> DeviceInfo: ...

    def allocate(self, nbytes: int) -> int:
        """Address of memory filled with zeros, aligned to 256 bytes. OutOfMemory if there is none."""

    def free(self, address: int) -> None: ...

    def staging(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Host memory that copies can read and write while the host goes on."""

    def unstage(self, array: npt.NDArray[np.uint8]) -> None:
        """Give such memory back; nothing may be queued that uses it."""

    def upload(self, address: int, source: Array) -> None:
        """Queue a copy of a contiguous array; it may change again once the stream has got there."""

    def download(self, target: Array, address: int) -> None:
        """Queue a copy into a contiguous array; to be read after `synchronize`."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Queue a copy within the device."""

    def copy_rows(self, target: Rows, source: Rows) -> None:
        """Queue a copy within the device of as many bytes laid out otherwise: equal widths and heights."""

    def clear(self, address: int, nbytes: int) -> None:
        """Queue filling with zeros."""

    def clear_rows(self, rows: Rows) -> None:
        """Queue filling with zeros."""

    def synchronize(self) -> None:
        """Wait until everything queued is done."""

    def begin_capture(self) -> None:
        """What is queued from now on is recorded in place of being done."""

    def end_capture(self) -> int:
        """The recorded graph, ready to be launched."""

    def launch(self, graph: int) -> None:
        """Queue a recorded graph."""

    def destroy_graph(self, graph: int) -> None: ...

    def mark(self) -> int:
        """A mark on the stream, for `between_ms`."""

    def between_ms(self, first: int, second: int) -> float:
        """Milliseconds of the device from one mark to another, which are given back; waits."""

    def close(self) -> None:
        """Give everything back. Idempotent."""


class Program(Protocol):
    """A step graph whose tensors are bound to addresses."""

    def launch(self) -> None:
        """Queue one step on the driver's stream."""

    def close(self) -> None:
        """Give back what it holds, but no tensor. Idempotent."""


class ProgramMaker(Protocol):
    """A loaded graph that can be bound, as often as there are streams."""

    @property
    def driver(self) -> Driver: ...

    @property
    def described(self) -> Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Every input and output of the graph: type and shape."""

    def bind(self, tensors: Mapping[str, Tensor]) -> Program:
        """A program over these tensors, warmed up: it has run on them, so what they held is gone."""


class HostDriver:
    """This machine's memory as a device. Nothing is queued: every call is done when it returns."""

    kind = "cpu"
    stream = 0

    def __init__(self) -> None:
        self._held: dict[int, npt.NDArray[np.uint8]] = {}

    def info(self) -> DeviceInfo:
        return DeviceInfo(name="host memory", compute_capability=(0, 0), driver_version=0, memory_bytes=0)

    def allocate(self, nbytes: int) -> int:
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        address = int(raw.ctypes.data + -raw.ctypes.data % ALIGNMENT)
        self._held[address] = raw
        return address

    def free(self, address: int) -> None:
        if self._held.pop(address, None) is None:
            raise DeviceError(f"address {address:#x} was never allocated, or is freed already")

    def staging(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def unstage(self, array: npt.NDArray[np.uint8]) -> None:
        pass

    def upload(self, address: int, source: Array) -> None:
        self.view(address, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

    def download(self, target: Array, address: int) -> None:
        target.reshape(-1).view(np.uint8)[:] = self.view(address, target.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self.view(target, nbytes)[:] = self.view(source, nbytes)

    def copy_rows(self, target: Rows, source: Rows) -> None:
        self._pieces(target)[:] = self._pieces(source)

    def clear(self, address: int, nbytes: int) -> None:
        self.view(address, nbytes)[:] = 0

    def clear_rows(self, rows: Rows) -> None:
        self._pieces(rows)[:] = 0

    def synchronize(self) -> None:
        pass

    def begin_capture(self) -> None:
        raise DeviceError("host memory records no graphs")

    def end_capture(self) -> int:
        raise DeviceError("host memory records no graphs")

    def launch(self, graph: int) -> None:
        raise DeviceError("host memory records no graphs")

    def destroy_graph(self, graph: int) -> None:
        raise DeviceError("host memory records no graphs")

    def mark(self) -> int:
        return time.perf_counter_ns()

    def between_ms(self, first: int, second: int) -> float:
        return (second - first) / 1e6

    def close(self) -> None:
        self._held.clear()

    def _pieces(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """[height, width] bytes."""
        whole = self.view(rows.address, rows.pitch * (rows.height - 1) + rows.width)
        return np.lib.stride_tricks.as_strided(whole, (rows.height, rows.width), (rows.pitch, 1))

    def view(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Bytes at an address. DeviceError outside what is allocated."""
        for start, raw in self._held.items():
            if start <= address and address + nbytes <= raw.ctypes.data + raw.nbytes:
                offset = address - raw.ctypes.data
                return raw[offset : offset + nbytes]
        raise DeviceError(f"{nbytes} bytes at {address:#x} are not allocated")
