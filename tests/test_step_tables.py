"""What the step loop works out for several steps at once is what each by itself would be, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from decoder_fixtures import random_codes
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.code_levels import FRAMES_BEFORE, CodeLevels, LevelHold
from attacca.engine.drawing import DrawTable
from attacca.engine.generator import Sampling
from attacca.engine.noise import gumbel_noise
from attacca.engine.pattern import PATTERN_NAMES, make_pattern
from attacca.engine.rotary import RotaryTable
from attacca.engine.step_layout import entering

BOOKS, SIZE, HEARD = 4, 16, 150
RNG = np.random.default_rng(0)
LEVELS = CodeLevels(RNG.normal(0.0, 8.0, (BOOKS, SIZE, 3)), RNG.normal(-30.0, 3.0, 3))


def loud(frames: int, seed: int = 0) -> np.ndarray:
    """Codes that are far louder than random ones."""
    best = LEVELS.tables.sum(axis=2).argmax(axis=1)
    return np.where(np.random.default_rng(seed).random((frames, BOOKS)) < 0.9, best, 0).astype(np.uint16)


def hold(planned: np.ndarray, at_once: int = 1000) -> LevelHold:
    made = LevelHold(LEVELS, 400)
    made.put(0, random_codes(HEARD), heard=True)
    for start in range(0, len(planned), at_once):
        made.put(HEARD + start, planned[start : start + at_once], heard=False)
    return made


def test_noise_is_the_generator_s_draws_as_they_are_documented() -> None:
    for seed, timestep in ((0, 0), (7, 12345), (2**63, 3)):
        bits = np.random.Philox(key=np.array([seed, timestep], np.uint64)).random_raw(BOOKS * SIZE)
        uniform = ((bits >> np.uint64(12)) + 0.5) / 2.0**52
        wanted = (-np.log(-np.log(uniform))).astype(np.float32).reshape(BOOKS, SIZE)
        np.testing.assert_array_equal(gumbel_noise(seed, timestep, (BOOKS, SIZE)), wanted)


def test_angles_are_those_of_each_position_alone() -> None:
    frequencies = 10000.0 ** (-np.arange(8) / 8)
    table, out = RotaryTable(frequencies), np.zeros((2, 5, 8), np.float32)
    for positions in (
        [-1, 0, 1, 2, 3],
        [60, 61, 62, 63, 64],
        [9, 9, 8, 7, 70],
        [5, 1000000, 3, 2, 1],
        [1, 0, -1, 0, 1],
    ):
        table.look_up(np.array(positions), *out)
        angles = [position * frequencies for position in positions]
        np.testing.assert_array_equal(out, [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)])


@pytest.mark.parametrize("name", PATTERN_NAMES)
def test_timesteps_that_enter_are_the_pattern_s(name: str) -> None:
    for p in (1, 2, 3, 5):
        pattern, steps = make_pattern(name, BOOKS, p=p), np.arange(-10, 200)
        assert entering(pattern, steps).tolist() == [pattern.entering(step) for step in steps.tolist()]


@given(st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_tilts_made_ahead_are_those_made_when_they_are_asked_for(at_once: int, seed: int) -> None:
    planned = loud(120, seed)
    whole, differing = hold(planned, at_once), 0
    for timestep in range(HEARD, HEARD + 120 + FRAMES_BEFORE):
        known = max(0, timestep - FRAMES_BEFORE - HEARD + 1)
        alone, found = hold(planned[:known]).tilts(timestep), whole.tilts(timestep)
        assert (alone is None) == (found is None)
        if alone is not None and found is not None:
            np.testing.assert_array_equal(found, alone)
            differing += 1
    assert differing > 20


def test_frames_that_were_forgotten_leave_no_trace() -> None:
    for kept in (1, 5, 40):
        other, codes = hold(loud(60, seed=1), 1), loud(90, seed=2)
        other.tilts(HEARD + 40)
        other.forget(HEARD + kept)
        other.put(HEARD + kept, codes[kept:], heard=False)
        straight = hold(np.concatenate([loud(60, seed=1)[:kept], codes[kept:]]))
        for timestep in range(HEARD, HEARD + 90 + FRAMES_BEFORE):
            assert other.excess_db(timestep) == straight.excess_db(timestep)


def test_a_table_is_noise_less_tilt_and_follows_what_it_is_made_of() -> None:
    held, table, timestep = hold(loud(80)), DrawTable(BOOKS, SIZE), HEARD + 90
    for sampling, origin in ((Sampling(seed=1), 0), (Sampling(seed=1, temperature=0.5), 0), (Sampling(seed=2), 30)):
        table.use(sampling, held, origin)
        tilt = held.tilts(timestep)
        assert tilt is not None
        noise = gumbel_noise(sampling.seed, timestep + origin, (BOOKS, SIZE))
        np.testing.assert_array_equal(table.of(timestep), noise - tilt / np.float32(sampling.temperature))
    held.forget(HEARD)
    held.put(HEARD, random_codes(80), heard=False)
    table.use(sampling, held, origin)
    assert held.tilts(timestep) is None
    np.testing.assert_array_equal(table.of(timestep), noise)
