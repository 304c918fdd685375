"""MusicGen as a Generator: the step loop of engine/decoder.py, told by a prompt what to play.

Sits where PatternDecoder sits. A prompt is told from outside, like conditions, and can change at any time: rows
from the next step on attend to the new one, over a stated number of steps more and more; the cache stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from .decoder import DecoderState, PatternDecoder
from .generator import ConditionSource, Sampling
from .pattern import Pattern
from .prompt_track import PromptTrack, Shares
from .prompted import Prompt, PromptedLane, PromptedRuntime
from .runtime import Floats, StepLane
from .schedule import Schedule


class PromptBox:
    """What the generators of a model begin with. Setting it is atomic: any thread."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt


@dataclass(frozen=True, eq=False)
class PromptedState:
    """A snapshot of a PromptedDecoder; never changed after it was taken."""

    decoder: DecoderState
    track: PromptTrack


class PromptedDecoder(PatternDecoder):
    """A PatternDecoder that follows a track of prompts. Not thread-safe; decode thread.

    The track's frames count as those of the take: `origin` is its timestep 0.
    """

    def __init__(self, runtime: PromptedRuntime, pattern: Pattern, box: PromptBox) -> None:
        super().__init__(runtime, pattern)
        self._box = box
        self.track = PromptTrack(box.prompt)

    @property
    def next_row(self) -> int:
        """The first timestep of which, and of all after it, no row stays in the cache yet."""
        schedule = self._schedule
        if schedule is None or self._pattern.family == "row":
            return self._known if schedule is None else schedule.origin + schedule.step
        return max(self._known, int(self._cache.timesteps().max(initial=-1)) + 1)

    def tell(self, prompt: Prompt, fade_steps: int = 0) -> None:
        """Follow a prompt from the next step on, wholly after so many steps. ValueError out of range.

        It holds for the frames from here on, however often they are rolled back and planned again; what was told
        for them before is forgotten.
        """
        self.track = self.track.told(self.next_row + self.origin, prompt, fade_steps)

    def fork(self) -> Self:
        """An independent copy with the same state; weights and prompts are shared."""
        runtime: Any = self._runtime  # a device's, too
        other = type(self)(runtime, self._pattern, self._box)
        other.restore(self.snapshot())
        return other

    def reset(self) -> None:
        """Forget everything but what was told last; timestep 0 is next."""
        super().reset()
        self.track = PromptTrack(self.track.last)

    def snapshot(self) -> Any:
        """The whole state; `restore` of it continues to the bit."""
        return PromptedState(super().snapshot(), self.track)

    def restore(self, state: object) -> None:
        """Back to a snapshot of a decoder of the same model. TypeError on anything else."""
        if not isinstance(state, PromptedState):
            raise TypeError(f"state is a {type(state).__name__}, allowed: a {type(self).__name__}'s snapshot")
        super().restore(state.decoder)
        self.track = state.track

    def _step(
        self, schedule: Schedule, source: ConditionSource, sampling: Sampling, fetched: dict[int, Floats]
    ) -> None:
        self._prompted_lane.attend(self._shares(schedule))
        super()._step(schedule, source, sampling, fetched)

    def _shares(self, schedule: Schedule) -> Shares:
        """What a step attends to. Under stack patterns one row of it stays, which may be heard again: no fade."""
        if self._pattern.family == "row":
            return self.track.shares(self.next_row + self.origin)
        kept = max(schedule.next_rows().kept_timestep, 0)
        return ((self.track.heard(kept + self.origin), 1.0),)

    def open_step(self, source: ConditionSource, sampling: Sampling, fetched: dict[int, Floats]) -> StepLane:
        """As PatternDecoder's."""
        self._prompted_lane.attend(self._shares(self._schedule or self._start_schedule()))
        return super().open_step(source, sampling, fetched)

    def _prefill(self, timesteps: list[int]) -> None:
        """Rows on either side of a change go in calls of their own."""
        rest = timesteps
        while rest:
            first = rest[0] + self.origin
            change = self.track.next_change(first)
            count = sum(change is None or t + self.origin < change for t in rest)
            self._prompted_lane.attend(((self.track.heard(first), 1.0),))
            super()._prefill(rest[:count])
            rest = rest[count:]

    @property
    def _prompted_lane(self) -> PromptedLane:
        assert isinstance(self._lane, PromptedLane)
        return self._lane


class MusicgenDecoder(PromptedDecoder):
    """A decoder whose layers attend across to the prompt. Not thread-safe; decode thread."""
