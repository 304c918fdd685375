"""MusicGen's melody models as a Generator: what they are told stands as rows before the first frame.

Beside engine/musicgen.py. Melody (chroma) and text are a prefix of the sequence, so a stream follows what it was
told when it began; another prompt counts when a segment begins anew. Copet et al. 2023, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .generator import ConditionSource, Sampling
from .manifest import Manifest
from .musicgen import PromptedDecoder, PromptedState
from .prompted import Prompt, PromptedLane, PromptedRuntime, PromptedShape
from .runtime import BRANCHES, PREFILL_ROWS, Floats, Ints, StepShape
from .schedule import Schedule

PREFIX = "prefix"  # the one value of a melody model's prompt: float32 [2, rows, d]


@dataclass(frozen=True, kw_only=True)
class MelodyShape(PromptedShape):
    """Sizes of a step graph whose conditions stand before the tokens."""

    def prompt_outputs(self) -> dict[str, list[Any]]:
        """What the prompt graph makes."""
        return {PREFIX: [BRANCHES, None, self.dim]}

    def prompt_of(self, found: Mapping[str, Floats], mask: Floats, text: str = "") -> Prompt:
        """A prompt of the prompt graph's output; what is masked is zeros in it."""
        return Prompt({PREFIX: found[PREFIX]}, text)

    def prompt_inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """What a step is given of it, row by row."""
        return {"given": ("tensor(float)", [BRANCHES, None, self.dim])}


class MelodyRuntime(PromptedRuntime):
    """The loaded graph. Thread-safe: it holds no stream's state."""

    def lane(self) -> MelodyLane:
        """Buffers and an empty cache for one stream."""
        return MelodyLane(self)

    def _shape_of(self, manifest: Manifest) -> MelodyShape:
        plain = StepShape.of(manifest)
        return MelodyShape(**{field.name: getattr(plain, field.name) for field in fields(plain)})


class MelodyLane(PromptedLane):
    """A lane whose positions count from the prefix's first row; `prefix` rows are run before any other."""

    def __init__(self, runtime: MelodyRuntime) -> None:
        self._given: dict[int, Floats] = {}
        super().__init__(runtime)
        self._nothing = runtime.shape.codebook_size + 1  # the token that stands for none
        self.prefix_rows = 0

    def attend(self, shares: Sequence[tuple[Prompt, float]]) -> None:
        """What a row attends to stands before it: nothing to do."""

    def lay(self, prefix: Floats) -> None:
        """Run the rows of a prefix [2, P, d] into the empty cache and keep them."""
        self.prefix_rows = prefix.shape[1]
        start = 0
        while start < self.prefix_rows:
            count = min(PREFILL_ROWS, self.cache.room(start), self.prefix_rows - start)
            stack = np.full((count, self._rows["stack"].shape[1]), self._nothing, np.int64)
            timestep = np.arange(start, start + count) - self.prefix_rows
            given = self._given_rows(max(count, 2))
            given[:, :count] = prefix[:, start : start + count]
            self.run(stack, np.zeros(count, np.int64), timestep, np.zeros((count, 0), np.float32), slot=start)
            given[:] = 0.0
            self.cache.keep(timestep.tolist())
            start += count

    def _given_rows(self, count: int) -> Floats:
        return self._given.setdefault(
            count, np.zeros((BRANCHES, count, self._rows["position"].shape[1]), np.float32)
        )

    def _fill(self, count: int, stack: Ints, level: Ints, timestep: Ints, cond: Floats) -> None:
        super()._fill(count, stack, level, timestep + self.prefix_rows, cond)

    def _other_inputs(self) -> dict[str, npt.NDArray[Any]]:
        plain = super()._other_inputs()
        del plain[PREFIX]  # goes in as rows
        return plain

    def _inputs_for(self, count: int) -> dict[str, npt.NDArray[Any]]:
        return {**super()._inputs_for(count), "given": self._given_rows(count)}


@dataclass(frozen=True, eq=False)
class MelodyState(PromptedState):
    """A snapshot of a MelodyDecoder; never changed after it was taken."""

    prefix_rows: int


class MelodyDecoder(PromptedDecoder):
    """A decoder that begins with what it is told. Not thread-safe; decode thread."""

    def snapshot(self) -> Any:
        """The whole state; `restore` of it continues to the bit."""
        state = super().snapshot()
        return MelodyState(state.decoder, state.track, self._melody_lane.prefix_rows)

    def restore(self, state: object) -> None:
        """Back to a snapshot of a decoder of the same model. TypeError on anything else."""
        if not isinstance(state, MelodyState):
            raise TypeError(f"state is a {type(state).__name__}, allowed: a MelodyDecoder's snapshot")
        super().restore(state)
        self._melody_lane.prefix_rows = state.prefix_rows

    @property
    def _melody_lane(self) -> MelodyLane:
        assert isinstance(self._lane, MelodyLane)
        return self._lane

    def _step(
        self, schedule: Schedule, source: ConditionSource, sampling: Sampling, fetched: dict[int, Floats]
    ) -> None:
        self._begin()
        super()._step(schedule, source, sampling, fetched)

    def _prefill(self, timesteps: list[int]) -> None:
        if timesteps:
            self._begin()
        super()._prefill(timesteps)

    def _begin(self) -> None:
        if self._cache.count == 0:
            self._melody_lane.lay(self.track.heard(self.origin).values[PREFIX])
