"""NVIDIA's driver by ctypes, as little of it as a step needs: memory, copies, a stream, graphs, marks in time.

An engine/device.py Driver. The primary context is used, which onnxruntime and TensorRT use too. No package is
needed: the library comes with the driver itself.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .device import Array, DeviceError, DeviceInfo, NotAvailable, OutOfMemory, Rows

LEAST_DRIVER = 12000  # as CUDA counts: 12.0
_LIBRARIES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
_OUT_OF_MEMORY, _DEINITIALISED = 2, 4
_NON_BLOCKING, _RELAXED = 1, 2  # flags of a stream and of its capture
_MAJOR, _MINOR = 75, 76  # attributes of a device
_NAME_BYTES = 256
_ON_DEVICE = 2  # where a Place is


class Place(ctypes.Structure):
    """Half of the driver's CUDA_MEMCPY2D: where pieces lie."""

    _fields_ = (
        ("x_bytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_uint64),
        ("array", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
    )


class PitchedCopy(ctypes.Structure):
    """CUDA_MEMCPY2D."""

    _fields_ = (
        ("source", Place),
        ("target", Place),
        ("width", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


def load_library() -> Any:
    """The driver's library. NotAvailable if this machine has none."""
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NotAvailable(f"this machine has no NVIDIA driver ({_LIBRARIES[0]} is not found)")


class CudaDriver:
    """One NVIDIA GPU. Any thread, one at a time. `library` is the driver's, or what stands in for it."""

    kind = "cuda"

    def __init__(self, library: Any = None, *, device: int = 0) -> None:
        """NotAvailable if there is no driver, no GPU, or the driver is too old."""
        self._library = load_library() if library is None else library
        self._thread = threading.local()
        self._pinned: set[int] = set()
        self._stream = ctypes.c_void_p()
        self._closed = False
        version, count, self._device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        try:
            self._ask("cuInit", 0)
            self._ask("cuDriverGetVersion", ctypes.byref(version))
            self._ask("cuDeviceGetCount", ctypes.byref(count))
        except DeviceError as error:
            raise NotAvailable(f"no NVIDIA GPU can be used: {error}") from None
        self._version = version.value
        if count.value <= device:
            raise NotAvailable(f"this machine has {count.value} NVIDIA GPUs, number {device} was asked for")
        if version.value < LEAST_DRIVER:
            raise NotAvailable(
                f"the NVIDIA driver knows CUDA {spoken(version.value)}, needed: {spoken(LEAST_DRIVER)}"
            )
        self._context = ctypes.c_void_p()
        self._ask("cuDeviceGet", ctypes.byref(self._device), device)
        self._ask("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return self._stream.value or 0

    def info(self) -> DeviceInfo:
        """What the device is."""
        name, total = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        self._call("cuDeviceTotalMem_v2", ctypes.byref(total), self._device)
        self._call("cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, self._device)
        self._call("cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, self._device)
        return DeviceInfo(
            name=name.value.decode(errors="replace"),
            compute_capability=(major.value, minor.value),
            driver_version=self._version,
            memory_bytes=total.value,
        )

    def allocate(self, nbytes: int) -> int:
        """See Driver."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        self.clear(address.value, nbytes)
        return address.value

    def free(self, address: int) -> None:
        """See Driver. Waits for what is queued."""
        if not self._closed:
            self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def staging(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """See Driver: page-locked memory."""
        pointer = ctypes.c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, nbytes)), 0)
        self._pinned.add(pointer.value or 0)
        held = (ctypes.c_uint8 * nbytes).from_address(pointer.value or 0)
        array: npt.NDArray[np.uint8] = np.ctypeslib.as_array(held)
        array[:] = 0
        return array

    def unstage(self, array: npt.NDArray[np.uint8]) -> None:
        """See Driver."""
        if array.ctypes.data in self._pinned and not self._closed:
            self._pinned.remove(array.ctypes.data)
            self._call("cuMemFreeHost", ctypes.c_void_p(array.ctypes.data))

    def upload(self, address: int, source: Array) -> None:
        """See Driver."""
        pointer, size = ctypes.c_void_p(source.ctypes.data), ctypes.c_size_t(source.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), pointer, size, self._stream)

    def download(self, target: Array, address: int) -> None:
        """See Driver."""
        pointer, size = ctypes.c_void_p(target.ctypes.data), ctypes.c_size_t(target.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", pointer, ctypes.c_uint64(address), size, self._stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """See Driver."""
        places = ctypes.c_uint64(target), ctypes.c_uint64(source)
        self._call("cuMemcpyDtoDAsync_v2", *places, ctypes.c_size_t(nbytes), self._stream)

    def copy_rows(self, target: Rows, source: Rows) -> None:
        """See Driver."""
        places = [Place(kind=_ON_DEVICE, device=each.address, pitch=each.pitch) for each in (source, target)]
        asked = PitchedCopy(source=places[0], target=places[1], width=source.width, height=source.height)
        self._call("cuMemcpy2DAsync_v2", ctypes.byref(asked), self._stream)

    def clear_rows(self, rows: Rows) -> None:
        """See Driver."""
        place, pitch = ctypes.c_uint64(rows.address), ctypes.c_size_t(rows.pitch)
        sizes = ctypes.c_size_t(rows.width), ctypes.c_size_t(rows.height)
        self._call("cuMemsetD2D8Async", place, pitch, ctypes.c_ubyte(0), *sizes, self._stream)

    def clear(self, address: int, nbytes: int) -> None:
        """See Driver."""
        self._call(
            "cuMemsetD8Async", ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes), self._stream
        )

    def synchronize(self) -> None:
        """See Driver."""
        self._call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """See Driver."""
        self._call("cuStreamBeginCapture_v2", self._stream, _RELAXED)

    def end_capture(self) -> int:
        """See Driver."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        if not graph.value:
            raise DeviceError("cuStreamEndCapture recorded nothing")
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int) -> None:
        """See Driver."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), self._stream)

    def destroy_graph(self, graph: int) -> None:
        """See Driver."""
        if not self._closed:
            self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def mark(self) -> int:
        """A mark on the stream, for `between_ms`."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        self._call("cuEventRecord", event, self._stream)
        return event.value or 0

    def between_ms(self, first: int, second: int) -> float:
        """Milliseconds of the device from one mark to another, which are given back; waits."""
        events, spent = [ctypes.c_void_p(first), ctypes.c_void_p(second)], ctypes.c_float()
        self._call("cuEventSynchronize", events[1])
        self._call("cuEventElapsedTime", ctypes.byref(spent), *events)
        for event in events:
            self._call("cuEventDestroy_v2", event)
        return spent.value

    def close(self) -> None:
        """See Driver. Staging arrays must not be used any more."""
        if self._closed:
            return
        self.synchronize()
        for pointer in self._pinned:
            self._call("cuMemFreeHost", ctypes.c_void_p(pointer))
        self._call("cuStreamDestroy_v2", self._stream)
        self._ask("cuDevicePrimaryCtxRelease_v2", self._device)
        self._closed = True

    def _call(self, name: str, *arguments: Any) -> None:
        """A call that needs the context to be this thread's."""
        if self._closed:
            raise DeviceError(f"{name} after the driver was closed")
        if not getattr(self._thread, "ready", False):
            self._ask("cuCtxSetCurrent", self._context)
            self._thread.ready = True
        self._ask(name, *arguments)

    def _ask(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code in (0, _DEINITIALISED):  # the latter while the process ends, when all is given back anyway
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        words = (text.value or b"unknown error").decode(errors="replace")
        raise (OutOfMemory if code == _OUT_OF_MEMORY else DeviceError)(f"{name} answers {code}: {words}")


def spoken(version: int) -> str:
    """CUDA's number of a version as people say it: 12040 is 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
