"""A synthetic model whose output drifts by a known amount is brought to the host's beats and held there."""

from __future__ import annotations

from math import pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.beat_lock import BeatLock, LockConfig
from attacca.engine.beat_tracking import BeatGrid
from benchmarks.drift import heard_late_ms, no_beat, source

RATE = 8000


def lock_for(bpm: float, *, rate: int = RATE, start: float = 0.0, channels: int = 1) -> BeatLock:
    return BeatLock(rate, channels, BeatGrid([start, start + rate * 60.0 / bpm]), start)


@pytest.mark.parametrize(
    ("bpm", "tempo", "rate", "drums", "locked", "farthest_ms"),
    [
        (120, 1.005, 32000, True, 4, 10),
        (97, 1.01, 16000, True, 16, 16),
        (160, 0.985, 16000, True, 16, 22),
        (70, 0.985, 8000, False, 24, 36),
        (120, 1.019, 8000, False, 56, 32),
        (90, 0.981, 8000, True, 60, 40),
    ],
)
def test_a_drifting_source_is_brought_to_the_grid(
    bpm: float, tempo: float, rate: int, drums: bool, locked: int, farthest_ms: float
) -> None:
    audio, onsets = source(rate, bpm, locked + 16, lambda _: tempo, drums=drums)
    lock = lock_for(bpm, rate=rate, start=12345.5)
    out = np.concatenate([*(lock.push(part) for part in np.array_split(audio, 40)), lock.flush()])
    errors = heard_late_ms(lock, bpm, onsets)
    assert np.abs(errors).max() < farthest_ms
    assert np.abs(errors[locked:]).max() < 10.0
    report = lock.report
    assert abs(report.error_ms) < 2.0
    assert report.ratio == pytest.approx(tempo, abs=0.002)
    seconds = len(audio) / rate
    assert report.drift_ms == pytest.approx(1000.0 * seconds * (1.0 - tempo), abs=10.0)
    assert not report.realign
    assert lock.position == 12345.5 + len(out)
    for onset in onsets[locked:-2]:  # the attack itself is untouched
        at, into = round(onset * rate), lock.stretch.output_of(round(onset * rate))
        np.testing.assert_array_equal(out[into : into + rate // 250], audio[at : at + rate // 250])


def test_a_tempo_that_wavers_is_followed() -> None:
    audio, onsets = source(RATE, 130, 64, lambda seconds: 1.0 + 0.008 * sin(2 * pi * seconds / 20.0))
    lock = lock_for(130)
    lock.push(audio)
    errors, uncorrected = heard_late_ms(lock, 130, onsets), 1000.0 * (onsets - np.arange(len(onsets)) * 60.0 / 130)
    assert np.abs(uncorrected).max() > 45.0
    assert np.abs(errors).max() < 12.0
    assert np.mean(np.abs(errors) < 10.0) > 0.95


@pytest.mark.parametrize("bpm", [73, 120, 181])
@pytest.mark.parametrize("drums", [False, True])
def test_what_is_in_time_is_not_touched(bpm: float, drums: bool) -> None:
    audio, _ = source(RATE, bpm, 24, lambda _: 1.0, drums=drums)
    lock = lock_for(bpm)
    np.testing.assert_array_equal(lock.push(audio), audio)
    report = lock.report
    assert report.known
    assert (report.ratio, report.splices, report.correcting, report.realigns) == (1.0, 0, False, 0)


def test_players_a_little_early_or_late_are_left_alone() -> None:
    late = np.random.default_rng(3).normal(0.0, 0.006, 200)  # beats: 3 ms
    late[0] = 0.0
    audio, onsets = source(RATE, 120, 40, lambda at: 1.0 / (1.0 + late[round(2 * at) + 1] - late[round(2 * at)]))
    assert np.std(onsets - 0.5 * np.arange(len(onsets))) > 0.0025
    lock = lock_for(120)
    np.testing.assert_array_equal(lock.push(audio), audio)
    assert lock.report.known


@pytest.mark.parametrize("kind", ["silence", "noise", "pad"])
def test_what_has_no_beat_is_not_touched(kind: str) -> None:
    audio = no_beat(kind, RATE, 8.0)
    lock = lock_for(120)
    np.testing.assert_array_equal(lock.push(audio), audio)
    assert not lock.report.known
    assert lock.report.unknown_beats == 16.0


def test_random_onsets_do_no_harm_to_the_accounts() -> None:
    rng = np.random.default_rng(7)
    audio = 1e-4 * rng.normal(size=(20 * RATE, 1))
    for at in rng.integers(0, 19 * RATE, 50):
        audio[at : at + 800, 0] += 0.4 * rng.normal(size=800) * np.exp(-np.arange(800) / 240.0)
    lock = lock_for(120)
    out = np.concatenate([lock.push(audio.astype(np.float32)), lock.flush()])
    assert len(out) == len(audio) - lock.stretch.offset
    assert abs(len(out) / len(audio) - 1.0) <= 0.02


def test_past_two_percent_a_new_beginning_is_asked_for_once() -> None:
    audio, _ = source(RATE, 120, 40, lambda _: 1.03)
    lock = lock_for(120)
    reports = []
    for part in np.split(audio, range(2000, len(audio), 2000)):
        lock.push(part)
        reports.append(lock.report)
    asked = next(index for index, report in enumerate(reports) if report.realign)
    assert asked <= 20  # ten beats
    assert all(abs(report.ratio - 1.0) < 0.0200001 for report in reports)
    assert reports[-1].realigns == 1
    beat = lock.wanted_position / 4000.0
    lock.realigned()
    assert not lock.report.realign
    assert abs(lock.report.error_ms) < 1.0
    steady, _ = source(RATE, 120, 16, lambda _: 1.0)
    steady = steady[round(beat % 1.0 * 4000.0) :]  # what the model makes next is in phase
    before = lock.stretch.splice_count
    for part in np.split(steady, range(2000, len(steady), 2000)):
        lock.push(part)
    assert lock.report.known
    assert abs(lock.report.error_ms) < 4.0
    assert lock.report.ratio == 1.0
    assert lock.stretch.splice_count <= before + 3
    assert lock.report.realigns == 1


@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(0, 64000), max_size=10), at=st.integers(0, 10))
def test_any_chunking_and_a_restored_lock_give_the_same(cuts: list[int], at: int) -> None:
    audio = np.repeat(source(RATE, 120, 17, lambda _: 1.018)[0][:64000], 2, axis=1)
    whole = lock_for(120, channels=2)
    expected = whole.push(audio)
    other, out = lock_for(120, channels=2), []
    for index, part in enumerate(np.split(audio, sorted(cuts))):
        if index == at:
            kept = other.snapshot()
            other.push(audio[:12000])
            other.restore(kept)
        out.append(other.push(part))
    np.testing.assert_array_equal(np.concatenate(out), expected)
    assert other.report == whole.report
    assert whole.report.splices > 3


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="rest_ms"):
        LockConfig(rest_ms=5.0)
    with pytest.raises(ValueError, match="settle_s is 0"):
        LockConfig(settle_s=0.0)
