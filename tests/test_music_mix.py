"""The mixing desk of composer v1: onsets by the sample through tempo ramps, stems, effects, songs on disk."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.training.music import Note, Song, catalogue, compose, effects, mixing, songs, soundfont, synth
from attacca.training.music.songs import Sheet
from attacca.training.music.soundfont import RenderError

RATE = 48000
STICK = 37


def _has_fluidsynth() -> bool:
    try:
        synth.library()
    except RenderError:
        return False
    return True


needs_fluidsynth = pytest.mark.skipif(not _has_fluidsynth(), reason="needs libfluidsynth")


def _clicks(song: Song) -> Song:
    """The song with nothing but a stick on each quarter, exactly on the grid."""
    quarters = range(0, song.num_bars * song.bar_ticks, 960)
    one = Note(
        instrument="drums", track=0, pitch=STICK, velocity=120, grid_ticks=0, start_ticks=0, duration_ticks=200
    )
    return replace(song, notes=tuple(replace(one, grid_ticks=q, start_ticks=q) for q in quarters))


@needs_fluidsynth
@pytest.mark.parametrize("tempo", ["steady", "steps", "ramp", "drift"])
def test_onsets_are_where_the_tempo_map_says(tempo: str) -> None:
    """Every click within one block of its sample, through ramps too, and no drift over half a minute."""
    song = _clicks(compose(11, style="rock", tempo=tempo, players=("drums",), min_seconds=32.0))
    assert (len(song.tempo.ticks) > 1) == (tempo != "steady")
    dry = synth.play(song, 30 * RATE)[0].mean(axis=0)
    places = np.array([song.tempo.sample(n.start_ticks, RATE) for n in song.notes])
    places = places[places < 29 * RATE]
    found = []
    for place in places:
        window = np.abs(dry[max(0, place - 500) : place + 1500])
        found.append(max(0, place - 500) + int(np.argmax(window > 0.3 * window.max())))
    late = np.array(found) - places
    assert np.abs(late - np.median(late)).max() <= synth.BLOCK_SAMPLES
    assert 0 <= np.median(late) < 0.004 * RATE
    assert abs(np.polyfit(places, late, 1)[0] * 30 * RATE) < 16


@needs_fluidsynth
def test_tuning_is_heard() -> None:
    song = compose(4, style="ambient", players=("lead",), min_seconds=6.0)
    number = len(song.tracks) - 1
    tracks = tuple(replace(t, program=16) if i == number else t for i, t in enumerate(song.tracks))
    note = Note(
        instrument="lead", track=number, pitch=69, velocity=100, grid_ticks=0, start_ticks=0, duration_ticks=3800
    )
    song = replace(song, tracks=tracks, notes=(note,))
    for cents in (0.0, 37.0, -80.0):
        x = synth.play(song, 2 * RATE, cents=[np.full(20, cents)] * len(song.tracks))[number].mean(axis=0)
        spectrum = np.abs(np.fft.rfft(x[RATE // 2 :] * np.hanning(len(x) - RATE // 2), 1 << 20))
        hz = np.fft.rfftfreq(1 << 20, 1 / RATE)
        near = (hz > 400) & (hz < 480)
        peak = hz[near][np.argmax(spectrum[near])]
        assert 1200 * np.log2(peak / 440.0) == pytest.approx(cents, abs=3.0)


@needs_fluidsynth
def test_a_song_is_the_same_twice_and_its_stems_are_its_parts() -> None:
    song = compose(2_000_017, style="disco", players=("drums", "bass", "chords"), min_seconds=7.0)
    mix = replace(mixing.draw_mix(song), ratio=1.0, drive=0.0, noise_db=-120.0, level_db=-30.0, tilt_db=0.0)
    length = 6 * RATE
    first, stems = mixing.render(song, length, stems=True, mix=mix)
    again, _ = mixing.render(song, length, stems=True, mix=mix)
    assert np.array_equal(first, again)
    plain, none = mixing.render(song, length, mix=mix)
    assert np.abs(plain - first).max() < 1e-4 and none == {}
    assert first.shape == (2, length) and first.dtype == np.float32
    total = sum(stems.values()) * 10 ** ((mix.level_db + 18.0) / 20)
    assert effects.level_db(first - total) < effects.level_db(first) - 60.0
    assert not stems["lead"].any()
    assert all(effects.level_db(stems[name]) > -45.0 for name in ("drums", "bass", "chords"))
    assert set(stems) == set(INSTRUMENTS)


@needs_fluidsynth
@pytest.mark.parametrize("style", ["metal", "ambient"])
def test_songs_are_finite_stereo_at_a_level(style: str) -> None:
    song = compose(31, style=style, min_seconds=9.0)
    out, _ = mixing.render(song, 8 * RATE)
    assert np.isfinite(out).all() and np.abs(out).max() < 1.0
    assert -27.0 < effects.level_db(out) < -9.0
    assert effects.level_db(out[0] - out[1]) > -60.0


def test_desks_differ_by_seed_and_style_and_repeat() -> None:
    a, b = compose(1, style="funk", min_seconds=8.0), compose(2, style="funk", min_seconds=8.0)
    assert mixing.draw_mix(a) == mixing.draw_mix(a) != mixing.draw_mix(b)
    curves = mixing.tunings(a, replace(mixing.draw_mix(a), drift_cents=3.0, tuning_cents=7.0), 40.0)
    assert len(curves) == len(a.tracks) and np.all(curves[0] == 7.0)
    assert 0.8 < np.std(curves[2]) < 7.0 and np.abs(np.diff(curves[2])).max() < 4.0


def test_ducking_falls_with_each_kick_and_recovers() -> None:
    song = compose(3, style="house", bpm=120.0, players=("drums",), meter=(4, 4), min_seconds=8.0)
    gain = mixing.ducking(song, 0.5, 6 * RATE, RATE)
    kicks = [song.tempo.sample(n.start_ticks, RATE) for n in song.notes if n.pitch == 36]
    beats = [k for k in kicks if RATE < k < 5 * RATE]
    assert all(gain[k + 400] < 0.6 for k in beats) and gain.max() == 1.0 and gain.min() >= 0.5
    assert np.all(mixing.ducking(song, 0.0, RATE, RATE) == 1.0)


def test_sections_move_the_fader_at_their_bar_lines() -> None:
    song = compose(8, style="rock", min_seconds=30.0)
    gain = mixing.automation(song, 30 * RATE, RATE)
    for section in song.sections:
        start = song.tempo.sample(section.first_bar * song.bar_ticks, RATE) + round(0.04 * RATE)
        if start < 30 * RATE:
            assert 20 * np.log10(gain[start]) == pytest.approx(0.4 * section.level_db, abs=0.01)


def _tone(level: float, seconds: float = 2.0, hz: float = 220.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return np.stack([level * np.sin(2 * np.pi * hz * t)] * 2).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(level=st.floats(0.02, 0.9), ratio=st.floats(1.2, 8.0))
def test_the_compressor_settles_on_its_curve(level: float, ratio: float) -> None:
    x = _tone(level, hz=4000.0)  # many waves to a millisecond
    out = effects.compress(x, RATE, threshold_db=-20.0, ratio=ratio, attack_ms=5.0, release_ms=50.0, knee_db=0.01)
    over = max(0.0, effects.level_db(x) + 20.0)
    expected = effects.level_db(x) - over * (1.0 - 1.0 / ratio)
    assert effects.level_db(out[:, RATE:]) == pytest.approx(expected, abs=0.6)


def test_effects_are_causal_and_keep_their_length() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((2, 30000), dtype=np.float32)
    x[:, 20000:] = 0.5 * rng.standard_normal((2, 10000))
    response = effects.room(rng, RATE, seconds=0.5, predelay_ms=10.0, damping=0.5)
    made = {
        "tilt": effects.tilt(x, 5.0, RATE),
        "saturate": effects.saturate(x, 0.7),
        "compress": effects.compress(x, RATE, threshold_db=-30.0, ratio=4.0, attack_ms=5.0, release_ms=80.0),
        "chorus": effects.chorus(x, RATE, depth_ms=3.0, speed_hz=1.0, mix=0.5, phase=0.2),
        "reverberate": effects.reverberate(x, response),
        "pan": effects.pan(x, 0.3, 0.5),
        "limit": effects.limit(x),
    }
    for name, out in made.items():
        assert out.shape == x.shape and out.dtype == np.float32, name
        assert np.abs(out[:, :20000]).max() < 1e-5, name
        assert np.abs(out[:, 20000:]).max() > 1e-3, name


def test_a_room_dies_by_sixty_decibels_in_its_time() -> None:
    response = effects.room(np.random.default_rng(1), RATE, seconds=1.0, predelay_ms=0.0, damping=0.6)
    early = effects.level_db(response[:, round(0.10 * RATE) : round(0.15 * RATE)])
    late = effects.level_db(response[:, round(0.80 * RATE) : round(0.85 * RATE)])
    assert early - late == pytest.approx(42.0, abs=4.0)
    assert abs(np.corrcoef(response)[0, 1]) < 0.2


def test_pan_keeps_power_and_takes_sides() -> None:
    x = _tone(0.3)
    for position in (-1.0, -0.4, 0.0, 0.7, 1.0):
        out = effects.pan(x, position, 1.0)
        assert np.square(out).sum() == pytest.approx(np.square(x).sum(), rel=1e-4)
        assert (np.square(out[1]).sum() > np.square(out[0]).sum()) == (position > 0)


@needs_fluidsynth
def test_songs_on_disk_resume_and_read_back(tmp_path: Path) -> None:
    sheet = Sheet(seconds=3.0, stems=True)
    assert songs.build(tmp_path, [0, 1], sheet, workers=1, label="x") == 2
    assert songs.build(tmp_path, [0, 1, 2], sheet, workers=1, label="x") == 1
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"0000{i}.{e}" for i in range(3) for e in ("flac", "npz", "stems.flac")]
    found, made = songs.load_song(tmp_path / "00001.npz", stems=True), songs.make_song(1, sheet)
    assert found.audio.shape == (3 * RATE, 2) and len(found.controls) == 150
    assert np.abs(found.audio - made.audio).max() <= 1.0 / 32768
    assert made.stems is not None and found.stems is not None and found.stems.shape == (3 * RATE, 8)
    assert np.array_equal(found.sounding, made.sounding) and found.about == made.about
    for f in fields(Controls):
        np.testing.assert_array_equal(getattr(found.controls, f.name), getattr(made.controls, f.name))
    assert not (found.sounding & ~found.controls.instruments)[:140].any(axis=0).all()


@needs_fluidsynth
def test_other_formats_and_held_out_styles() -> None:
    mono = songs.make_song(5, Sheet(seconds=2.0, rate=32000, channels=1))
    assert mono.audio.shape == (64000, 1) and mono.controls.style_known.all() and mono.stems is None
    apart = songs.make_song(songs.HELDOUT_STYLE_SEED, Sheet(seconds=2.0, heldout_styles=True))
    assert apart.about["style"] in ("blues", "synthwave") and not apart.controls.style_known.any()
    ranges = (catalogue.train_seeds(1000), catalogue.heldout_seeds(1000), songs.heldout_style_seeds(1000))
    assert len({seed for seeds in ranges for seed in seeds}) == 3000


def test_what_is_sounding_is_what_is_held() -> None:
    song = compose(6, style="swing", min_seconds=12.0)
    found = songs.sounding(song, 500)
    slow = np.zeros((500, 4), dtype=bool)
    for n in song.notes:
        start, stop = song.seconds(n.start_ticks), song.seconds(n.start_ticks + n.duration_ticks)
        for t in range(max(0, int(start * 50) - 1), min(500, int(stop * 50) + 2)):
            if t / 50 <= stop and (t + 1) / 50 > start:
                slow[t, INSTRUMENTS.index(n.instrument)] = True
    assert np.mean(found == slow) > 0.999


@pytest.mark.parametrize(("kwargs", "said"), [({"rate": 44101}, "44101"), ({"channels": 3}, "3")])
def test_sheets_outside_the_range_are_refused(kwargs: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sheet(**kwargs)  # type: ignore[arg-type]


def test_a_missing_soundfont_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(soundfont.SOUNDFONT_VARIABLE, str(tmp_path / "none.sf2"))
    with pytest.raises(RenderError, match=r"none\.sf2"):
        soundfont.find_soundfont()
    monkeypatch.delenv(soundfont.SOUNDFONT_VARIABLE)
    monkeypatch.setattr(soundfont, "_SOUNDFONTS", (tmp_path / "a.sf2",))
    with pytest.raises(RenderError, match="fluid-soundfont-gm"):
        soundfont.find_soundfont()


def test_training_seeds_end_before_the_held_out_ones() -> None:
    assert not set(catalogue.train_seeds(20_000)) & set(catalogue.heldout_seeds(2_000))
    with pytest.raises(ValueError, match="1000001"):
        catalogue.train_seeds(1_000_001)


def test_the_picture_of_the_styles(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from attacca.training.music.figure import draw_styles

    draw_styles(tmp_path / "styles.png")
    assert (tmp_path / "styles.png").stat().st_size > 60_000
