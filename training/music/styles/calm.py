"""Calm styles as data: waltz and folk, ambient. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    FIVE,
    FOUR,
    HAT,
    KICK,
    SEVEN,
    SHAKER,
    SIX,
    SNARE,
    STICK,
    TAMBOURINE,
    THREE,
    TOM_FLOOR,
    TRIANGLE,
    Comping,
    Lead,
    Style,
)

WALTZ = Style(
    name="waltz",
    bpm=(92, 172),
    meters={THREE: 0.64, SIX: 0.24, FOUR: 0.12},
    kits=(40, 32, 48),
    grooves={
        THREE: (
            {KICK: "X...........", STICK: "....x...x..."},
            {KICK: "X...........", TAMBOURINE: "....x...x.o.", SNARE: "....o...o..."},
            {KICK: "X.......o...", SHAKER: "x.o.x.o.x.o."},
        ),
        SIX: (
            {KICK: "X.....x.....", TAMBOURINE: "x.o.x.x.o.x."},
            {KICK: "X.....x.....", STICK: "....x.....x.", SHAKER: "x.x.x.x.x.x."},
        ),
    },
    fills=({SNARE: "o.x."}, {TAMBOURINE: "xxxx"}),
    fill_share=0.4,
    drum_level=98,
    bass_programs=(32, 43),
    bass={
        THREE: ("R...........", "R...........5...........", "R.......A...", "R...........R.......5..."),
        SIX: ("R.....5.....", "R.....R.....", "R.....5...A."),
    },
    bass_gate=0.8,
    comping=(
        Comping(
            programs=(24, 25, 21, 15),
            patterns={
                THREE: ("....m...m...", "....m...m.s.", "0...1...2...", "0...2.1.2.1."),
                SIX: ("0.1.2.0.1.2.", "m...s.m...s.", "..s.s...s.s."),
            },
            voices=3,
            centre=62,
            level=98,
            strum_ms=8.0,
        ),
        Comping(
            programs=(21, 48, 20),
            patterns={THREE: ("S...........",), SIX: ("S...........",)},
            voices=3,
            centre=67,
            level=68,
            kinds="CB",
            share=0.5,
        ),
    ),
    leads=(
        Lead(programs=(40, 73, 74), kind="melody", density=0.55),
        Lead(programs=(21, 22, 72, 105), kind="melody", density=0.6, scale="pentatonic"),
    ),
    progressions=(
        ("major", "I IV V I"),
        ("major", "I I V7 V7 V7 V7 I I"),
        ("major", "I vi ii V7"),
        ("minor", "i iv V7 i"),
        ("minor", "i bVII bVI V"),
        ("mixolydian", "I I bVII I"),
    ),
    forms=("VVCCVC", "IVCVC", "VCBVC"),
    crash=0.05,
    accent=(9, -3, 0, -3),
    feel_ms={"lead": 3.0},
    tightness_ms=3.5,
    touch=6.0,
    modulate=0.3,
    tempo_plans={"steady": 0.45, "steps": 0.1, "ramp": 0.2, "drift": 0.25},
    room=(0.5, 1.6),
    wet=0.5,
)

AMBIENT = Style(
    name="ambient",
    bpm=(60, 84),
    meters={FOUR: 0.6, THREE: 0.16, SIX: 0.1, FIVE: 0.1, SEVEN: 0.04},
    kits=(48, 24, 40),
    grooves={
        FOUR: (
            {KICK: "X...o...x...o...", SHAKER: "x...x...x...x..."},
            {TOM_FLOOR: "X.......x.......", TRIANGLE: "....x.......x...", SHAKER: "x.o.x.o.x.o.x.o."},
            {KICK: "X.......x.......", STICK: "....o.......o...", HAT: "x.o.x.o.x.o.x.o."},
        )
    },
    fills=(),
    drum_level=102,
    bass_programs=(39, 35, 43, 89),
    bass={FOUR: ("R...............", "R...........5...", "R...............5...............")},
    bass_gate=0.99,
    bass_level=86,
    comping=(
        Comping(
            programs=(11, 46, 4, 98, 12, 108),
            patterns={FOUR: ("0...2...3...1...", "0.2.1.3.0.2.1.3.", "0...4...2...3...", "0.1.2.1.3.1.2.1.")},
            voices=4,
            centre=66,
            level=92,
        ),
        Comping(
            programs=(89, 91, 92, 94, 88, 52),
            patterns={FOUR: ("S...............",)},
            voices=4,
            spread=20,
            centre=60,
            level=106,
            share=0.9,
        ),
    ),
    leads=(
        Lead(programs=(73, 98, 88, 91, 68), kind="melody", density=0.2, centre=76, level=82, gate=1.2),
        Lead(
            programs=(98, 11, 46, 108),
            kind="arp",
            centre=76,
            level=80,
            gate=1.5,
            patterns={FOUR: ("0...1...2...3...", "0.......2...1...", "3...2...0...1...")},
        ),
    ),
    progressions=(
        ("lydian", "Imaj7 II Imaj7 II"),
        ("major", "Imaj7 Imaj7 IVadd9 IVadd9"),
        ("dorian", "i9 i9 IV IV"),
        ("mixolydian", "Isus2 bVII IVadd9 Isus2"),
        ("minor", "i9 bVImaj7 i9 bIIImaj7"),
    ),
    section_bars=(4,),
    forms=("IVCBVCO", "VBCVB", "VCVBC"),
    lineups={
        "I": ("c", "c>cl", "c>dc"),
        "V": ("dbc", "dcl", "bcl", "dc"),
        "C": ("dbcl", "bcl", "dbcl"),
        "B": ("cl", "dc", "dbc"),
        "K": ("c", "dcl"),
        "S": ("dbcl",),
        "O": ("bcl>bc>c", "dcl>dc"),
    },
    loose=0.1,
    crash=0.0,
    accent=(3, 0, 0, 0),
    tightness_ms=3.5,
    touch=6.0,
    modulate=0.25,
    room=(1.8, 4.0),
    wet=0.9,
)

CALM: tuple[Style, ...] = (WALTZ, AMBIENT)
