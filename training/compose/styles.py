"""The eight styles as data: tempi, meters, grooves, instruments and habits; the composer reads nothing else.

Every pattern is one 4/4 bar of sixteen sixteenths. Other meters take its four cells in another order
(`METER_CELLS`); a cell of six sixteenths is a cell of four with its second half played again.
Drums: X accent, x normal, o soft. Bass: R root, O root an octave up, 3 third, 5 fifth, A a step into the next root.
Chords: S held, m an eighth, s short; digits play single chord tones from below.
"""

from __future__ import annotations

from dataclasses import dataclass

KICK, STICK, SNARE, CLAP, HAT, OPEN, CRASH, RIDE = 36, 37, 38, 39, 42, 46, 49, 51
TOMS = (50, 47, 45, 43)
TAMBOURINE, COWBELL, CONGA_HIGH, CONGA_LOW, SHAKER, CLAVES = 54, 56, 63, 64, 70, 75

# (cell index, sixteenths) for each group of a bar
METER_CELLS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (4, 4): ((0, 4), (1, 4), (2, 4), (3, 4)),
    (3, 4): ((0, 4), (1, 4), (3, 4)),
    (6, 8): ((0, 6), (1, 6)),
    (5, 4): ((0, 4), (1, 4), (2, 4), (1, 4), (3, 4)),
    (7, 8): ((0, 4), (1, 4), (3, 6)),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """One style; patterns as in the module's docstring, degrees counted from 0."""

    name: str
    bpm: tuple[int, int]
    meters: dict[tuple[int, int], float]  # weights
    kits: tuple[int, ...]
    grooves: tuple[dict[int, str], ...]
    bass_programs: tuple[int, ...]
    bass: tuple[str, ...]
    chord_programs: tuple[int, ...]
    chords: tuple[str, ...]
    lead_programs: tuple[int, ...]
    lead_density: float  # share of eighths that carry an onset
    lead_centre: int = 74
    chord_centre: int = 60
    bass_gate: float = 0.9
    minor: float = 0.5  # share of songs in minor
    seventh: float = 0.2  # share of songs in sevenths
    levels: tuple[int, int, int, int] = (122, 88, 90, 86)  # MIDI volume of drums, bass, chords, lead
    swing: float = 0.0  # delay of every second sixteenth, in sixteenths
    progressions: tuple[tuple[int, ...], ...] = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 0), (5, 3, 0, 4))


def _every(cell: str) -> str:
    return cell * 4


