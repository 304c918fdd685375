"""Vamp: a phrase of N bars again and again; which beats of a later pass repeat the phrase and which are made anew.

Stands between a take and its generator: the take asks for frames up to a horizon, and this walks there beat by
beat, forcing repeated beats and planning the others. Beats lie on the host's grid, frames on the codec's: a beat
begins at the frame nearest to it, so a repeated beat is off by less than one frame and the grid never drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from .generator import Codes, ConditionSource, Generator, Sampling
from .timeline import Timeline

_FORCE_FRAMES = 8  # at most this many a slice: a forced frame costs a prefill row


class Vamp:
    """One take's phrase and passes. Decode thread."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        bar_position: Callable[[int, int], Fraction | int | float],
        start_position: int,
        bars: int,
        beats_per_bar: int,
        variation: float,
    ) -> None:
        self._timeline = timeline
        self._bar_position = bar_position
        self._beats_per_bar = beats_per_bar
        self._phrase_beats = bars * beats_per_bar
        self._variation = variation
        self.start_at(start_position)

    def start_at(self, position: int) -> None:
        """The phrase begins at this host position; what was recorded of it is forgotten."""
        self._start = position
        self._recorded: list[Codes] = []  # one row [K] a frame, from the phrase's first frame on
        self._beat = 0  # last beat walked on, where the search begins, in either direction

    def move(self, timeline: Timeline, samples: int) -> None:
        """Frames lie so many host samples later from now on, and the phrase with them."""
        self._timeline = timeline
        self._start += samples

    def beat_frame(self, beat: int) -> int:
        """The frame at which a beat begins, counted from the start of the first pass."""
        bar, part = divmod(beat, self._beats_per_bar)
        low = Fraction(self._bar_position(self._start, bar))
        if part:
            high = Fraction(self._bar_position(self._start, bar + 1))
            low += (high - low) * Fraction(part, self._beats_per_bar)
        return self._timeline.nearest_frame(low)

    def repeats(self, beat: int, seed: int) -> bool:
        """Whether a beat is taken over from the phrase. The same for the same seed, in whatever order asked."""
        if beat < self._phrase_beats:
            return False
        return bool(np.random.default_rng([seed, beat]).random() >= self._variation)

    def plan(
        self, generator: Generator, until_frame: int, source: ConditionSource, sampling: Sampling, max_steps: int
    ) -> int:
        """Go on towards `until_frame`, within one beat; returns the steps run or frames forced."""
        first, frontier = self.beat_frame(0), generator.frontier
        phrase_end = self.beat_frame(self._phrase_beats)
        if frontier < phrase_end:
            steps = generator.plan(min(until_frame, phrase_end), source, sampling, max_steps=max_steps)
            self._record(generator, first, phrase_end)
            return steps
        beat = self._beat_at(frontier)
        if beat is None:  # the transport stands: there are no bars
            return generator.plan(until_frame, source, sampling, max_steps=max_steps)
        beat_end = self.beat_frame(beat + 1)
        if self.repeats(beat, sampling.seed):
            offset = self.beat_frame(beat % self._phrase_beats) - first + frontier - self.beat_frame(beat)
            count = min(beat_end - frontier, _FORCE_FRAMES, len(self._recorded) - offset)
            if offset >= 0 and count > 0:
                generator.force(np.stack(self._recorded[offset : offset + count]), source)
                return count
        return generator.plan(min(until_frame, beat_end), source, sampling, max_steps=max_steps)

    def rollback(self, to_frame: int) -> None:
        """Forget the phrase at or after a frame, as the generator does."""
        del self._recorded[max(0, to_frame - self.beat_frame(0)) :]

    def snapshot(self) -> tuple[int, tuple[Codes, ...], int, Timeline]:
        """The whole state."""
        return self._start, tuple(self._recorded), self._beat, self._timeline

    def restore(self, state: tuple[int, tuple[Codes, ...], int, Timeline]) -> None:
        """Continue from a snapshot."""
        self._start, recorded, self._beat, self._timeline = state
        self._recorded = list(recorded)

    def _record(self, generator: Generator, first: int, end: int) -> None:
        begin, stop = first + len(self._recorded), min(generator.frontier, end)
        if stop > begin:
            self._recorded.extend(generator.read(begin, stop))

    def _beat_at(self, frame: int) -> int | None:
        """The beat that holds a frame; None if beats do not lead there."""
        beat = self._beat
        while beat > 0 and self.beat_frame(beat) > frame:
            beat -= 1
        begin, end = self.beat_frame(beat), self.beat_frame(beat + 1)
        while begin < end <= frame:
            beat, begin, end = beat + 1, end, self.beat_frame(beat + 2)
        if not begin <= frame < end:
            return None
        self._beat = beat
        return beat
