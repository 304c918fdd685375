"""Resampler: alignment, quality against soxr and against arithmetic, chunked equals whole, snapshot."""

from __future__ import annotations

import itertools
from math import ceil

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.resample import Resampler

PAIRS = [
    (48000, 32000),
    (44100, 32000),
    (32000, 44100),
    (32000, 48000),
    (8000, 32000),
    (96000, 32000),
    (44100, 32001),
    (383999, 32000),  # hostile, but legal: its table must be as good, and ready at once
    (32000, 383999),
]


def whole(source: int, target: int, pcm: np.ndarray) -> np.ndarray:
    resampler = Resampler(source, target)
    return np.concatenate([resampler.push(pcm), resampler.flush()])


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(wanted**2) / np.mean((wanted - got) ** 2)))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_sines_keep_phase_and_level(source: int, target: int) -> None:
    nyquist = min(source, target) / 2
    for share in (0.01, 0.3, 0.6, 0.85):
        omega = 2 * np.pi * share * nyquist
        output = whole(source, target, np.sin(omega * np.arange(source // 4) / source + 0.3).astype(np.float32))
        wanted = np.sin(omega * np.arange(len(output)) / target + 0.3)
        middle = slice(len(output) // 5, -len(output) // 5)
        assert snr_db(wanted[middle], output[middle]) > 85


@pytest.mark.parametrize(("source", "target"), [(48000, 32000), (44100, 32000), (32000, 44100), (32000, 48000)])
def test_sweep_agrees_with_soxr(source: int, target: int) -> None:
    t = np.arange(source) / source
    top = 0.8 * min(source, target) / 2
    pcm = np.sin(2 * np.pi * (50 * t + (top - 50) / 2 * t * t)).astype(np.float32)
    ours, theirs = whole(source, target, pcm), soxr.resample(pcm, source, target, quality="HQ")
    assert len(ours) == target
    middle = slice(2000, min(len(ours), len(theirs)) - 2000)
    assert snr_db(theirs[middle], ours[middle]) > 80


@pytest.mark.parametrize(("source", "target"), [(48000, 32000), (44100, 32000), (96000, 8000)])
def test_what_the_target_cannot_hold_is_gone(source: int, target: int) -> None:
    for share in (1.02, 1.1, 1.3):
        tone = np.sin(2 * np.pi * share * target / 2 * np.arange(source // 4) / source).astype(np.float32)
        rest = whole(source, target, tone)[300:-300]
        assert 20 * np.log10(np.sqrt(np.mean(rest**2)) * np.sqrt(2)) < -80


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_ramp_keeps_its_place(source: int, target: int) -> None:
    ramp = np.arange(20000, dtype=np.float32)
    output = whole(source, target, ramp)
    middle = slice(len(output) // 5, -len(output) // 5)
    wanted = np.arange(len(output)) * (source / target)
    assert np.abs(output - wanted)[middle].max() < 0.01


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*PAIRS, (44100, 48000), (192000, 32000), (32000, 32000)]),
    st.lists(st.integers(0, 900), min_size=1, max_size=12),
    st.integers(-(10**12), 10**12),
    st.integers(0, 2**32 - 1),
)
def test_chunked_equals_whole(rates: tuple[int, int], sizes: list[int], origin: int, seed: int) -> None:
    pcm = np.random.default_rng(seed).standard_normal(sum(sizes)).astype(np.float32)
    one, many = Resampler(*rates), Resampler(*rates)
    one.reset(origin)
    many.reset(origin)
    assert one.next_output == ceil(origin * rates[1] / rates[0]) if abs(origin) < 10**6 else True
    expected = np.concatenate([one.push(pcm), one.flush()])
    edges = np.cumsum([0, *sizes])
    parts = [many.push(pcm[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate([*parts, many.flush()]), expected)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PAIRS), st.integers(0, 3000), st.integers(1, 3000), st.integers(0, 2000))
def test_snapshot_and_skip(rates: tuple[int, int], first: int, second: int, skip: int) -> None:
    rng = np.random.default_rng(first * 7 + second)
    before, after = (rng.standard_normal(n).astype(np.float32) for n in (first, second))
    resampler = Resampler(*rates)
    resampler.push(before)
    state, position = resampler.snapshot(), resampler.next_output
    expected = resampler.push(after)
    resampler.push(after)
    resampler.restore(state)
    assert resampler.next_output == position
    resampler.skip_to(position + skip)
    assert np.array_equal(resampler.push(after), expected[skip:])


def test_two_hours_from_the_start_nothing_has_moved() -> None:
    far = Resampler(44100, 32000)
    start = 441 * 720_000  # a multiple of the period, so that both see the same phases
    far.reset(start)
    pcm = np.random.default_rng(5).standard_normal(3000).astype(np.float32)
    near = Resampler(44100, 32000)
    assert far.next_output == 320 * 720_000
    assert np.array_equal(near.push(pcm), far.push(pcm))


def test_equal_rates_pass_through() -> None:
    pcm = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    resampler = Resampler(48000, 48000)
    assert resampler.latency_samples == 0
    assert np.array_equal(resampler.push(pcm), pcm)


@pytest.mark.parametrize("rates", [(7999, 32000), (32000, 384001)])
def test_rates_out_of_range_are_named(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"8000\.\.384000"):
        Resampler(*rates)


def test_no_legal_rate_stalls_the_engine() -> None:
    """The cost of opening is that of the kernel table, which stays small at any rate."""
    for pair in ((383999, 32000), (32000, 383999), (8001, 384000), (384000, 8001)):
        assert Resampler(*pair).table_samples < 600_000
