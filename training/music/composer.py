"""Composer v1: a song is a pure function of its seed and the arguments; the top of training/music's composing half.

Order: style, meter, tempo and form; then harmony and voicings bar by bar; then the players; then the performance.
Each draws from a generator of its own, seeded by the song's seed, so that a change of one leaves the others' draws.
"""

from __future__ import annotations

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music import bass, comping, drums, lead
from attacca.training.music.cast import Cast
from attacca.training.music.chart import draw_chart, merged
from attacca.training.music.form import (
    FASTEST,
    HABITS,
    TEMPO_PLANS,
    draw_comings,
    draw_form,
    draw_tempo,
)
from attacca.training.music.perform import Performer
from attacca.training.music.plan import Bar
from attacca.training.music.song import Song
from attacca.training.music.style import METERS, SKINS, Meter, Style, bar_steps
from attacca.training.music.styles import HELDOUT_STYLES, STYLE_NAMES, STYLES, find
from attacca.training.music.tempo import BPM_RANGE, STEP_TICKS

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
    switching: bool = False,
) -> Song:
    """A song of whole sections, at least `min_seconds` long, the same for the same arguments.

    style: a name of STYLE_NAMES or HELDOUT_NAMES; bpm: quarters per minute at the start, in BPM_RANGE; meter: one
    of METERS; players: who plays throughout, in place of a form's line-ups; tempo: one of TEMPO_PLANS ("steady"
    where a bpm is given); switching: players come and go all the time. What is not given is drawn; styles are drawn
    from the trained ones, or with `heldout_styles` from the held-out ones. Raises ValueError outside these.
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
    if switching:
        parts = draw_comings(_rng(seed, 6), parts)
    tempo_map = draw_tempo(_rng(seed, 2), plan, start_bpm, meter, parts)
    cast = Cast(_rng(seed, 3), chosen, meter)
    sections, bars = draw_chart(_rng(seed, 4), chosen, meter, parts, cast)
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
        chords=merged([c for bar in bars for c in bar.chords]),
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


def _play(
    seed: int,
    style: Style,
    cast: Cast,
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
            performer.add("drums", 0, bar, [hit for hit in hits if hit.pitch in SKINS])
            performer.add("drums", 1, bar, [hit for hit in hits if hit.pitch not in SKINS])
        if "bass" in playing:
            hits, low = bass.play(rngs[1], style, cast.basses[habit], cast.bass_written, bar, low)
            performer.add("bass", 2, bar, hits)
        if "chords" in playing:
            for k, comp in enumerate(cast.comps):
                if k and comp.kinds and initial not in comp.kinds:
                    continue
                pattern, written = cast.patterns[habit][k], cast.comps_written[k]
                hits = comping.play(rngs[3 + k], style, comp, pattern, written, bar, k)
                performer.add("chords", 3 + k, bar, hits, strum_ms=comp.strum_ms)
        if "lead" in playing:
            hits, high = lead.play(rngs[2], style, cast.lead, cast.ideas[habit], bar, high)
            performer.add("lead", len(cast.tracks) - 1, bar, hits)
