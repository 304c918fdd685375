"""The performance of composer v1: strokes on a straight grid become notes with swing, feel, touch and dynamics.

What a hand adds is bounded: swing belongs to the grid (`Note.grid_ticks`), feel and jitter together move a note by
at most MAX_OFFSET_S, a strum spreads on top by at most MAX_STRUM_S.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from attacca.training.music.plan import Bar, Hit
from attacca.training.music.song import Note
from attacca.training.music.style import CLAP, SNARE, Style
from attacca.training.music.tempo import STEP_TICKS, TempoMap

MAX_OFFSET_S = 0.014
MAX_STRUM_S = 0.012
_LEVEL_TO_VELOCITY = 1.6  # velocity per dB of a section's level


def swung(tick: int, share: float, unit_ticks: int) -> int:
    """A straight tick warped so that every second unit begins `share` of a unit late; pairs keep their ends."""
    pair, within = divmod(tick, 2 * unit_ticks)
    if within < unit_ticks:
        bent = within * (1.0 + share)
    else:
        bent = unit_ticks * (1.0 + share) + (within - unit_ticks) * (1.0 - share)
    return pair * 2 * unit_ticks + round(bent)


class Performer:
    """Collects the notes of a song, bar by bar and track by track."""

    def __init__(self, rng: np.random.Generator, style: Style, tempo: TempoMap, end_ticks: int) -> None:
        self.notes: list[Note] = []
        self._rng, self._style, self._tempo, self._end = rng, style, tempo, end_ticks
        self._feel = {k: v + float(rng.normal(0.0, 0.8)) for k, v in style.feel_ms.items()}

    def _warp(self, bar: Bar, tick: int) -> int:
        unit = self._style.swing_steps
        if not self._style.swing or (bar.meter[1] == 8 and unit == 2):
            return tick
        return swung(tick, self._style.swing, unit * STEP_TICKS)

    def add(self, instrument: str, track: int, bar: Bar, hits: list[Hit], *, strum_ms: float = 0.0) -> None:
        """Perform one bar of one track."""
        jitters: dict[int, float] = {}  # strokes of one instant stay together
        lift = _LEVEL_TO_VELOCITY * bar.section.level_db + 4.0 * (bar.in_section % 4) / 3.0 - 2.0
        for hit in hits:
            straight = bar.start_ticks + self._warp(bar, hit.tick)
            stop = bar.start_ticks + self._warp(bar, hit.tick + hit.length)
            if hit.tick not in jitters:
                jitters[hit.tick] = float(self._rng.normal(0.0, self._style.tightness_ms))
            late_ms = self._late_ms(instrument, hit.pitch) + jitters[hit.tick]
            late_s = float(np.clip(late_ms / 1e3, -MAX_OFFSET_S, MAX_OFFSET_S))
            late_s += min(strum_ms / 1e3, MAX_STRUM_S) * hit.stroke
            start = max(0, straight + int(late_s * 960e6 / self._tempo.us_at(straight)))
            start = min(start, self._end - 2)
            velocity = hit.velocity + lift + self._accent(bar, hit.tick) + self._rng.normal(0.0, self._style.touch)
            self.notes.append(
                Note(
                    instrument=instrument,
                    track=track,
                    pitch=int(hit.pitch),
                    velocity=int(np.clip(velocity, 12, 127)),
                    grid_ticks=straight,
                    start_ticks=start,
                    duration_ticks=max(1, min(max(40, stop - straight), self._end - start)),
                )
            )

    def _late_ms(self, instrument: str, pitch: int) -> float:
        if instrument == "drums":
            return self._feel.get("snare" if pitch in (SNARE, CLAP) else "drums", 0.0)
        return self._feel.get(instrument, 0.0)

    def _accent(self, bar: Bar, tick: int) -> int:
        step, rest = divmod(tick, STEP_TICKS)
        if rest or step not in bar.groups:
            return self._style.offbeat - (5 if rest or step % 2 else 0)
        return self._style.accent[bar.groups.index(step) % len(self._style.accent)]

    def finish(self) -> tuple[Note, ...]:
        """All notes by start; a key struck again while it sounds is let go first, twice at once counts once."""
        by_key: dict[tuple[int, int], list[Note]] = defaultdict(list)
        for note in sorted(self.notes, key=lambda n: (n.start_ticks, -n.velocity)):
            by_key[note.track, note.pitch].append(note)
        out: list[Note] = []
        for notes in by_key.values():
            kept: list[Note] = []
            for note in notes:
                if kept and note.start_ticks - kept[-1].start_ticks < 24:
                    continue
                if kept and kept[-1].start_ticks + kept[-1].duration_ticks > note.start_ticks - 4:
                    last = kept.pop()
                    length = max(1, note.start_ticks - 4 - last.start_ticks)
                    kept.append(_shortened(last, min(last.duration_ticks, length)))
                kept.append(note)
            out += kept
        return tuple(sorted(out, key=lambda n: (n.start_ticks, n.track, n.pitch)))


def _shortened(note: Note, duration: int) -> Note:
    return Note(
        instrument=note.instrument,
        track=note.track,
        pitch=note.pitch,
        velocity=note.velocity,
        grid_ticks=note.grid_ticks,
        start_ticks=note.start_ticks,
        duration_ticks=duration,
    )
