"""The robustness benchmark: measures on sounds whose answer is known, missing packages named, one run whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
import soundfile

from attacca.engine.codec import Codec
from attacca.engine.codec_stream import DECODER, ENCODER
from benchmarks import robustness, robustness_items, robustness_signals
from benchmarks import robustness_measures as measures
from benchmarks.robustness_items import ITEMS, RECORDINGS
from benchmarks.robustness_measures import RATE, measure
from benchmarks.robustness_signals import Missing

TINY = Path(__file__).parent / "data" / "tiny"
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")


def _noise(seconds: float = 1.0, *, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2))


@given(st.floats(-20.0, 40.0), st.floats(0.1, 3.0))
@settings(max_examples=10, deadline=None)
def test_si_sdr_is_the_ratio_that_was_mixed_whatever_the_gain(ratio_db: float, gain: float) -> None:
    signal, rest = _noise(seed=1), _noise(seed=2)
    signal, rest = signal - signal.mean(axis=0), rest - rest.mean(axis=0)
    rest -= signal * (np.ravel(rest) @ np.ravel(signal)) / (np.ravel(signal) @ np.ravel(signal))
    rest *= np.sqrt((signal**2).sum() / (rest**2).sum()) * 10 ** (-ratio_db / 20)
    assert measures.si_sdr_db(signal, gain * (signal + rest)) == pytest.approx(ratio_db, abs=1e-6)


@given(st.floats(-12.0, 12.0))
@settings(max_examples=8, deadline=None)
def test_a_gain_is_the_level_error_and_nothing_else(gain_db: float) -> None:
    sound = _noise(0.5)
    row = measure(sound, 10 ** (gain_db / 20) * sound)
    assert row["level_error_db"] == pytest.approx(gain_db, abs=1e-6)
    assert row["stereo_error_db"] == pytest.approx(0.0, abs=1e-5)
    assert row["mel_distance"] == pytest.approx(abs(gain_db) / 20, abs=0.01)
    assert row["si_sdr_db"] == 120.0


def test_sides_are_told_apart() -> None:
    sound = _noise()
    left_up = sound * np.array([10 ** (3 / 20), 10 ** (-3 / 20)])
    assert measures.stereo_error_db(sound, left_up) == pytest.approx(6.0, abs=0.05)
    one_side = sound * np.array([1.0, 0.0])
    assert measures.stereo_error_db(one_side, sound) == pytest.approx(20.0, abs=1.0)  # the limit
    turned = sound[:, [0, 0]] * np.array([1.0, -1.0])
    assert measures.correlation(turned) == pytest.approx(-1.0)
    assert measures.correlation(one_side) is None


def test_silence_has_an_output_level_and_no_distances() -> None:
    silence = np.zeros((RATE, 2))
    row = measure(silence, silence + 0.01)
    assert row["out_dbfs"] == pytest.approx(-40.0, abs=1e-6)
    assert row["mel_distance"] is row["si_sdr_db"] is row["level_error_db"] is row["stereo_error_db"] is None
    with pytest.raises(ValueError, match="one shape"):
        measure(silence, silence[1:])


@pytest.mark.parametrize("rate", [8000, 32000, 44100, 96000])
def test_any_rate_comes_to_the_common_one_in_place(rate: int) -> None:
    sine = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(rate) / rate)[:, None]
    common = measures.to_common(sine, rate)
    expected = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(RATE) / RATE)
    assert common.shape == (RATE, 2)
    middle = slice(RATE // 4, RATE * 3 // 4)
    assert np.abs(common[middle, 0] - expected[middle]).max() < 1e-3
    assert np.array_equal(common[:, 0], common[:, 1])


def test_signals_are_what_they_are_called() -> None:
    assert not robustness_signals.silence(0.1).any()
    assert measures.rms_dbfs(robustness_signals.noise("hiss", 1.0)) == pytest.approx(-80.0, abs=0.01)
    clicks = robustness_signals.clicks(1.0)[:, 0]
    assert [float(clicks[i]) for i in np.flatnonzero(clicks)] == pytest.approx([0.9, -0.9, 0.9, -0.9])
    pink = robustness_signals.noise("pink", 4.0)[:, 0]
    power = np.abs(np.fft.rfft(pink)) ** 2
    hz = np.fft.rfftfreq(len(pink), 1 / RATE)
    octaves = [power[(hz >= low) & (hz < 2 * low)].sum() for low in (125, 500, 2000, 8000)]
    assert np.abs(10 * np.log10(np.array(octaves) / octaves[0])).max() < 1.0  # as much in each octave
    sweep = robustness_signals.sweep(3.0)[:, 0]
    crossings = np.flatnonzero(np.diff(np.signbit(sweep[: RATE // 4]))) / RATE
    assert 0.5 / np.diff(crossings)[0] == pytest.approx(22.0, abs=3.0)


def test_recordings_not_there_are_named_with_their_packages(tmp_path: Path) -> None:
    for item in RECORDINGS:
        with pytest.raises(Missing) as missing:
            robustness_items.load(item, [tmp_path])
        assert str(missing.value) == item.package
        assert item.licence
    assert len({item.name for item in ITEMS}) == len(ITEMS)


def test_recordings_are_read_from_an_unpacked_package(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/sonic-pi/samples"
    folder.mkdir(parents=True)
    soundfile.write(folder / "guit_e_slide.flac", np.full(4410, 0.5), 44100)
    soundfile.write(folder / "guit_harmonics.flac", np.full(4410, 0.25), 44100)
    slide = next(item for item in RECORDINGS if item.name == "guitar-slide")
    audio, rate = robustness_items.load(slide, [tmp_path / "elsewhere", tmp_path], 1.0)
    assert rate == 44100
    assert audio.shape == (2 * (4410 + 2205), 1)
    assert (audio[4409, 0], audio[4410, 0], audio[4410 + 2205, 0]) == pytest.approx((0.5, 0.0, 0.25), abs=1e-4)


@needs_fluidsynth
def test_every_program_sounds_and_the_effects_change_it() -> None:
    for program in (*robustness_signals.PROGRAMS, *robustness_signals.GUITARS):
        dry = robustness_signals.dry(program)
        assert -40.0 < measures.rms_dbfs(dry) < -15.0, program
        assert measures.mel_distance(dry, robustness_signals.amplified(dry, 20.0)) > 0.05
    chains = [robustness_signals.through_effects(program) for program in robustness_signals.PROGRAMS[:4]]
    assert all(measures.mel_distance(robustness_signals.dry(8 * i), x) > 0.05 for i, x in enumerate(chains))


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, object]:
    monkeypatch.setattr(robustness, "ITEMS", tuple(item for item in ITEMS if item.name in names))
    monkeypatch.setattr(robustness, "SECONDS", 1.2)
    robustness.main(
        json_path=tmp_path / "r.json",
        bundle=str(TINY),
        quick=False,
        plot=None,
        wav_dir=tmp_path / "wav",
        packages=tmp_path,
        untrained=TINY,
        codec_checkpoint=None,
    )
    return dict(json.loads((tmp_path / "r.json").read_text()))


def test_a_run_measures_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(robustness_signals.shutil, "which", lambda _: None)
    report = _run(tmp_path, monkeypatch, "silence-digital", "noise-white", "clicks", "speech-en-gb")
    assert [item["name"] for item in report["items"]] == ["noise-white", "silence-digital", "clicks"]
    assert [piece["package"] for piece in report["skipped"]] == ["espeak-ng"]
    assert report["chunked_max_difference"] == 0.0
    assert report["nonfinite_samples"] == 0
    noise = report["items"][0]
    assert noise["scores"]["codec"] == noise["scores"]["untrained"]  # one and the same bundle here
    assert noise["scores"]["phase"]["mel_distance"] < noise["scores"]["codec"]["mel_distance"]
    assert noise["decode_ms_per_s"] > 0.0
    heard, rate = soundfile.read(tmp_path / "wav" / "noise-white-codec.wav")
    assert rate == RATE
    assert heard.shape == (round(noise["seconds"] * RATE), 2)
    assert "apt-get install espeak-ng" in " ".join(capsys.readouterr().out.split())


@needs_fluidsynth
def test_broken_and_loud_input_comes_out_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = _run(tmp_path, monkeypatch, "broken", "beyond", "rate-44100")
    assert not report["skipped"]
    assert report["nonfinite_samples"] == 0
    assert [item["rate"] for item in report["items"]] == [RATE, RATE, 44100]
    assert all(item["scores"]["codec"]["peak"] <= 4.0 * 1.5 for item in report["items"])  # 12 dB, and resampled


def test_a_codec_whose_chunks_differ_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = robustness.round_trip

    def uneven(*arguments: object) -> robustness.Trip:
        trip = whole(*arguments)
        trip.chunked_difference = 1e-9
        return trip

    monkeypatch.setattr(robustness, "round_trip", uneven)
    with pytest.raises(typer.Exit):
        _run(tmp_path, monkeypatch, "clicks")


def test_the_picture_is_drawn_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.robustness_figure import draw

    draw(tmp_path / "r.png", _run(tmp_path, monkeypatch, "noise-white", "silence-digital"))
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.train
def test_a_stereo_codec_of_another_rate_is_measured_on_both_sides(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from attacca.export.codec import export_tiny_codec
    from attacca.training.codec_model import tiny_config

    small = tiny_config()
    spectral = replace(small.spectral, pan_bands=6, hop_samples=960, sub_hop_samples=480)
    config = replace(small, sample_rate=RATE, spectral=spectral)
    section = export_tiny_codec(tmp_path, config=config)
    codec = Codec.load({name: tmp_path / f"{name}.onnx" for name in (ENCODER, DECODER)}, section)
    noise = next(item for item in ITEMS if item.name == "noise-white")
    scores = robustness.score_item(robustness.Bench(codec=codec, seconds=1.0), noise)
    assert (scores.trip.chunked_difference, scores.trip.nonfinite_samples) == (0.0, 0)
    assert scores.audio["codec"].shape == (RATE, 2)
    assert scores.rows["phase"]["stereo_error_db"] < 1.5
    mono = robustness.for_codec(codec, np.ones((4410, 1), np.float32), 44100)
    assert mono.shape == (4800, 2) and np.array_equal(mono[:, 0], mono[:, 1])
