"""Composes a song from a seed: style, key, form and harmony, then the players bar by bar, then the performance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.compose import parts
from attacca.training.compose.harmony import Key, choose_key, phrase, voice
from attacca.training.compose.song import TICKS_PER_QUARTER, ChordSpan, Note, Song
from attacca.training.compose.styles import METER_CELLS, STYLE_NAMES, STYLES, Style

BPM_RANGE = (60.0, 180.0)
_MAX_JITTER_S = 0.005
_JITTER_S = 0.0012  # standard deviation
# Who plays in a section: initials of INSTRUMENTS, and how often. Drums are mostly in: beats must be learned.
_LINEUPS = (("dbcl", 0.3), ("dbc", 0.32), ("dcl", 0.05), ("dbl", 0.03), ("dc", 0.06), ("db", 0.08))
_LINEUPS += (("d", 0.03), ("bcl", 0.05), ("bc", 0.05), ("c", 0.03))


@dataclass(frozen=True, kw_only=True)
class _Section:
    bars: int
    kind: str  # sections of a kind share harmony and ideas
    players: frozenset[str]


def compose(
    seed: int,
    *,
    style: str | None = None,
    bpm: float | None = None,
    meter: tuple[int, int] | None = None,
    players: tuple[str, ...] | None = None,
    min_seconds: float = 46.0,
) -> Song:
    """A song of whole sections, at least `min_seconds` long, the same for the same arguments.

    style: one of STYLE_NAMES; bpm: quarter notes per minute in BPM_RANGE; meter: a key of METER_CELLS; players:
    who plays throughout, in place of a drawn form. What is not given is drawn. Raises ValueError outside these.
    """
    _check(style, bpm, meter, players)
    rng = np.random.default_rng([seed, 0])
    number = int(rng.integers(len(STYLES))) if style is None else STYLE_NAMES.index(style)
    chosen = STYLES[number]
    drawn_meter, drawn_bpm = _draw_time(rng, chosen)
    meter = meter or drawn_meter
    tempo_us = round(60e6 / (bpm or drawn_bpm))
    key = choose_key(rng, chosen)
    bar_ticks = TICKS_PER_QUARTER * 4 * meter[0] // meter[1]
    bar_s = bar_ticks / TICKS_PER_QUARTER * tempo_us / 1e6
    sections = _form(np.random.default_rng([seed, 1]), math.ceil(min_seconds / bar_s), bar_s, players)
    bars = _plan(np.random.default_rng([seed, 2]), chosen, key, meter, sections)
    notes = _play(seed, chosen, key, sections, bars, tempo_us)
    programs = {
        "drums": int(rng.choice(chosen.kits)),
        "bass": int(rng.choice(chosen.bass_programs)),
        "chords": int(rng.choice(chosen.chord_programs)),
        "lead": int(rng.choice(chosen.lead_programs)),
    }
    return Song(
        seed=seed,
        style=number,
        style_name=chosen.name,
        tempo_us=tempo_us,
        meter=meter,
        num_bars=len(bars),
        programs=programs,
        levels={
            name: min(127, level + int(rng.integers(-6, 7)))
            for name, level in zip(INSTRUMENTS, chosen.levels, strict=True)
        },
        notes=notes,
        chords=tuple(chord for bar in bars for chord in bar.chords),
        players=tuple(s.players for s in sections for _ in range(s.bars)),
    )


def _check(
    style: str | None, bpm: float | None, meter: tuple[int, int] | None, players: tuple[str, ...] | None
) -> None:
    if style is not None and style not in STYLE_NAMES:
        raise ValueError(f"style is {style!r}, allowed {STYLE_NAMES}")
    if bpm is not None and not BPM_RANGE[0] <= bpm <= BPM_RANGE[1]:
        raise ValueError(f"bpm is {bpm}, allowed {BPM_RANGE[0]}..{BPM_RANGE[1]}")
    if meter is not None and meter not in METER_CELLS:
        raise ValueError(f"meter is {meter}, allowed {tuple(METER_CELLS)}")
    if players is not None and (not players or set(players) - set(INSTRUMENTS)):
        raise ValueError(f"players is {players}, allowed one or more of {INSTRUMENTS}")


def _draw_time(rng: np.random.Generator, style: Style) -> tuple[tuple[int, int], float]:
    meters = list(style.meters)
    meter = meters[int(rng.choice(len(meters), p=list(style.meters.values())))]
    bpm = float(np.round(rng.uniform(*style.bpm), 1 if rng.random() < 0.3 else 0))
    if meter == (6, 8):  # its pulse is a dotted quarter: quarters pass faster at the same feel
        bpm = min(BPM_RANGE[1], bpm * 1.3)
    return meter, bpm


def _form(rng: np.random.Generator, num_bars: int, bar_s: float, players: tuple[str, ...] | None) -> list[_Section]:
    names = {name[0]: name for name in INSTRUMENTS}
    lineups = [frozenset(names[letter] for letter in letters) for letters, _ in _LINEUPS]
    weights = [weight for _, weight in _LINEUPS]
    sections: list[_Section] = []
    while sum(s.bars for s in sections) < num_bars:
        who = lineups[int(rng.choice(len(lineups), p=weights))]
        while sections and who == sections[-1].players:
            who = lineups[int(rng.choice(len(lineups), p=weights))]
        if len(sections) == 1:
            who = lineups[0]  # everyone is heard at least once
        bars = 8 if bar_s < 1.8 and rng.random() < 0.4 else 4
        who = frozenset(players) if players else who
        sections.append(_Section(bars=bars, kind="AABABC"[len(sections) % 6], players=who))
    return sections


def _plan(
    rng: np.random.Generator, style: Style, key: Key, meter: tuple[int, int], sections: list[_Section]
) -> list[parts.Bar]:
    phrases = {kind: phrase(rng, style, 8) for kind in "ABC"}
    degrees = [phrases[s.kind][i] for s in sections for i in range(s.bars)]
    firsts = [i == 0 for s in sections for i in range(s.bars)]
    lasts = [i % 4 == 3 for s in sections for i in range(s.bars)]
    widths = [width for _, width in METER_CELLS[meter]]
    bar_steps = sum(widths)
    half = sum(widths[: (len(widths) + 1) // 2])
    bars: list[parts.Bar] = []
    voicing: tuple[int, ...] | None = None
    for i, here in enumerate(degrees):
        start = i * bar_steps * parts.STEP_TICKS
        chords, voicings = [], []
        for j, degree in enumerate(here):
            tones = key.chord(degree)
            voicing = voice(tones, voicing, style.chord_centre)
            chords.append(ChordSpan(start_ticks=start + j * half * parts.STEP_TICKS, pitch_classes=tones))
            voicings.append(voicing)
        following = degrees[(i + 1) % len(degrees)][0]
        bars.append(
            parts.Bar(
                meter=meter,
                start_ticks=start,
                chords=tuple(chords),
                voicings=tuple(voicings),
                next_root=key.chord(following)[0],
                first_of_section=firsts[i],
                last_of_phrase=lasts[i],
            )
        )
    return bars


def _play(
    seed: int, style: Style, key: Key, sections: list[_Section], bars: list[parts.Bar], tempo_us: int
) -> tuple[Note, ...]:
    rngs = {name: np.random.default_rng([seed, 3, i]) for i, name in enumerate(INSTRUMENTS)}
    performer = _Performer(np.random.default_rng([seed, 4]), style, tempo_us, bars)
    # A groove, a bass line and a chord rhythm per kind of section, and two ideas for the lead
    habits = {}
    for kind in "ABC":
        groove = style.grooves[int(rngs["drums"].integers(len(style.grooves)))]
        line = style.bass[int(rngs["bass"].integers(len(style.bass)))]
        comping = style.chords[int(rngs["chords"].integers(len(style.chords)))]
        ideas = [parts.motif(rngs["lead"], style, bars[0].meter) for _ in range(2)]
        habits[kind] = (groove, line, comping, ideas)
    near, number = style.lead_centre, 0
    for section in sections:
        groove, line, comping, ideas = habits[section.kind]
        for i in range(section.bars):
            bar = bars[number]
            number += 1
            if "drums" in section.players:
                performer.add("drums", bar, parts.drums(rngs["drums"], style, groove, bar))
            if "bass" in section.players:
                performer.add("bass", bar, parts.bass(rngs["bass"], style, line, bar))
            if "chords" in section.players:
                performer.add("chords", bar, parts.chords(rngs["chords"], style, comping, bar))
            if "lead" in section.players:
                hits, near = parts.lead(rngs["lead"], style, key, ideas[i % 4 // 2 if i % 4 < 3 else 0], bar, near)
                performer.add("lead", bar, hits)
    return tuple(sorted(performer.notes, key=lambda n: (n.start_ticks, n.instrument, n.pitch)))


class _Performer:
    """Turns hits on the grid into notes: swing, velocity by hand, jitter of at most 5 ms; kept in the song."""

    def __init__(self, rng: np.random.Generator, style: Style, tempo_us: int, bars: list[parts.Bar]) -> None:
        self.notes: list[Note] = []
        self._rng = rng
        self._swing_ticks = round(style.swing * parts.STEP_TICKS)
        self._ticks_per_s = TICKS_PER_QUARTER * 1e6 / tempo_us
        self._end_ticks = bars[-1].start_ticks + bars[-1].steps * parts.STEP_TICKS

    def add(self, instrument: str, bar: parts.Bar, hits: list[parts.Hit]) -> None:
        """Perform one bar of one instrument."""
        jitters: dict[int, int] = {}  # notes of one chord or stroke stay together
        for step, length, pitch, velocity in hits:
            grid = bar.start_ticks + step * parts.STEP_TICKS + (self._swing_ticks if step % 2 else 0)
            if step not in jitters:
                jitter_s = np.clip(self._rng.normal(0.0, _JITTER_S), -_MAX_JITTER_S, _MAX_JITTER_S)
                jitters[step] = int(jitter_s * self._ticks_per_s)
            start = max(0, grid + jitters[step])
            duration = max(20, round(length * parts.STEP_TICKS))
            self.notes.append(
                Note(
                    instrument=instrument,
                    pitch=int(pitch),
                    velocity=int(np.clip(velocity + self._rng.normal(0.0, 5.0), 1, 127)),
                    grid_ticks=grid,
                    start_ticks=start,
                    duration_ticks=min(duration, self._end_ticks - start),
                )
            )
