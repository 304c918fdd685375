"""MusicGen as a Generator: the step loop of engine/decoder.py, told by a prompt what to play.

Sits where PatternDecoder sits. The prompt is commanded from outside, like conditions: it can change at any time,
rows from the next call on attend to the new one, and what is in the cache stays as it was.
"""

from __future__ import annotations

from typing import Self

from .decoder import PatternDecoder
from .generator import Codes, Conditions, ConditionSource, Sampling
from .pattern import Pattern
from .prompted import Prompt, PromptedLane, PromptedRuntime


class PromptBox:
    """What the generators of a model are told to play. Setting it is atomic: any thread."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt


class MusicgenDecoder(PatternDecoder):
    """A PatternDecoder that follows a prompt. Not thread-safe; decode thread."""

    def __init__(self, runtime: PromptedRuntime, pattern: Pattern, box: PromptBox) -> None:
        super().__init__(runtime, pattern)
        self._box = box

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        """As PatternDecoder's, under the prompt as of now."""
        self._follow()
        super().listen(codes, conditions)

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """As PatternDecoder's, under the prompt as of now."""
        self._follow()
        return super().plan(until_frame, source, sampling, max_steps=max_steps)

    def fork(self) -> Self:
        """An independent copy with the same state; weights and prompt are shared."""
        assert isinstance(self._runtime, PromptedRuntime)
        other = type(self)(self._runtime, self._pattern, self._box)
        other.restore(self.snapshot())
        return other

    def _follow(self) -> None:
        assert isinstance(self._lane, PromptedLane)
        self._lane.prompt = self._box.prompt
