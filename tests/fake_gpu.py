"""A GPU that is not there: a driver over this machine's memory that records graphs and counts; TensorRT over it.

Steps are computed by onnxruntime's CPU provider on the same addresses: what a runner does wrong shows in tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from decoder_fixtures import TINY

from attacca.engine.device import DeviceError, DeviceInfo, HostDriver, OutOfMemory
from attacca.engine.gpu_spec import GpuSpec, read_spec
from attacca.engine.manifest import read_manifest
from attacca.engine.ort_device import OrtMaker

TINY_GPU = TINY.parent / "tiny_gpu"


def tiny_gpu_spec() -> GpuSpec:
    return read_spec(TINY_GPU, read_manifest(TINY))


def tiny_gpu_graph() -> Path:
    return TINY_GPU / tiny_gpu_spec().graphs[0].path


class FakeDriver(HostDriver):
    """Host memory with a stream that records. `fail` names a call that raises; `memory_left` bytes can be had."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: dict[str, DeviceError] = {}
        self.memory_left = 1 << 40
        self.sizes: dict[int, int] = {}
        self.staged = 0
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.launches = self.computed = 0

    def info(self) -> DeviceInfo:
        return DeviceInfo(
            name="NVIDIA Toy 1", compute_capability=(8, 6), driver_version=13000, memory_bytes=1 << 34
        )

    def allocate(self, nbytes: int) -> int:
        self._may_fail("allocate")
        if nbytes > self.memory_left:
            raise OutOfMemory("cuMemAlloc_v2 answers 2: out of memory")
        address = super().allocate(nbytes)
        self.sizes[address] = nbytes
        self.memory_left -= nbytes
        return address

    def free(self, address: int) -> None:
        super().free(address)
        self.memory_left += self.sizes.pop(address)

    def staging(self, nbytes: int) -> np.ndarray:
        self.staged += 1
        return super().staging(nbytes)

    def unstage(self, array: np.ndarray) -> None:
        self.staged -= 1

    def enqueue(self, work: Callable[[], None]) -> None:
        """What a package queues."""
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.computed += 1
            work()

    def synchronize(self) -> None:
        self._may_fail("synchronize")
        if self.recording is not None:
            raise DeviceError("cuStreamSynchronize answers 900: operation not permitted when stream is capturing")

    def begin_capture(self) -> None:
        self._may_fail("begin_capture")
        assert self.recording is None
        self.recording = []

    def end_capture(self) -> int:
        recorded, self.recording = self.recording, None
        assert recorded is not None
        self._may_fail("end_capture")
        self.graphs[len(self.graphs) + 1] = recorded
        return len(self.graphs)

    def launch(self, graph: int) -> None:
        self._may_fail("launch")
        self.launches += 1
        for work in self.graphs[graph]:
            work()

    def destroy_graph(self, graph: int) -> None:
        self.graphs[graph] = []

    def _may_fail(self, name: str) -> None:
        if name in self.fail:
            raise self.fail[name]


class FakeTensorrt:
    """The package `tensorrt`, whose engines are ONNX graphs for onnxruntime. `spoil` changes what a step left."""

    __name__ = "tensorrt"
    __version__ = "10.16.0"
    Logger = SimpleNamespace(ERROR=1)

    def __init__(self, driver: FakeDriver, spoil: Callable[[Mapping[str, np.ndarray]], None] | None = None) -> None:
        self.driver, self.spoil = driver, spoil
        self.aliased = True
        self.takes_engine = True
        self.takes_address = True
        self.queues = True
        self.contexts = 0
        self.Logger = lambda level: level
        self.Logger.ERROR = 1  # type: ignore[attr-defined]

    def Runtime(self, logger: object) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=self._load)

    @staticmethod
    def nptype(kind: np.dtype) -> np.dtype:
        return kind

    def _load(self, engine: bytes) -> Any:
        return FakeEngine(self, engine) if self.takes_engine else None


class FakeEngine:
    def __init__(self, module: FakeTensorrt, graph: bytes) -> None:
        self.module, self.maker = module, OrtMaker(graph, module.driver)
        self.names = list(self.maker.described)
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> np.dtype:
        return self.maker.described[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.maker.described[name][1]

    def get_aliased_input_tensor(self, name: str) -> str:
        return name.removesuffix(".out") if self.module.aliased and name.startswith(("key_", "value_")) else ""

    def create_execution_context(self) -> Any:
        self.module.contexts += 1
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.addresses, self.program = engine, {}, None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.engine.module.takes_address

    def execute_async_v3(self, stream: int) -> bool:
        module = self.engine.module
        if not module.queues:
            return False
        if self.program is None:
            from attacca.engine.device import Tensor

            described = self.engine.maker.described
            tensors = {
                name: Tensor(address=address, dtype=described[name][0], shape=described[name][1])
                for name, address in self.addresses.items()
            }
            self.program = self.engine.maker.bind(tensors)
            self.views = {
                name: module.driver.view(t.address, t.nbytes).view(t.dtype).reshape(t.shape)
                for name, t in tensors.items()
            }
        module.driver.enqueue(self._compute)
        return True

    def _compute(self) -> None:
        self.program.launch()
        if self.engine.module.spoil is not None:
            self.engine.module.spoil(self.views)
