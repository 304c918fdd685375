"""The delay pattern as MusicGen has it: channels side by side, and a sequence whose end is known."""

from __future__ import annotations

import numpy as np
import pytest

from attacca.engine.pattern import make_pattern, simulate
from attacca.engine.schedule import Schedule, context_rows

MASK = 9


def walk(schedule: Schedule, steps: int) -> list[np.ndarray]:
    """The row fed at each step; token of (t, k) is (t + k) mod 9."""
    fed = []
    for _ in range(steps):
        rows = schedule.next_rows()
        fed.append(rows.stack[0])
        schedule.accept(np.where(rows.target >= 0, (rows.target + np.arange(len(rows.target))) % MASK, 0))
    return fed


def test_left_and_right_are_computed_in_one_step() -> None:
    pattern = make_pattern("delay", 8, channels=2)
    pattern.validate(12)
    assert [pattern.step_of(5, k) for k in range(8)] == [5, 5, 6, 6, 7, 7, 8, 8]
    assert pattern.lag_steps == 3 and pattern.num_steps(10) == 13
    steps = simulate(pattern, 6)
    assert all(pattern.step_of(t, k) == step for step, cells in enumerate(steps) for t, k in cells)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_prefix_feeds_what_decoding_fed(channels: int) -> None:
    pattern = make_pattern("delay", 4, channels=channels)
    fed = walk(Schedule(pattern, MASK), 12)
    codes = (np.arange(12)[:, None] + np.arange(4)) % MASK
    assert np.array_equal(context_rows(pattern, MASK, codes).stack, np.stack(fed))


def test_past_the_end_the_mask_is_fed() -> None:
    pattern, end = make_pattern("delay", 3), 4
    schedule = Schedule(pattern, MASK, end=end)
    fed = np.stack(walk(schedule, pattern.num_steps(end)))
    expected = [[t - 1 - k for k in range(3)] for t in range(len(fed))]
    tokens = [[(t + k) % MASK if 0 <= t < end else MASK for k, t in enumerate(row)] for row in expected]
    assert fed.tolist() == tokens
    assert schedule.codes(0, end).tolist() == [[(t + k) % MASK for k in range(3)] for t in range(end)]


def test_channels_belong_to_the_delay_pattern_and_divide_its_codebooks() -> None:
    with pytest.raises(ValueError, match="channels is 2, must be 1 for pattern 'stack-delay'"):
        make_pattern("stack-delay", 4, channels=2)
    with pytest.raises(ValueError, match="channels is 3, must divide num_codebooks 8"):
        make_pattern("delay", 8, channels=3)
