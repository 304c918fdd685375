"""Composer v1's parts: exact tempo maps, chords and voice leading, and styles that measured features tell apart."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music import HELDOUT_STYLES, STYLE_NAMES, STYLES, Song, compose
from attacca.training.music.harmony import candidates, chord, movement, pentatonic, progression, scale_over, voice
from attacca.training.music.style import KICK, OPEN, SNARE
from attacca.training.music.tempo import STEP_TICKS, TICKS_PER_QUARTER, TempoMap, build, steady, to_us

bpms = st.floats(60.0, 180.0)


@st.composite
def tempo_maps(draw: st.DrawFn) -> TempoMap:
    changes, tick = [], 0
    for _ in range(draw(st.integers(0, 5))):
        tick += STEP_TICKS * draw(st.integers(1, 40))
        ramp = STEP_TICKS * draw(st.integers(0, 64))
        changes.append((tick, ramp, draw(bpms)))
        tick += ramp
    return build(draw(bpms), changes)


@settings(max_examples=80, deadline=None)
@given(tempo=tempo_maps(), tick=st.integers(0, 400_000), rate=st.sampled_from([32000, 44100, 48000]))
def test_ticks_and_samples_are_exact_inverses(tempo: TempoMap, tick: int, rate: int) -> None:
    """Against a sum of fractions: time of a tick, its first sample, and the tick at that sample."""
    total = Fraction(0)
    for at, stop, tempo_us in zip(tempo.ticks, [*tempo.ticks[1:], 10**9], tempo.tempo_us, strict=True):
        total += Fraction(max(0, min(tick, stop) - at) * tempo_us, 1_000_000 * TICKS_PER_QUARTER)
    assert tempo.seconds(tick) == total
    sample = tempo.sample(tick, rate)
    assert sample - 1 < total * rate <= sample
    found, ppq, _ = tempo.at_samples(np.array([sample, max(0, sample - 1)]), rate)
    assert found[0] >= tick and (found[1] < tick or tick == 0)
    assert tempo.seconds(int(found[0])) <= Fraction(sample, rate) < tempo.seconds(int(found[0]) + 1)
    assert found[0] / TICKS_PER_QUARTER <= ppq[0] < (found[0] + 1) / TICKS_PER_QUARTER


def test_a_ramp_climbs_a_sixteenth_at_a_time_and_arrives() -> None:
    tempo = build(100.0, [(3840, 3840, 132.0), (11520, 0, 90.0)])
    assert tempo.us_at(0) == to_us(100.0) and tempo.us_at(3840) == to_us(100.0)
    climb = [60e6 / tempo.us_at(3840 + STEP_TICKS * i) for i in range(17)]
    assert climb == pytest.approx([100.0 + 2.0 * i for i in range(17)], rel=1e-5)
    assert tempo.us_at(11519) == to_us(132.0) and tempo.us_at(11520) == to_us(90.0)
    assert steady(120.0).seconds(960) == Fraction(1, 2)


@pytest.mark.parametrize(
    "broken", [((0, 5, 5), (500000,) * 3), ((3,), (500000,)), ((0,), (900,)), ((0, 4), (500000,))]
)
def test_broken_tempo_maps_are_refused(broken: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="temp"):
        TempoMap(ticks=broken[0], tempo_us=broken[1])


_SYMBOLS = sorted(
    {c.symbol for s in (*STYLES, *HELDOUT_STYLES) for _, b in s.progressions for x in progression(b) for c in x}
)


@settings(max_examples=60, deadline=None)
@given(
    symbols=st.lists(st.sampled_from(_SYMBOLS), min_size=2, max_size=6),
    tonic=st.integers(0, 11),
    voices=st.integers(3, 4),
    centre=st.integers(55, 70),
)
def test_no_voicing_moves_less(symbols: list[str], tonic: int, voices: int, centre: int) -> None:
    """Every tone is there, in range; what was chosen costs least, and a free choice would move hardly less."""
    previous = None
    for symbol in symbols:
        tones = chord(symbol).tones(tonic)
        chosen = voice(tones, previous, centre=centre, voices=voices, spread=17)
        assert {p % 12 for p in chosen} == set(tones)
        assert (
            len(chosen) == (len(tones) if voices <= len(tones) else len(tones) + 1) and chosen[-1] - chosen[0] <= 17
        )
        assert all(abs(p - centre) <= 12 for p in chosen)
        if previous is not None:
            least = min(movement(previous, o) for o in candidates(tones, voices, centre - 12, centre + 12, 17))
            assert movement(previous, chosen) <= least + 6  # what the pull to the centre may cost
        previous = chosen


@given(st.lists(st.integers(48, 72), min_size=3, max_size=4, unique=True), st.data())
def test_movement_is_the_cheapest_pairing(before: list[int], data: st.DataObject) -> None:
    after = data.draw(st.lists(st.integers(48, 72), min_size=len(before), max_size=len(before), unique=True))
    cheapest = min(sum(abs(a - b) for a, b in zip(before, order, strict=True)) for order in permutations(after))
    assert movement(tuple(sorted(before)), tuple(sorted(after))) == cheapest


def test_songs_are_led_smoothly() -> None:
    """Chord to chord, a voice moves by less than two and a half semitones on average, in every style."""
    for style in STYLES:
        comp = style.comping[0]
        how = {"centre": comp.centre, "voices": comp.voices, "spread": comp.spread}
        moves = []
        for mode_bars in style.progressions:
            previous = None
            for bar in progression(mode_bars[1]) * 2:
                for each in bar:
                    after = voice(each.tones(0), previous, **how)
                    if previous is not None:
                        moves.append(movement(previous, after) / len(after))
                    previous = after
        assert np.mean(moves) < 2.5, (style.name, np.mean(moves))


def test_scales_bend_to_the_chord() -> None:
    assert scale_over(0, "minor", chord("V7").tones(0)) == (0, 2, 3, 5, 7, 8, 11)
    assert scale_over(0, "major", chord("ii7").tones(0)) == (0, 2, 4, 5, 7, 9, 11)
    assert set(chord("II7").tones(0)) <= set(scale_over(0, "major", chord("II7").tones(0)))
    assert pentatonic(0, "major") == (0, 2, 4, 7, 9) and pentatonic(9, "minor") == (0, 2, 4, 7, 9)
    assert 6 in pentatonic(0, "mixolydian", blues=True)


def _features(song: Song) -> np.ndarray:
    """What an ear goes by: where in the bar who strikes, on which sounds, how dense, how swung, how fast."""
    bins = 16
    groups = {"kick": (35, KICK), "snare": (37, SNARE, 39, 40), "hat": (42, 44, OPEN, 51, 53)}
    out: list[np.ndarray] = []
    pools = [[n for n in song.notes if n.instrument == "drums" and n.pitch in g] for g in groups.values()]
    rest = {p for g in groups.values() for p in g}
    pools.append([n for n in song.notes if n.instrument == "drums" and n.pitch not in rest])
    pools += [[n for n in song.notes if n.instrument == name] for name in INSTRUMENTS[1:]]
    for pool in pools:
        where = np.zeros(bins)
        for n in pool:
            where[round(n.grid_ticks % song.bar_ticks * bins / song.bar_ticks) % bins] += n.velocity / 100.0
        out.append(where / max(1.0, song.num_bars))
        out.append(np.array([np.mean([n.duration_ticks for n in pool]) / 960 if pool else 0.0]))
    for name in INSTRUMENTS[1:]:
        families = np.zeros(16)
        for track in song.tracks:
            families[track.program // 8] += track.instrument == name
        out.append(0.7 * families)
    odd = [n.grid_ticks % 480 / 240 - 1 for n in song.notes if 200 < n.grid_ticks % 480 < 400]
    swung = [n.grid_ticks % 960 / 480 - 1 for n in song.notes if 440 < n.grid_ticks % 960 < 700]
    sizes = [len(c.pitch_classes) for c in song.chords]
    out.append(
        np.array(
            [
                3.0 * np.log2(song.bpm / 110.0),
                10.0 * float(np.mean(odd or [0])),
                10.0 * float(np.mean(swung or [0])),
                np.mean(sizes) - 3.0,
                song.meter[0] / song.meter[1] * 2.0,
                len(song.chords) / song.num_bars,
            ]
        )
    )
    return np.concatenate(out)


def test_styles_are_told_apart_by_the_nearest_centroid() -> None:
    """Songs of seeds that gave no centroid: more than nine in ten are of the style whose centroid is nearest."""
    learned = {n: [_features(compose(s, style=n, min_seconds=24.0)) for s in range(8)] for n in STYLE_NAMES}
    everything = np.concatenate([np.array(v) for v in learned.values()])
    scale = np.sqrt(np.mean([np.var(v, axis=0) for v in learned.values()], axis=0)) + 0.15
    centres = np.array([np.mean(v, axis=0) for v in learned.values()])
    assert everything.shape[0] == 8 * len(STYLE_NAMES)
    confused = []
    for number, name in enumerate(STYLE_NAMES):
        for seed in range(1000, 1005):
            one = _features(compose(seed, style=name, min_seconds=24.0))
            found = int(np.argmin(np.square((centres - one) / scale).sum(axis=1)))
            if found != number:
                confused.append((name, STYLE_NAMES[found], seed))
    assert len(confused) < 0.1 * 5 * len(STYLE_NAMES), confused


def test_voices_of_a_song_hold_together() -> None:
    """A comping track's voices in the song itself: chords change, few voices leap."""
    song = compose(21, style="ballad", players=("chords",), min_seconds=40.0)
    bars: dict[int, set[int]] = {}
    for note in song.notes:
        if song.tracks[note.track].name == "chords0":
            bars.setdefault(note.grid_ticks // song.bar_ticks, set()).add(note.pitch)
    ranges = [(min(p), max(p)) for _, p in sorted(bars.items())]
    assert all(abs(a[0] - b[0]) <= 9 for a, b in pairwise(ranges))
