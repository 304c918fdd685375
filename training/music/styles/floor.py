"""Dancing styles as data: disco, afrobeat, reggae. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    AGOGO_HIGH,
    AGOGO_LOW,
    CLAP,
    CLAVES,
    CONGA_HIGH,
    CONGA_LOW,
    FOUR,
    HAT,
    KICK,
    OPEN,
    SHAKER,
    SIX,
    SNARE,
    STICK,
    TAMBOURINE,
    THREE,
    TIMBALE_HIGH,
    TIMBALE_LOW,
    TOM_LOW,
    TOM_MID,
    Comping,
    Lead,
    Style,
)

DISCO = Style(
    name="disco",
    bpm=(110, 126),
    meters={FOUR: 0.97, THREE: 0.03},
    kits=(0, 16, 8),
    grooves={
        FOUR: (
            {
                KICK: "X...X...X...X...",
                SNARE: "....X.......X...",
                HAT: "x.ox.xoxx.ox.xox",
                OPEN: "..x...x...x...x.",
            },
            {
                KICK: "X...X...X...X...",
                SNARE: "....X.......X...",
                HAT: "xoxoxoxoxoxoxoxo",
                TAMBOURINE: "x.x.X.x.x.x.X.x.",
            },
            {
                KICK: "X...X...X...X...",
                SNARE: "....X..o....X.o.",
                OPEN: "..X...X...X...X.",
                CONGA_HIGH: "...x..x....x.xx.",
            },
            {KICK: "X...X...X...X...", CLAP: "....X.......X...", HAT: "x.xxx.xxx.xxx.xx", OPEN: "..x...x...x...x."},
        )
    },
    fills=(
        {SNARE: "xxxxX.X."},
        {SNARE: "xx..", TOM_MID: "..x.", TOM_LOW: "...x"},
        {SNARE: "x.xxx.xxxxxxXXXX"},
        {OPEN: "X.X."},
    ),
    bass_programs=(33, 36, 34),
    bass={FOUR: ("R.O.R.O.R.O.R.O.", "R.O.R.OOR.O.5.O.", "R.OR.OR.O.RO.OR.", "R...R.O.3.5.A.O.")},
    bass_gate=0.6,
    bass_level=104,
    comping=(
        Comping(
            programs=(27, 28),
            patterns={FOUR: ("x.cxx.cxx.cxx.cx", "xxcxxxcxxxcxxxcx", "..c...c...c..cc.")},
            voices=3,
            centre=66,
            level=86,
            strum_ms=3.0,
        ),
        Comping(
            programs=(48, 49, 51),
            patterns={FOUR: ("S...............", "S.......S.......", "S.........m.m...")},
            voices=3,
            centre=72,
            level=84,
            kinds="VCBSO",
            share=0.85,
        ),
        Comping(
            programs=(0, 4),
            patterns={FOUR: ("m..m..m...m..m..", "..m...m...m...m.")},
            voices=4,
            level=78,
            share=0.5,
        ),
    ),
    leads=(
        Lead(
            programs=(48, 61),
            kind="riff",
            centre=76,
            patterns={FOUR: ("..abcd..e.d.c...", "a.a.c...d.c.d...", "e...dcb.a.......")},
        ),
        Lead(programs=(61, 56), kind="stabs", centre=72, patterns={FOUR: ("C..s..s.....s.s.", "..C...s.C.......")}),
        Lead(programs=(73, 65, 48), kind="melody", density=0.45),
    ),
    progressions=(
        ("minor", "i7 iv7 bVII7 bIIImaj7"),
        ("minor", "i bVI bVII i"),
        ("major", "Imaj7 vi7 ii7 V7"),
        ("dorian", "i7 IV7 i7 IV7"),
        ("minor", "iv7 bVII bIIImaj7 bVImaj7"),
        ("major", "IVmaj7 iii7 ii7 V7sus4"),
    ),
    accent=(4, 4, 4, 4),
    tightness_ms=1.8,
    modulate=0.35,
    room=(0.4, 1.2),
    drive=0.1,
)

AFROBEAT = Style(
    name="afrobeat",
    bpm=(98, 122),
    meters={FOUR: 0.92, SIX: 0.08},
    kits=(0, 8),
    grooves={
        FOUR: (
            {
                KICK: "X.....x.X.x.x...",
                SNARE: "...ox......ox...",
                HAT: "x.xxx.xxx.xxx.xx",
                CLAVES: "X..X..X...X.X...",
                SHAKER: "xoxoxoxoxoxoxoxo",
            },
            {
                KICK: "X..x..x.X.x.X...",
                STICK: "X..X...X..X.X...",
                HAT: "x.x.x.x.x.x.x.x.",
                CONGA_LOW: "......xx......xx",
                CONGA_HIGH: "..x.x.....x.x...",
            },
            {
                KICK: "X...x...X...x...",
                AGOGO_HIGH: "X.X.....X.X..X..",
                AGOGO_LOW: "....X.X....x...X",
                SNARE: "......x..o....x.",
                SHAKER: "X.xxX.xxX.xxX.xx",
            },
        )
    },
    fills=(
        {TIMBALE_HIGH: "x.xx.xX.", TIMBALE_LOW: "........"},
        {TIMBALE_HIGH: "xxrr", TIMBALE_LOW: "...."},
        {SNARE: "..x..xX."},
    ),
    fill_share=0.6,
    bass_programs=(33, 32, 34),
    bass={
        FOUR: ("R..R..5...O.5...", "..R.R...5..R..7.", "R..5..O.....5.R.", "R.....R..5.7.O..", "...R..5....R.O..")
    },
    bass_gate=0.7,
    bass_level=106,
    comping=(
        Comping(
            programs=(28, 27),
            patterns={FOUR: ("0..1..2...1.0.2.", "0.12.01.20.12.1.", "2..1.0..2.1..0..", "..s..s.s..s..s.s")},
            voices=3,
            centre=69,
            level=90,
        ),
        Comping(
            programs=(16, 4, 17),
            patterns={FOUR: ("..s..s....s..s..", "....m.....m.....", "s..s..s...s.s...")},
            voices=4,
            centre=60,
            level=82,
            share=0.75,
        ),
    ),
    leads=(
        Lead(
            programs=(61, 56, 66),
            kind="stabs",
            centre=70,
            level=98,
            patterns={FOUR: ("C..s..C.........", "..s.s.C...s.C...", "C.C...s..s......", "......C..s..C...")},
        ),
        Lead(programs=(65, 66, 56), kind="solo", density=0.4, scale="pentatonic", centre=72),
    ),
    progressions=(
        ("dorian", "i7 i7 i7 i7"),
        ("dorian", "i7 i7 IV7 IV7"),
        ("mixolydian", "I7 bVII I7 bVII"),
        ("minor", "i7 bVII i7 bVII"),
        ("major", "I IV V IV"),
    ),
    section_bars=(8,),
    forms=("IVCVSC", "VVCSCO", "VCSVC"),
    lineups={"I": ("d>dc>dbc", "c>dc>dbc", "d>db>dbc"), "V": ("dbc", "dbc>dbcl"), "K": ("d", "dc", "db")},
    crash=0.2,
    accent=(6, 3, 4, 3),
    feel_ms={"chords": 2.0},
    tightness_ms=2.5,
    touch=7.0,
    modulate=0.05,
    room=(0.25, 0.8),
    wet=0.35,
    drive=0.2,
)

REGGAE = Style(
    name="reggae",
    bpm=(66, 88),
    meters={FOUR: 0.94, THREE: 0.03, SIX: 0.03},
    kits=(0, 8),
    grooves={
        FOUR: (
            {KICK: "x.......X.......", STICK: "....x...X...x...", HAT: "X.x.X.x.X.x.X.xo"},
            {KICK: "X...X...X...X...", STICK: "........X..o....", HAT: "X.x.X.x.X.x.X.x."},
            {
                KICK: "........X.......",
                SNARE: "....x...X...x.o.",
                HAT: "X.xoX.xoX.xoX.xo",
                OPEN: "......x.........",
            },
            {KICK: "x.......X.......", STICK: "....x..x....x...", HAT: "X.x.X.x.X.x.X.x."},
        )
    },
    fills=(
        {TIMBALE_HIGH: "t.xx", TIMBALE_LOW: "...."},
        {SNARE: "X.t.x.x."},
        {SNARE: "..xx", TOM_LOW: "x..."},
        {TOM_MID: "x.x.....", TOM_LOW: "....x.X."},
    ),
    bass_programs=(33, 32, 35),
    bass={
        FOUR: ("R...R.3.5...5...", "R.R...5.R.3.....", "R...R.3.5...R.A.", "R..RR..R5...5.3.", "R.R.R...5.3.5.R.")
    },
    bass_gate=0.85,
    bass_level=116,
    comping=(
        Comping(
            programs=(27, 28),
            patterns={FOUR: ("..s...s...s...s.", "..s...s...s...ss")},
            voices=3,
            centre=67,
            level=88,
            strum_ms=5.0,
        ),
        Comping(
            programs=(16, 17),
            patterns={FOUR: (".ssx.ssx.ssx.ssx", "..ss..ss..ss..ss")},
            voices=3,
            centre=58,
            level=80,
            share=0.65,
        ),
    ),
    leads=(
        Lead(programs=(56, 57, 66), kind="melody", density=0.32),
        Lead(programs=(22, 16, 75), kind="melody", density=0.3, scale="pentatonic"),
    ),
    progressions=(
        ("major", "I IV I V"),
        ("major", "I ii IV I"),
        ("minor", "i iv i v"),
        ("minor", "i bVII bVI bVII"),
        ("major", "I vi IV V"),
        ("mixolydian", "I bVII I bVII"),
    ),
    swing=0.2,
    crash=0.2,
    accent=(0, 4, 8, 4),
    feel_ms={"bass": 4.0, "chords": 2.0, "lead": 4.0},
    tightness_ms=3.0,
    touch=6.0,
    room=(0.5, 1.8),
    wet=0.6,
)

FLOOR: tuple[Style, ...] = (DISCO, AFROBEAT, REGGAE)
