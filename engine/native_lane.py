"""Lanes on our own kernels: what a StepLane has prepared, as a call of the library; one lane's, or several takes'.

Between engine/runtime.py, whose lanes ask for an Executor, and engine/native.py. A lane's arrays never move, so its
call is filled in once; a step sets three numbers, and a prompt's pointers when the prompt is another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .melody import MelodyLane
from .native import Call, NativeModel
from .prompted import MASK, Prompt, PromptedLane
from .runtime import StepLane, StepRuntime

DEFAULT_TAKES = 4  # stepped at once: more than a processor makes in time, of any model here

# Field of a call -> the lane's buffer.
_BUFFERS = {
    "stack": "stack",
    "level": "level",
    "position": "position",
    "cosine": "cos",
    "sine": "sin",
    "conditions": "cond",
    "row_of_level": "row_of_level",
    "noise": "noise",
    "temperature": "temperature",
    "guidance": "guidance",
    "top_k": "top_k",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeKernels:
    """Implements engine.runtime.Kernels. Thread-safe."""

    model: NativeModel

    @property
    def name(self) -> str:
        """As the library calls them: what instructions they are made of."""
        return self.model.kernels

    def executor(self, lane: StepLane) -> NativeStep:
        """For one lane."""
        return NativeStep(self.model, lane)


class NativeStep:
    """Implements engine.runtime.Executor. Not thread-safe; decode thread. It holds no lane, for a lane holds it."""

    def __init__(self, model: NativeModel, lane: StepLane) -> None:
        buffers = lane.buffers
        given = {field: buffers[name] for field, name in _BUFFERS.items() if name in buffers}
        pointers = {field: _address(array) for field, array in given.items()}
        self.call = Call(
            cache=_address(lane.cache.live),
            capacity=lane.cache.config.capacity,
            tokens=_address(lane.tokens),
            logits=_address(lane.logits),
            **pointers,
        )
        self._reference = ctypes.byref(self.call)
        self._workspace = model.workspace(lane.max_rows)
        self._prompt: Prompt | None = None
        self._kept: list[Any] = []  # what the prompt's pointers point to
        self._given: dict[int, int | None] = {}  # addresses by rows

    def execute(self, lane: StepLane) -> None:
        """See Executor. ValueError if a token or a level is out of range."""
        self.prepare(lane)
        self._workspace.step(self._reference, 1)

    def prepare(self, lane: StepLane) -> None:
        """Bring the call up to date with what the lane is prepared for."""
        call = self.call
        call.rows, call.past, call.wanted = lane.prepared, lane.past, lane.wanted
        if isinstance(lane, MelodyLane):
            call.given = self._given.get(lane.prepared) or self._given_at(lane)
        elif isinstance(lane, PromptedLane) and lane.prompt is not self._prompt:
            self._attend(lane.prompt)

    def _given_at(self, lane: MelodyLane) -> int | None:
        self._given[lane.prepared] = _address(lane.given(lane.prepared))
        return self._given[lane.prepared]

    def _attend(self, prompt: Prompt) -> None:
        mask = np.require(prompt.values[MASK], np.float32, "C")
        layers = (len(prompt.values) - 1) // 2
        keys, values = (
            [np.require(prompt.values[f"{part}_{layer}"], np.float32, "C") for layer in range(layers)]
            for part in ("cross_key", "cross_value")
        )
        kept = [(ctypes.c_void_p * layers)(*map(_address, arrays)) for arrays in (keys, values)]
        call = self.call
        call.cross_key, call.cross_value = map(ctypes.addressof, kept)
        call.cross_mask, call.prompt_tokens = _address(mask), len(mask)
        self._prompt, self._kept = prompt, [mask, keys, values, kept]


class NativeBatch:
    """Several takes' steps at once, over one model's weights. Thread-safe: it holds no stream's state."""

    def __init__(self, runtime: StepRuntime, takes: int = DEFAULT_TAKES) -> None:
        assert isinstance(runtime.kernels, NativeKernels)
        self._model, self._rows = runtime.kernels.model, takes * runtime.shape.max_rows
        self.takes = takes

    def stepper(self) -> NativeStepper:
        """Buffers for one decode thread."""
        return NativeStepper(self._model, self.takes, self._rows)


class NativeStepper:
    """Runs prepared lanes of one model together. Not thread-safe; decode thread."""

    def __init__(self, model: NativeModel, takes: int, rows: int) -> None:
        self.takes = takes
        self._calls = (Call * takes)()
        self._workspace = model.workspace(rows)

    def run(self, lanes: Sequence[StepLane]) -> None:
        """Compute what the lanes, 2 to `takes` of them and all different, are prepared for; each gets its own."""
        if not 2 <= len(lanes) <= self.takes:
            raise ValueError(f"{len(lanes)} lanes are outside 2..{self.takes}")
        for index, lane in enumerate(lanes):
            step = lane.executor
            assert isinstance(step, NativeStep)
            step.prepare(lane)
            self._calls[index] = step.call
        self._workspace.step(self._calls, len(lanes))


def _address(array: npt.NDArray[Any]) -> int | None:
    """Where a contiguous array lies; None if there is nothing in it."""
    assert array.flags.c_contiguous
    return array.ctypes.data if array.size else None
