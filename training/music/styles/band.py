"""Band styles as data: rock, metal, ballad. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    CRASH,
    FIVE,
    FOUR,
    HAT,
    KICK,
    OPEN,
    RIDE,
    SEVEN,
    SIX,
    SNARE,
    SPLASH,
    STICK,
    THREE,
    TOM_FLOOR,
    TOM_HIGH,
    TOM_LOW,
    TOM_MID,
    Comping,
    Lead,
    Style,
)

ROCK = Style(
    name="rock",
    bpm=(104, 160),
    meters={FOUR: 0.78, SEVEN: 0.08, FIVE: 0.06, SIX: 0.08},
    kits=(16, 0, 8),
    grooves={
        FOUR: (
            {KICK: "X.......X.x.....", SNARE: "....X.......X...", HAT: "X.x.X.x.X.x.X.x."},
            {KICK: "X.....x.X.......", SNARE: "....X.......X...", OPEN: "X...X...X...X..."},
            {KICK: "X...x...X.x.x...", SNARE: "....X.......X...", RIDE: "X.x.X.x.X.x.X.x."},
            {KICK: "X.x.....X.x...x.", SNARE: "....X.......X...", HAT: "X.x.X.x.X.x.X.x."},
            {KICK: "X..x..X.....x...", SNARE: "....X.......X...", TOM_FLOOR: "x.x.....x.x....."},
        )
    },
    fills=(
        {SNARE: "x.xx", TOM_MID: "...."},
        {SNARE: "xxxx....", TOM_HIGH: "....xx..", TOM_FLOOR: "......xx"},
        {
            SNARE: "X.X.............",
            TOM_HIGH: "....xxxx........",
            TOM_MID: "........xxxx....",
            TOM_FLOOR: "............xxxx",
        },
        {SNARE: "..xxX.xx"},
        {TOM_FLOOR: "x.x.x.x.", SNARE: "X...X.X."},
    ),
    bass_programs=(34, 33),
    bass={FOUR: ("R.R.R.R.R.R.R.R.", "R.R.R.R.R.R.5.A.", "R...R.R.R...R.O.", "R..R..R.R..R..R.")},
    comping=(
        Comping(
            programs=(29, 30, 29),
            patterns={FOUR: ("S.......S.......", "m.m.m.m.m.m.m.m.", "S.....m.S...m...", "C...m.C...m.C.m.")},
            voices=3,
            centre=52,
            level=86,
            power=True,
            strum_ms=6.0,
        ),
        Comping(
            programs=(27, 25, 18),
            patterns={FOUR: ("m.m.m.m.m.m.m.m.", "0.1.2.1.0.1.2.1.", "S.......S.......")},
            voices=3,
            centre=64,
            level=104,
            strum_ms=7.0,
        ),
    ),
    leads=(
        Lead(programs=(30, 29), kind="melody", density=0.5, scale="pentatonic", level=88),
        Lead(programs=(29, 30), kind="solo", density=0.55, scale="blues", level=86),
        Lead(
            programs=(29, 27),
            kind="riff",
            scale="pentatonic",
            centre=64,
            patterns={FOUR: ("a.a.c.d...c.a...", "a..a..c.d.e.d.c.")},
        ),
    ),
    progressions=(
        ("major", "I V vi IV"),
        ("mixolydian", "I bVII IV I"),
        ("minor", "i bVI bIII bVII"),
        ("minor", "i bVII bVI bVII"),
        ("major", "I IV V IV"),
        ("dorian", "i IV i bVII"),
        ("major", "vi IV I V"),
    ),
    accent=(6, 0, 3, 0),
    feel_ms={"lead": 2.0, "chords": 1.5},
    tightness_ms=3.0,
    touch=5.0,
    modulate=0.25,
    room=(0.4, 1.1),
    wet=0.4,
    drive=0.35,
)

METAL = Style(
    name="metal",
    bpm=(126, 178),
    meters={FOUR: 0.76, SEVEN: 0.1, FIVE: 0.06, SIX: 0.04, THREE: 0.04},
    kits=(16,),
    grooves={
        FOUR: (
            {KICK: "XxxxXxxxXxxxXxxx", SNARE: "....X.......X...", RIDE: "X...X...X...X..."},
            {KICK: "X.xxX.xxX.xxX.xx", SNARE: "....X.......X...", HAT: "X...X...X...X..."},
            {KICK: "X.X.X.X.X.X.X.X.", SNARE: ".X.X.X.X.X.X.X.X", CRASH: "X.......X......."},
            {KICK: "X..X..X..X..X.X.", SNARE: "........X.......", SPLASH: "X...X...X...X..."},
        )
    },
    fills=(
        {SNARE: "xxxxXXXX"},
        {
            TOM_HIGH: "xxxx............",
            TOM_MID: "....xxxx........",
            TOM_LOW: "........xxxx....",
            TOM_FLOOR: "............xxxx",
        },
        {SNARE: "rrrr"},
        {TOM_FLOOR: "X.xX.xX.", SNARE: "..x..x.X"},
    ),
    bass_programs=(34,),
    bass={FOUR: ("RRRRRRRRRRRRRRRR", "R.RRR.RRR.RRR.RR", "R..R..R..R..R.R.", "R.R.R.R.R.R.R.R.")},
    bass_gate=0.8,
    bass_level=100,
    comping=(
        Comping(
            programs=(30,),
            patterns={
                FOUR: (
                    "Cxx.xx.xCxx.xx.x",
                    "sxxxsxxxsxxxsxxx",
                    "C..C..C..C..C.C.",
                    "S.......S.......",
                    "s.sss.sss.sss.ss",
                )
            },
            voices=3,
            centre=48,
            level=92,
            power=True,
        ),
        Comping(
            programs=(29, 48, 52, 18),
            patterns={FOUR: ("S...............", "S.......S.......", "0.1.2.1.0.1.2.1.")},
            voices=3,
            centre=60,
            level=104,
        ),
    ),
    leads=(
        Lead(programs=(30, 84), kind="solo", density=0.75, scale="mode", centre=76),
        Lead(
            programs=(30,),
            kind="riff",
            scale="mode",
            centre=64,
            patterns={FOUR: ("aabaacaabaaedcba", "a.aab.aac.aad.cb", "abcbabcbabcdedcb")},
        ),
    ),
    progressions=(
        ("phrygian", "i bII i bIII,bII"),
        ("minor", "i bVI bVII i"),
        ("minor", "i i bVI bVII"),
        ("harmonic", "i bVI iv V"),
        ("phrygian", "i i bII bvii"),
    ),
    forms=("IVCVCSC", "VCVCBSC", "IVVCKC"),
    lineups={"I": ("c>dc>dbc", "dbc", "d>dbc"), "V": ("dbc",), "K": ("c", "dc", "dbc"), "B": ("dbc", "dbcl")},
    loose=0.03,
    crash=1.0,
    accent=(6, 0, 4, 0),
    tightness_ms=2.0,
    touch=3.5,
    modulate=0.15,
    room=(0.3, 0.9),
    wet=0.3,
    drive=0.6,
)

BALLAD = Style(
    name="ballad",
    bpm=(60, 82),
    meters={FOUR: 0.66, SIX: 0.22, THREE: 0.12},
    kits=(0, 8),
    grooves={
        FOUR: (
            {KICK: "X.......X.x.....", STICK: "....X.......X...", HAT: "x.o.x.o.x.o.x.o."},
            {KICK: "X......xX.......", SNARE: "....X.......X...", RIDE: "X.o.x.o.X.o.x.o."},
            {KICK: "X.........X.....", SNARE: "....X.......X..o", HAT: "x.x.x.x.x.x.x.x."},
        ),
        SIX: (
            {KICK: "X.........x.", SNARE: "......X.....", HAT: "x.x.x.x.x.x."},
            {KICK: "X...........", STICK: "......x.....", RIDE: "X.x.x.X.x.x."},
        ),
    },
    fills=(
        {TOM_MID: "x.x.....", TOM_LOW: "....x.x."},
        {SNARE: "..xx"},
        {SNARE: "x.x.", TOM_LOW: ".x.x"},
        {TOM_FLOOR: "x..x"},
    ),
    fill_share=0.7,
    drum_level=108,
    bass_programs=(35, 33, 32),
    bass={
        FOUR: ("R.......R.......", "R.....5.R.......", "R...........A...", "R.......5.....A."),
        SIX: ("R...........", "R.....5.....", "R.........A."),
    },
    bass_gate=0.97,
    bass_level=88,
    comping=(
        Comping(
            programs=(0, 0, 4, 1),
            patterns={
                FOUR: ("0.1.2.1.0.1.2.1.", "S.......m...m...", "0.2.3.2.1.2.3.2.", "m...m...m...m..."),
                SIX: ("0.1.2.3.2.1.", "0.2.1.3.2.1."),
            },
            voices=4,
            spread=19,
            centre=58,
            level=104,
        ),
        Comping(
            programs=(48, 49, 52),
            patterns={FOUR: ("S...............",), SIX: ("S...........",)},
            voices=3,
            centre=66,
            level=76,
            kinds="CBSO",
            share=0.8,
        ),
    ),
    leads=(
        Lead(programs=(65, 71, 68, 73), kind="melody", density=0.34, gate=1.0),
        Lead(programs=(40, 42, 69), kind="melody", density=0.26, gate=1.02, centre=72),
    ),
    progressions=(
        ("major", "I V vi IV"),
        ("major", "Imaj7 iii7 IVmaj7 V7sus4,V7"),
        ("major", "I vi7 ii7 V7"),
        ("minor", "i bVI bIII bVII"),
        ("harmonic", "i iv7 V7 i"),
        ("major", "IVadd9 V I,V vi7"),
        ("major", "I IVadd9 I,iv6 V7"),
    ),
    crash=0.5,
    accent=(4, 0, 2, 0),
    feel_ms={"snare": 5.0, "lead": 8.0, "chords": 2.0},
    tightness_ms=3.5,
    touch=6.0,
    modulate=0.45,
    tempo_plans={"steady": 0.45, "steps": 0.05, "ramp": 0.15, "drift": 0.35},
    room=(0.8, 2.4),
    wet=0.7,
)

BAND: tuple[Style, ...] = (ROCK, METAL, BALLAD)
