"""Held-out styles as data: blues and synthwave, which no model is trained on. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    FOUR,
    HAT,
    KICK,
    OPEN,
    RIDE,
    SNARE,
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

BLUES = Style(
    name="blues",
    bpm=(70, 128),
    meters={FOUR: 0.92, THREE: 0.08},
    kits=(0, 8, 16),
    grooves={
        FOUR: (
            {KICK: "X.....x.X.......", SNARE: "....X.......X...", HAT: "X.x.X.x.X.x.X.x."},
            {KICK: "X.......X.....x.", SNARE: "....X.o.....X.o.", RIDE: "X.x.X.x.X.x.X.x."},
            {KICK: "X.....x.X.....x.", STICK: "....X.......X...", HAT: "x...x.x.x...x.x."},
        )
    },
    fills=({SNARE: "x.x.X.x."}, {SNARE: "t.X.", TOM_LOW: "...."}, {TOM_MID: "x.x.....", TOM_FLOOR: "....x.X."}),
    bass_programs=(33, 32, 34),
    bass={FOUR: ("R...3...5...3...", "R.R.3.3.5.5.7.5.", "R...W...W...A...", "R.....R.5.....5.")},
    comping=(
        Comping(
            programs=(27, 29, 26),
            patterns={FOUR: ("m.m.m.m.m.m.m.m.", "....C.......C...", "S.....m.........")},
            voices=3,
            centre=57,
            level=92,
            strum_ms=8.0,
        ),
        Comping(
            programs=(16, 0, 3),
            patterns={FOUR: ("..s...s...s...s.", "S...............", "....s.s.....s.s.")},
            voices=4,
            centre=63,
            level=80,
            share=0.7,
        ),
    ),
    leads=(
        Lead(programs=(29, 27, 22), kind="solo", density=0.5, scale="blues", centre=72),
        Lead(programs=(22, 66, 26), kind="melody", density=0.4, scale="blues", centre=70),
    ),
    progressions=(
        ("mixolydian", "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7"),
        ("mixolydian", "I7 IV7 I7 I7 IV7 IV7 I7 VI7 ii7 V7 I7 V7"),
        ("dorian", "i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7"),
    ),
    swing=1 / 3,
    swing_steps=2,
    section_bars=(12,),
    forms=("VCVS", "IVSC", "VSVC"),
    feel_ms={"lead": 7.0, "snare": 4.0},
    tightness_ms=3.5,
    touch=6.5,
    room=(0.3, 1.0),
    drive=0.3,
)

SYNTHWAVE = Style(
    name="synthwave",
    bpm=(84, 122),
    meters={FOUR: 1.0},
    kits=(24, 16),
    grooves={
        FOUR: (
            {KICK: "X...X...X...X...", SNARE: "....X.......X...", HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "X.......X.......", SNARE: "....X.......X...", HAT: "xoxoxoxoxoxoxoxo"},
            {KICK: "X.....x.X.x.....", SNARE: "....X.......X...", OPEN: "..x...x...x...x."},
        )
    },
    fills=(
        {TOM_HIGH: "x.x.....", TOM_MID: "....x...", TOM_LOW: "......X."},
        {SNARE: "x.xxX.X."},
        {TOM_HIGH: "xx..", TOM_FLOOR: "..xx"},
    ),
    bass_programs=(38, 39, 81),
    bass={FOUR: ("RRRRRRRRRRRRRRRR", "R.R.R.R.R.R.R.R.", "RROORROORROORROO", "R..R..R.R..R..O.")},
    bass_gate=0.65,
    bass_level=104,
    comping=(
        Comping(
            programs=(50, 90, 89, 63), patterns={FOUR: ("S...............", "S.......S.......")}, voices=4, level=90
        ),
        Comping(
            programs=(81, 80, 98),
            patterns={FOUR: ("0123012301230123", "0.1.2.3.4.3.2.1.", "0.2.1.3.2.4.3.5.")},
            voices=3,
            centre=68,
            level=74,
            share=0.7,
        ),
    ),
    leads=(Lead(programs=(81, 80, 84), kind="melody", density=0.36, centre=76),),
    progressions=(
        ("minor", "bVI bVII i i"),
        ("minor", "i bVI bIII bVII"),
        ("major", "vi IV I V"),
        ("dorian", "i IV bVII i"),
    ),
    accent=(4, 2, 4, 2),
    tightness_ms=0.8,
    touch=3.0,
    room=(0.8, 2.4),
    wet=0.6,
    pump=0.35,
    drive=0.25,
)

HELDOUT: tuple[Style, ...] = (BLUES, SYNTHWAVE)
