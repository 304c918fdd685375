"""The four players. Each turns one bar of the plan into notes on the grid; the composer performs them later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacca.training.compose.harmony import Key
from attacca.training.compose.song import TICKS_PER_QUARTER, ChordSpan
from attacca.training.compose.styles import (
    CLAP,
    CRASH,
    HAT,
    KICK,
    METER_CELLS,
    OPEN,
    RIDE,
    SNARE,
    STICK,
    TOMS,
    Style,
    bar_pattern,
)

STEP_TICKS = TICKS_PER_QUARTER // 4  # a sixteenth
_DRUM_VELOCITY = {"X": 112, "x": 88, "o": 52}

# (position in sixteenths within the bar, duration in sixteenths, pitch, velocity)
Hit = tuple[int, float, int, int]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the plan: what every player must know of it."""

    meter: tuple[int, int]
    start_ticks: int
    chords: tuple[ChordSpan, ...]  # those that start in this bar; the first at its start
    voicings: tuple[tuple[int, ...], ...]  # MIDI pitches, one per chord
    next_root: int  # pitch class of the chord after this bar
    first_of_section: bool
    last_of_phrase: bool

    @property
    def steps(self) -> int:
        """Sixteenths in the bar."""
        return self.meter[0] * 16 // self.meter[1]

    @property
    def group_starts(self) -> tuple[int, ...]:
        """Sixteenths at which the meter's groups start."""
        widths = [w for _, w in METER_CELLS[self.meter]]
        return tuple(sum(widths[:i]) for i in range(len(widths)))

    def chord_index(self, step: int) -> int:
        """Which of `chords` sounds at a sixteenth."""
        tick = self.start_ticks + step * STEP_TICKS
        return max(i for i, c in enumerate(self.chords) if c.start_ticks <= tick)


