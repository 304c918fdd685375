"""Band styles as data: rock, metal, ballad. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    FIVE,
    FOUR,
    HAT,
    KICK,
    OPEN,
    RIDE,
    SEVEN,
    SIX,
    SNARE,
    TOM_FLOOR,
    TOM_HIGH,
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
            programs=(29, 30),
            patterns={FOUR: ("S.......S.......", "m.m.m.m.m.m.m.m.", "S.....m.S...m...", "C...m.C...m.C.m.")},
            voices=3,
            centre=55,
            level=88,
            strum_ms=6.0,
        ),
        Comping(
            programs=(27, 25, 18),
            patterns={FOUR: ("m.m.m.m.m.m.m.m.", "0.1.2.1.0.1.2.1.", "S...............")},
            voices=3,
            centre=64,
            level=78,
            strum_ms=7.0,
            kinds="VBC",
            share=0.55,
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

BAND: tuple[Style, ...] = (ROCK,)
