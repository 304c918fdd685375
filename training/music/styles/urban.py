"""Groove styles as data: boom-bap, trap, funk, disco, afrobeat, reggae. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    FOUR,
    HAT,
    KICK,
    SIX,
    SNARE,
    THREE,
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
            {KICK: "X..x......X..x..", SNARE: "....X..o....X...", HAT: "X.x.X.xoX.x.X.xo"},
            {KICK: "X......xX.x.....", SNARE: "....X.......X.o.", HAT: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X.x.......X.....X..x...x..X.....",
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
    accent=(4, 0, 2, 0),
    feel_ms={"snare": 7.0, "bass": 4.0, "chords": 5.0, "lead": 4.0},
    tightness_ms=2.5,
    room=(0.2, 0.7),
    wet=0.35,
    drive=0.3,
)

URBAN: tuple[Style, ...] = (BOOMBAP,)
