"""Jazz styles as data: bossa nova and swing. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    CABASA,
    FIVE,
    FOUR,
    HAT,
    KICK,
    PEDAL,
    RIDE,
    SHAKER,
    SNARE,
    STICK,
    THREE,
    TOM_MID,
    Comping,
    Lead,
    Style,
)

BOSSA = Style(
    name="bossa",
    bpm=(112, 150),
    meters={FOUR: 0.95, THREE: 0.03, FIVE: 0.02},
    kits=(32, 40, 0),
    grooves={
        FOUR: (
            {
                KICK: "X...o.x.X...o.x.",
                STICK: "X.....x.....x.......x.....x.....",
                HAT: "x.x.x.x.x.x.x.x.",
                PEDAL: "....x.......x...",
            },
            {KICK: "X...o.x.X...o.x.", STICK: "x.....x.....x.......x.....x.....", CABASA: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X...o.x.X...o.x.",
                STICK: "....x.....x.........x.....x.....",
                SHAKER: "xoxoxoxoxoxoxoxo",
                PEDAL: "....x.......x...",
            },
        )
    },
    fills=({SNARE: "x..x..x."}, {STICK: "x.x.x.x."}),
    fill_share=0.4,
    drum_level=112,
    bass_programs=(32, 33),
    bass={FOUR: ("R.....5.5.....R.", "R.....R.5.....5.", "R.....5.L.....5.", "R.....5.5.....A.")},
    bass_gate=0.85,
    comping=(
        Comping(
            programs=(24, 24, 26),
            patterns={FOUR: ("m...m.m...m.m...m...m...m...m.m.", "C..m..m..C..m...", "m..m...m..m..m..")},
            voices=4,
            centre=60,
            spread=17,
            level=100,
            strum_ms=5.0,
        ),
        Comping(
            programs=(4, 0, 49),
            patterns={FOUR: ("S...............", "......m.......s.")},
            voices=3,
            centre=66,
            level=66,
            share=0.4,
        ),
    ),
    leads=(
        Lead(programs=(73, 65, 71), kind="melody", density=0.4),
        Lead(programs=(11, 26, 66), kind="solo", density=0.5, centre=72),
    ),
    progressions=(
        ("major", "Imaj7 Imaj7 ii7 V7"),
        ("major", "Imaj7 II7 ii7 V7"),
        ("major", "ii7 V7 Imaj7 VI7"),
        ("major", "Imaj7 #idim7 ii7 V7"),
        ("harmonic", "i6 ii7b5 V7 i6"),
        ("harmonic", "iv7 bVII7 bIIImaj7 V7"),
        ("major", "IVmaj7 iv6 iii7,VI7 ii7,V7"),
    ),
    section_bars=(8,),
    forms=("VCVC", "IVCSCO", "VVBC"),
    crash=0.1,
    accent=(3, 0, 1, 0),
    feel_ms={"lead": 6.0, "chords": -1.0},
    tightness_ms=3.0,
    touch=6.0,
    modulate=0.3,
    room=(0.5, 1.3),
    wet=0.5,
)

SWING = Style(
    name="swing",
    bpm=(116, 178),
    meters={FOUR: 0.84, THREE: 0.12, FIVE: 0.04},
    kits=(32, 40),
    grooves={
        FOUR: (
            {
                RIDE: "X...x.x.X...x.x.",
                PEDAL: "....X.......X...",
                KICK: "o...o...o...o...",
                SNARE: "......o.......o.",
            },
            {
                RIDE: "X...x.x.x.x.x...",
                PEDAL: "....X.......X...",
                SNARE: "..o.......o...o.",
                KICK: "x.....o.........",
            },
            {HAT: "X...x.x.X...x.x.", SNARE: "....o.......o...", KICK: "o...o...o...o..."},
        ),
        THREE: (
            {RIDE: "X...x.x.x...", PEDAL: "....X...X...", KICK: "x...........", SNARE: "......o....."},
            {RIDE: "X...x...x.x.", PEDAL: "....X.......", SNARE: "..o.......o."},
        ),
    },
    fills=({SNARE: "x.x.X.x."}, {SNARE: "..t...X."}, {TOM_MID: "x.x.", KICK: "...."}, {SNARE: "x...x.x.....x.X."}),
    fill_share=0.55,
    drum_level=104,
    bass_programs=(32,),
    bass={
        FOUR: ("R...W...W...A...", "R...W...W...W...", "R...W...W.W.A..."),
        THREE: ("R...W...A...", "R.......A..."),
    },
    bass_gate=0.93,
    bass_level=104,
    comping=(
        Comping(
            programs=(0, 0, 26, 11),
            patterns={
                FOUR: (
                    "m.....s.........",
                    "......s.....m...",
                    "..s.......s.....m.....s.........",
                    "s.....m.......s.",
                ),
                THREE: ("m.....s.....", "....s...m..."),
            },
            voices=4,
            centre=61,
            spread=17,
            level=92,
        ),
    ),
    leads=(
        Lead(programs=(66, 65, 56), kind="solo", density=0.62, centre=70),
        Lead(programs=(56, 71, 11, 26), kind="solo", density=0.52, centre=73),
        Lead(programs=(59, 66), kind="melody", density=0.45, centre=70),
    ),
    progressions=(
        ("major", "ii7 V7 Imaj7 vi7,VI7"),
        ("major", "Imaj7 vi7 ii7 V7"),
        ("major", "Imaj7 VI7 II7 V7"),
        ("harmonic", "i6 ii7b5,V7 i6 V7"),
        ("harmonic", "iv7 bVII7 bIIImaj7 ii7b5,V7"),
        ("dorian", "i7 i7 i7 i7"),
        ("mixolydian", "I7 IV7 I7 I7 IV7 #ivdim7 I7 VI7"),
    ),
    swing=1 / 3,
    swing_steps=2,
    section_bars=(8,),
    forms=("VVBV", "VSSV", "IVSBV"),
    lineups={"S": ("dbcl", "dbl"), "I": ("b>db>dbc", "dbc"), "B": ("dbcl", "bcl")},
    loose=0.12,
    crash=0.15,
    accent=(0, 3, 0, 3),
    feel_ms={"lead": 9.0, "bass": -1.5, "chords": 3.0},
    tightness_ms=3.5,
    touch=7.0,
    modulate=0.15,
    tempo_plans={"steady": 0.5, "steps": 0.05, "ramp": 0.1, "drift": 0.35},
    room=(0.4, 1.0),
    wet=0.45,
)

JAZZ: tuple[Style, ...] = (BOSSA, SWING)
