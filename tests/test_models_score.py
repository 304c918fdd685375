"""`attacca models score`: codes are forced through the loop that plays, and distances are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from attacca.bridge.cli import app
from attacca.engine.bundle import Model, load_bundle
from attacca.engine.generator import Sampling
from attacca.engine.mel import BANDS, FLOOR_DB, log_mel, mel_distance_db
from attacca.engine.scoring import Silent, bits_of, distance, forced_logits

TINY = Path(__file__).parent / "data" / "tiny"
FRAMES = 40


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_bundle(TINY)


def test_what_a_model_plans_is_likeliest_when_forced(tiny: Model) -> None:
    decoder = tiny.decoder()
    decoder.plan(FRAMES, Silent(tiny.conditioning.width), Sampling(temperature=0.0))
    codes = decoder.read(0, FRAMES)
    logits = forced_logits(tiny, codes)
    assert logits.shape == (*codes.shape, tiny.manifest.codebook_size)
    # The frames that the pattern has begun past the end were others when the model planned: the last ones see them.
    sure = FRAMES - tiny.pattern.lag_steps - 1
    assert np.array_equal(logits[:sure].argmax(axis=2), codes[:sure])
    assert len(np.unique(codes[:sure])) > 4
    bits = bits_of(logits, codes)
    every = np.arange(tiny.manifest.codebook_size)[:, None].repeat(codes.shape[1], axis=1)
    shares = np.exp2(-bits_of(logits[:1].repeat(len(every), axis=0), every))
    assert np.allclose(shares.sum(axis=0), 1.0)
    assert (bits[:sure] <= bits_of(logits, (codes + 1) % len(every))[:sure]).all()


def test_distances_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (7, 3, 5)).astype(np.float32)
    none = distance([logits], [logits])
    assert (none.max, none.rms, none.kl_bits, none.top_1) == (0.0, 0.0, [0.0] * 3, 1.0)
    shifted = distance([logits + np.float32(0.5)], [logits])  # the same distribution
    assert shifted.max == pytest.approx(0.5) and shifted.rms == pytest.approx(0.5)
    assert np.allclose(shifted.kl_bits, 0.0, atol=1e-6) and shifted.top_1 == 1.0
    fair, loaded = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    two = distance([np.float32([[loaded]])], [np.float32([[fair]])])
    assert two.kl_bits == [pytest.approx(0.5 * np.log2(2.0) + 0.5 * np.log2(2.0 / 3.0))]
    pieces = distance([logits[:3] + 1, logits[3:]], [logits[:3], logits[3:]])
    assert pieces.rms == pytest.approx((3 / 7) ** 0.5)


def test_log_mel_levels() -> None:
    rate = 16000
    sine = np.sin(np.arange(rate) * (2 * np.pi * 1000.0 / rate)).astype(np.float32)
    bands = log_mel(sine, rate)
    assert bands.shape == (1 + (rate - 1024) // 256, BANDS) and -3.0 < bands.max() < 3.0
    assert mel_distance_db(sine, sine, rate) == 0.0
    noise = np.random.default_rng(1).normal(0.0, 0.2, rate).astype(np.float32)
    assert mel_distance_db(noise, noise / 2, rate) == pytest.approx(6.02, abs=0.01)
    assert (log_mel(np.zeros(10, np.float32), rate) == FLOOR_DB).all()


def score(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["models", "score", *map(str, arguments)])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return result.output


def test_a_bundle_against_itself(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        noise = np.random.default_rng(seed).normal(0.0, 0.1, 20000)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16000)
    (tmp_path / "notes.txt").write_text("no audio")
    found = json.loads(score(TINY, "--against", TINY, "--audio", tmp_path, "--seconds", 0.5, "--json"))
    assert found["audio"] == ["a.wav", "b.wav"] and found["reference"] == str(TINY)
    first, second = found["models"]
    assert first["logits"] is None and second["logits"]["max"] == 0.0 and second["logits"]["top_1"] == 1.0
    assert second["bits_per_frame"] == first["bits_per_frame"] == pytest.approx(sum(first["bits"]))
    assert second["sampled_mel_db"] == 0.0 and second["sampled_same_frames"] > 4
    assert second["codec_mel_db"] is None and found["another_seed_mel_db"] > 0.0
    table = score(TINY, "--against", TINY, "--seconds", 0.3)
    assert "of riff" in table and "100.0%" in table and "another seed is" in table
    assert "distances are from" not in score(TINY, "--seconds", 0.3)


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["models", "score", *map(str, arguments)])
        assert result.exit_code != 0
        return f"{result.output} {result.exception}"

    assert "has no audio files" in refused(TINY, "--audio", tmp_path)
    assert "only bundles of the same model can be compared" in refused(
        "ostinato", "--against", TINY, "--seconds", 0.3
    )
    soundfile.write(tmp_path / "short.wav", np.ones(100) * 0.1, 16000)
    assert "short.wav is too short" in refused(TINY, "--audio", tmp_path / "short.wav")
    assert "seconds is 0.1, allowed: 0.2..30" in refused(TINY, "--seconds", 0.1)
    assert "no bundle 'nothing'" in refused("nothing")
