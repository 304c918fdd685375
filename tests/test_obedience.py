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
from attacca.training.music.composer import compose
from attacca.training.music.songs import Sheet, make_song
from benchmarks import matching, obedience, onsets, quality, report, scores, songs, variation
from benchmarks.ears import Ears
from benchmarks.model import encode_audio

RATE = 32000
TINY = Path(__file__).parent / "data" / "tiny"
ALL_PLAY = compose(5, bpm=100.0, players=("drums", "bass", "chords", "lead"), min_seconds=3.0).controls(50)
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_bundle(TINY)


def controls_of(seed: int, bpm: float, meter: tuple[int, int]) -> Controls:
    return compose(seed, bpm=bpm, meter=meter, min_seconds=31.0).controls(1500, 640, RATE)


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
        assert found == pytest.approx(1000.0 * drift_s * (1 - 8 / 32), abs=2.0)
    assert obedience.drift_ms(np.zeros(64 * RATE), controls) is None


def test_a_long_take_that_ends_twice_as_loud_rises_by_six_decibels() -> None:
    controls = obedience.go_on(controls_of(5, 120.0, (4, 4)), 0, 32 * 100)
    audio = clicks(onsets.beat_times(controls)[1:], 64.0)
    louder = audio * np.linspace(1.0, 2.0, len(audio)).round()
    scores = obedience.long_scores(louder, audio[: 8 * RATE], controls)
    assert scores["level_rise_db_64_bars"] == pytest.approx(6.0, abs=0.5)
    assert scores["drift_ms_64_bars"] < 2.0
    silent = obedience.long_scores(0.0 * audio, audio, controls)
    assert "drift_ms_64_bars" not in silent and silent["level_rise_db_64_bars"] < -60.0


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


