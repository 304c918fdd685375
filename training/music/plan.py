"""What every player of composer v1 knows of a bar, and the strokes that players hand to the performer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attacca.training.music.song import ChordSpan, Section
from attacca.training.music.style import Meter, bar_steps, group_starts
from attacca.training.music.tempo import STEP_TICKS


class Hit(NamedTuple):
    """A stroke on the straight grid of a bar; `stroke` is its place in a strum, 0..1."""

    tick: int  # from the bar's start
    length: int  # ticks
    pitch: int
    velocity: int
    stroke: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the plan."""

    meter: Meter
    number: int  # in the song
    in_section: int
    section: Section
    start_ticks: int
    chords: tuple[ChordSpan, ...]  # those that start in this bar; the first at its start
    voicings: tuple[tuple[tuple[int, ...], ...], ...]  # per comping track, per chord: MIDI pitches
    scales: tuple[tuple[int, ...], ...]  # per chord: pitch classes for lines
    next_root: int  # pitch class of the chord after this bar
    intensity: float  # 0..1: how busy and how loud
    last_of_phrase: bool

    @property
    def steps(self) -> int:
        """Sixteenths in the bar."""
        return bar_steps(self.meter)

    @property
    def groups(self) -> tuple[int, ...]:
        """Sixteenths at which the meter's groups start."""
        return group_starts(self.meter)

    @property
    def first_of_section(self) -> bool:
        return self.in_section == 0

    @property
    def changes(self) -> tuple[int, ...]:
        """Sixteenths at which chords start."""
        return tuple((c.start_ticks - self.start_ticks) // STEP_TICKS for c in self.chords)

    def chord_index(self, step: float) -> int:
        """Which of `chords` sounds at a sixteenth."""
        return max(i for i, s in enumerate(self.changes) if s <= step)

    def chord_end(self, step: float) -> int:
        """The sixteenth at which the chord at `step` gives way within the bar."""
        return min((s for s in (*self.changes, self.steps) if s > step), default=self.steps)
