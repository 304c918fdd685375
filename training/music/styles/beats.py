"""Beat styles as data: boom-bap, trap, funk. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    CLAP,
    FIVE,
    FOUR,
    HAT,
    KICK,
    OPEN,
    SEVEN,
    SIX,
    SNARE,
    STICK,
    THREE,
    TOM_LOW,
    TOM_MID,
    Comping,
    Lead,
    Style,
)

BOOMBAP = Style(
    name="boombap",
    bpm=(82, 98),
    meters={FOUR: 0.93, SIX: 0.04, THREE: 0.03},
    kits=(0, 8, 16),
    grooves={
        FOUR: (
            {KICK: "X.....x.X.......", SNARE: "....X.......X..o", HAT: "X.x.X.x.X.x.X.x."},
            {KICK: "X..x....X.x..x..", SNARE: "....X..o....X...", HAT: "X.x.X.xoX.x.X.xo"},
            {KICK: "X......xX.x.....", SNARE: "....X.......X.o.", HAT: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X.x.....X.......X..x....X.x.....",
                SNARE: "....X.......X.......X..o....X..o",
                HAT: "X.x.X.x.X.x.X.x.X.x.X.x.X.x.X.xo",
            },
        )
    },
    fills=(
        {SNARE: "x..x.xX."},
        {KICK: "x.x.", SNARE: "..xx"},
        {SNARE: "....", KICK: "...."},
        {TOM_MID: "x.x.", SNARE: ".x.X"},
    ),
    bass_programs=(32, 33, 39),
    bass={FOUR: ("R.....R...5.....", "R..R......5..A..", "R......RO.....5.", "R.....3.5.......")},
    bass_gate=0.8,
    bass_level=104,
    comping=(
        Comping(
            programs=(4, 5, 0, 26),
            patterns={FOUR: ("S.........m.....", "m.....S.........", "S.......m.....s.")},
            voices=4,
            level=98,
        ),
    ),
    leads=(
        Lead(
            programs=(11, 73, 65, 4),
            kind="riff",
            scale="pentatonic",
            centre=74,
            patterns={FOUR: ("a..b..c.....d...", "..c.b.a...c.....", "a.....c.d.c.a...")},
        ),
        Lead(programs=(66, 56, 11), kind="melody", density=0.3),
    ),
    progressions=(
        ("dorian", "i9 IV9 i9 IV9"),
        ("minor", "i7 bVImaj7 iv7 V7"),
        ("minor", "i7 iv7 i7 v7"),
        ("major", "ii7 V7 Imaj7 vi7"),
        ("minor", "i7 bVII bVImaj7 bVII"),
    ),
    swing=0.3,
    forms=("IVCVCO", "VCVBC", "IVVCO"),
    crash=0.2,
    accent=(6, 4, 6, 4),
    feel_ms={"snare": 7.0, "bass": 4.0, "chords": 5.0, "lead": 4.0},
    tightness_ms=2.5,
    room=(0.2, 0.7),
    wet=0.35,
    drive=0.3,
)

TRAP = Style(
    name="trap",
    bpm=(128, 152),
    meters={FOUR: 0.95, THREE: 0.05},
    kits=(25,),
    grooves={
        FOUR: (
            {KICK: "X...x......x....", CLAP: "........X.......", HAT: "X.x.X.x.X.x.Xrx."},
            {KICK: "X..x......X..x..", CLAP: "........X.......", HAT: "x.x.x.xtxrx.x.x."},
            {
                KICK: "X...x.....x.x...X.x.x.....x.x...",
                CLAP: "........X...............X.......",
                HAT: "X.x.Xrx.X.x.X.t.X.x.X.x.XrrrX.x.",
                STICK: "...x..........x....x......x.....",
            },
            {
                KICK: "X...x.....x.....",
                SNARE: "........X......o",
                HAT: "Xxx.Xxx.Xxx.Xrrr",
                OPEN: "..............x.",
            },
        )
    },
    fills=({HAT: "rrrrrrrr"}, {SNARE: "t.t.rrrr"}, {HAT: "....", KICK: "...."}, {CLAP: "x..x..x."}),
    bass_programs=(39, 38, 33),
    bass={
        FOUR: ("R.......R..R....", "R...R.....O.R...", "R...........R...R.R.R.......7...", "R.....O.R......."),
    },
    bass_gate=1.0,
    bass_level=116,
    bass_low=25,
    comping=(
        Comping(
            programs=(11, 46, 98, 10, 0),
            patterns={FOUR: ("0...2...1...3...", "0..1..2..1..0...", "0.1.2.1.0.1.2.3.", "S...............")},
            voices=4,
            centre=67,
            level=92,
        ),
        Comping(
            programs=(91, 52, 92),
            patterns={FOUR: ("S...............",)},
            voices=3,
            centre=60,
            level=70,
            kinds="CKS",
            share=0.6,
        ),
    ),
    leads=(
        Lead(
            programs=(98, 80, 11, 75),
            kind="riff",
            scale="mode",
            patterns={FOUR: ("a...c...b...z...", "a..a..b..a..c..b")},
        ),
        Lead(programs=(73, 80, 77), kind="melody", density=0.25, scale="pentatonic"),
    ),
    progressions=(
        ("minor", "i bVI i bVII"),
        ("harmonic", "i i bVI V"),
        ("phrygian", "i bII i bII"),
        ("minor", "i iv bVI V"),
        ("minor", "i bIII bVI bVI"),
    ),
    forms=("IVCVCO", "VCKCVC", "ICVCKC"),
    lineups={"I": ("c>dc", "c>dbc", "cl>dcl"), "K": ("c>dc", "dcl", "bc>dbc")},
    crash=0.3,
    accent=(4, 2, 4, 2),
    tightness_ms=0.8,
    touch=4.0,
    modulate=0.05,
    tempo_plans={"steady": 0.8, "steps": 0.1, "ramp": 0.1},
    room=(0.4, 1.8),
    drive=0.4,
)

FUNK = Style(
    name="funk",
    bpm=(94, 116),
    meters={FOUR: 0.93, SEVEN: 0.04, FIVE: 0.03},
    kits=(0, 8),
    grooves={
        FOUR: (
            {KICK: "X..x..x.X.....x.", SNARE: "....X..o.o..X..o", HAT: "XoxoXoxoXoxoXoxo"},
            {KICK: "X.x....xX....x..", SNARE: "....X..o.o.oX...", HAT: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X.....XX..X.....",
                SNARE: "....X.oo.o..X.oo",
                HAT: "xxxxxxx.xxxxxx.x",
                OPEN: ".......x......x.",
            },
            {KICK: "X..x....X.xx....X..x..x.X.....x.", SNARE: "....X..o.o..X..o....X..o.o.oX.x.", HAT: "Xoxx" * 8},
        )
    },
    fills=(
        {SNARE: "x.xx.xX."},
        {SNARE: "xxXx", TOM_MID: "...."},
        {SNARE: "X..X..X.", KICK: "..x..x.x"},
        {SNARE: "oXoo", TOM_LOW: "xX.x"},
    ),
    bass_programs=(36, 37, 33),
    bass={
        FOUR: ("R..RO..RR.7.R.O.", "R.O.RRO.R.5.7.O.", "RR.OR.R.R..O7...", "R...R..RR..OR.A.", "R.R.R.O.7.5.R..A"),
    },
    bass_gate=0.55,
    bass_level=106,
    comping=(
        Comping(
            programs=(28, 27),
            patterns={FOUR: ("x.xcx.xx.xcx.xx.", "..c..x.xc..x.xx.", "xxcxxxcxxxcxxxcx", "c..x..cx.xc.x.x.")},
            voices=4,
            centre=65,
            level=94,
            strum_ms=3.0,
        ),
        Comping(
            programs=(7, 16, 4),
            patterns={FOUR: ("s..s..s..s..s...", "..s...s..s..s.s.", "s.s..s.s..s.s...")},
            voices=3,
            centre=58,
            level=84,
            share=0.6,
        ),
    ),
    leads=(
        Lead(
            programs=(61, 62, 66),
            kind="stabs",
            centre=72,
            level=98,
            patterns={FOUR: ("......C.......s.", "..s..C......s.s.", "C.......s..s....", "....s.s.......C.")},
        ),
        Lead(programs=(65, 66, 18), kind="solo", density=0.45, scale="blues", centre=72),
    ),
    progressions=(
        ("dorian", "i7 IV9 i7 IV9"),
        ("mixolydian", "I9 I9 IV9 I9"),
        ("dorian", "i7 i7 i7 bVII,IV7"),
        ("mixolydian", "I7 bVII IV7 I7"),
        ("dorian", "i9 i9 bIIImaj7 IV9"),
    ),
    swing=0.12,
    forms=("IVCVCBCO", "VCVKC", "VVCSC"),
    crash=0.4,
    accent=(12, 4, 4, 4),
    feel_ms={"snare": 2.0, "bass": 1.0},
    tightness_ms=1.8,
    touch=6.0,
    modulate=0.2,
    room=(0.2, 0.6),
    wet=0.3,
    drive=0.2,
)

BEATS: tuple[Style, ...] = (BOOMBAP, TRAP, FUNK)
