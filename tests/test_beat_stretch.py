"""Micro time-stretch: what is not to be moved is copied, what is moved is accounted for to the sample."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.stretch import MicroStretch, StretchConfig

RATE = 16000


def chord(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    tones = [
        np.sin(2 * np.pi * hz * times + channel) for hz in (110.0, 220.0, 330.0) for channel in range(channels)
    ]
    return np.stack([0.2 * sum(tones[c::channels]) for c in range(channels)], axis=1).astype(np.float32)


def clicks(starts: list[int], length: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    audio = 1e-4 * rng.normal(size=(length, 1))
    for start in starts:
        audio[start : start + 320, 0] += rng.normal(size=320) * np.exp(-np.arange(320) / 60.0)
    return audio.astype(np.float32)


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 8000), max_size=6), channels=st.integers(1, 2))
def test_a_ratio_of_one_is_the_input_at_once(cuts: list[int], channels: int) -> None:
    audio = np.random.default_rng(0).normal(size=(8000, channels)).astype(np.float32)
    stretch = MicroStretch(RATE, channels)
    for part in np.split(audio, sorted(cuts)):
        np.testing.assert_array_equal(stretch.push(part), part)
    assert stretch.offset == stretch.splice_count == 0


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 24000), max_size=8), at=st.integers(0, 8))
def test_any_chunking_and_a_restored_stream_give_the_same(cuts: list[int], at: int) -> None:
    audio = chord(1.5, 2) + 0.3 * np.random.default_rng(1).normal(size=(24000, 2)).astype(np.float32)
    edges = sorted({0, 9000, 17000, 24000, *cuts})

    def run(bounds: list[int], restore_at: int | None) -> np.ndarray:
        stretch, out = MicroStretch(RATE, 2), []
        for index, (start, end) in enumerate(pairwise(bounds)):
            if index == restore_at:
                kept = stretch.snapshot()
                stretch.push(audio[:5000], 0.98)
                stretch.restore(kept)
            out.append(stretch.push(audio[start:end], 1.02 if start < 9000 else 0.985 if start < 17000 else 1.0))
            assert stretch.input_position - stretch.output_position - stretch.offset <= stretch.delay_samples
        out.append(stretch.flush())
        whole = np.concatenate(out)
        assert stretch.output_position == len(whole) == stretch.output_of(24000)
        return whole

    np.testing.assert_array_equal(run(edges, at), run([0, 9000, 17000, 24000], None))


@pytest.mark.parametrize("ratio", [0.98, 0.99, 1.007, 1.02])
def test_attacks_are_copied_and_come_where_the_ratio_says(ratio: float) -> None:
    starts = list(range(3000, 90000, 4000))
    audio = clicks(starts, 96000) + 0.2 * chord(6.0)
    stretch = MicroStretch(RATE, 1)
    out = np.concatenate([*(stretch.push(part, ratio) for part in np.split(audio, 60)), stretch.flush()])
    for start in starts:
        at = stretch.output_of(start)
        assert stretch.input_of(at) == start
        np.testing.assert_array_equal(out[at - 32 : at + 160], audio[start - 32 : start + 160])
        assert abs(at - start * ratio) <= 0.0095 * RATE
    assert stretch.output_position == pytest.approx(len(audio) * ratio, abs=0.01 * RATE)
    assert stretch.wanted_position == pytest.approx(len(audio) * ratio, abs=1e-3)


def test_a_periodic_sound_keeps_its_waveform() -> None:
    audio = chord(3.0)
    stretch = MicroStretch(RATE, 1)
    out = np.concatenate([stretch.push(audio[:20000], 1.02), stretch.push(audio[20000:], 0.98)])
    assert stretch.splice_count >= 4
    assert min(splice.likeness for splice in stretch.splices) > 0.95
    assert np.abs(np.diff(out[:, 0])).max() < 1.15 * np.abs(np.diff(audio[:, 0])).max()
    frame = np.sqrt(np.mean(out[: len(out) // 800 * 800].reshape(-1, 800) ** 2, axis=1))
    assert frame.max() / frame.min() < 1.15


def test_channels_stay_together() -> None:
    audio = chord(2.0)
    both = np.concatenate([audio, -0.5 * audio], axis=1)
    stretch = MicroStretch(RATE, 2)
    out = stretch.push(both, 1.02)
    np.testing.assert_allclose(out[:, 1], -0.5 * out[:, 0], atol=1e-6)
    assert stretch.splice_count


def test_what_is_not_understood_is_refused() -> None:
    stretch = MicroStretch(RATE, 2)
    with pytest.raises(ValueError, match=r"shape \(4, 1\)"):
        stretch.push(np.zeros((4, 1), np.float32))
    for ratio in (1.03, float("nan")):
        with pytest.raises(ValueError, match=r"give 0\.98 to 1\.02"):
            stretch.push(np.zeros((4, 2), np.float32), ratio)
    with pytest.raises(ValueError, match="shortest_ms"):
        StretchConfig(shortest_ms=9.0)
