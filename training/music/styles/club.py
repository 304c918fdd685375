"""Club styles as data: house, techno, drum'n'bass. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    CLAP,
    FIVE,
    FOUR,
    HAT,
    KICK,
    OPEN,
    RIDE,
    SEVEN,
    SHAKER,
    SNARE,
    STICK,
    THREE,
    TOM_FLOOR,
    Comping,
    Lead,
    Style,
)

_BEATS = "X...X...X...X..."
_MACHINE_PLANS = {"steady": 0.8, "steps": 0.1, "ramp": 0.1}

HOUSE = Style(
    name="house",
    bpm=(116, 130),
    meters={FOUR: 0.96, FIVE: 0.04},
    kits=(24, 25),
    grooves={
        FOUR: (
            {KICK: _BEATS, CLAP: "....X.......X...", OPEN: "..x...x...x...x.", SHAKER: "xoxoxoxoxoxoxoxo"},
            {KICK: _BEATS, CLAP: "....X.......X...", OPEN: "..x...x...x...x.", HAT: "o..oo..oo..oo..o"},
            {KICK: _BEATS, CLAP: "....X.......X..o", HAT: "x.x.x.x.x.x.x.xo", STICK: "...x..x....x..x."},
            {KICK: _BEATS, SNARE: "....x.......x.o.", OPEN: "..x...x...x...x.", RIDE: "..x...x...x...x."},
        )
    },
    fills=(
        {SNARE: "x.x.xxxx"},
        {CLAP: "X..X..X."},
        {OPEN: "....", HAT: "xxxx"},
        {SNARE: "x...x...x.x.xxrr"},
    ),
    bass_programs=(38, 39),
    bass={FOUR: ("R..R..R.R..R..O.", "R.R.O.R.R.R.O.R.", "R..RR..RR..RR.O.", "..R.O.R...R.O.R.")},
    bass_gate=0.6,
    bass_level=100,
    comping=(
        Comping(
            programs=(4, 0, 90),
            patterns={FOUR: ("c..s..s...c..s..", "m.C.m.C.m.C.m.C.", "c..s..s.s..c..s.")},
            voices=4,
            level=98,
        ),
        Comping(
            programs=(89, 50, 48),
            patterns={FOUR: ("S...............",)},
            voices=3,
            centre=67,
            level=70,
            kinds="CBKS",
            share=0.6,
        ),
    ),
    leads=(
        Lead(
            programs=(81, 80),
            kind="riff",
            scale="pentatonic",
            centre=72,
            patterns={FOUR: ("a..c..d...e.d...", "..a.a..c..d.c...", "a.a..d.c..a...e.")},
        ),
        Lead(programs=(53, 85, 11), kind="melody", density=0.3),
    ),
    progressions=(
        ("minor", "i7 bVImaj7 bIIImaj7 bVII"),
        ("minor", "i7 iv7 bVImaj7 v7"),
        ("dorian", "i7 i7 IV7 IV7"),
        ("minor", "bVImaj7 bVII i7 i7"),
        ("major", "Imaj7 iii7 vi7 IVmaj7"),
    ),
    swing=0.1,
    forms=("IVKCVKCO", "IVCVKCCO", "VKCVKC"),
    lineups={
        "I": ("d>dc", "d>db>dbc", "d>dc>dbc"),
        "V": ("dbc", "dbc>dbcl", "db>dbc"),
        "K": ("c>dc", "cl>dcl", "bc>dbc", "dc"),
        "O": ("dbc>db>d", "dbcl>dbc"),
    },
    accent=(4, 4, 4, 4),
    tightness_ms=0.8,
    touch=3.5,
    modulate=0.1,
    tempo_plans=_MACHINE_PLANS,
    room=(0.4, 1.4),
    pump=0.55,
    drive=0.2,
)

TECHNO = Style(
    name="techno",
    bpm=(126, 146),
    meters={FOUR: 0.97, FIVE: 0.03},
    kits=(25, 24),
    grooves={
        FOUR: (
            {KICK: _BEATS, HAT: "o.x.o.x.o.x.o.x.", CLAP: "....x.......x..."},
            {KICK: _BEATS, HAT: "xoxoxoxoxoxoxoxo", TOM_FLOOR: "...x..x....x..x."},
            {KICK: _BEATS, RIDE: "X.x.X.x.X.x.X.x.", HAT: "o.x.o.x.o.x.o.x.", STICK: "..x..x..x..x..x."},
            {KICK: _BEATS, OPEN: "..x...x...x...x.", HAT: "xx.xxx.xxx.xxx.x"},
        )
    },
    fills=({HAT: "rrrr"}, {SNARE: "xxxxxxxxrrrrrrrr"}, {TOM_FLOOR: "x.xx.x.x"}, {CLAP: "..x.x.xx"}),
    fill_share=0.5,
    bass_programs=(38, 39, 81),
    bass={FOUR: ("RRRRRRRRRRRRRRRR", "R.RRR.RRR.RRR.RR", "R.R.R.R.R.R.R.RO", "RR.RR.R.RR.RR.O.")},
    bass_gate=0.5,
    comping=(
        Comping(
            programs=(90, 81, 62),
            patterns={FOUR: ("s..s.....s......", "s..s..s.........", "s..s..s.s..s..s.")},
            voices=3,
            level=84,
        ),
        Comping(
            programs=(95, 92, 89), patterns={FOUR: ("S...............",)}, voices=3, centre=55, level=66, share=0.5
        ),
    ),
    leads=(
        Lead(
            programs=(80, 81, 87),
            kind="arp",
            centre=70,
            gate=0.6,
            patterns={FOUR: ("0120120120120120", "0.1.2.0.1.2.0.1.", "01.20.12.01.20.1", "0021002100210012")},
        ),
        Lead(
            programs=(81, 84),
            kind="riff",
            scale="pentatonic",
            centre=65,
            gate=0.6,
            patterns={FOUR: ("a.aba.adaba.adab", "aa.a.ba.aa.a.ca.", "a..a..a..a..b.c.")},
        ),
    ),
    progressions=(
        ("phrygian", "i i i bII"),
        ("minor", "i i i i"),
        ("minor", "i i bVI bVI"),
        ("dorian", "i7 i7 i7 i7"),
        ("phrygian", "i bII i bvii"),
    ),
    forms=("IVKCVKCO", "VKCVCKC", "IVVKCCO"),
    lineups={
        "I": ("d>db", "d>dl", "d>db>dbl"),
        "V": ("dbl", "db>dbl", "dbc"),
        "K": ("c>dc", "d", "dl", "db"),
        "B": ("db", "dbc", "dl"),
        "O": ("dbl>db>d",),
    },
    crash=0.5,
    accent=(0, 0, 0, 0),
    tightness_ms=0.5,
    touch=2.5,
    modulate=0.05,
    tempo_plans=_MACHINE_PLANS,
    room=(0.5, 2.2),
    pump=0.45,
    drive=0.45,
)

DRUMNBASS = Style(
    name="drumnbass",
    bpm=(162, 178),
    meters={FOUR: 0.94, SEVEN: 0.04, THREE: 0.02},
    kits=(0, 24, 16),
    grooves={
        FOUR: (
            {KICK: "X.......x.x.....", SNARE: "....X..o.o..X..o", HAT: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X.x.......x.....",
                SNARE: "....X..o.o..X...",
                TOM_FLOOR: "........x.......",
                RIDE: "X.x.X.x.X.x.X.x.",
            },
            {
                KICK: "X.......x.x.....X.........xx....",
                SNARE: "....X..o.o..X..o....X..o.o..X.x.",
                HAT: "X.xxX.xxX.xxX.xxX.xxX.xxX.xxX.xx",
            },
            {KICK: "X..x....X.x.....", SNARE: "....X.......X.oo", HAT: "xoxoxoxoxoxoxoxo"},
        )
    },
    fills=({SNARE: "x.xxX.xx"}, {SNARE: "..x.xxrrX.x.xxrr"}, {SNARE: "X..X..X.xxxx"}, {SNARE: "rrrr"}),
    bass_programs=(39, 38),
    bass={FOUR: ("R.......5.......", "R.....R.....3...", "R..........O..7.", "R.............5.R.....3...5.....")},
    bass_gate=0.97,
    bass_level=108,
    bass_low=26,
    comping=(
        Comping(
            programs=(89, 91, 92, 4),
            patterns={FOUR: ("S...............", "S.........S.....")},
            voices=4,
            spread=19,
            centre=62,
            level=84,
        ),
    ),
    leads=(
        Lead(programs=(80, 98, 11, 4), kind="melody", density=0.22, centre=76),
        Lead(
            programs=(81, 98),
            kind="arp",
            centre=74,
            gate=0.8,
            patterns={FOUR: ("0..1..2..3..2.1.", "0.2.1.3.0.2.1.3.")},
        ),
    ),
    progressions=(
        ("minor", "i7 i7 bVImaj7 bVImaj7"),
        ("minor", "i9 bVImaj7 iv7 v7"),
        ("minor", "bVImaj7 bVII i7 i7"),
        ("dorian", "i9 i9 IV9 IV9"),
    ),
    section_bars=(8,),
    forms=("IVCVKCO", "VCKCVC", "IKCVKCO"),
    lineups={"I": ("c>dc", "d>dc", "dc>dcl"), "K": ("c>dc", "dcl", "d>db")},
    accent=(4, 0, 2, 0),
    tightness_ms=1.0,
    touch=5.0,
    modulate=0.1,
    tempo_plans=_MACHINE_PLANS,
    room=(0.4, 2.0),
    pump=0.15,
    drive=0.3,
)

CLUB: tuple[Style, ...] = (HOUSE, TECHNO, DRUMNBASS)
