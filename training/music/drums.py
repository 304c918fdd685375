"""The drummer of composer v1: a groove with small liberties, fills from the style's book at phrase ends."""

from __future__ import annotations

import numpy as np

from attacca.training.music.plan import Bar, Hit
from attacca.training.music.style import (
    BELL,
    CRASH,
    HAT,
    KICK,
    OPEN,
    PEDAL,
    RIDE,
    SKINS,
    SNARE,
    Groove,
    Meter,
    Style,
    bar_of,
)
from attacca.training.music.tempo import STEP_TICKS

_VELOCITY = {"X": 112, "x": 84, "o": 44, "r": 74, "t": 76}
_SYNCOPE = -16  # an accent off the beat: never above the beat
_LENGTH = round(0.8 * STEP_TICKS)
_CYMBALS = (HAT, RIDE, PEDAL, BELL)


def _strokes(pitch: int, step: int, mark: str, lift: int = 0) -> list[Hit]:
    """One mark's hits."""
    velocity = _VELOCITY[mark] + lift
    tick = step * STEP_TICKS
    if mark == "r":
        half = STEP_TICKS // 2
        return [Hit(tick, half - 10, pitch, velocity), Hit(tick + half, half - 10, pitch, velocity - 14)]
    if mark == "t":
        third = 2 * STEP_TICKS // 3
        return [Hit(tick + i * third, third - 10, pitch, velocity - 8 * i) for i in range(3)]
    return [Hit(tick, _LENGTH, pitch, velocity)]


def _fill(rng: np.random.Generator, style: Style, bar: Bar) -> Groove | None:
    share = style.fill_share * (1.0 if bar.in_section == bar.section.bars - 1 else 0.75)
    if not style.fills or not bar.last_of_phrase or rng.random() >= share:
        return None
    return style.fills[int(rng.integers(len(style.fills)))]


def play(rng: np.random.Generator, style: Style, groove: Groove, written: Meter, bar: Bar) -> list[Hit]:
    """One bar: the groove written for meter `written`, thinner where the section is quiet."""
    fill = _fill(rng, style, bar)
    fill_steps = max(len(p) for p in fill.values()) if fill else 0
    fill_steps = min(fill_steps, bar.steps - bar.groups[1])  # the first beat is never a fill's
    begins = bar.steps - fill_steps
    hits: list[Hit] = []
    for pitch, pattern in groove.items():
        ghosts_kept = 0.3 + 0.7 * bar.intensity
        for step, mark in enumerate(bar_of(pattern, written, bar.meter, bar.number)):
            if mark == "." or (step >= begins and pitch != KICK):
                continue
            if mark in "ort" and rng.random() > ghosts_kept:
                continue
            if mark != "X" and step not in bar.groups and rng.random() < style.loose:
                continue
            if mark == "X" and pitch in SKINS and step not in bar.groups:
                hits += _strokes(pitch, step, mark, _SYNCOPE)
            elif pitch == HAT and step % 4 == 2 and OPEN not in groove and rng.random() < style.loose:
                hits += _strokes(OPEN, step, "x", -8)
            else:
                hits += _strokes(pitch, step, mark)
    hits += _liberties(rng, style, groove, bar, begins)
    if fill:
        for pitch, pattern in fill.items():
            used = pattern[-fill_steps:]
            for i, mark in enumerate(used):
                if mark != ".":
                    step = bar.steps - len(used) + i
                    hits += _strokes(pitch, step, mark, round(-6 + 12 * i / len(used)))
    if bar.first_of_section and bar.number and rng.random() < style.crash:
        hits.append(Hit(0, 4 * STEP_TICKS, CRASH, 92))
    return _one_each(hits) or [Hit(0, _LENGTH, min(groove), 70)]


def _liberties(rng: np.random.Generator, style: Style, groove: Groove, bar: Bar, begins: int) -> list[Hit]:
    """A kick or a ghost on an odd sixteenth now and then."""
    out = []
    for pitch, velocity in ((KICK, 72), (SNARE, 40)):
        if pitch in groove and rng.random() < 4 * style.loose:
            step = int(rng.integers(bar.steps // 2)) * 2 + 1
            if step < begins:
                out.append(Hit(step * STEP_TICKS, _LENGTH, pitch, velocity))
    return out


def _one_each(hits: list[Hit]) -> list[Hit]:
    """At most one hit per drum and place, the loudest; a closed cymbal gives way to an open hat."""
    best: dict[tuple[int, int], Hit] = {}
    for hit in hits:
        place = (hit.tick, hit.pitch)
        if place not in best or hit.velocity > best[place].velocity:
            best[place] = hit
    opened = {tick for tick, pitch in best if pitch == OPEN}
    return [hit for (tick, pitch), hit in sorted(best.items()) if not (pitch in _CYMBALS and tick in opened)]
