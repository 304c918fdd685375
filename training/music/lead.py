"""The lead of composer v1: melodies from motifs, riffs, arpeggios, running solos, and stabs in close harmony."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacca.training.music.comping import strum
from attacca.training.music.plan import Bar, Hit
from attacca.training.music.style import Lead, Meter, Style, bar_of, bar_steps
from attacca.training.music.tempo import STEP_TICKS

_REACH = 15  # semitones around Lead.centre
_STAB_LENGTH = {"S": 64.0, "m": 1.8, "s": 0.8, "C": 1.8, "c": 0.8, "x": 0.4}
_FORMS = ((0, 1, 0, 2), (0, 0, 1, 2), (0, 1, 2, 1), (0, 1, 0, 1))  # motif of each bar of a phrase


@dataclass(frozen=True, kw_only=True)
class Motif:
    """One bar's idea: onsets in sixteenths, a contour in scale steps."""

    steps: tuple[int, ...]
    contour: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Idea:
    """What a section's lead plays on: three motifs, their order, a pattern where the lead's kind has one."""

    motifs: tuple[Motif, ...]
    order: tuple[int, ...]
    pattern: str
    written: Meter


def idea(rng: np.random.Generator, lead: Lead, meter: Meter, written: Meter) -> Idea:
    """Drawn once per kind of section."""
    patterns = lead.patterns.get(written, ())
    return Idea(
        motifs=tuple(_motif(rng, lead.density * scale, meter) for scale in (1.0, 0.8, 1.1)),
        order=_FORMS[int(rng.integers(len(_FORMS)))],
        pattern=patterns[int(rng.integers(len(patterns)))] if patterns else "",
        written=written,
    )