def drums(rng: np.random.Generator, style: Style, groove: dict[int, str], bar: Bar) -> list[Hit]:
    """The groove with small variations, a fill at a phrase's end, a crash at a section's start."""
    fill_from = bar.steps
    if bar.last_of_phrase:
        fill_from = bar.group_starts[-1 if rng.random() < 0.6 else -2]
    hits: list[Hit] = []
    for pitch, pattern in groove.items():
        for step, mark in enumerate(bar_pattern(pattern, bar.meter)):
            if mark == "." or (step >= fill_from and pitch != KICK):
                continue
            if mark == "o" and rng.random() < 0.3:
                continue
            if pitch == HAT and step % 4 == 2 and rng.random() < 0.06:
                hits.append((step, 0.8, OPEN, 80))
            else:
                hits.append((step, 0.8, pitch, _DRUM_VELOCITY[mark]))
    if rng.random() < 0.35:
        hits.append((int(rng.integers(1, bar.steps // 2)) * 2 - 1, 0.8, KICK, 74))
    if (SNARE in groove) and rng.random() < 0.3:
        hits.append((int(rng.integers(bar.steps // 2)) * 2 + 1, 0.8, SNARE, 40))
    hits += _fill(rng, style, bar, fill_from)
    if bar.first_of_section and style.name not in ("folk", "ballad"):
        hits.append((0, 4, CRASH, 100))
    return _one_each(hits)


def _fill(rng: np.random.Generator, style: Style, bar: Bar, fill_from: int) -> list[Hit]:
    hits: list[Hit] = []
    soft = style.name in ("folk", "ballad", "reggae")
    for step in range(fill_from, bar.steps):
        on_group = step in bar.group_starts
        if on_group:
            hits.append((step, 0.8, KICK, 96))
        if on_group or rng.random() < (0.5 if soft else 0.75):
            share = (step - fill_from) / max(1, bar.steps - fill_from)
            pitch = TOMS[int(share * len(TOMS))] if rng.random() < 0.6 else (STICK if soft else SNARE)
            if style.name == "house":
                pitch = CLAP if rng.random() < 0.5 else SNARE
            hits.append((step, 0.8, pitch, int(72 + 36 * share) + (12 if on_group else 0)))
    return hits


def _one_each(hits: list[Hit]) -> list[Hit]:
    """At most one hit per drum and place: the loudest."""
    best: dict[tuple[int, int], Hit] = {}
    for hit in hits:
        place = (hit[0], hit[2])
        if place not in best or hit[3] > best[place][3]:
            best[place] = hit
    closed = {step for step, pitch in best if pitch == OPEN}
    return [h for (step, pitch), h in sorted(best.items()) if not (pitch in (HAT, RIDE) and step in closed)]


def bass(rng: np.random.Generator, style: Style, pattern: str, bar: Bar) -> list[Hit]:
    """Roots, fifths, octaves and a step into the next chord; always strikes where a chord changes."""
    marks = list(bar_pattern(pattern, bar.meter))
    for chord in bar.chords[1:]:
        marks[(chord.start_ticks - bar.start_ticks) // STEP_TICKS] = "R"
    for step in range(1, bar.steps):
        if marks[step] == "." and step % 2 == 0 and rng.random() < 0.05:
            marks[step] = "5" if rng.random() < 0.5 else "O"
        elif marks[step] != "." and step not in bar.group_starts and rng.random() < 0.06:
            marks[step] = "."
    if bar.last_of_phrase and rng.random() < 0.6:
        marks[bar.steps - 2] = "A"
    onsets = [s for s, m in enumerate(marks) if m != "."]
    hits: list[Hit] = []
    for i, step in enumerate(onsets):
        until = onsets[i + 1] if i + 1 < len(onsets) else bar.steps
        tones = bar.chords[bar.chord_index(step)].pitch_classes
        root = 28 + (tones[0] - 28) % 12
        offset = {"R": 0, "O": 12, "3": (tones[1] - tones[0]) % 12, "5": (tones[2] - tones[0]) % 12}
        if marks[step] == "A":
            target = 28 + (bar.next_root - 28) % 12
            pitch = target + (-1 if rng.random() < 0.5 and target > 28 else 2)
        else:
            pitch = root + offset[marks[step]]
        velocity = 104 if step in bar.group_starts else 92
        hits.append((step, max(0.5, (until - step) * style.bass_gate), pitch, velocity))
    return hits


def chords(rng: np.random.Generator, style: Style, pattern: str, bar: Bar) -> list[Hit]:
    """Voiced chords in the style's rhythm, or broken; always sounded where a chord changes."""
    marks = list(bar_pattern(pattern, bar.meter))
    held = "S" in pattern
    for chord in bar.chords[1:]:
        step = (chord.start_ticks - bar.start_ticks) // STEP_TICKS
        if marks[step] == "." and (held or pattern[0].isdigit()):
            marks[step] = "S" if held else "0"
    if rng.random() < 0.25:
        step = int(rng.integers(1, bar.steps // 2)) * 2
        if marks[step] == ".":
            marks[step] = "m" if not pattern[0].isdigit() else "2"
    onsets = [s for s, m in enumerate(marks) if m != "."]
    hits: list[Hit] = []
    for i, step in enumerate(onsets):
        until = onsets[i + 1] if i + 1 < len(onsets) else bar.steps
        index = bar.chord_index(step)
        voicing = bar.voicings[index]
        mark = marks[step]
        velocity = 92 if step in bar.group_starts else 82
        if mark.isdigit():
            number = int(mark)
            pitch = voicing[number] if number < len(voicing) else voicing[0] + 12
            hits.append((step, min(4.0, (until - step) * 1.6), pitch, velocity + 6))
            continue
        length = {"S": (until - step) * 0.97, "m": 1.8, "s": 0.9}[mark]
        length = min(length, (until - step) * 0.97)
        hits += [(step, length, pitch, velocity) for pitch in voicing]
    return hits


@dataclass(frozen=True, kw_only=True)
class Motif:
    """A lead's idea: onsets in sixteenths and a contour in scale steps, for one bar."""

    steps: tuple[int, ...]
    contour: tuple[int, ...]


def motif(rng: np.random.Generator, style: Style, meter: tuple[int, int]) -> Motif:
    """A rhythm on eighths (sixteenths now and then) and a contour that mostly moves by step."""
    length = meter[0] * 16 // meter[1]
    steps = [s for s in range(0, length, 2) if rng.random() < style.lead_density]
    if rng.random() < 0.4:
        steps.append(int(rng.integers(1, length // 2)) * 2 - 1)
    steps = sorted(set(steps) or {0})
    contour = np.cumsum(rng.choice([-2, -1, -1, 0, 1, 1, 2], size=len(steps)))
    return Motif(steps=tuple(steps), contour=tuple(int(c) for c in contour))


def lead(
    rng: np.random.Generator, style: Style, key: Key, idea: Motif, bar: Bar, near: int
) -> tuple[list[Hit], int]:
    """The idea over this bar's chords, from near a pitch, chord tones on strong places. Also where to go on."""
    scale = [p for p in range(style.lead_centre - 14, style.lead_centre + 15) if p % 12 in key.scale]
    hits: list[Hit] = []
    anchor = min(range(len(scale)), key=lambda i: abs(scale[i] - near))
    pitch = near
    for i, (step, rise) in enumerate(zip(idea.steps, idea.contour, strict=True)):
        if i and rng.random() < 0.1:
            continue
        wobble = int(rng.integers(-1, 2)) if rng.random() < 0.3 else 0
        pitch = scale[int(np.clip(anchor + rise + wobble, 0, len(scale) - 1))]
        until = idea.steps[i + 1] if i + 1 < len(idea.steps) else bar.steps
        tones = bar.chords[bar.chord_index(step)].pitch_classes
        if step % 4 == 0 or until - step >= 3:
            pitch = min(
                (p for p in range(pitch - 6, pitch + 7) if p % 12 in tones), key=lambda p: (abs(p - pitch), p)
            )
        hits.append((step, min(8.0, (until - step) * 0.92), pitch, 98 if step % 4 == 0 else 88))
    drift = round((style.lead_centre - pitch) * 0.4)
    return hits, pitch + drift
