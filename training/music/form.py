"""Song form of composer v1: sections in an order, who plays in each, and what the tempo does at their borders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music.style import Meter, Style, bar_steps
from attacca.training.music.tempo import BPM_RANGE, STEP_TICKS, TICKS_PER_QUARTER, TempoMap, build, steady

KINDS = {"I": "intro", "V": "verse", "C": "chorus", "B": "bridge", "K": "break", "S": "solo", "O": "outro"}
HABITS = {"I": "V", "V": "V", "C": "C", "B": "B", "K": "B", "S": "C", "O": "V"}  # whose patterns a section plays
LEVELS_DB = {"I": -2.0, "V": -1.0, "C": 1.0, "B": -1.0, "K": -3.0, "S": 0.5, "O": -1.5}
INTENSITY = {"I": 0.5, "V": 0.7, "C": 1.0, "B": 0.6, "K": 0.35, "S": 0.95, "O": 0.6}
# Initials of INSTRUMENTS; "d>db>dbc" lets them enter (or leave) at equal parts of the section.
LINEUPS: dict[str, tuple[str, ...]] = {
    "I": ("d>dc>dbc", "c>dc>dbc", "dc>dbc", "db>dbc", "c>dc", "d>db"),
    "V": ("dbc", "dbc", "dbl", "dbc>dbcl", "dcl", "dbcl"),
    "C": ("dbcl",),
    "B": ("bcl>dbcl", "dcl", "dbc", "dbl", "dcl", "c>dc"),
    "K": ("d", "c>dc", "dc", "bc>dbc", "dl", "db>dbc", "db"),
    "S": ("dbcl",),
    "O": ("dbcl>dbc>db", "dbc>bc", "dbc>dc", "dbcl"),
}
_ANY_LINEUP = ("dbcl", "dbc", "dbl", "dcl", "db", "dc", "dl", "d", "bcl", "bc", "bl", "cl", "c")
_ANY_SHARE = 0.15  # of sections: who plays must not follow from where we are
_STAYS_BARS = (1, 2, 3, 4)  # of a line-up where players come and go all the time
# The most that each tempo plan speeds up
FASTEST = {"steady": 1.0, "steps": 1.31, "ramp": 1.31, "drift": 1.05}
TEMPO_PLANS = tuple(FASTEST)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One section before its harmony: kind's initial, bars, who plays in each bar."""

    initial: str
    bars: int
    players: tuple[frozenset[str], ...]


def draw_form(
    rng: np.random.Generator, style: Style, meter: Meter, bpm: float, min_seconds: float, players: frozenset[str]
) -> list[Part]:
    """Whole sections for at least `min_seconds` at a steady tempo; `players` overrules the line-ups."""
    bar_s = bar_steps(meter) / 4 * 60.0 / bpm
    wanted = math.ceil(min_seconds / bar_s)
    letters = style.forms[int(rng.integers(len(style.forms)))]
    start = int(rng.integers(1, len(letters))) if rng.random() < 0.35 else 0
    parts: list[Part] = []
    place = start
    while sum(p.bars for p in parts) < wanted:
        initial = letters[place % len(letters)]
        place += 1
        if initial in "IO" and parts and sum(p.bars for p in parts) + 4 < wanted:
            continue  # only at the ends
        long = [b for b in style.section_bars if b * bar_s <= 18.0 or b == min(style.section_bars)]
        bars = int(rng.choice(long))
        bars = min(bars, 4) if initial in "IOK" and min(style.section_bars) <= 4 else bars
        parts.append(Part(initial=initial, bars=bars, players=_lineup(rng, style, initial, bars, players)))
    if not players and not any(len(who) == len(INSTRUMENTS) for p in parts[:3] for who in p.players):
        everyone = (frozenset(INSTRUMENTS),) * parts[1].bars if len(parts) > 1 else ()
        if everyone:
            parts[1] = Part(initial=parts[1].initial, bars=parts[1].bars, players=everyone)
    return parts