def test_switched_in_and_out_stand_apart(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each share goes to its own measure, the whole is their mean, chance is the model's opposite."""
    case = songs.cut(np.zeros(1500 * 640, np.float32), controls_of(5, 97.0, (4, 4)), seed=3)
    shares = {(1, False): 0.25, (2, True): 0.75}
    monkeypatch.setattr(obedience, "switches", lambda case: list(shares))
    monkeypatch.setattr(obedience, "play_switch", lambda *args, on: np.zeros(1))
    monkeypatch.setattr(obedience, "real_switch", lambda case, player, *, on: np.ones(1) if on else None)
    monkeypatch.setattr(obedience, "switch_share", lambda ears, sound, player, *, on: shares[player, on] + sound[0])
    made = scores.SongScores(seed=3, about="", audio={"no_conditioning": np.asarray(case.audio)})
    scores._score_switches(scores.Bench(model=tiny), Ears(weights={}, skill={}), case, np.zeros((0, 4)), made)
    apart = {"instrument_presence_off": 0.25, "instrument_presence_on": 0.75, "instrument_presence": 0.5}
    for row in ("model", "guidance_1", "no_conditioning"):
        assert made.rows[row] == apart
    assert made.rows["real"] == {"instrument_presence_on": 1.75, "instrument_presence": 1.75}
    assert made.rows["chance"] == {name: 1.0 - share for name, share in apart.items()}


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
def test_a_song_that_steps_is_on_its_own_grid_and_not_on_the_steady_one() -> None:
    made = obedience.step_song(1_000_003, rate=RATE, channels=1)
    case = made.case
    bpm = case.controls.bpm
    assert (bpm[: made.step] == 100.0).all() and bpm[made.step :] == pytest.approx(130.0, abs=1e-3)
    np.testing.assert_array_equal(made.steady.ppq[: made.step], case.controls.ppq[: made.step])
    np.testing.assert_array_equal(made.steady.bpm, 100.0)
    assert case.join * 0.02 == pytest.approx(7.2) and (made.step - case.join) * 0.02 == pytest.approx(9.6)
    assert case.stop - made.step == pytest.approx(8 * 4 * 60 / 130 / 0.02, abs=1.0)
    sound = case.heard[case.join_heard :]
    after = (made.step - case.join) * 640
    assert obedience.step_grid(made, sound).score(0.07) > 0.8
    steady = onsets.Grid.of(sound, after, made.steady.slice(made.step, case.stop))
    assert steady.score(0.07) < 0.7


def vamp_case(bpm: float = 120.0) -> songs.Case:
    controls = controls_of(5, bpm, (4, 4))
    audio = np.random.default_rng(0).standard_normal(1500 * 640).astype(np.float32) * 0.1
    return songs.cut(audio, controls, seed=7, longest_s=4.0)


def test_overlap_is_the_share_of_what_came_back() -> None:
    case = vamp_case()
    vamp = variation.make_vamp(case, 0.5, 640, RATE)
    frames = vamp.beat_frame(24) - case.join  # the phrase of two bars, then two passes
    assert frames == 24 * 25
    rng = np.random.default_rng(0)
    phrase = rng.integers(16, size=(200, 4)).astype(np.uint16)
    assert variation.overlap(vamp, case, np.tile(phrase, (3, 1))) == 1.0
    half = np.concatenate([phrase, phrase, (phrase + 1) % 16])
    assert variation.overlap(vamp, case, half) == 0.5
    assert variation.overlap(vamp, case, rng.integers(16, size=(600, 4)).astype(np.uint16)) < 0.15


def test_more_variation_repeats_less(tiny: Model) -> None:
    case = vamp_case(150.0)
    context = encode_audio(tiny.codec, case.audio)[: case.join]
    found = variation.vamp_overlaps(tiny, case, context, Sampling(seed=1))
    assert found[0.0] > 0.97 > found[0.5] > found[1.0]
    assert variation.vamp_overlaps(tiny, case, context, Sampling(seed=1), known=False).keys() == found.keys()


def short_case(seed: int, seconds: float = 14.0) -> songs.Case:
    """The opening of a song that nobody trained on, 32 kHz mono."""
    return songs.as_case(
        make_song(seed, Sheet(seconds=seconds, rate=RATE, channels=1)), rate=RATE, channels=1, longest_s=5.0
    )


@pytest.mark.slow
@needs_fluidsynth
def test_a_song_goes_on_as_itself_and_a_stranger_does_not() -> None:
    """Over a few songs: the real continuation fits its context better than another song's, by every measure."""
    ears = Ears.load()
    cases = [short_case(seed) for seed in range(1_000_000, 1_000_006)]
    own, strangers = [], []
    for case, other in zip(cases, [*cases[1:], cases[0]], strict=True):
        after = np.resize(other.heard[other.join_heard :], len(case.heard) - case.join_heard)
        own.append(matching.match_scores(ears, case, case.heard))
        strangers.append(matching.match_scores(ears, case, np.concatenate([case.heard[: case.join_heard], after])))
    for name, sign in (("continuation_style", 1), ("continuation_players", 1), ("continuation_level_db", -1)):
        assert sign * np.mean([s[name] for s in own]) > sign * np.mean([s[name] for s in strangers])
    assert np.mean([s["players_as_commanded"] for s in own]) > 0.7


@pytest.mark.slow
@needs_fluidsynth
def test_the_ears_hear_who_plays() -> None:
    """In songs that nobody trained on, with and without a player."""
    ears = Ears.load()
    right = []
    for seed in range(1_000_200, 1_000_203):
        for player in range(4):
            case = songs.Case(seed=seed, about="", audio=np.zeros(0), controls=ALL_PLAY, join=0, stop=1)
            sound = obedience.real_switch(case, player, on=False)
            assert sound is not None
            right.append(obedience.switch_share(ears, sound, player, on=False))
    assert np.mean(right) > 0.7
    assert set(ears.skill) >= {"style", "players", "notes"} and ears.skill["players"] > 0.8


@pytest.mark.slow
@needs_fluidsynth
def test_the_scorecard_has_every_measure(tiny: Model) -> None:
    cases = [short_case(seed) for seed in (1_000_000, 1_000_001)]
    bench = scores.Bench(
        model=tiny,
        untrained=tiny.codec,
        ears=Ears.load(),
        drift_seeds=(1_000_000, 1_000_001),
        drift_bars=16,
        step_songs=1,
        switch_songs=2,
        variation_songs=1,
    )
    made = report.make_report(quality.score_songs(bench, cases), tiny.manifest, seconds=1.0)
    first, second = (song["scores"]["model"] for song in made["songs"])
    assert 0.0 <= first["tempo_step_f1"] <= 1.0 and "tempo_step_f1" not in second
    dear = {"tempo_step_f1", "instrument_presence", "variation_0.5", "continuation_style", "players_as_commanded"}
    for row in ("model", "guidance_1", "no_conditioning"):
        rows = made["songs"][0]["scores"][row]
        assert dear <= set(rows)
        assert 0.9 < rows["variation_0"] <= 1.0
    assert made["variation"]["model"]["0"] > made["variation"]["model"]["1"] > made["chance"]["variation_1"] / 4
    assert {"tempo_step_f1", "instrument_presence", "continuation_style"} <= set(made["songs"][0]["scores"]["real"])
    presence = first["instrument_presence"]
    assert presence + made["songs"][0]["scores"]["chance"]["instrument_presence"] == pytest.approx(1.0)
    assert made["songs_counted"]["model"]["instrument_presence"] == 2
    for song, case in zip(made["songs"], cases, strict=True):
        for row in ("model", "guidance_1", "no_conditioning", "real"):
            found = song["scores"][row]
            apart = [found[f"instrument_presence_{'on' if on else 'off'}"] for _, on in obedience.switches(case)]
            assert found["instrument_presence"] == pytest.approx(np.mean(apart))
