"""The bassist of composer v1: pattern lines over the chords, and lines that walk."""

from __future__ import annotations

import numpy as np

from attacca.training.music.plan import Bar, Hit
from attacca.training.music.style import Meter, Style, bar_of
from attacca.training.music.tempo import STEP_TICKS

_RANGE = 24  # semitones above Style.bass_low


def _above(low: int, pitch_class: int) -> int:
    """The lowest pitch of a class at or above `low`."""
    return low + (pitch_class - low) % 12


def _tone(mark: str, tones: tuple[int, ...], root: int) -> int:
    """A marked chord tone above `root`; a third or seventh that the chord lacks becomes fifth or octave."""
    steps = {(t - tones[0]) % 12 for t in tones}
    third = next((s for s in (4, 3, 5, 2) if s in steps), 7)
    fifth = next((s for s in (7, 6, 8) if s in steps), 12)
    seventh = next((s for s in (10, 11, 9) if s in steps), 12)
    return root + {"R": 0, "O": 12, "L": fifth - 12, "3": third, "5": fifth, "7": seventh}[mark]


def _approach(rng: np.random.Generator, near: int, target_class: int, scale: tuple[int, ...], low: int) -> int:
    """A semitone or a scale step beside the next root, on the side we come from."""
    target = min((_above(low, target_class) + o for o in (0, 12)), key=lambda p: abs(p - near))
    side = -1 if near <= target else 1
    if rng.random() < 0.5:
        return target + side
    return next((target + side * d for d in (1, 2) if (target + side * d) % 12 in scale), target + side)


def _step_on(
    rng: np.random.Generator, near: int, tones: tuple[int, ...], scale: tuple[int, ...], strong: bool
) -> int:
    """The next note of a walking line: a chord tone on strong beats, else the scale; never the same note."""
    pool = tones if strong else scale
    options = [p for p in range(near - 7, near + 8) if p % 12 in pool and p != near]
    weights = np.array([1.0 / abs(p - near) for p in options])
    return int(options[int(rng.choice(len(options), p=weights / weights.sum()))])


def play(
    rng: np.random.Generator, style: Style, pattern: str, written: Meter, bar: Bar, near: int
) -> tuple[list[Hit], int]:
    """One bar from near a pitch, and the pitch to go on from. A chord is always met on its root."""
    marks = list(bar_of(pattern, written, bar.meter, bar.number))
    walking = "W" in pattern
    for change in bar.changes[1:]:
        if marks[change] != "R":
            marks[change] = "R"
    if not any(m not in "._" for m in marks):
        marks[0] = "R"
    for step in range(1, bar.steps):
        if marks[step] not in "._" and step not in bar.groups and step not in bar.changes:
            if rng.random() < style.loose:
                marks[step] = "."
        elif marks[step] == "." and step % 2 == 0 and not walking and rng.random() < style.loose * 0.5:
            marks[step] = "5" if rng.random() < 0.5 else "R"
    if bar.last_of_phrase and not walking and rng.random() < 0.5 and "A" not in marks:
        marks[bar.steps - 2] = "A"
    onsets = [s for s, m in enumerate(marks) if m != "."]
    hits: list[Hit] = []
    for i, step in enumerate(onsets):
        if marks[step] == "_":
            continue
        until = onsets[i + 1] if i + 1 < len(onsets) else bar.steps
        index = bar.chord_index(step)
        tones, scale = bar.chords[index].pitch_classes, bar.scales[index]
        mark = "R" if step in bar.changes and marks[step] in "WA" else marks[step]
        root = _above(style.bass_low, tones[0])
        if walking and abs(root + 12 - near) < abs(root - near):
            root += 12
        if mark == "A":
            pitch = _approach(rng, near, bar.next_root, scale, style.bass_low)
        elif mark == "W":
            pitch = _step_on(rng, near, tones, scale, step in bar.groups[::2])
        else:
            pitch = _tone(mark, tones, root)
        while pitch < style.bass_low - 5:
            pitch += 12
        while pitch > style.bass_low + _RANGE:
            pitch -= 12
        near = pitch
        velocity = 102 if step in bar.groups else 90
        length = max(STEP_TICKS // 2, round((until - step) * STEP_TICKS * style.bass_gate))
        hits.append(Hit(step * STEP_TICKS, length, pitch, velocity))
    return hits, near