def _lineup(
    rng: np.random.Generator, style: Style, initial: str, bars: int, players: frozenset[str]
) -> tuple[frozenset[str], ...]:
    if players:
        return (players,) * bars
    names = {name[0]: name for name in INSTRUMENTS}
    choices = style.lineups.get(initial, LINEUPS[initial])
    if rng.random() < _ANY_SHARE:
        choices = _ANY_LINEUP
    stages = choices[int(rng.integers(len(choices)))].split(">")
    return tuple(frozenset(names[letter] for letter in stages[i * len(stages) // bars]) for i in range(bars))


def draw_comings(rng: np.random.Generator, parts: list[Part]) -> list[Part]:
    """The parts with players who come and go at any bar line, in place of a form's line-ups.

    A musician switches players at will: a model that has only met forms, where most play on most of the time, lets
    those go on who were heard and are no longer asked for.
    """
    names = {name[0]: name for name in INSTRUMENTS}
    lineups = [frozenset(names[letter] for letter in letters) for letters in _ANY_LINEUP]
    players: list[frozenset[str]] = []
    while len(players) < sum(part.bars for part in parts):
        chosen = lineups[int(rng.integers(len(lineups)))]
        if not players or chosen != players[-1]:
            players += [chosen] * int(rng.choice(_STAYS_BARS))
    ends = np.cumsum([part.bars for part in parts])
    return [replace(p, players=tuple(players[end - p.bars : end])) for p, end in zip(parts, ends, strict=True)]


def draw_tempo(rng: np.random.Generator, plan: str, bpm: float, meter: Meter, parts: list[Part]) -> TempoMap:
    """The tempo map of a plan of TEMPO_PLANS; changes fall on bar lines, ramps last one to four bars."""
    bar = bar_steps(meter) * STEP_TICKS
    starts = np.cumsum([0, *(p.bars for p in parts)]) * bar
    changes: list[tuple[int, int, float]] = []
    if plan == "steady" or (len(parts) < 2 and plan != "drift"):
        return steady(bpm)
    if plan == "drift":
        now = bpm
        for tick in range(bar, int(starts[-1]), bar):
            pulled = now + 0.15 * (bpm - now)
            now = min(1.04 * bpm, max(0.96 * bpm, pulled * (1.0 + float(rng.normal(0.0, 0.006)))))
            changes.append((tick, 0, now))
        return build(bpm, changes)
    borders = [int(s) for s in starts[1:-1]]
    if plan == "steps" and rng.random() < 0.5:  # a chorus that leans forward
        lean = 1.025 if bpm * 1.025 <= BPM_RANGE[1] else 1.0 / 1.025
        for part, tick in zip(parts[1:], borders, strict=True):
            changes.append((tick, 0, bpm * (lean if part.initial in "CS" else 1.0)))
        return build(bpm, changes)
    chosen = sorted(int(b) for b in rng.choice(borders, size=min(len(borders), 2), replace=False))
    for i, tick in enumerate(chosen):
        target = bpm
        if i == 0:
            factor = float(rng.choice([0.72, 0.8, 0.88, 1.1, 1.2, 1.3]))
            target = _held(bpm * factor, bpm)
            if abs(target / bpm - 1.0) < 0.05:  # at the end of the range: the other way
                target = _held(bpm / factor, bpm)
        room = (tick - (chosen[i - 1] if i else 0)) // bar
        ramp = 0 if plan == "steps" else bar * min(int(rng.integers(1, 5)), room)
        changes.append((tick - ramp, ramp, target))
    return build(bpm, changes)


def _held(bpm: float, home: float) -> float:
    """Within BPM_RANGE and within what `draw_form` allowed for."""
    return min(BPM_RANGE[1], home * 1.3, max(BPM_RANGE[0], home * 0.7, bpm))


def quarters_per_bar(meter: Meter) -> float:
    """Quarter notes in a bar."""
    return bar_steps(meter) * STEP_TICKS / TICKS_PER_QUARTER
