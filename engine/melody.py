"""MusicGen's melody models as a Generator: what they are told stands as rows before the first frame.

Beside engine/musicgen.py. Melody (chroma) and text are a prefix of the sequence (Copet et al. 2023, section 2.3).
Its keys and values depend on nothing but the prompt, so they are made beforehand, and another prompt's take their
place from the next step on. One that is longer, whose text has more tokens, counts when a segment begins.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .cache import Tensors
from .manifest import Manifest
from .musicgen import PromptedDecoder, PromptedState
from .prompt_track import Shares
from .prompted import Prompt, PromptedLane, PromptedRuntime, PromptedShape
from .runtime import BRANCHES, PREFILL_ROWS, Floats, Ints, Kernels, StepShape
from .schedule import Schedule

_KEPT_PREFIXES = 4  # each is as large as its share of a cache
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
    """The loaded graph. Thread-safe: it holds no stream's state, but the rows of prefixes that were made last."""

    def __init__(self, graph: bytes | str, manifest: Manifest, *, threads: int = 1, spinning: bool = False) -> None:
        super().__init__(graph, manifest, threads=threads, spinning=spinning)
        self._laid: OrderedDict[tuple[int, int], tuple[Prompt, Tensors]] = OrderedDict()
        self._lock = threading.Lock()

    def on_kernels(self, kernels: Kernels) -> Self:
        """As StepRuntime's; prefixes are made anew."""
        other = super().on_kernels(kernels)
        other._laid, other._lock = OrderedDict(), threading.Lock()
        return other

    def lane(self) -> MelodyLane:
        """Buffers and an empty cache for one stream."""
        return MelodyLane(self)

    def laid(self, prompt: Prompt, rows: int) -> Tensors:
        """A prefix as the cache holds it, [tensors, heads, rows, hd]; rows beyond its own are zeros going in.

        Made once while it is among the last few asked for. Any thread; making it takes a prefill of so many rows.
        """
        key = id(prompt), rows  # the prompt is kept beside it, so that its id is its own
        with self._lock:
            if key in self._laid:
                self._laid.move_to_end(key)
                return self._laid[key][1]
        made = self._lay(prompt.values[PREFIX], rows)
        with self._lock:
            self._laid[key] = prompt, made
            if len(self._laid) > _KEPT_PREFIXES:
                self._laid.popitem(last=False)
        return made

    def _lay(self, prefix: Floats, rows: int) -> Tensors:
        small = copy.copy(self)
        small.shape = replace(self.shape, window=rows)  # a cache of no more than the prefix
        lane = MelodyLane(small)
        padded = np.zeros((BRANCHES, rows, prefix.shape[2]), np.float32)
        padded[:, : prefix.shape[1]] = prefix
        lane.run_prefix(padded)
        return lane.cache.live[:, :, :rows].copy()

    def _shape_of(self, manifest: Manifest) -> MelodyShape:
        plain = StepShape.of(manifest)
        return MelodyShape(**{field.name: getattr(plain, field.name) for field in fields(plain)})


class MelodyLane(PromptedLane):
    """A lane whose positions count from the prefix's first row; `prefix_rows` rows stand before any other."""

    def __init__(self, runtime: MelodyRuntime) -> None:
        self._given: dict[int, Floats] = {}
        super().__init__(runtime)
        self._runtime = runtime
        self._nothing = runtime.shape.codebook_size + 1  # the token that stands for none
        self.prefix_rows = 0
        self.told: Prompt | None = None  # whose rows the prefix is

    def attend(self, shares: Sequence[tuple[Prompt, float]]) -> None:
        """Rows follow the last of these prompts from the next call on.

        Its rows take the place of those that stand before the sequence; none is moved, so one that is longer than
        what it would replace waits for a sequence that begins.
        """
        prompt = shares[-1][0]
        if prompt is self.told:
            return
        rows = prompt.values[PREFIX].shape[1]
        if self.cache.count == 0:
            self.prefix_rows = rows
            self.cache.place(0)
            self.cache.keep(list(range(-rows, 0)))
        elif rows > self.prefix_rows or self.cache.config.base(self.cache.count) > 0:
            return
        self.told = prompt
        self.cache.live[:, :, : self.prefix_rows] = self._runtime.laid(prompt, self.prefix_rows)

    def run_prefix(self, prefix: Floats) -> None:
        """Run the rows of a prefix [2, P, d] into the empty cache and keep them."""
        self.prefix_rows = prefix.shape[1]
        start = 0
        while start < self.prefix_rows:
            count = min(PREFILL_ROWS, self.cache.room(start), self.prefix_rows - start)
            stack = np.full((count, self._rows["stack"].shape[1]), self._nothing, np.int64)
            timestep = np.arange(start, start + count) - self.prefix_rows
            given = self.given(max(count, self._least_rows))
            given[:, :count] = prefix[:, start : start + count]
            self.run(stack, np.zeros(count, np.int64), timestep, np.zeros((count, 0), np.float32), slot=start)
            given[:] = 0.0
            self.cache.keep(timestep.tolist())
            start += count

    def given(self, count: int) -> Floats:
        """[2, count, d] that is added to so many rows; zeros but for a prefix. It never moves."""
        return self._given.setdefault(
            count, np.zeros((BRANCHES, count, self._rows["position"].shape[1]), np.float32)
        )

    def _fill(self, count: int, stack: Ints, level: Ints, timestep: Ints, cond: Floats) -> None:
        super()._fill(count, stack, level, timestep + self.prefix_rows, cond)

    def _inputs_for(self, count: int) -> dict[str, npt.NDArray[Any]]:
        plain = super()._inputs_for(count)
        del plain[PREFIX]  # goes in as rows
        return {**plain, "given": self.given(count)}


@dataclass(frozen=True, eq=False)
class MelodyState(PromptedState):
    """A snapshot of a MelodyDecoder; never changed after it was taken."""

    prefix_rows: int
    told: Prompt | None


class MelodyDecoder(PromptedDecoder):
    """A decoder whose sequence has what it is told before it. Not thread-safe; decode thread."""

    def snapshot(self) -> Any:
        """The whole state; `restore` of it continues to the bit."""
        state, lane = super().snapshot(), self._melody_lane
        return MelodyState(state.decoder, state.track, lane.prefix_rows, lane.told)

    def restore(self, state: object) -> None:
        """Back to a snapshot of a decoder of the same model. TypeError on anything else."""
        if not isinstance(state, MelodyState):
            raise TypeError(f"state is a {type(state).__name__}, allowed: a MelodyDecoder's snapshot")
        super().restore(state)
        self._melody_lane.prefix_rows, self._melody_lane.told = state.prefix_rows, state.told

    @property
    def _melody_lane(self) -> MelodyLane:
        assert isinstance(self._lane, MelodyLane)
        return self._lane

    def _shares(self, schedule: Schedule) -> Shares:
        """One prefix, at once: notes are to be followed when they are played."""
        self._begin()
        return ((self.track.heard(self.next_row + self.origin), 1.0),)

    def _prefill(self, timesteps: list[int]) -> None:
        if timesteps:
            self._begin()
        super()._prefill(timesteps)

    def _begin(self) -> None:
        if self._cache.count == 0:
            self._melody_lane.told = None
            self._melody_lane.attend(((self.track.heard(self.origin), 1.0),))
