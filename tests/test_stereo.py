"""Stereo through the engine: channels at its edge, the resampler, where sounds stand, positions of both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.channels import fold, spread
from attacca.engine.fake import FakeConfig, FakeModel
from attacca.engine.offline import continue_offline
from attacca.engine.panorama import Panorama
from attacca.engine.resample import Resampler
from attacca.engine.spectral import SpectralConfig, StreamingAnalysis, StreamingSynthesis, analyse, spectrum

SMALL = SpectralConfig(
    hop_samples=480, sub_hop_samples=240, window_samples=960, linear_bins=64, group_bins=8, pan_bands=8
)
RATE = 24000


def music(seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    """A tone on the left, a higher one on the right, noise in the middle."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
    left, right = (0.2 * np.sin(2 * np.pi * hz * time) for hz in (400.0, 3000.0))
    return np.stack([left + 0.1 * right + noise, right + 0.1 * left + noise], axis=1).astype(np.float32)


def test_sides_of_a_host_and_of_a_codec() -> None:
    quad = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(fold(quad, 1), quad.mean(axis=1))
    np.testing.assert_array_equal(fold(quad, 2), np.stack([quad[:, [0, 2]].mean(1), quad[:, [1, 3]].mean(1)], 1))
    np.testing.assert_array_equal(fold(quad[:, :2], 2), quad[:, :2])
    np.testing.assert_array_equal(fold(quad[:, :1], 2), quad[:, [0, 0]])
    np.testing.assert_array_equal(spread(quad[:, 0], 3), quad[:, [0, 0, 0]])
    np.testing.assert_array_equal(spread(quad[:, :2], 3), quad[:, [0, 1, 0]])
    np.testing.assert_array_equal(spread(quad[:, :2], 1), quad[:, :2].mean(axis=1, keepdims=True))


@given(cuts=st.lists(st.integers(0, 3000), max_size=6), rates=st.sampled_from([(48000, 44100), (32000, 48000)]))
@settings(max_examples=20, deadline=None)
def test_both_channels_are_resampled_as_one_is(cuts: list[int], rates: tuple[int, int]) -> None:
    pcm = np.random.default_rng(0).standard_normal((3000, 2)).astype(np.float32)
    stereo = Resampler(*rates, channels=2)
    stereo.skip_to(100)
    pieces = np.concatenate([stereo.push(part) for part in np.split(pcm, sorted(cuts))] + [stereo.flush()])
    for side in (0, 1):
        mono = Resampler(*rates)
        mono.skip_to(100)
        np.testing.assert_array_equal(pieces[:, side], np.concatenate([mono.push(pcm[:, side]), mono.flush()]))


@given(cuts=st.lists(st.integers(0, 24), max_size=6))
@settings(max_examples=10, deadline=None)
def test_stereo_frames_in_pieces_are_frames_at_once(cuts: list[int]) -> None:
    sound = music()
    whole = analyse(sound, SMALL)
    assert whole.shape == (25, SMALL.width) and SMALL.width == 2 * (SMALL.num_bands + 8)
    stream = StreamingAnalysis(SMALL)
    hops = [stream.push(hop)[0] for hop in sound.reshape(-1, 480, 2)]
    np.testing.assert_allclose(np.stack(hops), whole, atol=2e-5)
    kept = StreamingAnalysis(SMALL)
    for t, hop in enumerate(sound.reshape(-1, 480, 2)):
        if t in cuts:
            other = StreamingAnalysis(SMALL)
            other.restore(kept.snapshot())
            kept = other
        np.testing.assert_array_equal(kept.push(hop)[0], hops[t])
    stream.reset()
    np.testing.assert_array_equal(stream.push(sound), np.stack(hops))


def test_levels_are_those_of_the_mean_power_and_pans_of_the_sides() -> None:
    sound = music()
    frames = analyse(sound, SMALL)
    mono = SpectralConfig(**{**{n: getattr(SMALL, n) for n in SMALL.__dataclass_fields__}, "pan_bands": 0})
    alike = analyse(np.repeat(sound[:, :1], 2, axis=1), SMALL)
    np.testing.assert_allclose(alike[:, : SMALL.level_width], analyse(sound[:, 0], mono), atol=1e-5)
    np.testing.assert_array_equal(alike[:, SMALL.level_width :], 0.0)
    pans = frames[10:, SMALL.level_width :].reshape(-1, 8).mean(axis=0)
    where = [int(np.searchsorted(SMALL.pan_edges, hz / RATE * 960, side="right")) - 1 for hz in (400.0, 3000.0)]
    assert pans[where[0]] > 1.5 and pans[where[1]] < -1.5
    louder = analyse(np.stack([3.0 * sound[:, 0], sound[:, 0]], 1), SMALL)[10:, SMALL.level_width :]
    np.testing.assert_allclose(louder, np.log(3.0), atol=0.02)


def test_gains_share_power_and_undo_a_pan() -> None:
    panorama = Panorama(SMALL)
    gains = panorama.gains(np.full((3, 8), np.log(3.0)))
    np.testing.assert_allclose(gains[:, 0] / gains[:, 1], 3.0, rtol=1e-5)
    np.testing.assert_allclose(np.square(gains).mean(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(panorama.gains(np.zeros((1, 8))), 1.0)
    wild = panorama.gains(np.array([[np.nan, np.inf, -np.inf, 1e9, 0, 0, 0, 0]]))
    assert np.isfinite(wild).all() and wild.max() < 1.5


def test_true_spectra_with_shared_phases_come_back_on_their_sides() -> None:
    """The middle's own spectrum, shared out by the pans of the sides, gives each side its tone."""
    sound = music(1.0)
    middle = sound.mean(axis=1) * np.sqrt(2.0)
    padded = np.concatenate([np.zeros(SMALL.window_samples - 240), middle])
    segments = padded[np.arange(100)[:, None] * 240 + np.arange(SMALL.window_samples)]
    pans = analyse(sound, SMALL)[:, SMALL.level_width :].reshape(-1, 8)
    gains = Panorama(SMALL).gains(pans)
    out = StreamingSynthesis(SMALL).push(spectrum(segments, SMALL)[:, None] * gains)
    assert out.shape == (24000, 2)
    level = {}
    for side in (0, 1):
        amplitudes = np.abs(np.fft.rfft(out[8000:16000, side] * np.hanning(8000)))
        for hz in (400.0, 3000.0):
            level[side, hz] = amplitudes[round(hz * 8000 / RATE)]
    assert level[0, 400.0] > 4 * level[1, 400.0] and level[1, 3000.0] > 4 * level[0, 3000.0]


def test_too_many_pan_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="pan_bands is 61"):
        SpectralConfig(window_samples=960, linear_bins=64, pan_bands=61)
    with pytest.raises(ValueError, match="pan_bands is 1,"):
        SpectralConfig(pan_bands=1)


@pytest.mark.parametrize(("channels", "signs"), [(1, [0.0]), (2, [1.0, -1.0]), (4, [1.0, -1.0, 1.0, -1.0])])
def test_both_sides_of_a_take_are_in_their_places(channels: int, signs: list[float]) -> None:
    """The fake's left channel is the model-time index, its right one minus that."""
    model = FakeModel(manifest=FakeConfig(sample_rate=48000, hop_samples=960, audio_channels=2))
    heard = np.zeros((48000, channels), np.float32)
    played = continue_offline(model, heard, sample_rate=48000, seconds=1.0).pcm
    assert played.shape == (48000, channels)
    expected = np.arange(48000, 96000, dtype=np.float32)[:, None] * np.array(signs, np.float32)
    np.testing.assert_array_equal(played, expected)
