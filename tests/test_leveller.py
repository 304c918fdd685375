"""The leveller: a take keeps the level of what was played, and what is within the tolerance is not touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.leveller import LevelConfig, Leveller, LevelMeter, Loudness

RATE, HOP = 8000, 400  # 20 frames a second
FRAMES_PER_S = RATE // HOP
METER = LevelMeter(LevelConfig(), FRAMES_PER_S)
PLAYED = 0.04  # mean square, -14 dBFS


def decibels(energy: float) -> float:
    return 10.0 * float(np.log10(energy))


def pulsed(seconds: float, level_db: Any = 0.0, *, period_s: float = 0.5, seed: int = 0) -> np.ndarray:
    """Noise struck twice a second, every fourth time harder; -14 dBFS and so many dB more, of time in s."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    struck = np.where(times % (4 * period_s) < period_s, 1.6, 1.0) * np.exp(-(times % period_s) / 0.15)
    wave = rng.standard_normal(len(times)) * struck
    wave *= np.sqrt(PLAYED / np.mean(wave**2))
    louder = level_db(times) if callable(level_db) else np.full(len(times), level_db)
    return (wave * 10.0 ** (louder / 20.0)).astype(np.float32)


def measured(pcm: np.ndarray) -> float:
    loudness = Loudness(METER, HOP)
    loudness.push(pcm)
    assert loudness.energy is not None
    return loudness.energy


HEARD = measured(pulsed(20.0, seed=1))


def leveller(reference: float | None = HEARD, first_frame: int = 0) -> Leveller:
    return Leveller(METER, reference=reference, first_frame=first_frame)


def levelled(pcm: np.ndarray, *, players: list[int] | None = None, **made: Any) -> np.ndarray:
    count = len(pcm) // HOP
    return leveller(**made).push(0, pcm, [0] * count if players is None else players)


def rms_db(pcm: np.ndarray, start_s: float, stop_s: float) -> float:
    return decibels(float(np.mean(np.square(pcm[round(start_s * RATE) : round(stop_s * RATE)], dtype=np.float64))))


@pytest.mark.parametrize("louder", [0.0, 2.5, -4.5])
def test_a_take_within_the_tolerance_is_not_touched(louder: float) -> None:
    pcm = pulsed(40.0, louder)
    assert levelled(pcm) is pcm


def test_a_drift_of_12_db_is_held() -> None:
    pcm = pulsed(60.0, lambda t: np.minimum(t / 20.0, 1.0) * 12.0)
    out = levelled(pcm)
    for start in range(0, 60, 2):
        assert rms_db(out, start, start + 2) < -14.0 + 3.0 + 1.7
    assert rms_db(out, 40, 60) == pytest.approx(-11.0, abs=0.2)
    quiet = rms_db(pcm, 0, 4)
    assert rms_db(out, 0, 4) == quiet  # as long as it is within, nothing is done


def test_a_step_is_held_after_seconds_and_let_go_slowly() -> None:
    out = levelled(pulsed(60.0, lambda t: np.where((t >= 10) & (t < 30), 12.0, 0.0)))
    assert rms_db(out, 10, 11) > -4.0  # an accent, a fill: may be
    assert rms_db(out, 14, 30) == pytest.approx(-11.0, abs=0.5)
    after = [rms_db(out, at, at + 2) for at in range(30, 60, 2)]
    assert after[0] < -20.0
    assert after[-1] == pytest.approx(-14.0, abs=0.5)
    assert max(np.diff(after)) < 2.0 * LevelConfig().rise_db_per_s + 0.5


