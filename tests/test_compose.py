"""The composer: deterministic, within its ranges, and labels that say exactly what the events say."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.compose import STYLE_NAMES, Song, compose
from attacca.training.compose.harmony import Key, voice
from attacca.training.compose.song import NUM_STYLES, TICKS_PER_QUARTER
from attacca.training.compose.styles import METER_CELLS, STYLES, bar_pattern

seeds = st.integers(0, 2_000_000)


def _midi_bytes(song: Song) -> bytes:
    out = io.BytesIO()
    song.midi().save(file=out)
    return out.getvalue()


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_same_seed_gives_same_song(seed: int) -> None:
    first, again = compose(seed), compose(seed)
    assert first == again
    assert _midi_bytes(first) == _midi_bytes(again)
    assert compose(seed + 1).notes != first.notes


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds, meter=st.sampled_from(list(METER_CELLS)), bpm=st.floats(60, 180), style=st.sampled_from(STYLE_NAMES)
)
def test_labels_agree_with_exact_arithmetic(seed: int, meter: tuple[int, int], bpm: float, style: str) -> None:
    song = compose(seed, style=style, bpm=bpm, meter=meter, min_seconds=20.0)
    labels = song.controls(900)
    bar_quarters = Fraction(4 * meter[0], meter[1])
    starts = [c.start_ticks for c in song.chords]
    for t in range(0, 900, 7):
        quarters = Fraction(t * 640, 32000) * Fraction(1_000_000, song.tempo_us)
        bar = quarters // bar_quarters
        assert labels.bar_start_ppq[t] == float(bar * bar_quarters)
        assert labels.ppq[t] == pytest.approx(float(quarters), abs=1e-12)
        chord = max(i for i, start in enumerate(starts) if start <= quarters * TICKS_PER_QUARTER)
        assert set(np.flatnonzero(labels.pitch_classes[t])) == set(song.chords[chord].pitch_classes)
        assert tuple(labels.instruments[t]) == tuple(name in song.players[bar] for name in INSTRUMENTS)
        assert labels.chord_known[t] == bool(song.players[bar] - {"drums"})
    assert (labels.meter_num[0], labels.meter_den[0]) == meter
    assert labels.bpm[0] == pytest.approx(bpm, rel=1e-5)
    assert STYLE_NAMES[labels.style[0]] == style


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_events_are_consistent_with_the_plan(seed: int) -> None:
    song = compose(seed)
    end = song.num_bars * song.bar_ticks
    starts = [c.start_ticks for c in song.chords]
    heard: list[set[str]] = [set() for _ in range(song.num_bars)]
    for note in song.notes:
        bar = note.grid_ticks // song.bar_ticks
        heard[bar].add(note.instrument)
        assert abs(song.seconds(note.start_ticks - note.grid_ticks)) <= 0.005
        assert note.start_ticks >= 0
        assert note.duration_ticks > 0
        assert note.start_ticks + note.duration_ticks <= end
        assert 1 <= note.velocity <= 127
        if note.instrument == "chords":
            sounding = max(i for i, start in enumerate(starts) if start <= note.grid_ticks)
            assert note.pitch % 12 in song.chords[sounding].pitch_classes
    for who, planned in zip(heard, song.players, strict=True):
        assert who <= planned
        assert planned - {"lead"} <= who  # a lead may rest for a bar
    assert song.duration_s >= 46.0


@settings(max_examples=15, deadline=None)
@given(seed=seeds, style=st.sampled_from(STYLE_NAMES))
def test_bars_are_not_copies(seed: int, style: str) -> None:
    song = compose(seed, style=style, players=INSTRUMENTS)
    bars: list[list[tuple[str, int, int]]] = [[] for _ in range(song.num_bars)]
    exact: list[list[tuple[str, int, int, int]]] = [[] for _ in range(song.num_bars)]
    for n in song.notes:
        place = n.grid_ticks % song.bar_ticks
        bars[n.grid_ticks // song.bar_ticks].append((n.instrument, n.pitch, place))
        exact[n.grid_ticks // song.bar_ticks].append((n.instrument, n.pitch, place, n.velocity))
    assert len({tuple(sorted(b)) for b in exact}) == song.num_bars
    assert len({tuple(sorted(b)) for b in bars}) >= 0.9 * song.num_bars


def test_styles_tempi_and_meters_are_covered() -> None:
    songs = [compose(seed) for seed in range(320)]
    assert {s.style for s in songs} == set(range(NUM_STYLES))
    assert {s.meter for s in songs} == set(METER_CELLS)
    assert sum(s.meter == (4, 4) for s in songs) > 160
    bpms = [s.bpm for s in songs]
    assert min(bpms) >= 59.99 and max(bpms) <= 180.01
    assert min(bpms) < 66 and max(bpms) > 170
    lineups = {who for s in songs for who in s.players}
    assert any("drums" not in who for who in lineups) and frozenset(INSTRUMENTS) in lineups


def test_midi_states_tempo_and_meter_exactly() -> None:
    song = compose(5, bpm=123.0, meter=(7, 8))
    file = song.midi(("bass",))
    head = list(file.tracks[0])
    assert [m.tempo for m in head if m.type == "set_tempo"] == [song.tempo_us] == [round(60e6 / 123)]
    assert [(m.numerator, m.denominator) for m in head if m.type == "time_signature"] == [(7, 8)]
    assert file.ticks_per_beat == TICKS_PER_QUARTER
    played = [m for track in file.tracks for m in track if m.type == "note_on"]
    assert len(played) == sum(n.instrument == "bass" for n in song.notes)


@given(tonic=st.integers(0, 11), minor=st.booleans(), size=st.sampled_from([3, 4]), degree=st.integers(0, 6))
def test_voicings_hold_every_chord_tone_once(tonic: int, minor: bool, size: int, degree: int) -> None:
    key = Key(tonic=tonic, minor=minor, size=size)
    tones = key.chord(degree)
    first = voice(tones, None, 60)
    assert sorted(p % 12 for p in first) == sorted(tones) and len(set(tones)) == size
    following = voice(key.chord(degree + 3), first, 60)
    moves = [abs(a - b) for a, b in zip(first, following, strict=True)]
    assert max(moves) <= 7


@pytest.mark.parametrize("meter", list(METER_CELLS))
def test_every_pattern_fills_every_meter(meter: tuple[int, int]) -> None:
    for style in STYLES:
        patterns = [p for groove in style.grooves for p in groove.values()] + list(style.bass + style.chords)
        for pattern in patterns:
            assert len(pattern) == 16, (style.name, pattern)
            assert len(bar_pattern(pattern, meter)) == 16 * meter[0] // meter[1]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"style": "polka"}, "polka"),
        ({"bpm": 200.0}, "200"),
        ({"meter": (11, 8)}, "11"),
        ({"players": ("tuba",)}, "tuba"),
    ],
)
def test_values_outside_the_range_are_named(kwargs: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compose(0, **kwargs)  # type: ignore[arg-type]


def test_labels_past_the_end_are_refused() -> None:
    song = compose(0, min_seconds=10.0)
    with pytest.raises(ValueError, match="bar"):
        song.controls(int(song.duration_s * 50) + 2)