def _motif(rng: np.random.Generator, density: float, meter: Meter) -> Motif:
    length = bar_steps(meter)
    weights = [1.25 if s % 4 == 0 else 0.85 for s in range(0, length, 2)]
    steps = [s for s, w in zip(range(0, length, 2), weights, strict=True) if rng.random() < density * w]
    if rng.random() < 0.35:
        steps.append(int(rng.integers(1, length // 2)) * 2 - 1)
    if len(steps) < 2:
        steps += [0, length // 2 & ~1]
    steps = sorted(set(steps))
    contour = np.cumsum(rng.choice([-2, -1, -1, 0, 1, 1, 2, 3], size=len(steps)))
    return Motif(steps=tuple(steps), contour=tuple(int(c) for c in contour))


def play(
    rng: np.random.Generator, style: Style, lead: Lead, plan: Idea, bar: Bar, near: int
) -> tuple[list[Hit], int]:
    """One bar from near a pitch, and the pitch to go on from; never an empty bar."""
    if lead.kind in ("riff", "arp", "stabs"):
        hits = _patterned(rng, style, lead, plan, bar)
    elif lead.kind == "solo":
        hits = _solo(rng, lead, bar, near)
    else:
        hits = _melody(rng, lead, plan, bar, near)
    last = hits[-1].pitch if hits else near
    return hits, last + round((lead.centre - last) * 0.35)


def _pool(lead: Lead, classes: tuple[int, ...]) -> list[int]:
    return [p for p in range(lead.centre - _REACH, lead.centre + _REACH + 1) if p % 12 in classes]


def _nearest(pool: list[int], pitch: int) -> int:
    return min(range(len(pool)), key=lambda i: (abs(pool[i] - pitch), pool[i]))


def _gated(lead: Lead, step: float, until: float) -> int:
    return max(60, round(min(10.0, (until - step) * lead.gate) * STEP_TICKS))


def _melody(rng: np.random.Generator, lead: Lead, plan: Idea, bar: Bar, near: int) -> list[Hit]:
    motif = plan.motifs[plan.order[bar.in_section % 4]]
    steps, contour = list(motif.steps), list(motif.contour)
    if bar.last_of_phrase:  # come to rest
        keep = max(1, sum(s < bar.steps // 2 for s in steps))
        steps, contour = steps[:keep], contour[:keep]
    hits: list[Hit] = []
    anchor = near
    for i, (step, rise) in enumerate(zip(steps, contour, strict=True)):
        if i and not bar.last_of_phrase and rng.random() < 0.08:
            continue
        index = bar.chord_index(step)
        scale, tones = _pool(lead, bar.scales[index]), _pool(lead, bar.chords[index].pitch_classes)
        wobble = int(rng.integers(-1, 2)) if rng.random() < 0.25 else 0
        place = int(np.clip(_nearest(scale, anchor) + rise + wobble, 0, len(scale) - 1))
        pitch = scale[place]
        until = steps[i + 1] if i + 1 < len(steps) else bar.steps
        if step % 4 == 0 or until - step >= 3 or step in bar.changes:
            pitch = tones[_nearest(tones, pitch)]
        arch = round(6 * (bar.in_section % 4) / 3)
        hits.append(
            Hit(step * STEP_TICKS, _gated(lead, step, until), pitch, (96 if step in bar.groups else 86) + arch)
        )
    return hits


def _solo(rng: np.random.Generator, lead: Lead, bar: Bar, near: int) -> list[Hit]:
    """Running eighths with rests: chord tones on beats, scale or a semitone below the next tone between."""
    steps = [s for s in range(0, bar.steps, 2) if rng.random() < (lead.density + 0.25 * (s % 4 == 0))]
    if bar.last_of_phrase:
        steps = [s for s in steps if s <= bar.steps // 2]
    steps = steps or [0]
    direction, hits, pitch = (1 if rng.random() < 0.5 else -1), [], near
    for i, step in enumerate(steps):
        index = bar.chord_index(step)
        pool = _pool(lead, bar.chords[index].pitch_classes if step % 4 == 0 else bar.scales[index])
        place = _nearest(pool, pitch)
        place += direction if pool[place] == pitch or rng.random() < 0.5 else 0
        if not 0 <= place < len(pool) or rng.random() < 0.18:
            direction = -direction
            place = min(max(place, 0), len(pool) - 1)
        pitch = pool[place]
        following = steps[i + 1] if i + 1 < len(steps) else bar.steps
        if step % 4 == 2 and following == step + 2 and following < bar.steps and rng.random() < 0.25:
            tones = _pool(lead, bar.chords[bar.chord_index(following)].pitch_classes)
            pitch = tones[_nearest(tones, pitch)] - 1
        accent = 8 if step % 4 == 2 else 0
        hits.append(Hit(step * STEP_TICKS, _gated(lead, step, min(following, step + 4)), pitch, 86 + accent))
    return hits


def _patterned(rng: np.random.Generator, style: Style, lead: Lead, plan: Idea, bar: Bar) -> list[Hit]:
    """Riff letters, arpeggio digits, or stabs, from the plan's pattern."""
    marks = bar_of(plan.pattern, plan.written, bar.meter, bar.in_section)
    onsets = [s for s, m in enumerate(marks) if m != "."] or [0]
    if all(m == "." for m in marks):
        marks = ("a" if lead.kind == "riff" else "0" if lead.kind == "arp" else "S") + marks[1:]
    hits: list[Hit] = []
    for i, step in enumerate(onsets):
        if i and step not in bar.groups and rng.random() < style.loose:
            continue
        until = onsets[i + 1] if i + 1 < len(onsets) else bar.steps
        until = min(until, bar.chord_end(step)) if lead.kind != "riff" else until
        index = bar.chord_index(step)
        tones = bar.chords[index].pitch_classes
        velocity = 94 if step in bar.groups else 84
        if lead.kind == "riff":
            scale = _pool(lead, bar.scales[index])
            root = lead.centre - 6 + (tones[0] - lead.centre + 6) % 12
            place = _nearest(scale, root) + (ord(marks[step]) - 97 if marks[step] < "p" else ord(marks[step]) - 123)
            pitch = scale[min(max(place, 0), len(scale) - 1)]
            hits.append(Hit(step * STEP_TICKS, _gated(lead, step, until), pitch, velocity))
            continue
        pool = [p for p in range(lead.centre - 6, lead.centre + 6) if p % 12 in tones]
        if lead.kind == "arp":
            octave, place = divmod(int(marks[step]), len(pool))
            hits.append(Hit(step * STEP_TICKS, _gated(lead, step, until), pool[place] + 12 * octave, velocity))
        else:
            length = min(_STAB_LENGTH[marks[step]], (until - step) * lead.gate)
            top = tuple(pool[-3:])
            hits += strum(step * STEP_TICKS, round(length * STEP_TICKS), top, velocity + 6, up=False)
    return hits
