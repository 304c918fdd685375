"""The step graph on onnxruntime: one session per model, one lane (cache, bound buffers) per stream.

Sits between the step loop (engine/decoder.py) and the exported graph (export/decoder.py). Every input and output is
a numpy array bound once for each number of rows, and the cache is bound as input and output at the same memory, so
a step copies nothing but its few hundred bytes of rows. Kernels of our own (engine/native_lane.py) can compute what
a lane has prepared in the session's place.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import onnxruntime

from .cache import CacheConfig, SlotCache
from .manifest import Manifest, ManifestError
from .rotary import RotaryTable

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Kernels for one row sum in another order than those for several: attention sees at least two, the second is idle.
# A graph with LONE_ROWS in its metadata takes one and sees to that itself; others are given two. With SINGLE_SLOT
# its attention sees one too, as over an 8-bit cache, where the order is the same.
MIN_ROWS = 2
LONE_ROWS = "attacca.lone_rows"
SINGLE_SLOT = "attacca.single_slot"
PREFILL_ROWS = 16
BRANCHES = 2  # with and without conditions


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """Sizes of the step graph, from the manifest."""

    layers: int
    heads: int
    head_dim: int
    num_codebooks: int
    codebook_size: int
    conditioning_width: int
    window: int
    kv_bits: int
    rotary_base: float

    @classmethod
    def of(cls, manifest: Manifest) -> StepShape:
        decoder = manifest.decoder
        return cls(
            layers=decoder.layers,
            heads=decoder.heads,
            head_dim=decoder.head_dim,
            num_codebooks=manifest.num_codebooks,
            codebook_size=manifest.codebook_size,
            conditioning_width=manifest.conditioning.width,
            window=manifest.window_frames,
            kv_bits=decoder.kv_bits,
            rotary_base=decoder.rotary_base,
        )

    @property
    def max_rows(self) -> int:
        """Most rows of one call."""
        return max(PREFILL_ROWS, self.num_codebooks + 1, MIN_ROWS)

    def cache_names(self) -> list[str]:
        """Graph inputs of the cache, in the order of the cache's tensors."""
        return [f"{part}_{b}_{n}" for b in range(BRANCHES) for n in range(self.layers) for part in ("key", "value")]

    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Graph inputs: name -> (type, shape); None for a dynamic size."""
        k, half = self.num_codebooks, self.head_dim // 2
        cache = "tensor(int8)" if self.kv_bits == 8 else "tensor(float)"
        rows: dict[str, tuple[str, list[Any]]] = {
            "stack": ("tensor(int64)", [None, k]),
            "level": ("tensor(int64)", [None]),
            "cos": ("tensor(float)", [None, half]),
            "sin": ("tensor(float)", [None, half]),
            "cond": ("tensor(float)", [None, self.conditioning_width]),
            "last_slot": ("tensor(int32)", [1]),
            "total_slots": ("tensor(int32)", []),
            "row_of_level": ("tensor(int64)", [k]),
            "noise": ("tensor(float)", [k, self.codebook_size]),
            "temperature": ("tensor(float)", [1]),
            "guidance": ("tensor(float)", [1]),
            "top_k": ("tensor(int64)", [1]),
        }
        return rows | {name: (cache, [1, self.heads, None, self.head_dim]) for name in self.cache_names()}


def session_options(*, threads: int = 1, spinning: bool = False) -> Any:
    """onnxruntime's options of a step graph. Spinning threads collapse beside a busy neighbour (docs/LOG.md)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


class Executor(Protocol):
    """Computes a lane's steps. Decode thread."""

    def execute(self, lane: StepLane) -> None:
        """Run the rows that the lane is prepared for."""
        ...


class Kernels(Protocol):
    """What computes in onnxruntime's place. Thread-safe."""

    @property
    def name(self) -> str: ...

    def executor(self, lane: StepLane) -> Executor:
        """For one lane, whose arrays never move."""
        ...


