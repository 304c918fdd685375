"""The Fréchet distance on sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.frechet import frechet_distance, frechet_interval, mel_statistics, mel_windows
from benchmarks.spectra import SAMPLE_RATE


def exact(mean: list[float], covariance: np.ndarray, count: int = 400, seed: int = 0) -> np.ndarray:
    """Vectors whose sample mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False, ddof=0))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_of_a_set_to_itself_and_to_a_moved_one() -> None:
    one = exact([0.0, 0.0, 0.0], np.diag([1.0, 4.0, 0.25]))
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(one, one + np.array([3.0, 4.0, 0.0])) == pytest.approx(25.0)


def test_of_gaussians_that_do_not_commute() -> None:
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    first, second = np.diag([4.0, 1.0]), turn @ np.diag([9.0, 0.25]) @ turn.T
    values = np.linalg.eigvals(first @ second)
    expected = np.trace(first) + np.trace(second) - 2.0 * np.sqrt(values).sum() + 1.0
    found = frechet_distance(exact([0.0, 0.0], first), exact([1.0, 0.0], second, count=300, seed=1))
    assert found == pytest.approx(float(expected))


def test_needs_two_sets_of_one_width() -> None:
    for one, other in (((1, 3), (5, 3)), ((5, 3), (5, 2)), ((5,), (5, 3))):
        with pytest.raises(ValueError, match="needs"):
            frechet_distance(np.zeros(one), np.zeros(other))


def test_the_interval_holds_the_distance_and_narrows_with_songs() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (6, 60):
        songs = [rng.normal(size=(30, 2)) + rng.normal(size=2) + 1.0 for _ in range(count)]
        reference = [rng.normal(size=(30, 2)) + rng.normal(size=2) for _ in range(count)]
        found, low, high = frechet_interval(songs, reference)
        assert low <= high and found > 0.0
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    with pytest.raises(ValueError, match="same songs"):
        frechet_interval(songs, reference[:-1])


def test_statistics_of_sounds_tell_noise_from_tones_and_forget_level() -> None:
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.1 * np.sin(2 * np.pi * 440.0 * time)
    noise = 0.1 * np.random.default_rng(0).normal(size=len(time))
    tones, louder, noises = (mel_statistics(mel_windows(sound)) for sound in (tone, 3.0 * tone, noise))
    assert tones.shape == (7, 60)
    np.testing.assert_allclose(tones, louder, atol=1e-9)
    assert frechet_distance(tones, noises) > 10.0
    with pytest.raises(ValueError, match=r"needed: 2\.0 s"):
        mel_windows(tone[:SAMPLE_RATE])
