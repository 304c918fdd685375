"""The chart of a song of composer v1: keys, chords and voicings bar by bar, which every player reads."""

from __future__ import annotations

import numpy as np

from attacca.training.music.cast import Cast, pick
from attacca.training.music.form import HABITS, INTENSITY, KINDS, LEVELS_DB, Part
from attacca.training.music.harmony import MODES, Chord, chord, pentatonic, progression, scale_over, voice
from attacca.training.music.plan import Bar
from attacca.training.music.song import ChordSpan, Section
from attacca.training.music.style import Meter, Style, bar_steps, group_starts
from attacca.training.music.tempo import STEP_TICKS

_DOMINANT = 7  # semitones above the tonic


def draw_chart(
    rng: np.random.Generator, style: Style, meter: Meter, parts: list[Part], cast: Cast
) -> tuple[tuple[Section, ...], list[Bar]]:
    tonic = int(rng.integers(12))
    harmony = _harmony(rng, style)
    lifts_at = int(rng.integers(len(parts) // 2, len(parts))) if rng.random() < style.modulate else len(parts)
    lift = int(rng.choice([1, 2, 5, 10]))
    sections: list[Section] = []
    cells: list[tuple[Section, int, tuple[tuple[int, Chord], ...]]] = []
    first = 0
    for i, part in enumerate(parts):
        mode, bars, shift = harmony[HABITS[part.initial]]
        section = Section(
            kind=KINDS[part.initial],
            first_bar=first,
            bars=part.bars,
            tonic=(tonic + shift + (lift if i >= lifts_at else 0)) % 12,
            mode=mode,
            level_db=LEVELS_DB[part.initial] + float(np.round(rng.normal(0.0, 0.5), 2)),
        )
        sections.append(section)
        first += part.bars
        for j in range(part.bars):
            here = bars[j % len(bars)]
            functional = any(c.root == _DOMINANT for placed in bars for c in placed)
            if j == part.bars - 1 and len(here) == 1 and functional and rng.random() < 0.2:
                here = (here[0], chord("V7" if len(here[0].intervals) > 3 else "V"))
            cells.append((section, j, _placed(here, meter)))
    intensities = [INTENSITY[p.initial] for p in parts for _ in range(p.bars)]
    return tuple(sections), _bars(style, meter, cells, intensities, cast)


def _harmony(rng: np.random.Generator, style: Style) -> dict[str, tuple[str, tuple[tuple[Chord, ...], ...], int]]:
    """Per habit: mode, chords, semitones from the song's tonic (a bridge may go to the relative key)."""
    mode, bars = pick(rng, style.progressions)
    alike = [p for p in style.progressions if p[0] == mode and p[1] != bars] or [(mode, bars)]
    chorus = pick(rng, alike) if rng.random() < 0.8 else (mode, bars)
    away_mode, away_bars = pick(rng, style.progressions)
    minor, away_minor = 3 in MODES[mode], 3 in MODES[away_mode]
    shift = 0 if minor == away_minor else (3 if minor else 9)
    return {
        "V": (mode, progression(bars), 0),
        "C": (chorus[0], progression(chorus[1]), 0),
        "B": (away_mode, progression(away_bars), shift),
    }


def _placed(chords: tuple[Chord, ...], meter: Meter) -> tuple[tuple[int, Chord], ...]:
    """Chords of a bar at sixteenths: one at 0, a second at the half, and so on over the groups."""
    groups = group_starts(meter)
    if len(chords) == 2:
        return ((0, chords[0]), (groups[(len(groups) + 1) // 2], chords[1]))
    return tuple((groups[i], c) for i, c in enumerate(chords[: len(groups)]))


def _bars(
    style: Style,
    meter: Meter,
    cells: list[tuple[Section, int, tuple[tuple[int, Chord], ...]]],
    intensities: list[float],
    cast: Cast,
) -> list[Bar]:
    previous: list[tuple[int, ...] | None] = [None] * len(cast.comps)
    bars: list[Bar] = []
    for number, (section, j, placed) in enumerate(cells):
        start = number * bar_steps(meter) * STEP_TICKS
        spans, scales = [], []
        voicings: list[list[tuple[int, ...]]] = [[] for _ in cast.comps]
        for step, harmony in placed:
            tones = harmony.tones(section.tonic)
            spans.append(
                ChordSpan(start_ticks=start + step * STEP_TICKS, pitch_classes=tones, symbol=harmony.symbol)
            )
            if cast.lead.scale == "mode":
                scales.append(scale_over(section.tonic, section.mode, tones))
            else:
                scales.append(pentatonic(section.tonic, section.mode, blues=cast.lead.scale == "blues"))
            for k, comp in enumerate(cast.comps):
                played = tones[:1] + tones[2:3] if comp.power and len(tones) > 2 else tones
                placing = voice(played, previous[k], centre=comp.centre, voices=comp.voices, spread=comp.spread)
                previous[k] = placing
                voicings[k].append(placing)
        following_section, _, following = cells[(number + 1) % len(cells)]
        bars.append(
            Bar(
                meter=meter,
                number=number,
                in_section=j,
                section=section,
                start_ticks=start,
                chords=tuple(spans),
                voicings=tuple(tuple(v) for v in voicings),
                scales=tuple(scales),
                next_root=following[0][1].tones(following_section.tonic)[0],
                intensity=intensities[number],
                last_of_phrase=j % 4 == 3 or j == section.bars - 1,
            )
        )
    return bars


def merged(chords: list[ChordSpan]) -> tuple[ChordSpan, ...]:
    """Without spans that only say again what holds."""
    out = chords[:1]
    for span in chords[1:]:
        if span.pitch_classes != out[-1].pitch_classes:
            out.append(span)
    return tuple(out)
