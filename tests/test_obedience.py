"""Obedience over time, on sounds and controls whose answer is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from attacca.engine.bundle import Model, load_bundle
from attacca.engine.conditioning import Controls
from attacca.engine.generator import Sampling
from attacca.training.compose import compose
from attacca.training.render import render
from benchmarks import obedience, onsets, quality, scores, songs
from benchmarks.ears import Ears
from benchmarks.model import encode_audio

RATE = 32000
TINY = Path(__file__).parent / "data" / "tiny"
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_bundle(TINY)


def controls_of(seed: int, bpm: float, meter: tuple[int, int]) -> Controls:
    return compose(seed, bpm=bpm, meter=meter, min_seconds=31.0).controls(1500)


@pytest.mark.parametrize("meter", [(4, 4), (7, 8), (6, 8)])
def test_controls_go_on_exactly(meter: tuple[int, int]) -> None:
    controls = controls_of(5, 97.0, meter)
    bar = 4.0 * meter[0] / meter[1]
    join = int(np.flatnonzero(controls.bar_start_ppq == 2 * bar)[0])
    longer = obedience.go_on(controls, join, 5000)
    assert len(longer) == join + 5000
    for name in ("ppq", "bpm", "meter_num"):
        np.testing.assert_allclose(getattr(longer, name)[:1500], getattr(controls, name))
    np.testing.assert_array_equal(longer.bar_start_ppq[:1500], controls.bar_start_ppq)
    bars = min(8, int((controls.ppq[-1] - 2 * bar) / bar))
    kept = min(1500, int(np.searchsorted(controls.ppq, (2 + bars) * bar)))
    np.testing.assert_array_equal(longer.pitch_classes[:kept], controls.pitch_classes[:kept])
    again = int(np.searchsorted(longer.ppq, (2 + bars) * bar + 0.5 * bar))
    first = int(np.searchsorted(longer.ppq, 2 * bar + 0.5 * bar))
    np.testing.assert_array_equal(longer.pitch_classes[again], longer.pitch_classes[first])
    assert (longer.instruments[join:] == controls.instruments[join]).all()
    with pytest.raises(ValueError, match="no whole bar"):
        obedience.go_on(controls.slice(0, join + 3), join, 10)


def test_a_tempo_step_bends_the_grid_where_it_is_commanded() -> None:
    controls = controls_of(5, 100.0, (4, 4))
    join = int(np.flatnonzero(controls.bar_start_ppq == 8.0)[0])
    step = join + 240  # 4.8 s: two bars at 100
    bent = obedience.go_on(controls, join, 900, changes=[obedience.Change(frame=step, bpm=130.0)])
    beats = onsets.beat_times(bent)
    before, after = beats[beats < step * 0.02 - 0.1], beats[beats > step * 0.02 + 0.1]
    np.testing.assert_allclose(np.diff(before), 0.6, atol=1e-4)
    np.testing.assert_allclose(np.diff(after), 60.0 / 130.0, atol=1e-4)


def clicks(times_s: np.ndarray, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    audio = 1e-4 * rng.standard_normal(round(seconds * RATE))
    for time_s in times_s:
        part = audio[round(time_s * RATE) :][:3200]
        part += (0.3 * rng.standard_normal(3200) * np.exp(-np.arange(3200) / 500))[: len(part)]
    return audio


def test_drift_is_what_was_put_in() -> None:
    controls = obedience.go_on(controls_of(5, 120.0, (4, 4)), 0, 32 * 100)
    beats = onsets.beat_times(controls)
    for drift_s in (0.0, 0.03, -0.02):
        moved = beats + 0.03 - 0.03 * (drift_s < 0) + drift_s * beats / beats[-1]
        found = obedience.drift_ms(clicks(np.clip(moved[1:], 0, None), 64.0), controls)
        assert found == pytest.approx(1000.0 * drift_s * (1 - 8 / 32), abs=5.0)  # the picker hops by 5 ms
    assert obedience.drift_ms(np.zeros(64 * RATE), controls) is None


def test_si_sdr_counts_decibels_and_forgets_level() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.standard_normal(100_000), rng.standard_normal(100_000)
    assert obedience.si_sdr_db(signal, 3.0 * (signal + 0.1 * noise)) == pytest.approx(20.0, abs=0.1)
    assert obedience.si_sdr_db(signal, noise) < -30.0
    with pytest.raises(ValueError, match="one length"):
        obedience.si_sdr_db(signal, noise[:-1])


def test_switching_changes_one_player_from_the_join_on() -> None:
    controls = controls_of(5, 97.0, (4, 4))
    off = obedience.switched(controls, 300, 1, on=False)
    assert not off.instruments[300:, 1].any() and off.instruments_known[300:].all()
    np.testing.assert_array_equal(off.instruments[:300], controls.instruments[:300])
    np.testing.assert_array_equal(off.instruments[300:, [0, 2, 3]], controls.instruments[300:, [0, 2, 3]])
    case = songs.cut(np.zeros(1500 * 640, np.float32), controls, seed=3)
    playing = controls.instruments[case.join]
    for player, on in obedience.switches(case):
        assert playing[player] != on


def test_a_surprise_is_as_if_nothing_had_been_planned(tiny: Model) -> None:
    """What was planned under the old command leaves no trace: the new command's music equals one commanded so."""
    controls = controls_of(5, 120.0, (4, 4))
    audio = np.random.default_rng(0).standard_normal(300 * 640).astype(np.float32) * 0.1
    context = encode_audio(tiny.codec, audio)
    steady = obedience.go_on(controls, 300, 120)
    changed = obedience.go_on(controls, 300, 120, changes=[obedience.Change(frame=360, bpm=150.0)])
    sampling = Sampling(seed=3)
    twice = [obedience.continue_under(tiny, context, [(300, steady), (360, changed)], sampling) for _ in range(2)]
    alone = obedience.continue_under(tiny, context, [(300, steady)], sampling)
    hop = 640
    np.testing.assert_array_equal(twice[0], twice[1])
    np.testing.assert_array_equal(twice[0][: 50 * hop], alone[: 50 * hop])
    assert np.abs(twice[0][80 * hop :] - alone[80 * hop :]).max() > 0.0


