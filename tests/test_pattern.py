"""Codebook patterns: Table 1, the permutation, and the closed forms against a step-by-step simulation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.pattern import PATTERN_NAMES, Pattern, make_pattern, simulate

bounded = settings(deadline=None, max_examples=40)
patterns = st.builds(
    make_pattern, st.sampled_from(PATTERN_NAMES), st.integers(1, 8), p=st.integers(1, 6)
)  # p is ignored but for stack-delay


def test_table_1() -> None:
    frames, books = 240, 4  # frames: a multiple of p + 1
    rows = {name: make_pattern(name, books) for name in PATTERN_NAMES}
    assert {name: pattern.num_steps(frames) for name, pattern in rows.items()} == {
        "parallel": frames,
        "delay": frames + books - 1,
        "flat": frames * books,
        "stack": frames * books,
        "stack-delay": frames + 3 * 2 + books - 1,
    }
    assert {name: pattern.context_slots(frames) for name, pattern in rows.items()} == {
        "parallel": frames,
        "delay": frames,
        "flat": frames * books,
        "stack": frames + books,
        "stack-delay": frames + books,
    }


def test_stack_delay_order() -> None:
    pattern = make_pattern("stack-delay", 4)
    assert [pattern.step_of(t, 0) for t in range(12)] == [0, 3, 6, 9, 4, 7, 10, 13, 8, 11, 14, 17]
    assert [pattern.step_of(1, k) for k in range(4)] == [3, 4, 5, 6]
    assert pattern.lag_steps == 9


def test_p_1_is_no_permutation() -> None:
    stack_delay, delay = make_pattern("stack-delay", 4, p=1), make_pattern("delay", 4)
    assert all(stack_delay.step_of(t, k) == delay.step_of(t, k) == t + k for t in range(20) for k in range(4))


@bounded
@given(st.integers(1, 12), st.integers(1, 6))
def test_one_timestep_enters_per_step_after_warm_up(p: int, books: int) -> None:
    pattern = make_pattern("stack-delay", books, p=p)
    warm_up = p * (p - 1)
    entering = [pattern.entering(step) for step in range(warm_up + 60)]
    assert all(t >= 0 for t in entering[warm_up:])
    early = [t for t in entering if t >= 0]
    assert len(set(early)) == len(early)
    assert warm_up == 0 or -1 in entering[:warm_up]


@bounded
@given(patterns, st.integers(0, 40))
def test_closed_forms_equal_the_simulation(pattern: Pattern, frames: int) -> None:
    steps = simulate(pattern, frames)
    assert pattern.num_steps(frames) == len(steps)
    placed = {cell: step for step, cells in enumerate(steps) for cell in cells}
    assert placed == {(t, k): pattern.step_of(t, k) for t in range(frames) for k in range(pattern.num_codebooks)}
    entering = [[t for t, k in cells if k == 0] for cells in steps]
    assert all(cells in ([], [pattern.entering(s)]) for s, cells in enumerate(entering))
    pattern.validate(frames)


@bounded
@given(patterns, st.integers(1, 40))
def test_lag_is_the_worst_delay(pattern: Pattern, frames: int) -> None:
    last = pattern.num_codebooks - 1
    lags = [pattern.step_of(t, last) - t * pattern.steps_per_timestep for t in range(frames)]
    assert max(lags) <= pattern.lag_steps
    if frames > pattern.p:
        assert max(lags) == pattern.lag_steps


def test_validate_finds_a_broken_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = make_pattern("stack-delay", 4)
    monkeypatch.setattr(Pattern, "step_of", lambda self, t, k: t - k + 3)  # fine before coarse
    with pytest.raises(ValueError, match="coarser"):
        pattern.validate(8)
    monkeypatch.setattr(Pattern, "step_of", lambda self, t, k: t // 2 + k)  # two timesteps at once
    with pytest.raises(ValueError, match="twice"):
        pattern.validate(8)


def test_drawing() -> None:
    assert make_pattern("stack", 2).draw(2).splitlines() == ["k=1  |. 0 . 1", "k=0  |0 . 1 .", "step |0 1 2 3"]
    lines = make_pattern("stack-delay", 4).draw(8).splitlines()
    assert lines[3] == "k=0  | 0  .  .  1  4  .  2  5  .  3  6  .  .  7  .  .  ."
    assert lines[0].split("|")[1].split()[-1] == "7"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "diagonal", "num_codebooks": 4}, "diagonal"),
        ({"name": "delay", "num_codebooks": 0}, "num_codebooks is 0"),
        ({"name": "delay", "num_codebooks": 65}, "65"),
        ({"name": "stack-delay", "num_codebooks": 4, "p": 0}, "p is 0"),
        ({"name": "delay", "num_codebooks": 4, "p": 3}, "p is 3"),
    ],
)
def test_bad_values_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern(**arguments)
