"""Step graphs that attend across to a prompt, positions by sinusoid: what MusicGen's checkpoints become.

Beside engine/runtime.py, whose cache, buffers and step loop it shares; only the inputs differ. A prompt is a text's
keys and values in every layer, made once (engine/text.py) and bound to the step as it is, so a new prompt costs
nothing but the binding. While one fades into another, keys and values of both stand side by side and the mask says
how much each counts: a step stays one pass, with the same guidance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import Manifest
from .runtime import Floats, Ints, StepLane, StepRuntime, StepShape

_POSITION_BASE = 10000.0
_MASKED = np.float32(-1e9)
MASK = "cross_mask"


@dataclass(frozen=True, eq=False)
class Prompt:
    """What every layer attends to: cross_key_L [heads, hd, P], cross_value_L [heads, P, hd], mask [P]."""

    values: Mapping[str, Floats]
    text: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Floats], mask: Floats, text: str = "") -> Prompt:
        """From the prompt graph's outputs and the ones and zeros of its mask."""
        return cls({**values, MASK: np.where(mask > 0, np.float32(0), _MASKED)}, text)

    @classmethod
    def side_by_side(cls, prompts: Sequence[Prompt]) -> Prompt:
        """All of them as one of more tokens, in memory of its own; the last one's text."""
        values = {
            name: np.ascontiguousarray(np.concatenate([p.values[name] for p in prompts], axis=_token_axis(name)))
            for name in prompts[0].values
        }
        return cls(values, prompts[-1].text)

    @classmethod
    def silent(cls, shape: PromptedShape) -> Prompt:
        """No prompt: one token or row of zeros, which attention across makes nothing of."""
        outputs = shape.prompt_outputs().items()
        zeros = {name: np.zeros([size or 1 for size in sizes], np.float32) for name, sizes in outputs}
        return shape.prompt_of(zeros, np.ones(1, np.float32))


def _token_axis(name: str) -> int:
    return 1 if name.startswith("cross_value") else -1


@dataclass(frozen=True, kw_only=True)
class PromptedShape(StepShape):
    """Sizes of a step graph that attends to a prompt."""

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    def prompt_inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Those of a prompt, as in `inputs`."""
        found: dict[str, tuple[str, list[Any]]] = {MASK: ("tensor(float)", [None])}
        for layer in range(self.layers):
            found[f"cross_key_{layer}"] = ("tensor(float)", [self.heads, self.head_dim, None])
            found[f"cross_value_{layer}"] = ("tensor(float)", [self.heads, None, self.head_dim])
        return found

    def prompt_outputs(self) -> dict[str, list[Any]]:
        """What the prompt graph makes: name -> shape; None for a dynamic size."""
        return {name: sizes for name, (_, sizes) in self.prompt_inputs().items() if name != MASK}

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
        self._mixed: tuple[tuple[Prompt, ...], Prompt] | None = None  # what fades into what, and both as one

    def attend(self, shares: Sequence[tuple[Prompt, float]]) -> None:
        """Rows attend to these prompts from the next call on; shares are above 0 and sum to 1.

        Attention weights of a prompt's tokens are multiplied by its share before they are normalised.
        """
        if len(shares) == 1:
            self.prompt = shares[0][0]
            return
        prompts = tuple(prompt for prompt, _ in shares)
        if self._mixed is None or self._mixed[0] != prompts:
            self._mixed = prompts, Prompt.side_by_side(prompts)
        self.prompt = self._mixed[1]
        masks = [prompt.values[MASK] + np.float32(np.log(share)) for prompt, share in shares]
        self._prompt.values[MASK][:] = np.concatenate(masks)

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
        return plain

    def _inputs_for(self, count: int) -> dict[str, npt.NDArray[Any]]:
        return {**super()._inputs_for(count), **self._prompt.values}