class StepRuntime:
    """The loaded graph. Thread-safe: it holds no stream's state."""

    kernels: Kernels | None = None  # in place of the session

    def __init__(self, graph: bytes | str, manifest: Manifest, *, threads: int = 1, spinning: bool = False) -> None:
        """`graph` is its bytes, or a path. ManifestError if it cannot be read or does not fit the manifest."""
        options = session_options(threads=threads, spinning=spinning)
        try:
            self.session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base but Exception
            raise ManifestError(f"the decoder graph of {manifest.name} is not readable: {error}") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.least_rows = 1 if LONE_ROWS in metadata else MIN_ROWS
        self.least_slots = 1 if SINGLE_SLOT in metadata else MIN_ROWS
        self.manifest = manifest
        self.shape = self._shape_of(manifest)
        self._check()

    def lane(self) -> StepLane:
        """Buffers and an empty cache for one stream."""
        return StepLane(self)

    def on_kernels(self, kernels: Kernels) -> Self:
        """The same model, computed by these; the session is let go. One row and one slot are as good as several."""
        other = copy.copy(self)
        other.kernels, other.session = kernels, None
        other.least_rows = other.least_slots = 1
        return other

    def _shape_of(self, manifest: Manifest) -> StepShape:
        return StepShape.of(manifest)

    def _check(self) -> None:
        def sizes(shape: list[Any]) -> list[Any]:
            return [size if isinstance(size, int) else None for size in shape]

        found = {value.name: (value.type, sizes(value.shape)) for value in self.session.get_inputs()}
        for name, wanted in self.shape.inputs().items():
            if found.get(name) != wanted:
                raise ManifestError(
                    f"decoder input {name!r} is {found.get(name)}, allowed by the manifest: {wanted}"
                )
        extra = sorted(set(found) - set(self.shape.inputs()))
        outputs = {value.name for value in self.session.get_outputs()}
        wanted_outputs = {"tokens", "logits", *(f"{name}.out" for name in self.shape.cache_names())}
        if extra or outputs != wanted_outputs:
            raise ManifestError(f"decoder graph has unknown inputs {extra} or outputs {sorted(outputs)}")
        stated = self.session.get_modelmeta().custom_metadata_map.get("attacca.window_frames")
        if stated != str(self.shape.window):
            raise ManifestError(
                f"decoder graph was made for a window of {stated}, manifest says {self.shape.window}"
            )


