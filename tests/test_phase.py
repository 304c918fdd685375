"""Front end, phase and overlap-add: streaming equals whole, tones stay tones, clicks stay clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phase_reference import PhaseReference

from attacca.engine.phase import BandExpansion, StreamingPhase, noise_spectra
from attacca.engine.spectral import (
    SpectralConfig,
    StreamingAnalysis,
    StreamingSynthesis,
    analyse,
    log_bands,
    spectrum,
)
from attacca.engine.vocoder import Vocoder, VocoderTables

RATE = 32000
FINE = SpectralConfig(linear_bins=1025)  # every bin on its own: nothing is noise
SMALL = SpectralConfig(window_samples=1280, linear_bins=64, group_bins=16)
STEREO = SpectralConfig(hop_samples=960, sub_hop_samples=480, window_samples=3072, group_bins=8, pan_bands=20)


def resynthesise(audio: np.ndarray, config: SpectralConfig) -> np.ndarray:
    """Audio through log bands and streaming phase and back, delay taken out."""
    phase, synthesis = StreamingPhase(config, noise_spectra(config)), StreamingSynthesis(config)
    levels = BandExpansion(config)(analyse(audio, config).reshape(-1, config.num_bands))
    out = np.concatenate([synthesis.push(phase.push(level[None])) for level in levels])
    return out[synthesis.delay_samples + phase.delay_sub_frames * config.sub_hop_samples :]


@pytest.mark.parametrize("config", [FINE, SMALL], ids=["fine", "small"])
def test_streaming_analysis_is_the_offline_one(config: SpectralConfig) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 12 * 640).astype(np.float32)
    stream = StreamingAnalysis(config)
    pushed = np.concatenate([stream.push(part) for part in np.split(audio, [640, 4 * 640, 5 * 640])])
    np.testing.assert_allclose(pushed, analyse(audio, config), atol=1e-5)


def test_analysis_is_causal() -> None:
    audio = np.random.default_rng(1).normal(0, 0.1, 10 * 640)
    changed = audio.copy()
    changed[6 * 640 :] = 0.0
    before, after = analyse(audio, SMALL), analyse(changed, SMALL)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert np.abs(before[6:] - after[6:]).max() > 1.0


def test_full_scale_sine_is_zero_nats() -> None:
    hz = 64 * RATE / FINE.window_samples
    frames = analyse(np.sin(2 * np.pi * hz * np.arange(20 * 640) / RATE), FINE).reshape(-1, FINE.num_bands)
    assert frames[-1].argmax() == 64
    assert frames[-1].max() == pytest.approx(0.0, abs=1e-3)


def test_group_is_the_power_average() -> None:
    amplitudes = np.random.default_rng(2).uniform(0.1, 1.0, SMALL.num_bins)
    first = SMALL.linear_bins
    expected = np.log(np.sqrt(np.mean(amplitudes[first : first + SMALL.group_bins] ** 2)) + SMALL.floor)
    assert log_bands(amplitudes, SMALL)[first] == pytest.approx(expected, abs=1e-6)
    assert SMALL.band_widths.sum() == SMALL.num_bins


def test_overlap_add_of_true_spectra_is_the_delayed_input() -> None:
    audio = np.random.default_rng(3).normal(0, 0.1, 20 * 640)
    padded = np.concatenate([np.zeros(SMALL.window_samples - SMALL.sub_hop_samples), audio])
    starts = np.arange(40) * SMALL.sub_hop_samples
    spectra = spectrum(padded[starts[:, None] + np.arange(SMALL.window_samples)], SMALL)
    synthesis = StreamingSynthesis(SMALL)
    out = np.concatenate([synthesis.push(spectra[:13]), synthesis.push(spectra[13:])])
    np.testing.assert_allclose(
        out[synthesis.delay_samples :], audio[: len(out) - synthesis.delay_samples], atol=1e-12
    )


def test_expansion_keeps_single_bins() -> None:
    bands = np.random.default_rng(4).normal(size=(3, SMALL.num_bands))
    bins = BandExpansion(SMALL)(bands)
    np.testing.assert_array_equal(bins[:, : SMALL.linear_bins], bands[:, : SMALL.linear_bins])
    assert bins.shape == (3, SMALL.num_bins)
    assert bins.min() >= bands.min() and bins.max() <= bands.max()


@given(hz=st.floats(60.0, 7000.0), level=st.floats(0.05, 0.9))
@settings(max_examples=12, deadline=None)
def test_sine_keeps_pitch_and_level(hz: float, level: float) -> None:
    time = np.arange(40 * 640) / RATE
    out = resynthesise(level * np.sin(2 * np.pi * hz * time), FINE)[8000:20000]
    # Least squares onto the exact frequency: what does not fit is error, whatever the phase.
    basis = np.stack([np.sin(2 * np.pi * hz * time[: len(out)]), np.cos(2 * np.pi * hz * time[: len(out)])], axis=1)
    weights, *_ = np.linalg.lstsq(basis, out, rcond=None)
    assert np.hypot(*weights) == pytest.approx(level, rel=0.05)
    assert np.std(out - basis @ weights) < 0.1 * level


def test_click_stays_sharp_and_in_place() -> None:
    audio = np.zeros(30 * 640)
    where = 15 * 640 + 77
    audio[where] = 0.9
    out = resynthesise(audio, FINE)
    energy = out**2
    assert abs(int(energy.argmax()) - where) <= 160
    assert energy[where - 320 : where + 320].sum() > 0.8 * energy.sum()


def test_noise_band_keeps_its_power() -> None:
    audio = np.random.default_rng(5).normal(0, 0.1, 100 * 640)
    config = SpectralConfig(linear_bins=1, group_bins=32)
    out = resynthesise(audio, config)
    assert np.std(out[8000:-8000]) == pytest.approx(0.1, rel=0.15)


def test_silence_gives_silence() -> None:
    assert np.abs(resynthesise(np.zeros(20 * 640), SMALL)).max() < 1e-6


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.1, 4.0))
@settings(max_examples=10, deadline=None)
def test_phases_are_those_of_the_reference(seed: int, spread: float) -> None:
    levels = np.random.default_rng(seed).normal(-4.0, spread, (12, SMALL.num_bins)).astype(np.float32)
    levels[4:6] = np.log(SMALL.floor)
    noise = noise_spectra(SMALL)
    reference = PhaseReference(SMALL, noise)
    expected = np.stack([reference.push(level) for level in levels.astype(np.float64)])
    np.testing.assert_allclose(StreamingPhase(SMALL, noise).push(levels), expected, rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def tables() -> VocoderTables:
    return VocoderTables.of(STEREO)


@given(cuts=st.lists(st.integers(0, 12), max_size=5), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_a_vocoder_in_pieces_is_one_at_once(tables: VocoderTables, cuts: list[int], seed: int) -> None:
    """And goes on from a snapshot between any two of them, to the bit; at the widths of the default codec."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(-4.0, 2.0, (12, STEREO.width)).astype(np.float32)
    frames[rng.random(12) < 0.2] = np.log(STEREO.floor)
    whole = Vocoder(tables).push(frames)
    vocoder, pieces = Vocoder(tables), []
    for part in np.split(frames, sorted(cuts)):
        snap = vocoder.snapshot()
        pieces.append(vocoder.push(part))
        other = Vocoder(tables)
        other.push(frames[:3])
        other.restore(snap)
        np.testing.assert_array_equal(other.push(part), pieces[-1])
        vocoder = other
    assert whole.shape == (12 * STEREO.hop_samples, 2) and whole.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sub_hop_samples", 300),
        ("sub_hop_samples", 0),
        ("window_samples", 1001),
        ("window_samples", 320),
        ("gamma_ratio", 0.0),
        ("linear_bins", 2000),
        ("group_bins", 0),
        ("floor", 0.0),
    ],
)
def test_config_names_what_is_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} is {value}, allowed"):
        SpectralConfig(**{field: value})  # type: ignore[arg-type]
