"""Composer v1: a pure function of its seed, inside every range, and labels that say exactly what the events say."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music import HELDOUT_NAMES, HELDOUT_STYLES, STYLE_NAMES, STYLES, Song, compose, find
from attacca.training.music.form import TEMPO_PLANS
from attacca.training.music.harmony import chord, progression
from attacca.training.music.perform import MAX_OFFSET_S, MAX_STRUM_S, swung
from attacca.training.music.style import METERS, bar_of, bar_steps, native
from attacca.training.music.tempo import TICKS_PER_QUARTER

ALL_NAMES = STYLE_NAMES + HELDOUT_NAMES
seeds = st.integers(0, 2_000_000)
names = st.sampled_from(ALL_NAMES)
meters = st.sampled_from(METERS)


def _midi_bytes(song: Song) -> bytes:
    out = io.BytesIO()
    song.midi().save(file=out)
    return out.getvalue()


@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_same_seed_gives_same_song(seed: int) -> None:
    first, again = compose(seed), compose(seed)
    assert first == again
    assert _midi_bytes(first) == _midi_bytes(again)
    assert compose(seed + 1).notes != first.notes


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_style_plays_in_every_meter_inside_every_range(name: str) -> None:
    """And at the slowest and fastest tempo, for a new seed each."""
    style = find(name)
    for i, meter in enumerate(METERS):
        for bpm in (60.0, 180.0):
            song = compose(7 * i + int(bpm), style=name, meter=meter, bpm=bpm, min_seconds=12.0)
            _assert_sound(song)
            assert song.meter == meter and song.bpm == pytest.approx(bpm, rel=1e-5)
    own = compose(99, style=name, min_seconds=12.0)
    assert own.meter in style.meters
    assert 59.99 <= own.bpm <= 180.01


@settings(max_examples=30, deadline=None)
@given(seed=seeds, name=names, tempo=st.sampled_from(TEMPO_PLANS))
def test_events_are_consistent_with_the_plan(seed: int, name: str, tempo: str) -> None:
    song = compose(seed, style=name, tempo=tempo, min_seconds=30.0)
    _assert_sound(song)
    assert song.duration_s >= 30.0


def _assert_sound(song: Song) -> None:
    """Ranges, bounds of the performance, chords that hold their own notes, line-ups that play."""
    end = song.num_bars * song.bar_ticks
    starts = [c.start_ticks for c in song.chords]
    assert starts == sorted(set(starts)) and starts[0] == 0
    heard: list[set[str]] = [set() for _ in range(song.num_bars)]
    for note in song.notes:
        heard[note.grid_ticks // song.bar_ticks].add(note.instrument)
        early = min(note.start_ticks, note.grid_ticks)
        late = abs(song.tempo.seconds(note.start_ticks) - song.tempo.seconds(note.grid_ticks))
        assert late <= MAX_OFFSET_S + MAX_STRUM_S + 0.002 or early == 0
        assert 0 <= note.start_ticks < note.start_ticks + note.duration_ticks <= end
        assert 1 <= note.velocity <= 127
        assert song.tracks[note.track].instrument == note.instrument
        low, high = {"drums": (27, 87), "bass": (20, 60), "chords": (33, 100), "lead": (45, 100)}[note.instrument]
        assert low <= note.pitch <= high
        if note.instrument == "chords":
            sounding = max(i for i, start in enumerate(starts) if start <= note.grid_ticks)
            assert note.pitch % 12 in song.chords[sounding].pitch_classes
    assert heard == [set(who) for who in song.players]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, name=names, meter=meters, tempo=st.sampled_from(TEMPO_PLANS))
def test_labels_agree_with_exact_arithmetic(seed: int, name: str, meter: tuple[int, int], tempo: str) -> None:
    song = compose(seed, style=name, meter=meter, tempo=tempo, min_seconds=20.0)
    labels = song.controls(1000, 960, 48000)
    bar_quarters = Fraction(4 * meter[0], meter[1])
    starts = [c.start_ticks for c in song.chords]
    for t in range(0, 1000, 13):
        quarters = _quarters(song, Fraction(t * 960, 48000))
        bar = quarters // bar_quarters
        assert labels.bar_start_ppq[t] == float(bar * bar_quarters)
        assert labels.ppq[t] == pytest.approx(float(quarters), abs=1e-9)
        here = max(i for i, start in enumerate(starts) if start <= quarters * TICKS_PER_QUARTER)
        assert set(np.flatnonzero(labels.pitch_classes[t])) == set(song.chords[here].pitch_classes)
        assert tuple(labels.instruments[t]) == tuple(n in song.players[bar] for n in INSTRUMENTS)
        assert labels.chord_known[t] == bool(song.players[bar] - {"drums"})
    if name in STYLE_NAMES:
        assert STYLE_NAMES[labels.style[0]] == name and labels.style_known.all()
    else:
        assert not labels.style_known.any()


def _quarters(song: Song, seconds: Fraction) -> Fraction:
    """Walk the tempo map, slowly and exactly."""
    left = seconds
    stops = [*song.tempo.ticks[1:], None]
    for tick, tempo_us, stop in zip(song.tempo.ticks, song.tempo.tempo_us, stops, strict=True):
        quarter = Fraction(tempo_us, 1_000_000)
        length = None if stop is None else Fraction(stop - tick, TICKS_PER_QUARTER) * quarter
        if length is None or left < length:
            return Fraction(tick, TICKS_PER_QUARTER) + left / quarter
        left -= length
    raise AssertionError("unreachable")


@settings(max_examples=15, deadline=None)
@given(seed=seeds, name=names)
def test_the_chord_that_sounds_is_the_chord_in_the_labels(seed: int, name: str) -> None:
    """By the time its tones sound in bass and chords: of all transpositions the labelled one explains most."""
    song = compose(seed, style=name, players=INSTRUMENTS, min_seconds=24.0)
    edges = [*(c.start_ticks for c in song.chords), song.num_bars * song.bar_ticks]
    right = 0
    for i, span in enumerate(song.chords):
        weight = np.zeros(12)
        for note in song.notes:
            if note.instrument in ("bass", "chords") and edges[i] <= note.grid_ticks < edges[i + 1]:
                weight[note.pitch % 12] += note.duration_ticks * note.velocity
        shares = [sum(weight[(p + turn) % 12] for p in span.pitch_classes) for turn in range(12)]
        right += shares[0] == max(shares)
    walks = any("W" in p for patterns in find(name).bass.values() for p in patterns)  # through other tones
    assert right >= (0.85 if walks else 0.97) * len(song.chords)


@settings(max_examples=12, deadline=None)
@given(seed=seeds, name=names)
def test_bars_are_not_copies(seed: int, name: str) -> None:
    song = compose(seed, style=name, players=INSTRUMENTS, min_seconds=30.0)
    bars: list[list[tuple[str, int, int, int]]] = [[] for _ in range(song.num_bars)]
    for n in song.notes:
        place = n.grid_ticks % song.bar_ticks
        bars[n.grid_ticks // song.bar_ticks].append((n.instrument, n.pitch, place, n.velocity))
    assert len({tuple(sorted(b)) for b in bars}) == song.num_bars


@pytest.mark.parametrize("seed", range(4))
def test_players_who_come_and_go_change_nothing_else_of_the_plan(seed: int) -> None:
    calm, restless = compose(seed), compose(seed, switching=True)
    assert (calm.style, calm.meter, calm.num_bars) == (restless.style, restless.meter, restless.num_bars)
    assert calm.tempo == restless.tempo and calm.chords == restless.chords and calm.tracks == restless.tracks
    changes = [a != b for a, b in pairwise(restless.players)]
    assert sum(changes) >= len(changes) / 4 - 1  # nobody stays as they are for more than four bars
    assert max(len(list(same)) for _, same in groupby(restless.players)) <= 4
    for instrument in INSTRUMENTS:
        sounding = {
            note.grid_ticks // restless.bar_ticks for note in restless.notes if note.instrument == instrument
        }
        assert sounding <= {bar for bar, who in enumerate(restless.players) if instrument in who}


def test_what_training_draws_covers_styles_meters_tempi_and_never_the_held_out() -> None:
    songs = [compose(seed, min_seconds=8.0) for seed in range(400)]
    assert {s.style_name for s in songs} == set(STYLE_NAMES) and len(STYLE_NAMES) == 16
    assert {s.meter for s in songs} == set(METERS)
    assert sum(s.meter == (4, 4) for s in songs) > 240
    assert min(s.bpm for s in songs) < 66 and max(s.bpm for s in songs) > 170
    assert sum(len(s.tempo.ticks) > 1 for s in songs) > 40
    assert any(len({x.tonic for x in s.sections}) > 1 for s in songs)
    lineups = {who for s in songs for who in s.players}
    assert any("drums" not in who for who in lineups) and frozenset(INSTRUMENTS) in lineups
    apart = [compose(seed, min_seconds=8.0, heldout_styles=True) for seed in range(12)]
    assert {s.style_name for s in apart} == set(HELDOUT_NAMES)
    assert {s.style for s in apart} == {-1}
    assert not set(HELDOUT_NAMES) & set(STYLE_NAMES)


@pytest.mark.parametrize("style", (*STYLES, *HELDOUT_STYLES), ids=lambda s: s.name)
def test_tables_are_well_formed(style) -> None:  # type: ignore[no-untyped-def]
    tables = [(style.bass, "ROL357AW_.")]
    tables += [(c.patterns, "SmsxcC0123456789.") for c in style.comping]
    for each in style.leads:
        assert each.kind in ("melody", "riff", "arp", "solo", "stabs")
        assert bool(each.patterns) == (each.kind in ("riff", "arp", "stabs"))
        allowed = {"riff": "abcdefghiz.", "arp": "0123456789.", "stabs": "SmsxcC."}.get(each.kind, "")
        tables.append((each.patterns, allowed))
    tables += [
        ({m: tuple(p for g in grooves for p in g.values()) for m, grooves in style.grooves.items()}, "Xxort.")
    ]
    for table, allowed in tables:
        for written, patterns in table.items():
            for pattern in patterns:
                assert len(pattern) % bar_steps(written) == 0 and pattern, (style.name, pattern)
                assert set(pattern) <= set(allowed), (style.name, pattern)
                for meter in METERS:
                    source = native(table, meter)
                    if source == written:
                        assert len(bar_of(pattern, source, meter, 1)) == bar_steps(meter)
    for fill in style.fills:
        assert all(set(p) <= set("Xxort.") and len(p) <= 16 for p in fill.values())
    for mode, bars in style.progressions:
        assert len(progression(bars)) in (4, 8, 12), (mode, bars)
    assert abs(sum(style.meters.values()) - 1.0) < 1e-9
    assert 60 <= style.bpm[0] < style.bpm[1] <= 180


def test_swing_moves_only_the_second_of_a_pair() -> None:
    assert [swung(t, 1 / 3, 480) for t in (0, 240, 480, 720, 960, 1440)] == [0, 320, 640, 800, 960, 1600]
    assert [swung(t, 0.0, 240) for t in (0, 240, 377)] == [0, 240, 377]


def test_midi_states_every_tempo_and_the_meter() -> None:
    song = compose(5, style="ballad", tempo="ramp", min_seconds=30.0)
    file = song.midi(("bass",))
    head = list(file.tracks[0])
    assert tuple(m.tempo for m in head if m.type == "set_tempo") == song.tempo.tempo_us
    assert len(song.tempo.tempo_us) > 4
    assert [(m.numerator, m.denominator) for m in head if m.type == "time_signature"] == [song.meter]
    played = [m for track in file.tracks for m in track if m.type == "note_on"]
    assert len(played) == sum(n.instrument == "bass" for n in song.notes)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"style": "polka"}, "polka"),
        ({"bpm": 200.0}, "200"),
        ({"meter": (11, 8)}, "11"),
        ({"players": ("tuba",)}, "tuba"),
        ({"tempo": "rubato"}, "rubato"),
    ],
)
def test_values_outside_the_range_are_named(kwargs: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compose(0, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("symbol", ["VIII", "Ifoo", "H7", ""])
def test_what_is_no_numeral_is_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match=symbol or "Roman"):
        chord(symbol)


def test_labels_past_the_end_are_refused() -> None:
    song = compose(0, min_seconds=10.0)
    with pytest.raises(ValueError, match="bar"):
        song.controls(int(song.duration_s * 50) + 2)
