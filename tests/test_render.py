"""Rendering and the dataset: onsets where the labels say, effects that keep time and level, files that resume."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
from attacca.engine.conditioning import Controls
from attacca.training import dataset, render
from attacca.training.compose import Note, compose

needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")
KICK = 36


def _onset_s(audio: np.ndarray, around_s: float) -> float:
    """Where the signal first passes a fifth of its peak within -30..+40 ms of a time."""
    first = max(0, int((around_s - 0.03) * render.SAMPLE_RATE))
    window = np.abs(audio[first : int((around_s + 0.04) * render.SAMPLE_RATE)])
    return (first + int(np.argmax(window > 0.2 * window.max()))) / render.SAMPLE_RATE


@needs_fluidsynth
@pytest.mark.parametrize("bpm", [61.3, 97.0, 173.7])
def test_kick_onsets_align_with_labels(bpm: float) -> None:
    seconds = 30.0
    song = compose(7, style="house", bpm=bpm, meter=(4, 4), players=("drums",), min_seconds=seconds)
    kicks = tuple(n for n in song.notes if n.pitch == KICK and n.grid_ticks % 960 == 0)
    audio = render.render(replace(song, notes=kicks), int(seconds * render.SAMPLE_RATE))
    times = [song.seconds(n.grid_ticks) for n in kicks if song.seconds(n.grid_ticks) < seconds - 0.5]
    errors = np.array([_onset_s(audio, t) - t for t in times])
    assert len(errors) >= 28
    assert np.abs(errors).max() < 0.010
    assert abs(np.median(errors)) < 0.006
    drift = np.polyfit(np.array(times), errors, 1)[0] * seconds
    assert abs(drift) < 0.003


@needs_fluidsynth
def test_first_note_starts_at_sample_zero() -> None:
    song = compose(3, style="rock", min_seconds=5.0)
    note = Note(instrument="drums", pitch=37, velocity=120, grid_ticks=0, start_ticks=0, duration_ticks=200)
    audio = render.render(replace(song, notes=(note,)), render.SAMPLE_RATE)
    assert np.flatnonzero(np.abs(audio) > 1e-4)[0] < 0.004 * render.SAMPLE_RATE


@needs_fluidsynth
def test_stems_are_parts_of_the_mix() -> None:
    song = compose(4, style="synthpop", players=("drums", "bass"), min_seconds=4.0)
    length = 4 * render.SAMPLE_RATE
    mix = render.render(song, length)
    stems = [render.render(song, length, instruments=(name,)) for name in ("drums", "bass")]
    assert mix.shape == (length,) and mix.dtype == np.float32
    # not bit-equal: what else sounds changes FluidSynth's voices by about -54 dB of the mix
    assert render.level_db(mix - sum(stems)) < render.level_db(mix) - 40.0
    assert np.abs(render.render(song, length, instruments=("lead",))).max() == 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 1e-7, 0.01, 0.3, 4.0]))
def test_augment_is_finite_and_keeps_level(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    envelope = np.exp(-np.linspace(0, 6, 8000) % 1.5)
    audio = (scale * envelope * rng.standard_normal(8000)).astype(np.float32)
    out = render.augment(audio, rng)
    assert out.shape == audio.shape and out.dtype == np.float32
    assert np.isfinite(out).all() and np.abs(out).max() < 1.0
    if scale >= 0.01:
        assert -25.0 < render.level_db(out) < -9.0
    else:
        assert render.level_db(out) < -100.0


def test_augment_is_causal() -> None:
    audio = np.zeros(6000, dtype=np.float32)
    audio[3000:] = np.random.default_rng(0).standard_normal(3000)
    for seed in range(8):
        out = render.augment(audio, np.random.default_rng(seed))
        assert np.abs(out[:3000]).max() == 0.0
        assert np.abs(out[3000:3050]).max() > 0.0


@needs_fluidsynth
def test_dataset_resumes_and_reads_back(tmp_path: Path) -> None:
    assert dataset.build_dataset(tmp_path, [0, 1], workers=1, seconds=3.0) == 2
    songs = dataset.list_songs(tmp_path)
    assert [p.name for p in songs] == ["00000.npz", "00001.npz"]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".flac", ".flac", ".npz", ".npz"]
    before = (tmp_path / "00000.flac").read_bytes()
    songs[1].unlink()
    assert dataset.build_dataset(tmp_path, [0, 1, 2], workers=1, seconds=3.0) == 2
    assert (tmp_path / "00000.flac").read_bytes() == before
    audio, labels = dataset.load_song(songs[1])
    made, exact, _ = dataset.make_song(1, 3.0)
    assert audio.shape == (150 * dataset.HOP_SAMPLES,) and len(labels) == 150
    assert np.abs(audio - made).max() <= 1.0 / 32768
    for f in fields(Controls):
        np.testing.assert_array_equal(getattr(labels, f.name), getattr(exact, f.name))
    soundfile.write(songs[1].with_suffix(".flac"), audio[:-1], render.SAMPLE_RATE)
    with pytest.raises(ValueError, match="95999"):
        dataset.load_song(songs[1])
