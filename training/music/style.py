"""What a style is: tables of patterns and habits. The players read nothing else; styles/ holds the tables.

A pattern is a string of sixteenths, one bar or several, written for one meter (`Tables` maps meters to patterns).
A meter without a table of its own borrows cells of a beat each from 4/4 or, failing that, from 3/4 (`CELLS`).

Drums: X accent, x normal, o ghost, r two thirty-seconds, t three over two sixteenths, . nothing.
Bass: R root, O octave up, L fourth below, 3 5 7 chord tones, A a step into the next root, W walks, _ silence.
Comping: S held, m an eighth, s short, x a scratch; C and c accented m and s; digits play one chord tone, counted
from below. Stabs (lead) use the comping marks. A riff's letters a.. are steps of the scale from the tonic up, z..
steps below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

KICK, STICK, SNARE, CLAP, HAT, PEDAL, OPEN = 36, 37, 38, 39, 42, 44, 46
CRASH, RIDE, BELL, SPLASH = 49, 51, 53, 55
TOM_HIGH, TOM_MID, TOM_LOW, TOM_FLOOR = 50, 47, 45, 43
TAMBOURINE, COWBELL, CABASA, MARACAS, CLAVES, SHAKER = 54, 56, 69, 70, 75, 82
BONGO_HIGH, BONGO_LOW, CONGA_MUTE, CONGA_HIGH, CONGA_LOW = 60, 61, 62, 63, 64
TIMBALE_HIGH, TIMBALE_LOW, AGOGO_HIGH, AGOGO_LOW, BLOCK, TRIANGLE = 65, 66, 67, 68, 76, 81

Meter = tuple[int, int]
Groove = Mapping[int, str]  # drum note -> pattern
FOUR, THREE, SIX, FIVE, SEVEN = (4, 4), (3, 4), (6, 8), (5, 4), (7, 8)
METERS: tuple[Meter, ...] = (FOUR, THREE, SIX, FIVE, SEVEN)

SKINS = frozenset({35, KICK, STICK, SNARE, CLAP, 40, 41, TOM_FLOOR, TOM_LOW, TOM_MID, 48, TOM_HIGH})  # not tops

# (native meter, meter) -> (cell, sixteenths) for each group of a bar; a cell of six plays its second half again.
CELLS: dict[tuple[Meter, Meter], tuple[tuple[int, int], ...]] = {
    (FOUR, FOUR): ((0, 4), (1, 4), (2, 4), (3, 4)),
    (FOUR, THREE): ((0, 4), (1, 4), (3, 4)),
    (FOUR, SIX): ((0, 6), (1, 6)),
    (FOUR, FIVE): ((0, 4), (1, 4), (2, 4), (1, 4), (3, 4)),
    (FOUR, SEVEN): ((0, 4), (1, 4), (3, 6)),
    (THREE, FOUR): ((0, 4), (1, 4), (0, 4), (2, 4)),
    (THREE, THREE): ((0, 4), (1, 4), (2, 4)),
    (THREE, SIX): ((0, 6), (2, 6)),
    (THREE, FIVE): ((0, 4), (1, 4), (2, 4), (0, 4), (2, 4)),
    (THREE, SEVEN): ((0, 4), (1, 4), (2, 6)),
}

T = TypeVar("T")
Tables = Mapping[Meter, tuple[T, ...]]


@dataclass(frozen=True, kw_only=True)
class Comping:
    """One chordal track."""

    programs: tuple[int, ...]
    patterns: Tables[str]
    voices: int = 3
    centre: int = 60
    spread: int = 14
    level: int = 96
    power: bool = False  # root, fifth and octave of the chord only
    strum_ms: float = 0.0  # from the first string to the last
    kinds: str = ""  # initials of section kinds in which it plays; all where empty
    share: float = 1.0  # share of songs that have it


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The lead track: `kind` is one of melody, riff, arp, solo, stabs."""

    programs: tuple[int, ...]
    kind: str = "melody"
    patterns: Tables[str] = field(default_factory=dict)  # of riffs, arps and stabs
    density: float = 0.45  # share of eighths that carry an onset
    centre: int = 74
    scale: str = "mode"  # mode, pentatonic, blues
    level: int = 92
    gate: float = 0.92


@dataclass(frozen=True, kw_only=True)
class Style:
    """One style. Everything that a song needs besides its seed."""

    name: str
    bpm: tuple[int, int]
    meters: Mapping[Meter, float]  # weights
    kits: tuple[int, ...]
    grooves: Tables[Groove]
    fills: tuple[Groove, ...]  # right-aligned to the bar's end
    bass_programs: tuple[int, ...]
    bass: Tables[str]
    comping: tuple[Comping, ...]
    leads: tuple[Lead, ...]
    progressions: tuple[tuple[str, str], ...]  # (mode, bars)
    swing: float = 0.0  # share of `swing_steps` by which every second one comes late; 1/3 is a triplet
    swing_steps: int = 1  # sixteenths that a swung unit lasts: 1 or 2
    forms: tuple[str, ...] = ("IVCVCBCO", "VCVCBC", "IVVCBVCO")
    lineups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # section initial -> players; > adds on
    section_bars: tuple[int, ...] = (4, 8)
    fill_share: float = 0.85  # of phrase ends
    loose: float = 0.06  # chance that a stroke is left out, added or changed
    crash: float = 0.7  # share of section starts
    drum_level: int = 118
    bass_level: int = 96
    bass_gate: float = 0.9
    bass_low: int = 28
    accent: tuple[int, ...] = (8, 4, 6, 4)  # velocity added on the beats of a group of four
    offbeat: int = -18  # and between them; sixteenths 5 less
    feel_ms: Mapping[str, float] = field(default_factory=dict)  # instrument (or "snare") behind the grid
    tightness_ms: float = 2.5  # standard deviation of a stroke's time
    touch: float = 5.0  # standard deviation of velocity
    modulate: float = 0.2  # share of songs whose last part changes key
    tempo_plans: Mapping[str, float] = field(
        default_factory=lambda: {"steady": 0.66, "steps": 0.1, "ramp": 0.12, "drift": 0.12}
    )
    room: tuple[float, float] = (0.3, 1.2)  # reverb time, s
    wet: float = 0.5  # how much of it, 0..1
    pump: float = 0.0  # how deep the kick ducks bass and chords, 0..1
    drive: float = 0.0  # saturation of the whole, 0..1


def bar_steps(meter: Meter) -> int:
    """Sixteenths in a bar."""
    return meter[0] * 16 // meter[1]


def native(tables: Tables[T], meter: Meter) -> Meter:
    """The meter whose table serves `meter`."""
    for candidate in (meter, FOUR, THREE):
        if candidate in tables:
            return candidate
    raise ValueError(f"a table of {list(tables)} serves neither {meter} nor 4/4 nor 3/4")


def bar_of(pattern: str, written: Meter, meter: Meter, number: int) -> str:
    """Bar `number` of a pattern written for one meter, laid out for another."""
    length = bar_steps(written)
    bars = len(pattern) // length
    bar = pattern[(number % bars) * length :][:length]
    if written == meter:
        return bar
    out = ""
    for cell, sixteenths in CELLS[(written, meter)]:
        four = bar[4 * cell : 4 * cell + 4]
        out += four if sixteenths == 4 else four + four[2:]
    return out


def group_starts(meter: Meter) -> tuple[int, ...]:
    """Sixteenths at which the meter's groups (beats to a foot) start."""
    widths = [width for _, width in CELLS[(FOUR, meter)]]
    return tuple(sum(widths[:i]) for i in range(len(widths)))
