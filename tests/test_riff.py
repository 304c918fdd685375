"""The demo's riff: shipped is what the composer makes, four bars to the sample, on its grid, ready to loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy")
from attacca.training.music import riff, synth
from attacca.training.music.catalogue import HELDOUT_SEED
from attacca.training.music.soundfont import RenderError
from attacca.training.music.styles import STYLE_NAMES

SHIPPED = Path(__file__).parents[1] / "bridge" / "assets" / "riff.flac"


def _has_fluidsynth() -> bool:
    try:
        synth.library()
    except RenderError:
        return False
    return True


def test_the_shipped_riff_is_four_bars_exactly_and_small() -> None:
    audio, rate = soundfile.read(SHIPPED)
    about = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert (rate, audio.shape) == (48000, (4 * 2 * 48000, 2))
    assert np.abs(audio).max() == pytest.approx(0.7, abs=1e-3)
    assert np.abs(audio[0]).max() == 0.0  # it may begin anywhere without a click
    assert not np.array_equal(audio[:, 0], audio[:, 1])
    assert SHIPPED.stat().st_size < 1_000_000
    assert (about["bpm"], about["meter"], about["bars"]) == (120.0, "4/4", 4)
    assert STYLE_NAMES[about["style_index"]] == about["style"] and about["seed"] >= HELDOUT_SEED
    assert [chord["ppq"] for chord in about["chords"]] == [0.0, 4.0, 8.0, 12.0]


@pytest.mark.skipif(not _has_fluidsynth(), reason="needs libfluidsynth")
def test_the_command_writes_what_is_shipped(tmp_path: Path) -> None:
    riff.main(tmp_path / "riff.flac")
    assert (tmp_path / "riff.json").read_text() == SHIPPED.with_suffix(".json").read_text()
    made, shipped = (soundfile.read(path)[0] for path in (tmp_path / "riff.flac", SHIPPED))
    # Another FluidSynth or soundfont may differ in the last bits, not in the music.
    assert made.shape == shipped.shape
    assert np.corrcoef(made.ravel(), shipped.ravel())[0, 1] > 0.99