STYLES: tuple[Style, ...] = (
    Style(
        name="rock",
        bpm=(100, 168),
        meters={(4, 4): 0.76, (7, 8): 0.08, (5, 4): 0.08, (6, 8): 0.08},
        kits=(0, 16),
        grooves=(
            {KICK: "X.......X.x.....", SNARE: "....X.......X...", HAT: _every("X.x.")},
            {KICK: "X.....x.X.......", SNARE: "....X.......X...", HAT: _every("X.x.")},
            {KICK: "X...x...X...x...", SNARE: "....X.......X...", RIDE: _every("X.x.")},
        ),
        bass_programs=(34, 33),
        bass=("R.R.R.R.R.R.R.R.", "R.R.R.R.R.R.5.A.", "R...R.R.R...R.O."),
        chord_programs=(29, 27),
        chords=("S.......S.......", "m.m.m.m.m.m.m.m.", "S.....m.S...m..."),
        lead_programs=(30, 29),
        lead_density=0.5,
        minor=0.4,
        seventh=0.0,
    ),
    Style(
        name="house",
        bpm=(112, 134),
        meters={(4, 4): 0.94, (5, 4): 0.03, (3, 4): 0.03},
        kits=(24, 25),
        grooves=(
            {KICK: _every("X..."), CLAP: "....X.......X...", OPEN: _every("..x.")},
            {KICK: _every("X..."), CLAP: "....X.......X...", OPEN: _every("..X."), HAT: _every("o..o")},
            {KICK: _every("X..."), SNARE: "....x.......x..o", HAT: _every("o.X.")},
        ),
        bass_programs=(38, 39),
        bass=("..R...R...R...R.", "..R.O.R...R.O.R.", "R..R..R.R..R..O."),
        bass_gate=0.6,
        chord_programs=(90, 4, 62),
        chords=("s..s..s...s..s..", "..m...m...m...m.", "s..s..s.s..s..s."),
        lead_programs=(81, 80),
        lead_density=0.4,
        minor=0.8,
        seventh=0.5,
        progressions=((0, 5, 2, 6), (0, 3, 5, 4), (5, 6, 0, 0), (0, 0, 5, 6)),
    ),
    Style(
        name="hiphop",
        levels=(114, 90, 98, 86),
        bpm=(70, 98),
        meters={(4, 4): 0.92, (6, 8): 0.04, (3, 4): 0.04},
        kits=(25, 0),
        grooves=(
            {KICK: "X.....x...X.....", SNARE: "....X.......X...", HAT: _every("X.x.")},
            {KICK: "X..x......X..x..", SNARE: "....X.......X...", HAT: _every("Xox.")},
            {KICK: "X......xX.......", CLAP: "....X.......X...", HAT: _every("X.xo")},
        ),
        bass_programs=(38, 33),
        bass=("R.....R...R.....", "R..R......5..A..", "R.......R.....O."),
        chord_programs=(4, 5),
        chords=("S...............", "S.........m.....", "S.......S......."),
        lead_programs=(11, 73),
        lead_density=0.35,
        minor=0.8,
        seventh=0.85,
        swing=0.3,
        progressions=((0, 3, 0, 3), (0, 5, 3, 4), (1, 4, 0, 5), (0, 6, 5, 6)),
    ),
    Style(
        name="reggae",
        levels=(127, 84, 118, 76),
        bpm=(66, 92),
        meters={(4, 4): 0.94, (3, 4): 0.03, (6, 8): 0.03},
        kits=(0, 8),
        grooves=(
            {KICK: "x...x...X...x...", SNARE: "........X.......", HAT: _every("X.x.")},
            {KICK: _every("X..."), STICK: "....X.......X...", HAT: _every("X.xo")},
            {KICK: "X.......X.......", STICK: "....X.......X..o", HAT: _every("X.x.")},
        ),
        bass_programs=(33, 35),
        bass=("R...R.3...5.....", "R.R...5.R.3.....", "....R.3.5...R.A."),
        chord_programs=(16, 27),
        chords=(_every("..s."), "..s...s...s...ss", "..s...ss..s...s."),
        lead_programs=(56, 65),
        lead_density=0.35,
        minor=0.4,
        swing=0.2,
        progressions=((0, 3, 0, 4), (0, 1, 3, 0), (0, 5, 3, 4), (0, 4, 3, 3)),
    ),
    Style(
        name="folk",
        levels=(127, 86, 100, 94),
        bpm=(92, 176),
        meters={(3, 4): 0.6, (6, 8): 0.25, (4, 4): 0.15},
        kits=(40, 32),
        grooves=(
            {
                KICK: "X.......x.......",
                STICK: "....x.......x...",
                TAMBOURINE: "....o.......o...",
                HAT: _every("x.o."),
            },
            {KICK: "X.......X.......", SNARE: "....x.......x.o.", HAT: _every("x.o.")},
        ),
        bass_programs=(32,),
        bass=("R.......5.......", "R...........5...", "R...............", "R.......5.....A."),
        chord_programs=(24, 25, 21),
        chords=("....m...m...m...", "....m...m...m.m.", "0...1.2.1...2.1."),
        lead_programs=(40, 73, 22),
        lead_density=0.55,
        minor=0.3,
        seventh=0.0,
        progressions=((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 0, 4), (0, 3, 0, 4)),
    ),
    Style(
        name="ballad",
        levels=(127, 80, 114, 76),
        bpm=(60, 84),
        meters={(4, 4): 0.7, (6, 8): 0.2, (3, 4): 0.1},
        kits=(0, 8),
        grooves=(
            {KICK: "X.......X.x.....", SNARE: "....X.......X...", HAT: _every("X.o.")},
            {KICK: "X......xX.......", SNARE: "....X.......X...", RIDE: _every("X.o.")},
        ),
        bass_programs=(35, 33),
        bass=("R.......R.......", "R.....5.R.......", "R...........A..."),
        chord_programs=(0, 0, 48),
        chords=("0.1.2.1.0.1.2.1.", "S.......S.......", "0.2.1.2.0.2.1.2.", "S...m...S...m..."),
        lead_programs=(68, 65, 71),
        lead_density=0.3,
        minor=0.4,
        seventh=0.5,
        progressions=((0, 4, 5, 3), (0, 2, 3, 4), (0, 5, 1, 4), (3, 4, 0, 5)),
    ),
    Style(
        name="latin",
        bpm=(96, 140),
        meters={(4, 4): 0.9, (7, 8): 0.05, (5, 4): 0.05},
        kits=(0,),
        grooves=(
            {
                KICK: "X.....x.X.....x.",
                CLAVES: "x.....x.....x...",
                COWBELL: _every("X..."),
                CONGA_LOW: "......xx......xx",
                CONGA_HIGH: "....x.......x...",
            },
            {
                KICK: "X.....x.X.....x.",
                STICK: "x..x..x...x..x..",
                SHAKER: _every("X.x."),
                CONGA_HIGH: "....x.......x...",
            },
        ),
        bass_programs=(32, 33),
        bass=("R.....5.....O...", "R.....5.R.....A.", "R.....5...O.5..."),
        chord_programs=(0, 24),
        chords=("m.s..s.ss..s.s..", "..m...s...m..s..", "0.1.2.1.2.1.2.1."),
        lead_programs=(56, 73),
        lead_density=0.45,
        minor=0.65,
        seventh=0.6,
        progressions=((0, 3, 4, 0), (1, 4, 0, 0), (0, 6, 5, 4), (0, 3, 6, 4)),
    ),
    Style(
        name="synthpop",
        bpm=(104, 180),
        meters={(4, 4): 0.88, (7, 8): 0.06, (5, 4): 0.06},
        kits=(24, 16),
        grooves=(
            {KICK: "X.......X.......", SNARE: "....X.......X...", HAT: _every("x.x.")},
            {KICK: _every("X..."), SNARE: "....X.......X...", HAT: _every("xoxo")},
            {KICK: "X.....x.X...x...", SNARE: "....X.......X...", HAT: _every("X.x.")},
        ),
        bass_programs=(39, 38),
        bass=("R.O.R.O.R.O.R.O.", "R.R.R.R.R.R.R.R.", "R.R.O.R.R.R.O.A."),
        bass_gate=0.7,
        chord_programs=(50, 89, 90),
        chords=("S...............", "S.......S.......", "0.1.2.3.2.1.2.1."),
        lead_programs=(80, 81),
        lead_density=0.5,
        lead_centre=76,
        minor=0.6,
        seventh=0.1,
        progressions=((5, 3, 0, 4), (0, 5, 3, 4), (0, 2, 5, 3), (3, 0, 4, 5)),
    ),
)
STYLE_NAMES: tuple[str, ...] = tuple(style.name for style in STYLES)


def bar_pattern(pattern: str, meter: tuple[int, int]) -> str:
    """A sixteen-sixteenth pattern laid out for one bar of `meter`."""
    bar = ""
    for cell, sixteenths in METER_CELLS[meter]:
        four = pattern[4 * cell : 4 * cell + 4]
        bar += four if sixteenths == 4 else four + four[2:]
    return bar
