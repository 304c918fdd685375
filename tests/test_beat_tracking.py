"""The beat of generated audio, at a known tempo: found, kept through metrical changes, or unknown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attacca.engine.beat_tracking import BeatConfig, BeatEstimator, BeatGrid
from benchmarks.drift import no_beat, source


def heard(rate: int, bpm: float, audio: np.ndarray) -> list:
    return BeatEstimator(rate, rate * 60.0 / bpm, 0.0).push(audio)


@settings(max_examples=12, deadline=None)
@given(
    bpm=st.floats(60, 190),
    tempo=st.floats(0.97, 1.03),
    rate=st.sampled_from([8000, 16000, 22050]),
    drums=st.booleans(),
    seed=st.integers(0, 99),
)
@example(bpm=169.5, tempo=0.9866333237565726, rate=22050, drums=False, seed=0)  # clicks were told 2.7 ms late
def test_phase_and_tempo_are_found(bpm: float, tempo: float, rate: int, drums: bool, seed: int) -> None:
    audio, _ = source(rate, bpm, 12, lambda _: tempo, drums=drums, seed=seed)
    found = heard(rate, bpm, audio)
    known = [estimate for estimate in found if estimate.known]
    assert len(known) >= 0.7 * len(found)
    for estimate in known[8:]:
        seconds = estimate.beat * 60.0 / bpm / tempo - estimate.position / rate
        assert abs(seconds) < 0.005
        assert abs(estimate.tempo - tempo) < 0.003
        assert estimate.level == 1


PATTERNS = {  # twelfths of a beat that sound
    "off-beats": (lambda index: index % 12 == 6, 1),
    "half time": (lambda index: index % 24 == 0, 1),
    "eighths": (lambda index: index % 6 == 0, 2),
    "triplets": (lambda index: index % 4 == 0, 3),
    "swing": (lambda index: index % 12 in (0, 8), 3),
    "sixteenths": (lambda index: index % 3 == 0, 4),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_metrical_levels_are_told_and_move_nothing(name: str) -> None:
    plays, level = PATTERNS[name]
    before = 8 * 12
    audio, _ = source(
        8000, 120, 22, lambda _: 1.0, parts=12, plays=lambda i: i % 12 == 0 if i < before else plays(i), seed=3
    )
    found = heard(8000, 120, audio)
    assert any(estimate.known for estimate in found[60:])
    for estimate in found[10:]:
        assert abs(estimate.beat - estimate.position / 4000) < 0.02
    assert {estimate.level for estimate in found[72:] if estimate.known} == {level}


@pytest.mark.parametrize("kind", ["silence", "noise", "pad"])
def test_where_there_is_no_beat_it_is_unknown(kind: str) -> None:
    found = heard(8000, 120, no_beat(kind, 8000, 10))
    assert len(found) == 80
    assert not any(estimate.known for estimate in found)
    assert found[-1].beat == pytest.approx(20.0, abs=0.001)


def test_what_was_known_is_carried_through_silence() -> None:
    audio, _ = source(8000, 120, 24, lambda _: 1.01, plays=lambda index: index < 12)
    found = heard(8000, 120, audio)
    last = found[-1]
    assert not last.known
    assert last.beat == pytest.approx(last.position / 4000 * 1.01, abs=0.05)


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 40000), max_size=12), at=st.integers(0, 12))
def test_any_chunking_and_a_restored_estimator_give_the_same(cuts: list[int], at: int) -> None:
    audio = np.repeat(source(8000, 120, 10, lambda _: 1.01)[0][:40000], 2, axis=1)
    audio[:, 1] *= np.float32(0.7)
    whole = BeatEstimator(8000, 4000.0, 0.0).push(audio)
    other, found = BeatEstimator(8000, 4000.0, 0.0), []
    for index, part in enumerate(np.split(audio, sorted(cuts))):
        if index == at:
            kept = other.snapshot()
            other.push(audio[:9000])
            other.restore(kept)
        found += other.push(part)
    assert found == whole
    assert any(estimate.known for estimate in whole)


def test_a_grid_of_uneven_beats() -> None:
    grid = BeatGrid([100.0, 200.0, 400.0], first_beat=4)
    assert [grid.beat_at(at) for at in (50, 100, 150, 200, 300, 400, 600)] == [3.5, 4, 4.5, 5, 5.5, 6, 7]
    assert [grid.period_at(at) for at in (0, 150, 200, 900)] == [100, 100, 200, 200]
    for wrong in ([1.0], [2.0, 1.0], [[1.0, 2.0]], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="rising"):
            BeatGrid(wrong)


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"period_samples is 100\.0"):
        BeatEstimator(8000, 100.0, 0.0)
    with pytest.raises(ValueError, match="rate 100 Hz"):
        BeatEstimator(100, 50.0, 0.0)
    with pytest.raises(ValueError, match="max_tempo"):
        BeatConfig(max_tempo=0.5)
