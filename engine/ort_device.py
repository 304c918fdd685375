"""A step graph on onnxruntime over a device's own memory: its CUDA provider with a captured graph, or the CPU's.

Under engine/device_step.py. Every tensor is bound by address, so nothing is copied and the cache is written in
place. On CUDA the session runs on the driver's stream, and its first runs over a set of addresses record a CUDA
graph which the later ones replay; they overwrite what is bound, so memory is cleared afterwards.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .device import DeviceError, Driver, NotAvailable, OutOfMemory, Tensor

_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(bool)": np.dtype(np.bool_),
}
CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"
_WARM_UP_RUNS = 3  # a plain one, the one that is recorded, and a replay
_MEMORY_WORDS = ("out of memory", "failed to allocate", "bad allocation", "cudaerrormemoryallocation")


def failure(error: Exception, what: str) -> DeviceError:
    """One of onnxruntime's exceptions, which have no common base, as ours."""
    text = " ".join(str(error).split())[:300]
    kind = OutOfMemory if any(word in text.lower() for word in _MEMORY_WORDS) else DeviceError
    return kind(f"{what}: {text}")


class OrtMaker:
    """A session over a driver's device. NotAvailable if this onnxruntime has no CUDA provider."""

    def __init__(self, graph: Path | bytes, driver: Driver, *, threads: int = 1) -> None:
        self.driver = driver
        self._graph_ids = itertools.count(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self.session = onnxruntime.InferenceSession(source, options, providers=self._providers())
        except NotAvailable:
            raise
        except Exception as error:
            raise failure(error, "onnxruntime cannot load the graph") from None
        if driver.kind == "cuda" and self.session.get_providers()[0] != CUDA_PROVIDER:
            raise NotAvailable(
                "onnxruntime could not start its CUDA provider: CUDA 13 or cuDNN is missing or too old"
            )

    def _providers(self) -> list[Any]:
        if self.driver.kind == "cpu":
            return [CPU_PROVIDER]
        if CUDA_PROVIDER not in onnxruntime.get_available_providers():
            raise NotAvailable("this onnxruntime has no CUDA provider: pip install 'attacca[gpu]'")
        preload = getattr(
            onnxruntime, "preload_dlls", None
        )  # CUDA and cuDNN out of NVIDIA's wheels, where they are
        if preload is not None:
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                preload()
        choices = {
            "device_id": "0",
            "enable_cuda_graph": "1",
            "user_compute_stream": str(self.driver.stream),
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",  # floats are meant as floats: halves are there for speed
            "arena_extend_strategy": "kSameAsRequested",
        }
        return [(CUDA_PROVIDER, choices)]  # no CPU beside it: a node that cannot run on the GPU must fail loudly

    @property
    def input_names(self) -> list[str]:
        """Of the graph."""
        return [value.name for value in self.session.get_inputs()]

    @property
    def described(self) -> Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Every input and output of the graph."""
        values = [*self.session.get_inputs(), *self.session.get_outputs()]
        return {value.name: (_TYPES[value.type], tuple(value.shape)) for value in values}

    def bind(self, tensors: Mapping[str, Tensor]) -> OrtProgram:
        """See ProgramMaker."""
        program = OrtProgram(self.session, self.driver, tensors, next(self._graph_ids))
        for _ in range(_WARM_UP_RUNS if self.driver.kind == "cuda" else 0):
            program.launch()
        self.driver.synchronize()
        return program


class OrtProgram:
    """A session's binding; on CUDA, the graph recorded for it."""

    def __init__(self, session: Any, driver: Driver, tensors: Mapping[str, Tensor], graph_id: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        inputs = {value.name for value in session.get_inputs()}
        for name, tensor in tensors.items():
            bind = self._binding.bind_input if name in inputs else self._binding.bind_output
            bind(name, driver.kind, 0, tensor.dtype, tensor.shape, tensor.address)
        self._options = onnxruntime.RunOptions()
        if driver.kind == "cuda":
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def launch(self) -> None:
        """See Program."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            raise failure(error, "onnxruntime cannot run the step") from None

    def close(self) -> None:
        """See Program; the session keeps the recorded graph, which is small."""
        self._binding = None
