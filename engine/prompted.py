"""Step graphs that attend across to a prompt, positions by sinusoid: what MusicGen's checkpoints become.

Beside engine/runtime.py, whose cache, buffers and step loop it shares; only the inputs differ. A prompt is a text's
keys and values in every layer, made once (engine/text.py) and bound to the step as it is, so a new prompt costs
nothing but the binding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import Manifest
from .runtime import Floats, Ints, StepLane, StepRuntime, StepShape

_POSITION_BASE = 10000.0
_MASKED = np.float32(-1e9)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What every layer attends to: cross_key_L [heads, hd, P], cross_value_L [heads, P, hd], mask [P]."""

    values: Mapping[str, Floats]
    text: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Floats], mask: Floats, text: str = "") -> Prompt:
        """From the prompt graph's outputs and the ones and zeros of its mask."""
        return cls({**values, "cross_mask": np.where(mask > 0, np.float32(0), _MASKED)}, text)

    @classmethod
    def silent(cls, shape: PromptedShape) -> Prompt:
        """No prompt: one token or row of zeros, which attention across makes nothing of."""
        outputs = shape.prompt_outputs().items()
        zeros = {name: np.zeros([size or 1 for size in sizes], np.float32) for name, sizes in outputs}
        return shape.prompt_of(zeros, np.ones(1, np.float32))


@dataclass(frozen=True, kw_only=True)
class PromptedShape(StepShape):
    """Sizes of a step graph that attends to a prompt."""

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    def prompt_inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Those of a prompt, as in `inputs`."""
        found: dict[str, tuple[str, list[Any]]] = {"cross_mask": ("tensor(float)", [None])}
        for layer in range(self.layers):
            found[f"cross_key_{layer}"] = ("tensor(float)", [self.heads, self.head_dim, None])
            found[f"cross_value_{layer}"] = ("tensor(float)", [self.heads, None, self.head_dim])
        return found

    def prompt_outputs(self) -> dict[str, list[Any]]:
        """What the prompt graph makes: name -> shape; None for a dynamic size."""
        return {name: sizes for name, (_, sizes) in self.prompt_inputs().items() if name != "cross_mask"}

    def prompt_of(self, found: Mapping[str, Floats], mask: Floats, text: str = "") -> Prompt:
        """A prompt of the prompt graph's outputs and its mask."""
        return Prompt.of(found, mask, text)

    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Graph inputs: name -> (type, shape); None for a dynamic size."""
        given = super().inputs()
        kept = {name: given[name] for name in given if name not in ("level", "cos", "sin", "cond", "row_of_level")}
        return kept | {"position": ("tensor(float)", [None, self.dim])} | self.prompt_inputs()


class PromptedRuntime(StepRuntime):
    """The loaded graph. Thread-safe: it holds no stream's state."""

    shape: PromptedShape

    def lane(self) -> PromptedLane:
        """Buffers and an empty cache for one stream, without a prompt."""
        return PromptedLane(self)

    def _shape_of(self, manifest: Manifest) -> PromptedShape:
        plain = StepShape.of(manifest)
        return PromptedShape(**{field.name: getattr(plain, field.name) for field in fields(plain)})


class PromptedLane(StepLane):
    """A StepLane with a prompt. Rows have no level and no conditions; outputs are those of the first row."""

    def __init__(self, runtime: PromptedRuntime) -> None:
        super().__init__(runtime)
        self._prompt = Prompt.silent(runtime.shape)

    @property
    def prompt(self) -> Prompt:
        """What rows attend to from the next call on."""
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        if prompt is not self._prompt:
            self._prompt = prompt
            self._bindings.clear()

    def _row_buffers(self, shape: StepShape) -> dict[str, npt.NDArray[Any]]:
        rows, dim = shape.max_rows, shape.heads * shape.head_dim
        half = dim // 2
        self._frequencies = _POSITION_BASE ** (-np.arange(half, dtype=np.float64) / (half - 1))
        return {
            "stack": np.zeros((rows, shape.num_codebooks), np.int64),
            "position": np.zeros((rows, dim), np.float32),
        }

    def _fill(self, count: int, stack: Ints, level: Ints, timestep: Ints, cond: Floats) -> None:
        angles = timestep[:, None] * self._frequencies
        self._rows["stack"][:count] = stack
        self._rows["position"][:count] = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def _other_inputs(self) -> dict[str, npt.NDArray[Any]]:
        plain = super()._other_inputs()
        del plain["row_of_level"]
        return {**plain, **self._prompt.values}
