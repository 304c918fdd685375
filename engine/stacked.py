"""MusicGen's layers under the stack patterns: several rows a step, each with a level, over one slot a timestep.

Beside engine/prompted.py, for bundles that `attacca train --init` made of delay weights. A row's position is where
its content stands in the delay model that the weights come from: a timestep's codebook k is drawn there at row
t + k (k // channels of a stereo model, whose sides are drawn together), so that is the position of the query row of
(t, k); its coarsest code comes in at row t + 1, so that is the position of the full stack of t, and 0 that of the
row before the first. Le Lan et al. 2023 leave positions open.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import Manifest
from .prompted import PromptedLane, PromptedRuntime, PromptedShape
from .runtime import Floats, Ints, StepShape


def positions(timestep: Ints, level: Ints, num_codebooks: int, channels: int) -> Ints:
    """Positions of rows: the query of (t, k) at t + k // channels, the stack of t (level K) at t + 1."""
    return np.asarray(timestep + np.where(level == num_codebooks, 1, level // channels))


@dataclass(frozen=True, kw_only=True)
class StackedShape(PromptedShape):
    """Sizes of a step graph whose rows have levels and attend to a prompt."""

    channels: int

    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Graph inputs: name -> (type, shape); None for a dynamic size."""
        more: dict[str, tuple[str, list[Any]]] = {
            "level": ("tensor(int64)", [None]),
            "row_of_level": ("tensor(int64)", [self.num_codebooks]),
        }
        return super().inputs() | more


class StackedRuntime(PromptedRuntime):
    """The loaded graph. Thread-safe: it holds no stream's state."""

    shape: StackedShape

    def lane(self) -> StackedLane:
        """Buffers and an empty cache for one stream, without a prompt."""
        return StackedLane(self)

    def _shape_of(self, manifest: Manifest) -> StackedShape:
        plain = StepShape.of(manifest)
        channels = manifest.codec.get("audio_channels", 1)
        assert isinstance(channels, int)
        return StackedShape(
            **{field.name: getattr(plain, field.name) for field in fields(plain)}, channels=channels
        )


class StackedLane(PromptedLane):
    """A PromptedLane whose rows have levels; `row_of_level` names the row of each codebook's output."""

    def __init__(self, runtime: StackedRuntime) -> None:
        self._books, self._channels = runtime.shape.num_codebooks, runtime.shape.channels
        super().__init__(runtime)

    def _row_buffers(self, shape: StepShape) -> dict[str, npt.NDArray[Any]]:
        return super()._row_buffers(shape) | {"level": np.zeros(shape.max_rows, np.int64)}

    def _fill(self, count: int, stack: Ints, level: Ints, timestep: Ints, cond: Floats) -> None:
        super()._fill(count, stack, level, positions(timestep, level, self._books, self._channels), cond)
        self._rows["level"][:count] = level

    def _other_inputs(self) -> dict[str, npt.NDArray[Any]]:
        return super()._other_inputs() | {"row_of_level": self._row_of_level}
