"""The phrase heard once more for a take that begins anew at a bar line: some frames a slice, ahead of the bar.

Between engine/heard_bars.py, which has the phrase, and the planner, whose generator hears it. The last chunk before
the bar line is made by then and waits to be played, so that this time is free and the first chunk after it is not
late. What is heard is the same, to the bit, however much of it was heard in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .generator import ConditionSource, Generator
from .heard_bars import Phrase
from .runtime import PREFILL_ROWS
from .timeline import Timeline

SLICE_FRAMES = PREFILL_ROWS  # what the decoder takes in one call; others would be cut elsewhere


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """How far it has come; never changed. Decode thread."""

    position: int  # of the bar line, host
    first_frame: int  # of the phrase: what the take has up to the bar line ends there
    timeline: Timeline  # by which the phrase's frames, and what follows them, lie
    phrase: Phrase | None  # None: there is none to be heard
    heard_frames: int = 0

    @classmethod
    def at(cls, position: int, first_frame: int, timeline: Timeline, phrase: Phrase | None) -> Rehearsal:
        """None of it heard yet. `timeline`: as frames lay before; the phrase's end lies at the bar line."""
        frames, rest = (0, 0) if phrase is None else (len(phrase.codes), phrase.rest_samples)
        sample = (first_frame + frames) * timeline.hop_samples + rest
        moved = replace(timeline, anchor_position=position, anchor_sample=sample)
        return cls(position=position, first_frame=first_frame, timeline=moved, phrase=phrase)

    @property
    def done(self) -> bool:
        """Nothing is left to hear."""
        return self.phrase is None or self.heard_frames >= len(self.phrase.codes)

    def step(self, generator: Generator, source: Callable[[Timeline], ConditionSource]) -> Rehearsal:
        """Some more, under what is commanded in the bars before the bar line, where it now lies."""
        if self.phrase is None:
            return self
        codes = self.phrase.codes[self.heard_frames : self.heard_frames + SLICE_FRAMES]
        generator.force(codes, source(self.timeline))
        return replace(self, heard_frames=self.heard_frames + len(codes))
