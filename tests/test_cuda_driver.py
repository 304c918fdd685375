"""NVIDIA's driver by ctypes, over a library that is not there: which calls are made, what its answers become."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest

from attacca.engine import cuda_driver
from attacca.engine.cuda_driver import CudaDriver, spoken
from attacca.engine.device import DeviceError, HostDriver, NotAvailable, OutOfMemory, Rows


class Library:
    """libcuda in this machine's memory. `answers` are codes by call; every call is noted with its thread."""

    def __init__(self, *, version: int = 13000, devices: int = 1) -> None:
        self.version, self.devices = version, devices
        self.answers: dict[str, int] = {}
        self.calls: list[tuple[str, int]] = []
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.handles = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, threading.get_ident()))
            if self.answers.get(name):
                return self.answers[name]
            answer = getattr(type(self), f"on_{name}", None)
            if answer is not None:
                answer(self, *arguments)
            return 0

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _handle(self, out: Any) -> None:
        self.handles += 1
        out._obj.value = self.handles

    def on_cuGetErrorString(self, code: int, out: Any) -> None:
        out._obj.value = {2: b"out of memory", 100: b"no CUDA-capable device is detected"}.get(code, b"a failure")

    def on_cuDriverGetVersion(self, out: Any) -> None:
        out._obj.value = self.version

    def on_cuDeviceGetCount(self, out: Any) -> None:
        out._obj.value = self.devices

    def on_cuDeviceGetName(self, out: Any, size: int, device: Any) -> None:
        out.value = b"NVIDIA H200"

    def on_cuDeviceTotalMem_v2(self, out: Any, device: Any) -> None:
        out._obj.value = 150 << 30

    def on_cuDeviceGetAttribute(self, out: Any, attribute: int, device: Any) -> None:
        out._obj.value = {75: 9, 76: 0}[attribute]

    def on_cuDevicePrimaryCtxRetain(self, out: Any, device: Any) -> None:
        self._handle(out)

    def on_cuStreamCreate(self, out: Any, flags: int) -> None:
        assert flags == 1  # does not wait for the default stream
        self._handle(out)

    def on_cuMemAlloc_v2(self, out: Any, size: ctypes.c_size_t) -> None:
        held = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        out._obj.value = ctypes.addressof(held)
        self.memory[out._obj.value] = held

    def on_cuMemFree_v2(self, address: ctypes.c_uint64) -> None:
        del self.memory[address.value]

    def on_cuMemHostAlloc(self, out: Any, size: ctypes.c_size_t, flags: int) -> None:
        held = ctypes.create_string_buffer(size.value)
        out._obj.value = ctypes.addressof(held)
        self.pinned[out._obj.value] = held

    def on_cuMemFreeHost(self, pointer: ctypes.c_void_p) -> None:
        del self.pinned[pointer.value or 0]

    def on_cuMemsetD8Async(self, address: Any, value: Any, size: Any, stream: Any) -> None:
        ctypes.memset(address.value, value.value, size.value)

    def on_cuMemcpyHtoDAsync_v2(self, address: Any, source: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(address.value, source.value, size.value)

    def on_cuMemcpyDtoHAsync_v2(self, target: Any, address: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(target.value, address.value, size.value)

    def on_cuMemcpyDtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(target.value, source.value, size.value)

    def on_cuMemcpy2DAsync_v2(self, asked: Any, stream: Any) -> None:
        """As the driver reads CUDA_MEMCPY2D: 64-bit words but for the kinds of memory."""
        words = np.frombuffer(bytes(asked._obj), np.uint64)
        assert len(words) == 16
        (skipped, row, kind, _, source, _, pitch), width, height = (
            words[:7].tolist(),
            int(words[14]),
            int(words[15]),
        )
        assert (skipped, row, kind & 0xFFFFFFFF) == (0, 0, 2)
        _, _, kind, _, target, _, other = words[7:14].tolist()
        assert kind & 0xFFFFFFFF == 2
        for line in range(height):
            ctypes.memmove(target + line * other, source + line * pitch, width)

    def on_cuMemsetD2D8Async(self, address: Any, pitch: Any, value: Any, width: Any, height: Any, _: Any) -> None:
        for line in range(height.value):
            ctypes.memset(address.value + line * pitch.value, value.value, width.value)

    def on_cuStreamEndCapture(self, stream: Any, out: Any) -> None:
        self._handle(out)

    def on_cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> None:
        self._handle(out)

    def on_cuEventCreate(self, out: Any, flags: int) -> None:
        self._handle(out)

    def on_cuEventElapsedTime(self, out: Any, first: Any, second: Any) -> None:
        out._obj.value = 1.5


def test_bytes_go_there_and_back_and_new_memory_is_zeros() -> None:
    library = Library()
    driver = CudaDriver(library)
    first, second = driver.allocate(64), driver.allocate(64)
    sent, back = np.arange(16, dtype=np.float32), np.ones(16, np.float32)
    driver.download(back, first)
    assert not back.any()
    driver.upload(first, sent)
    driver.copy(second, first, 64)
    driver.download(back, second)
    driver.synchronize()
    np.testing.assert_array_equal(back, sent)
    driver.clear(second, 32)
    driver.download(back, second)
    np.testing.assert_array_equal(back, np.where(sent < 8, 0, sent))
    driver.free(first)
    driver.free(second)
    assert library.memory == {}


@pytest.mark.parametrize("make", [lambda: CudaDriver(Library()), HostDriver])
def test_pieces_at_a_pitch_are_copied_and_cleared(make: Any) -> None:
    driver = make()
    whole, part = driver.allocate(96), driver.allocate(24)
    sent, back, few = np.arange(96, dtype=np.uint8), np.zeros(96, np.uint8), np.zeros(24, np.uint8)
    driver.upload(whole, sent)
    pieces = Rows(address=whole + 8, width=8, pitch=32, height=3)
    packed = Rows(address=part, width=8, pitch=8, height=3)
    assert pieces.nbytes == packed.nbytes == 24
    driver.copy_rows(packed, pieces)
    driver.download(few, part)
    np.testing.assert_array_equal(few.reshape(3, 8), sent.reshape(3, 32)[:, 8:16])
    driver.clear_rows(pieces)
    driver.download(back, whole)
    sent.reshape(3, 32)[:, 8:16] = 0
    np.testing.assert_array_equal(back, sent)
    driver.copy_rows(pieces, packed)
    driver.download(back, whole)
    np.testing.assert_array_equal(back, np.arange(96, dtype=np.uint8))


def test_staging_is_page_locked_and_given_back() -> None:
    library = Library()
    driver = CudaDriver(library)
    kept, other = driver.staging(100), driver.staging(10)
    assert (kept.nbytes, len(library.pinned)) == (100, 2)
    kept[:] = 7
    driver.unstage(other)
    assert list(library.pinned) == [kept.ctypes.data]
    driver.close()
    driver.close()
    assert library.pinned == {}
    assert library.names()[-2:] == ["cuStreamDestroy_v2", "cuDevicePrimaryCtxRelease_v2"]
    with pytest.raises(DeviceError, match="cuStreamSynchronize after the driver was closed"):
        driver.synchronize()
    driver.free(1)  # of what is freed late there is nothing left to do


def test_the_device_is_described() -> None:
    found = CudaDriver(Library(version=12080)).info()
    assert (found.name, found.compute_capability, found.driver_version) == ("NVIDIA H200", (9, 0), 12080)
    assert found.memory_bytes == 150 << 30


def test_a_graph_is_recorded_launched_and_destroyed() -> None:
    library = Library()
    driver = CudaDriver(library)
    library.calls.clear()
    driver.begin_capture()
    graph = driver.end_capture()
    driver.launch(graph)
    driver.destroy_graph(graph)
    assert library.names() == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]
    library.answers["cuGraphInstantiateWithFlags"] = 1
    driver.begin_capture()
    with pytest.raises(DeviceError, match="cuGraphInstantiateWithFlags answers 1: a failure"):
        driver.end_capture()
    assert library.names()[-2:] == ["cuGetErrorString", "cuGraphDestroy"]


def test_marks_measure_and_are_given_back() -> None:
    library = Library()
    driver = CudaDriver(library)
    assert driver.between_ms(driver.mark(), driver.mark()) == 1.5
    assert library.names().count("cuEventDestroy_v2") == library.names().count("cuEventCreate") == 2


def test_each_thread_makes_the_context_its_own_once() -> None:
    library = Library()
    driver = CudaDriver(library)
    driver.synchronize()
    driver.synchronize()
    other = threading.Thread(target=lambda: (driver.synchronize(), driver.synchronize()))
    other.start()
    other.join()
    current = [thread for name, thread in library.calls if name == "cuCtxSetCurrent"]
    assert len(current) == len(set(current)) == 2


def test_answers_become_errors_in_words() -> None:
    library = Library()
    driver = CudaDriver(library)
    library.answers["cuMemAlloc_v2"] = 2
    with pytest.raises(OutOfMemory, match="cuMemAlloc_v2 answers 2: out of memory"):
        driver.allocate(1 << 40)
    library.answers["cuGraphLaunch"] = 700
    with pytest.raises(DeviceError, match="cuGraphLaunch answers 700: a failure") as caught:
        driver.launch(1)
    assert not isinstance(caught.value, OutOfMemory)
    library.answers["cuMemFree_v2"] = 4  # the process ends: the driver is gone already
    driver.free(1)


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (Library(version=11040), "the NVIDIA driver knows CUDA 11.4, needed: 12.0"),
        (Library(devices=0), "this machine has 0 NVIDIA GPUs, number 0 was asked for"),
    ],
)
def test_what_cannot_be_used_is_not_available(library: Library, message: str) -> None:
    with pytest.raises(NotAvailable, match=message):
        CudaDriver(library)


def test_a_driver_without_a_device_is_not_available() -> None:
    library = Library()
    library.answers["cuInit"] = 100
    with pytest.raises(NotAvailable, match="cuInit answers 100: no CUDA-capable device is detected"):
        CudaDriver(library)


def test_a_machine_without_the_library_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_LIBRARIES", ("libnothing-of-the-kind.so.1",))
    with pytest.raises(NotAvailable, match=r"no NVIDIA driver \(libnothing-of-the-kind.so.1 is not found\)"):
        CudaDriver()


def test_versions_are_spoken() -> None:
    assert [spoken(version) for version in (11040, 12000, 12080, 13010)] == ["11.4", "12.0", "12.8", "13.1"]
