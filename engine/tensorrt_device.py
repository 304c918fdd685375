"""A step graph as a TensorRT engine on a driver's own memory, recorded once as a CUDA graph and replayed.

Under engine/device_step.py, beside engine/ort_device.py. `tensorrt` and `tensorrt_rtx_bindings` have the same
classes; either will do, with engines of its own. The cache's outputs must share their inputs' memory: an engine
whose do not is refused, since it would read a cache that is never written.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .device import DeviceError, DeviceInfo, Driver, NotAvailable, Tensor

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
_CACHE = ("key_", "value_")


def load_tensorrt() -> Any:
    """The package. NotAvailable naming what to install."""
    reasons = []
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # its libraries are loaded by the import, and fail in their own ways
            reasons.append(f"{name} cannot be loaded: {' '.join(str(error).split())[:200]}")
    raise NotAvailable("; ".join(reasons) or "TensorRT is not installed: pip install 'attacca[gpu]'")


def engine_key(module: Any, info: DeviceInfo, manifest_sha256: str, *, precision: str, takes: int) -> str:
    """What an engine is good for: package and version, GPU, bundle, precision, takes at once. A file's name."""
    gpu = "".join(letter if letter.isalnum() else "-" for letter in info.name.lower()).strip("-")
    major, minor = info.compute_capability
    package = "rtx" if "rtx" in module.__name__ else "trt"
    parts = (package + module.__version__, gpu, f"sm{major}{minor}", manifest_sha256[:16], precision, f"t{takes}")
    return "_".join(parts)


class TensorrtMaker:
    """A loaded engine. DeviceError if it is for another GPU or version, or its cache is not in place."""

    def __init__(self, engine: bytes, driver: Driver, module: Any = None) -> None:
        self.driver = driver
        self._module = load_tensorrt() if module is None else module
        self._logger = self._module.Logger(self._module.Logger.ERROR)
        self._runtime = self._module.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            version = self._module.__version__
            raise DeviceError(f"TensorRT {version} does not take this engine: it is for another GPU or version")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._described = {
            name: (
                np.dtype(self._module.nptype(self._engine.get_tensor_dtype(name))),
                tuple(self._engine.get_tensor_shape(name)),
            )
            for name in names
        }
        for name in names:
            if name.startswith(_CACHE) and name.endswith(".out"):
                source = self._engine.get_aliased_input_tensor(name)
                if source != name.removesuffix(".out"):
                    raise DeviceError(
                        f"the engine's {name} shares memory with {source or 'nothing'}, not its input"
                    )

    @property
    def described(self) -> Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Every input and output of the engine."""
        return self._described

    def bind(self, tensors: Mapping[str, Tensor]) -> TensorrtProgram:
        """See ProgramMaker. Where nothing can be recorded, steps are queued one kernel after another."""
        context = self._engine.create_execution_context()
        if context is None:
            raise DeviceError("TensorRT has no memory for another execution context")
        for name, tensor in tensors.items():
            if not context.set_tensor_address(name, tensor.address):
                raise DeviceError(f"TensorRT does not take {name!r} at {tensor.address:#x}")
        program = TensorrtProgram(context, self.driver)
        program.launch()  # a first run may allocate, which cannot be recorded
        self.driver.synchronize()
        program.record()
        return program


class TensorrtProgram:
    """An execution context with its addresses, and the CUDA graph recorded of it."""

    def __init__(self, context: Any, driver: Driver) -> None:
        self._context, self._driver = context, driver
        self._graph: int | None = None
        self.not_recorded = ""  # why there is no graph

    @property
    def recorded(self) -> bool:
        """Whether a launch is one replay."""
        return self._graph is not None

    def record(self) -> None:
        """Record a step. A failure is kept in `not_recorded` and costs speed alone."""
        try:
            self._driver.begin_capture()
        except DeviceError as error:
            self.not_recorded = str(error)
            return
        try:
            self._enqueue()
        except DeviceError as error:
            self.not_recorded = str(error)
        try:
            graph = self._driver.end_capture()  # in any case: the stream must not stay as it is
        except DeviceError as error:
            self.not_recorded = self.not_recorded or str(error)
            return
        if self.not_recorded:
            self._driver.destroy_graph(graph)
        else:
            self._graph = graph

    def launch(self) -> None:
        """See Program."""
        if self._graph is None:
            self._enqueue()
        else:
            self._driver.launch(self._graph)

    def close(self) -> None:
        """See Program."""
        if self._graph is not None:
            self._driver.destroy_graph(self._graph)
        self._graph = self._context = None

    def _enqueue(self) -> None:
        if self._context is None:
            raise DeviceError("a step after its program was closed")
        if not self._context.execute_async_v3(self._driver.stream):
            raise DeviceError("TensorRT could not queue a step")
