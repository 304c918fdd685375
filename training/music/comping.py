"""The chordal players of composer v1: voiced chords in a rhythm, held, broken or scratched."""

from __future__ import annotations

import numpy as np

from attacca.training.music.plan import Bar, Hit
from attacca.training.music.style import Comping, Meter, Style, bar_of
from attacca.training.music.tempo import STEP_TICKS

_GATE = 0.97
_LENGTH = {"m": 1.8, "s": 0.8, "x": 0.3, "C": 1.8, "c": 0.8}  # sixteenths
_VELOCITY = {"S": 84, "m": 82, "s": 84, "x": 58, "C": 100, "c": 102}


def play(
    rng: np.random.Generator, style: Style, comping: Comping, pattern: str, written: Meter, bar: Bar, number: int
) -> list[Hit]:
    """One bar of comping track `number`. A chord is always sounded where it starts, held ones at least."""
    marks = list(bar_of(pattern, written, bar.meter, bar.number))
    broken = any(m.isdigit() for m in marks)
    for change in bar.changes[1:]:
        if marks[change] == ".":
            marks[change] = "0" if broken else ("S" if "S" in marks else "m")
    if not broken and rng.random() < 3 * style.loose and "S" not in marks:
        step = int(rng.integers(1, bar.steps // 2)) * 2
        if marks[step] == ".":
            marks[step] = "m" if rng.random() < 0.5 else "s"
    onsets = [s for s, m in enumerate(marks) if m != "."] or [0]
    if all(m == "." for m in marks):
        marks[0] = "S"
    hits: list[Hit] = []
    for i, step in enumerate(onsets):
        until = min(onsets[i + 1] if i + 1 < len(onsets) else bar.steps, bar.chord_end(step))
        voicing = bar.voicings[number][bar.chord_index(step)]
        mark = marks[step]
        tick = step * STEP_TICKS
        lift = 6 if step in bar.groups else 0
        if mark.isdigit():
            octave, place = divmod(int(mark), len(voicing))
            length = min(4.0, 1.6 * (until - step), float(bar.chord_end(step) - step))
            hits.append(Hit(tick, round(length * STEP_TICKS), voicing[place] + 12 * octave, 86 + lift))
            continue
        length = min(_LENGTH.get(mark, 64.0), (until - step) * _GATE)
        hits += strum(tick, round(length * STEP_TICKS), voicing, _VELOCITY[mark] + lift, up=step % 4 == 2)
    return hits


def strum(tick: int, length: int, pitches: tuple[int, ...], velocity: int, *, up: bool) -> list[Hit]:
    """All pitches at once, numbered along the strum."""
    order = pitches[::-1] if up else pitches
    last = max(1, len(order) - 1)
    return [Hit(tick, max(40, length), p, velocity - 3 * (i > 0), i / last) for i, p in enumerate(order)]