class StepLane:
    """One stream's cache and buffers. Not thread-safe; decode thread.

    Set `temperature`, `guidance`, `top_k` and `noise` in place, call `run`, then read `tokens` and `logits`.
    """

    def __init__(self, runtime: StepRuntime) -> None:
        shape = runtime.shape
        k, v, rows = shape.num_codebooks, shape.codebook_size, shape.max_rows
        self._session, self._kernels = runtime.session, runtime.kernels
        self._executor: Executor | None = None
        self._least_rows, self._least_slots = runtime.least_rows, runtime.least_slots
        self.cache = SlotCache(
            CacheConfig(
                tensors=2 * BRANCHES * shape.layers,
                heads=shape.heads,
                head_dim=shape.head_dim,
                window=shape.window,
                max_rows=rows,
                bits=shape.kv_bits,
            )
        )
        self.max_rows = rows
        self._rows = self._row_buffers(shape)
        self.prepared = 0  # rows
        self.past = 0  # index in the cache's live buffer of the first of them
        self.wanted = False  # whether tokens and logits are, or keys and values alone
        self._last_slot = np.zeros(1, np.int32)
        self._total_slots = np.zeros((), np.int32)
        self._row_of_level = np.zeros(k, np.int64)
        self.noise: Floats = np.zeros((k, v), np.float32)
        self.temperature: Floats = np.ones(1, np.float32)
        self.guidance: Floats = np.ones(1, np.float32)
        self.top_k: Ints = np.full(1, v, np.int64)
        self.tokens: Ints = np.zeros(k, np.int64)
        self.logits: Floats = np.zeros((k, v), np.float32)
        self._cache_values = [
            (name, onnxruntime.OrtValue.ortvalue_from_numpy(tensor[None]))
            for name, tensor in zip(shape.cache_names(), self.cache.live, strict=True)
        ]
        self._bindings: dict[int, Any] = {}

    def run(
        self, stack: Ints, level: Ints, timestep: Ints, cond: Floats, *, slot: int, row_of_level: Ints | None = None
    ) -> None:
        """Rows [n, K], [n], [n], [n, C] written from cache slot `slot` on; nothing is counted as kept.

        `row_of_level` [K] names the row of each token and its logits; without it (prefill) they mean nothing.
        """
        self.prepare(stack, level, timestep, cond, slot=slot, row_of_level=row_of_level)
        self.execute()

    def prepare(
        self, stack: Ints, level: Ints, timestep: Ints, cond: Floats, *, slot: int, row_of_level: Ints | None = None
    ) -> None:
        """The first half of `run`: inputs are written, nothing is computed. `execute` or a batch does that."""
        count = len(level)
        self.past = self.cache.place(slot)
        self._fill(count, stack, level, timestep, cond)
        self.prepared = count
        if count < self._least_rows:
            for array in self._rows.values():
                array[1] = array[0]
        slots = max(count, self._least_slots)
        self._last_slot[0] = self.past + slots - 1
        self._total_slots[()] = self.past + slots
        self.wanted = row_of_level is not None
        self._row_of_level[:] = 0 if row_of_level is None else row_of_level

    def execute(self) -> None:
        """The second half of `run`. ValueError, or what onnxruntime raises, if a token or level is out of range."""
        if self._kernels is not None:
            self.executor.execute(self)
            return
        count = max(self.prepared, self._least_rows)
        binding = self._bindings.get(count) or self._bind(count)
        self._session.run_with_iobinding(binding)

    @property
    def executor(self) -> Executor:
        """What computes it in the session's place."""
        if self._executor is None:
            assert self._kernels is not None
            self._executor = self._kernels.executor(self)
        return self._executor

    @property
    def buffers(self) -> dict[str, npt.NDArray[Any]]:
        """Every input but the cache and a prompt, by name, for as many rows as a call has at most; none moves."""
        return self._rows | self._other_inputs()

    @property
    def rows(self) -> dict[str, npt.NDArray[Any]]:
        """What was prepared, by input name: `prepared` rows each. Views."""
        return {name: array[: self.prepared] for name, array in self._rows.items()}

    @property
    def row_of_level(self) -> Ints:
        """[K] as prepared."""
        return self._row_of_level

    @property
    def cache_values(self) -> list[tuple[str, Any]]:
        """The cache's tensors by graph input, as onnxruntime binds them: they never move."""
        return self._cache_values

    def _row_buffers(self, shape: StepShape) -> dict[str, npt.NDArray[Any]]:
        """Inputs with an entry per row, as many as a call has at most."""
        rows, half = shape.max_rows, shape.head_dim // 2
        self._rotary = RotaryTable(shape.rotary_base ** (-np.arange(half, dtype=np.float64) / half))
        return {
            "stack": np.zeros((rows, shape.num_codebooks), np.int64),
            "level": np.zeros(rows, np.int64),
            "cos": np.zeros((rows, half), np.float32),
            "sin": np.zeros((rows, half), np.float32),
            "cond": np.zeros((rows, shape.conditioning_width), np.float32),
        }

    def _fill(self, count: int, stack: Ints, level: Ints, timestep: Ints, cond: Floats) -> None:
        rows = self._rows
        rows["stack"][:count] = stack
        rows["level"][:count] = level
        rows["cond"][:count] = cond
        self._rotary.look_up(timestep, rows["cos"][:count], rows["sin"][:count])

    def _other_inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs whose shape does not depend on the number of rows."""
        return {
            "last_slot": self._last_slot,
            "total_slots": self._total_slots,
            "row_of_level": self._row_of_level,
            "noise": self.noise,
            "temperature": self.temperature,
            "guidance": self.guidance,
            "top_k": self.top_k,
        }

    def _inputs_for(self, count: int) -> dict[str, npt.NDArray[Any]]:
        """Every input of a call of so many rows but the cache; the arrays stay where they are."""
        return {name: array[:count] for name, array in self._rows.items()} | self._other_inputs()

    def _bind(self, count: int) -> Any:
        binding = self._session.io_binding()
        for name, array in self._inputs_for(count).items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in (("tokens", self.tokens), ("logits", self.logits)):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, value in self._cache_values:
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(f"{name}.out", value)
        self._bindings[count] = binding
        return binding
