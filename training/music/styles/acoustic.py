"""Acoustic styles as data: bossa nova, jazz swing, waltz and folk. What the marks mean: style.py."""

from __future__ import annotations

from attacca.training.music.style import (
    CABASA,
    FIVE,
    FOUR,
    HAT,
    KICK,
    PEDAL,
    SHAKER,
    SNARE,
    STICK,
    THREE,
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
                KICK: "X.....x.X.....x.",
                STICK: "X.....x.....x.......x.....x.....",
                HAT: "x.x.x.x.x.x.x.x.",
                PEDAL: "....x.......x...",
            },
            {KICK: "X.....x.X.....x.", STICK: "x.....x.....x.......x.....x.....", CABASA: "X.x.X.x.X.x.X.x."},
            {
                KICK: "X.....x.X.....x.",
                STICK: "....x.....x.........x.....x.....",
                SHAKER: "xoxoxoxoxoxoxoxo",
                PEDAL: "....x.......x...",
            },
        )
    },
    fills=({SNARE: "x..x..x."}, {STICK: "x.x.x.x."}),
    fill_share=0.4,
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

ACOUSTIC: tuple[Style, ...] = (BOSSA,)
