"""The scorecard's beats on sounds whose beats are known: clicks, a real riff, rendered songs, moving tempi."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from scored_sounds import RATE, bent, clicks, controls_of, needs_fluidsynth, riff

from attacca.training.music.composer import compose
from attacca.training.music.mixing import render
from benchmarks import harmony, onsets


@settings(max_examples=8, deadline=None)
@given(bpm=st.floats(50, 200), phase=st.floats(0.2, 1.0), seed=st.integers(0, 99))
def test_beats_of_a_click_track_are_found_to_8_ms(bpm: float, phase: float, seed: int) -> None:
    beat_s = 60.0 / bpm
    times = np.arange(phase * beat_s, 9.5, beat_s)
    gains = np.random.default_rng(seed).uniform(0.3, 1.0, len(times))
    picked = onsets.pick_beats(clicks(times, 10.0, gains), beat_s)
    assert len(picked) == len(times)
    assert np.abs(picked - times).max() < 0.008


def test_silence_has_no_beats_and_no_chord() -> None:
    silence = np.zeros(RATE)
    assert len(onsets.pick_beats(silence, 0.5)) == 0
    assert harmony.chord_scores(silence, controls_of(50, 120.0)) == (0.0, 0.0)


def test_accents_decide_not_the_stream_of_eighths() -> None:
    eighths = np.arange(0.25, 16.0, 0.25)
    on_beat = np.isclose(eighths % 0.5, 0.0)
    controls = controls_of(800, 120.0)
    right = clicks(eighths, 16.0, np.where(on_beat, 1.0, 0.3))
    wrong = clicks(eighths, 16.0, np.where(on_beat, 0.3, 1.0))
    for tolerance in (0.07, 0.025):
        assert onsets.grid_scores(right, 0, controls)[0][tolerance] == 1.0
        assert onsets.grid_scores(wrong, 0, controls)[0][tolerance] == 0.0


def test_chance_is_the_tolerance_over_the_beat() -> None:
    sound = clicks(np.arange(0.5, 16.0, 0.5), 16.0)
    _, chance = onsets.grid_scores(sound, 0, controls_of(800, 120.0))
    assert chance[0.07] == pytest.approx(2 * 0.07 / 0.5, abs=0.03)
    assert chance[0.025] == pytest.approx(2 * 0.025 / 0.5, abs=0.03)


def test_late_playing_fails_the_narrow_tolerance_only() -> None:
    late = clicks(np.arange(0.5, 16.0, 0.5) + 0.045, 16.0)
    scores, _ = onsets.grid_scores(late, 0, controls_of(800, 120.0))
    assert scores == {0.07: 1.0, 0.025: 0.0}


def test_a_real_riff_stands_on_its_grid_and_on_no_other() -> None:
    audio, controls, _ = riff()
    scores, chance = onsets.grid_scores(audio, 0, controls)
    assert scores[0.07] >= 0.9 and scores[0.025] >= 0.9
    assert chance[0.07] < 0.4 and chance[0.025] < 0.2
    other, _ = onsets.grid_scores(audio, 0, controls_of(len(controls), 97.0))
    assert other[0.07] < 0.5


@needs_fluidsynth
@pytest.mark.parametrize(("style", "bpm"), [("rock", 131.0), ("trap", 72.0), ("house", 120.0)])
def test_picks_are_notes_that_were_played(style: str, bpm: float) -> None:
    """In a rendered song nearly every pick lies at a known note onset, and most picks are the beats."""
    seconds = 14.0
    song = compose(11, style=style, bpm=bpm, meter=(4, 4), players=("drums", "bass"), min_seconds=seconds + 1.0)
    audio = render(song, int(seconds * RATE), rate=RATE)[0].mean(axis=0)
    played = np.array(sorted({song.seconds(n.start_ticks) for n in song.notes}))
    picked = onsets.pick_beats(audio, 60.0 / bpm)
    nearest = np.array([np.abs(played - t).min() for t in picked])
    assert np.mean(nearest < 0.012) > 0.9
    scores, chance = onsets.grid_scores(audio, 0, song.controls(int(seconds * 50)))
    assert scores[0.07] > 0.6 and chance[0.025] < 0.2


@pytest.mark.parametrize("meter", [(4, 4), (6, 8), (7, 8)])
@pytest.mark.parametrize("first", [0, 137])
def test_commanded_beats_follow_the_tempo_map(meter: tuple[int, int], first: int) -> None:
    song = bent(meter)
    frames = 900
    exact = sorted(
        song.seconds(bar * song.bar_ticks + round(quarters * 960)) - first * 0.02
        for bar in range(song.num_bars)
        for quarters in onsets.pulses(*meter)
    )
    expected = [t for t in exact if 0.0 <= t < (frames - first) * 0.02]
    assert onsets.beat_times(song.controls(frames).slice(first, frames)) == pytest.approx(expected, abs=1e-6)


def test_beats_of_a_moving_tempo_are_found_and_a_steady_grid_is_not_theirs() -> None:
    controls = bent().controls(1000)
    sound = clicks(onsets.beat_times(controls)[1:], 20.0)
    scores, chance = onsets.grid_scores(sound, 0, controls)
    assert scores == {0.07: 1.0, 0.025: 1.0} and chance[0.025] < 0.2
    steady, _ = onsets.grid_scores(sound, 0, controls_of(1000, 97.0))
    assert steady[0.025] < 0.4


def test_only_what_lies_where_drums_play_is_counted() -> None:
    """Beats in the first half only: half of all is found, all of those where drums are commanded."""
    sound = clicks(np.arange(0.5, 8.0, 0.5), 16.0)
    grid = onsets.Grid.of(sound, 0, controls_of(800, 120.0))
    drums = np.arange(800) < 400
    half = grid.where(drums)
    assert half is not None and half.score(0.025) == 1.0 and grid.score(0.025) < 0.75
    assert grid.where(np.arange(800) < 50) is None


def test_the_cut_itself_earns_nothing() -> None:
    """Noise switched on at the join is an onset on the beat; nothing else is there to be found."""
    join = 4 * RATE
    audio = np.concatenate([np.zeros(join), 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)])
    score, _ = onsets.grid_scores(audio, join, controls_of(400, 60.0))
    assert score[0.025] < 0.35


@pytest.mark.parametrize(
    ("meter", "quarters"),
    [
        ((4, 4), [0, 1, 2, 3]),
        ((5, 4), [0, 1, 2, 3, 4]),
        ((3, 2), [0, 2, 4]),
        ((6, 8), [0, 1.5]),
        ((9, 8), [0, 1.5, 3]),
        ((7, 8), [0, 1, 2]),
        ((5, 8), [0, 1]),
    ],
)
def test_main_pulses(meter: tuple[int, int], quarters: list[float]) -> None:
    assert onsets.pulses(*meter).tolist() == quarters


@pytest.mark.parametrize("meter", [(4, 4), (3, 4), (5, 4), (6, 8), (7, 8)])
@pytest.mark.parametrize("first", [0, 137])
def test_commanded_beats_are_the_composers(meter: tuple[int, int], first: int) -> None:
    song = compose(5, bpm=97.3, meter=meter, min_seconds=12.0)
    frames = 550
    exact = sorted(
        song.seconds(bar * song.bar_ticks + round(quarters * 960)) - first * 0.02
        for bar in range(song.num_bars)
        for quarters in onsets.pulses(*meter)
    )
    expected = [t for t in exact if 0.0 <= t < (frames - first) * 0.02]
    assert onsets.beat_times(song.controls(frames).slice(first, frames)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    a=st.lists(st.integers(0, 40), max_size=5, unique=True),
    b=st.lists(st.integers(0, 40), max_size=5, unique=True),
    tolerance=st.integers(0, 6),
)
def test_f1_uses_the_largest_matching(a: list[int], b: list[int], tolerance: int) -> None:
    a, b = sorted(a), sorted(b)
    best = 0
    for size in range(1, min(len(a), len(b)) + 1):  # between points on a line, matching in order loses nothing
        for left in combinations(a, size):
            if any(
                all(abs(x - y) <= tolerance for x, y in zip(left, right, strict=True))
                for right in combinations(b, size)
            ):
                best = size
    expected = 2 * best / (len(a) + len(b)) if a or b else 0.0
    assert onsets.f1_score(np.array(a, float), np.array(b, float), float(tolerance)) == pytest.approx(expected)