@needs_fluidsynth
def test_the_ears_hear_who_plays() -> None:
    """Of rendered songs that nobody trained on; the share is far from chance for drums and bass."""
    ears = Ears.load()
    right = []
    for seed in range(1_000_200, 1_000_206):
        for players in (("drums", "bass"), ("chords", "lead"), ("drums", "chords")):
            song = compose(seed, bpm=110.0, meter=(4, 4), players=players, min_seconds=9.0)
            heard = ears.players(render(song, 8 * RATE)) > 0.5
            truth = [name in players for name in ("drums", "bass", "chords", "lead")]
            right.append((heard == truth).mean(axis=0))
    assert np.mean(right, axis=0)[0] > 0.9
    assert np.mean(right) > 0.7
    assert set(ears.skill) == {"style", "players", "notes"} and ears.skill["players"] > 0.8


@needs_fluidsynth
def test_the_scorecard_has_every_measure(tiny: Model) -> None:
    cases = [songs.load_case(seed, longest_s=5.0) for seed in (1_000_000, 1_000_001)]
    bench = scores.Bench(
        model=tiny, untrained=tiny.codec, ears=Ears.load(), drift_songs=2, drift_bars=16, step_songs=1
    )
    done = quality.score_songs(bench, cases)
    assert 0.0 <= done[0].rows["model"]["tempo_step_f1"] <= 1.0 and "tempo_step_f1" not in done[1].rows["model"]
    for song in done:
        presence = song.rows["model"]["instrument_presence"]
        assert presence + song.rows["chance"]["instrument_presence"] == pytest.approx(1.0)