def test_the_gain_breathes_with_no_beat() -> None:
    made, gains = leveller(), []
    pcm = pulsed(60.0, 10.0)
    for frame in range(len(pcm) // HOP):
        made.push(frame, pcm[frame * HOP : (frame + 1) * HOP], [0])
        gains.append(made.gain_db)
    steady = gains[20 * FRAMES_PER_S :]
    assert max(steady) - min(steady) < 0.5
    assert steady[-1] == pytest.approx(-7.0, abs=0.3)


def test_a_break_of_some_bars_is_not_lifted_but_a_take_that_stays_quiet_is_a_little() -> None:
    broken = pulsed(40.0, lambda t: np.where((t >= 10) & (t < 18), -9.0, 0.0))
    assert levelled(broken) is broken
    quiet = pulsed(80.0, -9.0)
    out = levelled(quiet)
    assert rms_db(out, 60, 80) - rms_db(quiet, 60, 80) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("below", [-30.0, -60.0, -200.0])
def test_silence_and_what_is_nearly_silence_is_never_lifted(below: float) -> None:
    pcm = pulsed(80.0, lambda t: np.where(t < 10, 0.0, below))
    assert levelled(pcm) is pcm


def test_a_rest_changes_no_gain() -> None:
    pcm = pulsed(40.0, lambda t: np.where((t >= 20) & (t < 30), -200.0, 9.0))
    out = levelled(pcm)
    assert rms_db(out, 18, 20) == pytest.approx(-11.0, abs=0.6)
    assert rms_db(out, 30, 32) == pytest.approx(rms_db(out, 18, 20), abs=0.5)


def test_where_nothing_was_played_a_take_keeps_its_own_first_level() -> None:
    pcm = pulsed(60.0, lambda t: -8.0 + np.minimum(t / 20.0, 1.0) * 12.0)
    out = levelled(pcm, reference=None)
    assert rms_db(out, 40, 60) == pytest.approx(rms_db(pcm, 0, 4) + 3.0, abs=0.7)


def test_players_who_come_in_may_be_heard_and_who_go_are_not_made_up_for() -> None:
    fuller = pulsed(40.0, lambda t: np.where(t < 10, 0.0, 6.0))
    count = len(fuller) // HOP
    added = [1] * (10 * FRAMES_PER_S) + [4] * (count - 10 * FRAMES_PER_S)
    assert levelled(fuller, players=added) is fuller
    assert rms_db(levelled(fuller), 20, 40) == pytest.approx(-11.0, abs=0.3)
    thinner = pulsed(80.0, lambda t: np.where(t < 10, 0.0, -8.0))
    gone = [4] * (10 * FRAMES_PER_S) + [1] * (len(thinner) // HOP - 10 * FRAMES_PER_S)
    assert levelled(thinner, players=gone) is thinner
    assert levelled(thinner) is not thinner


def test_no_zipper_noise() -> None:
    tone = (0.9 * np.sin(2.0 * np.pi * 100.0 * np.arange(20 * RATE) / RATE)).astype(np.float32)
    gains = levelled(tone)[tone != 0] / tone[tone != 0]
    assert np.abs(np.diff(gains)).max() < 6.0 / 8.686 / RATE * 1.5 + 1e-6  # 6 dB a second, from sample to sample


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.lists(st.floats(-40.0, 16.0), min_size=2, max_size=8),
    st.booleans(),
    st.sampled_from([None, HEARD, 0.001]),
    st.integers(0, 2**16),
)
def test_chunked_equals_whole_and_a_snapshot_goes_on_exactly(
    cuts: list[int], levels: list[float], stereo: bool, reference: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (24 * FRAMES_PER_S, HOP // 8, *([2] if stereo else []))
    louder = 10.0 ** (np.repeat(levels, -(-shape[0] // len(levels)))[: shape[0]] / 20.0)
    frames = 0.2 * rng.standard_normal(shape) * louder.reshape(-1, *[1] * (len(shape) - 1))
    pcm = frames.astype(np.float32).reshape(-1, *shape[2:])
    players = rng.integers(0, 5, shape[0]).tolist()
    whole = leveller(reference, 5).push(0, pcm, players)
    chunked, parts, at = leveller(reference, 5), [], 0
    for size in [*cuts, shape[0]]:
        stop = min(at + size, shape[0])
        saved = chunked.snapshot()
        chunked.push(at, 3.0 * pcm[at * HOP // 8 : stop * HOP // 8], players[at:stop])
        chunked.restore(saved)
        parts.append(chunked.push(at, pcm[at * HOP // 8 : stop * HOP // 8], players[at:stop]))
        at = stop
    assert np.array_equal(np.concatenate(parts), whole)
    gains = np.abs(whole) / np.maximum(np.abs(pcm), 1e-30)
    assert gains.max() <= 10.0 ** (3.0 / 20.0) + 1e-5


@settings(max_examples=8, deadline=None)
@given(st.integers(50, 200), st.integers(0, 180))
def test_a_stream_begun_again_goes_on_at_the_gain_it_had(pushed: int, back: int) -> None:
    pcm = pulsed(12.0, 12.0)
    made = leveller()
    made.push(0, pcm[: pushed * HOP], [0] * pushed)
    gain, frame = made.gain_db, max(0, pushed - back)
    made.begin(frame)
    if back <= 128:  # as if the frames had never been
        straight = leveller()
        straight.push(0, pcm[: frame * HOP], [0] * frame)
        assert made.gain_db == straight.gain_db
        rest = pcm[frame * HOP :], [0] * (len(pcm) // HOP - frame)
        assert np.array_equal(made.push(frame, *rest), straight.push(frame, *rest))
    else:
        assert abs(made.gain_db - gain) <= 6.0 * 128 / FRAMES_PER_S
    later = leveller()
    later.push(0, pcm[: pushed * HOP], [0] * pushed)
    later.begin(pushed + 1000)
    assert later.gain_db == gain


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 20000), min_size=1, max_size=20), st.integers(0, 12), st.booleans())
def test_what_was_played_is_measured_without_its_pauses(cuts: list[int], pause_s: int, stereo: bool) -> None:
    pcm = np.concatenate([pulsed(12.0), 0.0005 * pulsed(float(pause_s))]) if pause_s else pulsed(12.0)
    heard = np.stack([pcm, pcm], axis=1) if stereo else pcm
    loudness, at = Loudness(METER, HOP, channels=2 if stereo else 1), 0
    for size in [*cuts, len(heard)]:
        loudness.push(heard[at : at + size])
        at += size
    whole = Loudness(METER, HOP, channels=2 if stereo else 1)
    whole.push(heard)
    assert loudness.energy == whole.energy
    assert whole.energy is not None
    assert abs(decibels(whole.energy) - decibels(PLAYED)) < 1.0
    loudness.reset()
    assert loudness.energy is None


def test_too_little_is_no_level() -> None:
    loudness = Loudness(METER, HOP)
    loudness.push(pulsed(0.9))
    assert loudness.energy is None


def test_a_long_take_keeps_no_more_than_a_short_one() -> None:
    made, pcm = leveller(), pulsed(2.0, 8.0)[:: HOP // 8]
    sizes = set()
    for lap in range(60):
        made.push(lap * 40, pcm, [0] * 40)
        sizes.add(len(made.snapshot()[1]))
    assert max(sizes) == 128
    assert made.gain_db == pytest.approx(-5.0, abs=1.5)


@pytest.mark.parametrize(
    ("field", "value"), [("tolerance_db", 0.0), ("most_lift_db", 13.0), ("short_s", 17.0), ("silence_dbfs", 0.0)]
)
def test_a_configuration_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"LevelConfig.{field} {value}"):
        LevelConfig(**{field: value})
