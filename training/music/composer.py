"""Composer v1: a song is a pure function of its seed and the arguments; the top of training/music's composing half.

Order: style, meter, tempo and form; then harmony and voicings bar by bar; then the players; then the performance.
Each draws from a generator of its own, seeded by the song's seed, so that a change of one leaves the others' draws.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music import bass, comping, drums, lead
from attacca.training.music.form import (
    FASTEST,
    HABITS,
    INTENSITY,
    KINDS,
    LEVELS_DB,
    TEMPO_PLANS,
    Part,
    draw_form,
    draw_tempo,
)
from attacca.training.music.harmony import MODES, Chord, chord, pentatonic, progression, scale_over, voice
from attacca.training.music.perform import Performer
from attacca.training.music.plan import Bar
from attacca.training.music.song import ChordSpan, Section, Song, Track
from attacca.training.music.style import METERS, Comping, Lead, Meter, Style, bar_steps, group_starts, native
from attacca.training.music.styles import HELDOUT_STYLES, STYLE_NAMES, STYLES, find
from attacca.training.music.tempo import BPM_RANGE, STEP_TICKS

T = TypeVar("T")
_DOMINANT = 7  # semitones above the tonic
_SALT = 1  # of composer v1
_BREATH = 1.35  # 6/8 counts dotted quarters: quarters pass faster at the same feel


def compose(
    seed: int,
    *,
    style: str | None = None,
    bpm: float | None = None,
    meter: Meter | None = None,
    players: tuple[str, ...] | None = None,
    min_seconds: float = 46.0,
    heldout_styles: bool = False,
    tempo: str | None = None,
) -> Song:
    """A song of whole sections, at least `min_seconds` long, the same for the same arguments.

    style: a name of STYLE_NAMES or HELDOUT_NAMES; bpm: quarters per minute at the start, in BPM_RANGE; meter: one
    of METERS; players: who plays throughout, in place of a form's line-ups; tempo: one of TEMPO_PLANS ("steady"
    where a bpm is given). What is not given is drawn; styles are drawn from the trained ones, or with
    `heldout_styles` from the held-out ones. Raises ValueError outside these.
    """
    _check(bpm, meter, players, tempo)
    rng = _rng(seed, 0)
    drawn = HELDOUT_STYLES if heldout_styles else STYLES
    number = int(rng.integers(len(drawn)))
    chosen = drawn[number] if style is None else find(style)
    drawn_meter, drawn_bpm = _draw_time(rng, chosen, meter)
    meter = meter or drawn_meter
    plans = chosen.tempo_plans
    drawn_plan = str(rng.choice(list(plans), p=np.array(list(plans.values())) / sum(plans.values())))
    plan = tempo or (drawn_plan if bpm is None else "steady")
    start_bpm = bpm or drawn_bpm
    parts = draw_form(
        _rng(seed, 1), chosen, meter, start_bpm, min_seconds * FASTEST[plan], frozenset(players or ())
    )
    tempo_map = draw_tempo(_rng(seed, 2), plan, start_bpm, meter, parts)
    cast = _Cast(_rng(seed, 3), chosen, meter)
    sections, bars = _plan(_rng(seed, 4), chosen, meter, parts, cast)
    performer = Performer(_rng(seed, 5), chosen, tempo_map, len(bars) * bar_steps(meter) * STEP_TICKS)
    who = [players_of_bar for p in parts for players_of_bar in p.players]
    _play(seed, chosen, cast, [p.initial for p in parts for _ in range(p.bars)], bars, who, performer)
    return Song(
        seed=seed,
        style=STYLE_NAMES.index(chosen.name) if chosen.name in STYLE_NAMES else -1,
        style_name=chosen.name,
        tempo=tempo_map,
        meter=meter,
        num_bars=len(bars),
        tracks=cast.tracks,
        notes=performer.finish(),
        chords=_merged([c for bar in bars for c in bar.chords]),
        sections=sections,
        players=tuple(who),
    )


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, _SALT, stream])


def _check(bpm: float | None, meter: Meter | None, players: tuple[str, ...] | None, tempo: str | None) -> None:
    if bpm is not None and not BPM_RANGE[0] <= bpm <= BPM_RANGE[1]:
        raise ValueError(f"bpm is {bpm}, allowed {BPM_RANGE[0]}..{BPM_RANGE[1]}")
    if meter is not None and meter not in METERS:
        raise ValueError(f"meter is {meter}, allowed {METERS}")
    if players is not None and (not players or set(players) - set(INSTRUMENTS)):
        raise ValueError(f"players is {players}, allowed one or more of {INSTRUMENTS}")
    if tempo is not None and tempo not in TEMPO_PLANS:
        raise ValueError(f"tempo is {tempo!r}, allowed {TEMPO_PLANS}")


def _draw_time(rng: np.random.Generator, style: Style, given: Meter | None) -> tuple[Meter, float]:
    meters = list(style.meters)
    meter = meters[int(rng.choice(len(meters), p=list(style.meters.values())))]
    bpm = float(np.round(rng.uniform(*style.bpm), 1 if rng.random() < 0.3 else 0))
    if (given or meter) == (6, 8) and (6, 8) not in style.grooves:
        bpm = min(BPM_RANGE[1], bpm * _BREATH)
    return meter, bpm


def _pick(rng: np.random.Generator, items: tuple[T, ...] | list[T]) -> T:
    return items[int(rng.integers(len(items)))]


class _Cast:
    """Who plays in this song: tracks with their programs, and the habits of each kind of section."""

    def __init__(self, rng: np.random.Generator, style: Style, meter: Meter) -> None:
        self.comps: list[Comping] = [c for i, c in enumerate(style.comping) if i == 0 or rng.random() < c.share]
        self.lead: Lead = _pick(rng, style.leads)
        tracks = [
            Track(name="kit", instrument="drums", program=_pick(rng, style.kits), level=style.drum_level),
            Track(name="bass", instrument="bass", program=_pick(rng, style.bass_programs), level=style.bass_level),
        ]
        for i, comp in enumerate(self.comps):
            tracks.append(
                Track(name=f"chords{i}", instrument="chords", program=_pick(rng, comp.programs), level=comp.level)
            )
        program = _pick(rng, self.lead.programs)
        tracks.append(Track(name="lead", instrument="lead", program=program, level=self.lead.level))
        self.tracks = tuple(
            Track(
                name=t.name,
                instrument=t.instrument,
                program=t.program,
                level=int(np.clip(t.level + rng.integers(-6, 7), 40, 127)),
            )
            for t in tracks
        )
        self.grooves_written = native(style.grooves, meter)
        self.bass_written = native(style.bass, meter)
        self.comps_written = [native(c.patterns, meter) for c in self.comps]
        self.lead_written = native(self.lead.patterns, meter) if self.lead.patterns else meter
        orders = [rng.permutation(len(style.grooves[self.grooves_written])) for _ in range(1)]
        self.grooves, self.basses, self.patterns, self.ideas = {}, {}, {}, {}
        for i, letter in enumerate("VCB"):
            grooves = style.grooves[self.grooves_written]
            self.grooves[letter] = grooves[int(orders[0][i % len(grooves)])]
            self.basses[letter] = _pick(rng, style.bass[self.bass_written])
            self.patterns[letter] = [
                _pick(rng, c.patterns[w]) for c, w in zip(self.comps, self.comps_written, strict=True)
            ]
            self.ideas[letter] = lead.idea(rng, self.lead, meter, self.lead_written)


def _plan(
    rng: np.random.Generator, style: Style, meter: Meter, parts: list[Part], cast: _Cast
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
    mode, bars = _pick(rng, style.progressions)
    alike = [p for p in style.progressions if p[0] == mode and p[1] != bars] or [(mode, bars)]
    chorus = _pick(rng, alike) if rng.random() < 0.8 else (mode, bars)
    away_mode, away_bars = _pick(rng, style.progressions)
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
    cast: _Cast,
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
                previous[k] = voice(tones, previous[k], centre=comp.centre, voices=comp.voices, spread=comp.spread)
                voicings[k].append(previous[k])
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


def _merged(chords: list[ChordSpan]) -> tuple[ChordSpan, ...]:
    """Without spans that only say again what holds."""
    out = chords[:1]
    for span in chords[1:]:
        if span.pitch_classes != out[-1].pitch_classes:
            out.append(span)
    return tuple(out)


def _play(
    seed: int,
    style: Style,
    cast: _Cast,
    initials: list[str],
    bars: list[Bar],
    who: list[frozenset[str]],
    performer: Performer,
) -> None:
    rngs = [_rng(seed, 10 + i) for i in range(3 + len(cast.comps))]
    low, high = style.bass_low + 5, cast.lead.centre
    for bar, initial, playing in zip(bars, initials, who, strict=True):
        habit = HABITS[initial]
        if "drums" in playing:
            hits = drums.play(rngs[0], style, cast.grooves[habit], cast.grooves_written, bar)
            performer.add("drums", 0, bar, hits)
        if "bass" in playing:
            hits, low = bass.play(rngs[1], style, cast.basses[habit], cast.bass_written, bar, low)
            performer.add("bass", 1, bar, hits)
        if "chords" in playing:
            for k, comp in enumerate(cast.comps):
                if k and comp.kinds and initial not in comp.kinds:
                    continue
                pattern, written = cast.patterns[habit][k], cast.comps_written[k]
                hits = comping.play(rngs[3 + k], style, comp, pattern, written, bar, k)
                performer.add("chords", 2 + k, bar, hits, strum_ms=comp.strum_ms)
        if "lead" in playing:
            hits, high = lead.play(rngs[2], style, cast.lead, cast.ideas[habit], bar, high)
            performer.add("lead", len(cast.tracks) - 1, bar, hits)
