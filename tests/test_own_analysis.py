"""What is estimated of a user's audio against what is known of it; broken files; a folder as a dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from own_music import CHORDS, RATE, make_music, write_folder

pytest.importorskip("librosa")
pytest.importorskip("torch")

from attacca.engine.bundle import load_bundle
from attacca.engine.channels import fold
from attacca.training.decoder_data import TokenSongs
from attacca.training.own.analysis import Estimate, estimate
from attacca.training.own.dataset import Row, kept_folder, load_labels, split, survey
from attacca.training.own.sound import UnusableSound, find_sounds, read_sound

pytestmark = pytest.mark.train
TINY = Path(__file__).parent / "data" / "tiny"
HOP = 640
SHORTEST_S = 1.0


def look_at(audio: np.ndarray) -> Estimate:
    return estimate(audio, sample_rate=RATE, hop_samples=HOP)


@pytest.mark.parametrize(("bpm", "start_s"), [(92.0, 0.4), (128.0, 0.1)])
def test_beats_bars_and_chords_of_known_music(bpm: float, start_s: float) -> None:
    found = look_at(make_music(bpm=bpm, seconds=40.0, start_s=start_s))
    controls = found.controls
    frames_s = np.arange(len(controls)) * HOP / RATE
    assert found.bpm == pytest.approx(bpm, rel=0.01)
    assert found.beat_known > 0.9 and found.chord_known > 0.8
    inside = controls.beat_known & (frames_s > start_s + 2.0) & (frames_s < 38.0)  # the tracker settles in
    true_ppq = (frames_s - start_s) * bpm / 60.0
    apart = (controls.ppq - true_ppq + 2.0) % 4.0 - 2.0  # quarter notes, of a bar: its start counts
    assert np.abs(apart[inside]).max() * 60.0 / bpm < 0.04
    np.testing.assert_array_equal(controls.bar_start_ppq, np.floor(controls.ppq / 4.0) * 4.0)
    assert np.abs(controls.bpm[inside] / bpm - 1.0).max() < 0.06
    inside &= controls.chord_known
    bars = np.floor(true_ppq[inside] / 4.0).astype(int)
    named = controls.pitch_classes[inside]
    right = [set(np.flatnonzero(row)) == set(CHORDS[bar % 4]) for row, bar in zip(named, bars, strict=True)]
    assert np.mean(right) > 0.93
    assert not controls.instruments_known.any() and not controls.style_known.any()


def test_what_has_no_beat_or_chord_is_not_given_one() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, RATE * 20).astype(np.float32)
    found = look_at(noise)
    assert found.beat_known == 0.0 and found.chord_known < 0.15
    t = np.arange(RATE * 20) / RATE
    pad = (0.1 * sum(np.sin(2.0 * np.pi * hz * t) for hz in (220.0, 277.18, 329.63))).astype(np.float32)
    found = look_at(pad)
    assert found.beat_known == 0.0 and found.chord_known == 1.0
    assert set(np.flatnonzero(found.controls.pitch_classes[500])) == {9, 1, 4}


def test_a_beat_that_pauses_is_unknown_there() -> None:
    audio = make_music(bpm=110.0, seconds=60.0)
    audio[25 * RATE : 40 * RATE] = 0.001 * np.random.default_rng(0).standard_normal(15 * RATE)
    known = look_at(audio).controls.beat_known
    assert known[5 * 50 : 20 * 50].mean() > 0.9
    assert known[29 * 50 : 36 * 50].mean() < 0.5


def test_files_are_read_at_the_codecs_rate_and_channels(tmp_path: Path) -> None:
    t = np.arange(88200) / 44100
    tone = np.sin(2.0 * np.pi * 440.0 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 44100, subtype="FLOAT")
    mono = read_sound(tmp_path / "a.wav", sample_rate=32000, audio_channels=1, shortest_s=SHORTEST_S)
    assert mono.shape == (64000,) and mono.dtype == np.float32
    expected = 0.5 * np.sin(2.0 * np.pi * 440.0 * np.arange(64000) / 32000)
    assert np.abs(mono - expected)[500:-500].max() < 1e-3
    stereo = read_sound(tmp_path / "a.wav", sample_rate=48000, audio_channels=2, shortest_s=SHORTEST_S)
    assert stereo.shape == (96000, 2) and not stereo[:, 1].any()
    assert len(estimate(np.tile(stereo, (2, 1)), sample_rate=48000, hop_samples=960).controls) == 200
    assert fold(stereo, 1).shape == (96000,)


def test_unusable_files_say_why(tmp_path: Path) -> None:
    write_folder(tmp_path / "music", songs=1, seconds=3.0)
    assert [file.name for file in find_sounds(tmp_path / "music")] == [
        "broken.mp3", "empty.wav", "short.wav", "silent.flac", "song 0.wav"]  # fmt: skip
    reasons = {}
    for file in find_sounds(tmp_path / "music"):
        try:
            read_sound(file.path, sample_rate=RATE, audio_channels=1, shortest_s=SHORTEST_S)
        except UnusableSound as error:
            reasons[file.name] = str(error)
    assert set(reasons) == {"broken.mp3", "empty.wav", "short.wav", "silent.flac"}
    assert "cannot be read" in reasons["broken.mp3"] and "cannot be read" in reasons["empty.wav"]
    assert reasons["short.wav"] == "too short: 0.1 s, needed: 1.0 s"
    assert reasons["silent.flac"] == "silent"
    with pytest.raises(ValueError, match="not a folder"):
        find_sounds(tmp_path / "nowhere")


def test_a_folder_becomes_token_songs_and_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music, data, shares = write_folder(tmp_path / "music", songs=4, seconds=9.0), tmp_path / "data", []
    keep = kept_folder(data)

    def look() -> list[Row]:
        return survey(music, TINY, keep=keep, shortest_s=SHORTEST_S, workers=1, progress=shares.append)

    rows = look()
    assert Counter(bool(row.problem) for row in rows) == {False: 4, True: 4}
    assert shares == [(index + 1) / 8 for index in range(8)]
    places = split(rows, data, share=0.25, seed=1)
    assert Counter(places.values()) == {"train": 3, "heldout": 1}
    songs, heldout = TokenSongs(data, "train"), TokenSongs(data, "heldout")
    assert (len(songs.codes), len(heldout.codes), songs.num_codebooks) == (3, 1, 4)
    name = next(name for name, part in places.items() if part == "heldout")
    pcm = read_sound(music / name, sample_rate=RATE, audio_channels=1, shortest_s=SHORTEST_S)
    np.testing.assert_array_equal(heldout.codes[0], load_bundle(TINY).codec.encoder().push(pcm))
    key = next(row.key for row in rows if row.name == name)
    assert len(load_labels(data / "heldout" / f"{key}.npz")) == len(heldout.codes[0])

    monkeypatch.setattr("attacca.training.own.dataset.estimate", lambda *a, **k: pytest.fail("analysed again"))
    assert [row for row in look() if not row.problem] == [row for row in rows if not row.problem]
    monkeypatch.undo()
    soundfile.write(music / "new.wav", make_music(bpm=90.0, seconds=5.0), RATE)
    again = split(look(), data, share=0.25, seed=1)
    assert again == {**places, "new.wav": "train"}  # what was held out stays held out
    (music / name).unlink()
    with pytest.raises(ValueError, match="gone since training began"):
        split(look(), data, share=0.25, seed=1)


def test_splits_need_two_files_and_follow_the_seed(tmp_path: Path) -> None:
    rows = [Row(name=f"{index}.wav", key=str(index)) for index in range(20)]
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "c"):
        kept_folder(folder).mkdir(parents=True)
        for row in rows:
            for suffix in ("npz", "npy"):
                (kept_folder(folder) / f"{row.key}.{suffix}").write_bytes(b"")
    first = split(rows, tmp_path / "a", share=0.1, seed=0)
    assert Counter(first.values()) == {"train": 18, "heldout": 2}
    assert split(rows[::-1], tmp_path / "b", share=0.1, seed=0) == first
    assert split(rows, tmp_path / "c", share=0.1, seed=1) != first
    assert json.loads((tmp_path / "a" / "split.json").read_text()) == first
    with pytest.raises(ValueError, match="1 of 2 files can be used"):
        split([rows[0], Row(name="x", problem="silent")], tmp_path / "a", share=0.1, seed=0)
