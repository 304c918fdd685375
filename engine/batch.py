"""Steps of several takes as one run of a graph that reads the weights once for all of them (export/batch.py).

Beside engine/runtime.py, whose lanes it runs: a lane is prepared as for a step of its own, lies among others for
one run, and has its tokens and logits as if it had run alone. Takes join and leave from step to step; a place keeps
its lane's cache bound as long as the same lane comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from .manifest import ManifestError
from .prompted import Prompt, PromptedLane, PromptedShape
from .runtime import MIN_ROWS, Floats, Ints, StepLane, StepRuntime, session_options

TAKES = "attacca.takes"  # metadata of the graph: how many it has room for
_SPARE_SLOTS = 8


class BatchRuntime:
    """A graph of several takes beside the graph of one. Thread-safe: it holds no stream's state."""

    def __init__(self, graph: str | bytes, single: StepRuntime, *, threads: int = 1) -> None:
        """`graph` is a path, for the weights lie in another file beside it, or bytes that hold them.

        ManifestError if it cannot be read or does not fit the graph of one take.
        """
        name = single.manifest.name
        try:
            self.session = onnxruntime.InferenceSession(
                graph, session_options(threads=threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base but Exception
            raise ManifestError(f"the graph of several takes of {name} is not readable: {error}") from None
        stated = self.session.get_modelmeta().custom_metadata_map
        self.takes = int(stated.get(TAKES, 0))
        self.shape = single.shape
        inputs = {value.name for value in self.session.get_inputs()}
        caches = {f"{name}@{take}" for take in range(self.takes) for name in self.shape.cache_names()}
        if self.takes < 2 or not caches <= inputs or stated.get("attacca.window_frames") != str(self.shape.window):
            raise ManifestError(f"the graph of several takes of {name} does not fit the graph of one")

    def stepper(self) -> BatchStepper:
        """Buffers for one decode thread."""
        return BatchStepper(self)


class BatchStepper:
    """Runs prepared lanes of one model together. Not thread-safe; decode thread."""

    def __init__(self, runtime: BatchRuntime) -> None:
        shape, takes = runtime.shape, runtime.takes
        k, v = shape.num_codebooks, shape.codebook_size
        self.takes = takes
        self._session = runtime.session
        self._binding = runtime.session.io_binding()
        self._names = {value.name for value in runtime.session.get_inputs()}
        self._rows: dict[str, npt.NDArray[Any]] = {}  # of all takes, one take's after another's
        self._per_take: dict[str, npt.NDArray[Any]] = {
            "row_of_level": np.zeros((takes, k), np.int64),
            "first_rows": np.zeros(takes, np.int64),
            "noise": np.zeros((takes, k, v), np.float32),
            "temperature": np.ones((takes, 1, 1), np.float32),
            "guidance": np.ones((takes, 1, 1), np.float32),
            "threshold": np.zeros((takes, k, 1), np.int64),
        }
        self._top_k: Ints = np.full(1, v, np.int64)
        self._tokens: Ints = np.zeros((takes, k), np.int64)
        self._logits: Floats = np.zeros((takes, k, v), np.float32)
        self._last_slot = [np.zeros(1, np.int32) for _ in range(takes)]
        self._total_slots = [np.ones((), np.int32) for _ in range(takes)]
        self._spare_rows: Ints = np.zeros(1, np.int64)
        sizes = (1, shape.heads, _SPARE_SLOTS, shape.head_dim)
        kind = np.int8 if shape.kv_bits == 8 else np.float32
        spare = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(sizes, kind))
        self._spare = [(name, spare) for name in shape.cache_names()]
        self._places: list[StepLane | None] = [None] * takes
        self._silence = Prompt.silent(shape) if isinstance(shape, PromptedShape) else None
        self._prompts: list[Prompt | None] = [None] * takes  # what is bound at each place
        self._layout: tuple[Any, ...] | None = None  # what the inputs are bound for
        self._attended: list[Ints] = [self._spare_rows] * takes
        self._bind("top_k", self._top_k)
        for place in range(takes):
            self._bind(f"last_slot@{place}", self._last_slot[place])
            self._bind(f"total_slots@{place}", self._total_slots[place])
            self._bind_cache(place, self._spare)
            if self._silence is not None:
                self._bind_prompt(place, self._silence)

    def run(self, lanes: Sequence[StepLane]) -> None:
        """Compute what the lanes, 2 to `takes` of them and all different, are prepared for; each gets its own."""
        if not 2 <= len(lanes) <= self.takes:
            raise ValueError(f"{len(lanes)} lanes are outside 2..{self.takes}")
        places = self._seat(lanes)
        self._lay_out(lanes, places)
        start = 0
        for index, lane in enumerate(lanes):
            rows = lane.rows
            for name, array in rows.items():
                self._rows[name][start : start + lane.prepared] = array
            self._fill(index, lane, start)
            attended = max(lane.prepared, MIN_ROWS)
            self._last_slot[places[index]][0] = lane.past + attended - 1
            self._total_slots[places[index]][()] = lane.past + attended
            start += lane.prepared
        if start % 2:
            for array in self._rows.values():
                array[start] = array[start - 1]
        self._top_k[0] = max(int(lane.top_k[0]) for lane in lanes)
        self._session.run_with_iobinding(self._binding)
        for index, lane in enumerate(lanes):
            lane.tokens[:] = self._tokens[index]
            lane.logits[:] = self._logits[index]

    def forget(self) -> None:
        """Let go of all lanes' memory."""
        for place, lane in enumerate(self._places):
            if lane is not None:
                self._empty(place)

    def _fill(self, index: int, lane: StepLane, start: int) -> None:
        values = self._per_take
        values["row_of_level"][index] = lane.row_of_level + start
        values["first_rows"][index] = start
        values["noise"][index] = lane.noise
        values["temperature"][index] = lane.temperature[0]
        values["guidance"][index] = lane.guidance[0]
        values["threshold"][index] = lane.top_k[0] - 1

    def _seat(self, lanes: Sequence[StepLane]) -> list[int]:
        """A place for each lane, the one it had if it had one; places of lanes that are not here are emptied."""
        for place, lane in enumerate(self._places):
            if lane is not None and not any(lane is other for other in lanes):
                self._empty(place)
        for lane in lanes:
            if not any(lane is other for other in self._places):
                place = self._places.index(None)
                self._places[place] = lane
                self._bind_cache(place, lane.cache_values)
        for place, seated in enumerate(self._places):
            if isinstance(seated, PromptedLane):
                self._bind_prompt(place, seated.prompt)
        return [next(i for i, other in enumerate(self._places) if other is lane) for lane in lanes]

    def _empty(self, place: int) -> None:
        self._places[place] = None
        self._last_slot[place][0], self._total_slots[place][()] = 0, 1
        self._bind_cache(place, self._spare)
        if self._silence is not None:
            self._bind_prompt(place, self._silence)

    def _lay_out(self, lanes: Sequence[StepLane], places: Sequence[int]) -> None:
        """Bind the inputs for so many rows of each lane at these places, unless they are."""
        layout = (tuple(lane.prepared for lane in lanes), tuple(places))
        if layout == self._layout:
            return
        self._layout = layout
        total = sum(lane.prepared for lane in lanes)
        even = total + total % 2  # kernels of products work on rows by twos: one left over would be another's bits
        self._grow(lanes[0], even)
        kept: Ints = np.zeros(even, np.int64)
        attended: list[Ints] = [self._spare_rows] * self.takes
        start = 0
        for lane, place in zip(lanes, places, strict=True):
            attended[place] = np.resize(np.arange(start, start + lane.prepared), max(lane.prepared, MIN_ROWS))
            start += lane.prepared
        offsets = np.cumsum([0, *(len(rows) for rows in attended)])
        start = 0
        for lane, place in zip(lanes, places, strict=True):
            kept[start : start + lane.prepared] = offsets[place] + np.arange(lane.prepared)
            start += lane.prepared
        kept[total:] = kept[total - 1]
        self._attended = attended  # and kept: bound memory must outlive the binding
        for place, rows in enumerate(attended):
            self._bind(f"rows@{place}", rows)
        self._bind("kept", kept)
        for name, array in self._rows.items():
            self._bind(name, array[:even])
        for name, array in self._per_take.items():
            if name in self._names:
                self._bind(name, array[: len(lanes)])
        for name, array in (("tokens", self._tokens), ("logits", self._logits)):
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array[: len(lanes)])
            self._binding.bind_ortvalue_output(name, value)

    def _grow(self, lane: StepLane, rows: int) -> None:
        """Buffers of at least so many rows, of the lane's kinds."""
        for name, array in lane.rows.items():
            if name not in self._rows or len(self._rows[name]) < rows:
                self._rows[name] = np.zeros(
                    (max(rows, self.takes * lane.prepared + 1), *array.shape[1:]), array.dtype
                )

    def _bind(self, name: str, array: npt.NDArray[Any]) -> None:
        self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def _bind_prompt(self, place: int, prompt: Prompt) -> None:
        """What a place's rows attend to across, unless it is bound already."""
        if prompt is not self._prompts[place]:
            self._prompts[place] = prompt
            for name, array in prompt.values.items():
                self._bind(f"{name}@{place}", array)

    def _bind_cache(self, place: int, values: Sequence[tuple[str, Any]]) -> None:
        for name, value in values:
            self._binding.bind_ortvalue_input(f"{name}@{place}", value)
            self._binding.bind_ortvalue_output(f"{name}@{place}.out", value)
