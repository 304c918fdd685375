"""The codec's further sounds: a clip is its seed, whatever its kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy")

from attacca.training.music import sounds
from attacca.training.music.soundfont import RenderError, find_soundfont
from attacca.training.music.synth import library

SHORT = sounds.Clips(seconds=0.6)


def _fluidsynth_is_missing() -> bool:
    try:
        library()
        find_soundfont()
    except RenderError:
        return True
    return False


needs_fluidsynth = pytest.mark.skipif(_fluidsynth_is_missing(), reason="needs libfluidsynth and a soundfont")


@needs_fluidsynth
def test_every_kind_is_drawn_sounds_and_is_a_pure_function_of_its_seed() -> None:
    seen: set[str] = set()
    for seed in range(40):
        audio, kind = sounds.make_clip(seed, SHORT)
        assert audio.shape == (SHORT.samples, 2) and audio.dtype == np.float32
        assert np.isfinite(audio).all() and np.abs(audio).max() <= 1.0
        if kind not in seen:
            np.testing.assert_array_equal(audio, sounds.make_clip(seed, SHORT)[0])
        seen.add(kind)
    assert seen == {name for name, _, _ in sounds._KINDS}


@pytest.mark.parametrize("kind", ["noise", "tones", "voice"])
def test_two_seeds_differ_and_most_are_loud_enough_to_teach(kind: str) -> None:
    make = {name: make for name, _, make in sounds._KINDS}[kind]
    clips = [make(np.random.default_rng(seed), SHORT) for seed in range(6)]
    assert not np.array_equal(clips[0], clips[1])
    assert np.median([np.sqrt(np.mean(c**2)) for c in clips]) > 1e-3


@needs_fluidsynth
def test_the_command_resumes_and_leaves_readable_files(tmp_path: Path) -> None:
    sounds.main(tmp_path, clips=3, first_seed=0, seconds=0.6, rate=48000, channels=1, workers=1)
    (tmp_path / "00001.npz").unlink()
    kept = (tmp_path / "00000.flac").stat().st_mtime_ns
    sounds.main(tmp_path, clips=3, first_seed=0, seconds=0.6, rate=48000, channels=1, workers=1)
    assert (tmp_path / "00000.flac").stat().st_mtime_ns == kept
    audio, rate = soundfile.read(tmp_path / "00001.flac")
    with np.load(tmp_path / "00001.npz") as arrays:
        about = json.loads(str(arrays["about"]))
    assert rate == 48000 and audio.shape == (28800,) and about["seed"] == 1


@pytest.mark.parametrize("wrong", [{"seconds": 0.1}, {"channels": 3}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        sounds.Clips(**wrong)  # type: ignore[arg-type]
