"""The run-time walk: rows against a plain account of what is known when, prefixes, snapshots."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.pattern import PATTERN_NAMES, Pattern, make_pattern, simulate
from attacca.engine.schedule import Schedule, StepRows, context_rows

MASK = 50
bounded = settings(deadline=None, max_examples=40)
patterns = st.builds(make_pattern, st.sampled_from(PATTERN_NAMES), st.integers(1, 5), p=st.integers(1, 4))
stacks = st.builds(make_pattern, st.sampled_from(["stack", "stack-delay"]), st.integers(1, 5), p=st.integers(1, 4))


def walk(schedule: Schedule, steps: int, seed: int = 0) -> tuple[list[StepRows], dict[tuple[int, int], int]]:
    """Rows of each step, and the tokens drawn by (absolute timestep, codebook)."""
    rng = np.random.default_rng(seed)
    rows, drawn = [], {}
    for _ in range(steps):
        step = schedule.next_rows()
        tokens = rng.integers(0, MASK, schedule.pattern.num_codebooks)
        drawn |= {(int(t), k): int(tokens[k]) for k, t in enumerate(step.target) if t >= 0}
        schedule.accept(tokens)
        rows.append(step)
    return rows, drawn


def assert_rows_equal(one: StepRows, other: StepRows) -> None:
    for name in StepRows.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@bounded
@given(patterns, st.integers(0, 30), st.integers(1, 40))
def test_targets_are_the_simulated_steps(pattern: Pattern, origin: int, steps: int) -> None:
    rows, _ = walk(Schedule(pattern, MASK, origin), steps)
    reference = simulate(pattern, steps + 1)
    for step, cells in zip(rows, reference, strict=False):
        expected = np.full(pattern.num_codebooks, -1)
        for t, k in cells:
            expected[k] = origin + t
        np.testing.assert_array_equal(step.target, expected)


@bounded
@given(stacks, st.integers(0, 30), st.integers(0, 6), st.integers(1, 60))
def test_stack_rows(pattern: Pattern, origin: int, known: int, steps: int) -> None:
    books, known = pattern.num_codebooks, min(known, origin)
    codes = np.random.default_rng(1).integers(0, MASK, (known, books))
    schedule = Schedule(pattern, MASK, origin)
    schedule.prefix(codes)
    rows, drawn = walk(schedule, steps)
    drawn |= {(origin - known + i, k): int(codes[i, k]) for i in range(known) for k in range(books)}
    slots = list(range(origin - known, origin))
    if known:
        slots.insert(0, origin - known - 1)
    kept = list(slots)
    for number, step in enumerate(rows):
        full = [
            t
            for t in range(origin, origin + steps)
            if number and max(pattern.step_of(t - origin, k) for k in range(books)) == number - 1
        ]  # completed in the step before
        assert step.stack.shape == (books + 1, books) and len(full) <= 1
        if full or not kept:
            assert (step.advance, step.rewrite) == (1, False)
            kept.append(full[0] if full else origin - 1)
        else:
            assert (step.advance, step.rewrite) == (0, True)
        assert step.kept_timestep == step.timestep[0] == kept[-1] and step.level[0] == books
        memory = [drawn.get((kept[-1], k), MASK) for k in range(books)]
        assert step.stack[0].tolist() == memory
        assert (MASK not in memory) == (kept[-1] in range(origin - known, origin + steps))
        active = [k for k in reversed(range(books)) if step.target[k] >= 0]
        for row, k in enumerate(active, start=1):
            t = int(step.target[k])
            assert step.row_of_level[k] == row and step.level[row] == k and step.timestep[row] == t
            assert step.stack[row].tolist() == [drawn[t, j] if j < k else MASK for j in range(books)]
        assert ((step.row_of_level >= 0) & (step.row_of_level <= books)).all()
        assert ((step.level >= 0) & (step.level <= books)).all()
    assert len(set(kept)) == len(kept)


@bounded
@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 12), st.integers(1, 20))
def test_delay_rows(books: int, origin: int, known: int, steps: int) -> None:
    known = min(known, origin)
    codes = np.random.default_rng(1).integers(0, MASK, (known, books))
    schedule = Schedule(make_pattern("delay", books), MASK, origin)
    schedule.prefix(codes)
    rows, drawn = walk(schedule, steps)
    drawn |= {(origin - known + i, k): int(codes[i, k]) for i in range(known) for k in range(books)}
    for s, step in enumerate(rows, start=origin):
        assert step.stack.tolist() == [[drawn.get((s - 1 - k, k), MASK) for k in range(books)]]
        assert step.timestep.tolist() == [s] and step.kept_timestep == s
        assert (step.advance, step.rewrite) == (1, False)
        assert step.target.tolist() == [s - k if s - k >= origin else -1 for k in range(books)]
        assert step.row_of_level.tolist() == [0] * books


def test_flat_and_parallel_rows() -> None:
    rows, drawn = walk(Schedule(make_pattern("flat", 2), MASK), 5)
    assert [row.stack[0].tolist() for row in rows] == [
        [MASK, MASK],
        [drawn[0, 0], MASK],
        [MASK, drawn[0, 1]],
        [drawn[1, 0], MASK],
        [MASK, drawn[1, 1]],
    ]
    assert [(int(row.timestep[0]), int(row.level[0])) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    rows, drawn = walk(Schedule(make_pattern("parallel", 2), MASK), 2)
    assert [row.stack[0].tolist() for row in rows] == [[MASK, MASK], [drawn[0, 0], drawn[0, 1]]]


@bounded
@given(patterns, st.integers(0, 9), st.integers(1, 12))
def test_context_rows_are_what_the_walk_fed(pattern: Pattern, first: int, frames: int) -> None:
    """Prefill of a finished sequence equals the rows kept while it was made, but for order."""
    schedule = Schedule(pattern, MASK, first)
    rows, _ = walk(schedule, pattern.num_steps(frames) + 1)
    kept = [(row.stack[0].tolist(), int(row.level[0]), row.kept_timestep) for row in rows if row.advance]
    whole = context_rows(pattern, MASK, schedule.codes(first, first + frames), first=first)
    fed = [(s.tolist(), int(v), int(t)) for s, v, t in zip(*whole, strict=True)]
    assert [row for row in sorted(kept, key=lambda row: row[2]) if row[2] < first + frames] == fed
    cut = first + frames // 2
    if cut > first:
        rest = context_rows(pattern, MASK, schedule.codes(first, first + frames), first=first, start=cut)
        assert [(s.tolist(), int(v), int(t)) for s, v, t in zip(*rest, strict=True)] == [
            r for r in fed if r[2] >= cut
        ]
    assert len(context_rows(pattern, MASK, np.zeros((0, pattern.num_codebooks))).stack) == 0


@bounded
@given(patterns, st.integers(0, 20), st.integers(0, 50), st.integers(1, 20))
def test_frontier_and_codes(pattern: Pattern, origin: int, steps: int, more: int) -> None:
    schedule = Schedule(pattern, MASK, origin)
    _, drawn = walk(schedule, steps)
    books = range(pattern.num_codebooks)
    frontier = schedule.frontier
    assert all((t, k) in drawn for t in range(origin, frontier) for k in books)
    assert not all((frontier, k) in drawn for k in books)
    expected = [[drawn[t, k] for k in books] for t in range(origin, frontier)]
    assert schedule.codes(origin, frontier).tolist() == expected
    with pytest.raises(ValueError, match="must lie in"):
        schedule.codes(origin, frontier + 1)
    walk(schedule, more, seed=5)
    assert schedule.codes(origin, frontier).tolist() == expected  # later steps change nothing below the frontier


@bounded
@given(patterns, st.integers(0, 40), st.integers(1, 30))
def test_snapshot_restore_clone(pattern: Pattern, before: int, after: int) -> None:
    schedule = Schedule(pattern, MASK, 3)
    walk(schedule, before)
    snapshot, clone = schedule.snapshot(), schedule.clone()
    first, _ = walk(schedule, after, seed=1)
    schedule.restore(snapshot)
    for other in (schedule, clone):
        again, _ = walk(other, after, seed=1)
        for one, two in zip(first, again, strict=True):
            assert_rows_equal(one, two)


@settings(deadline=None, max_examples=5)
@given(patterns)
def test_history_is_bounded_and_forgets_the_oldest(pattern: Pattern) -> None:
    schedule = Schedule(pattern, MASK, 0, history_frames=64)
    _, drawn = walk(schedule, 300 * pattern.steps_per_timestep)
    frontier = schedule.frontier
    books = range(pattern.num_codebooks)
    assert frontier > 250
    assert schedule.codes(frontier - 30, frontier).tolist() == [
        [drawn[t, k] for k in books] for t in range(frontier - 30, frontier)
    ]
    with pytest.raises(ValueError, match="must lie in"):
        schedule.codes(frontier - 70, frontier)
    assert schedule.snapshot().ring.shape == (64, pattern.num_codebooks)


def test_misuse_is_named() -> None:
    pattern = make_pattern("stack-delay", 4)
    schedule = Schedule(pattern, MASK, 5)
    with pytest.raises(ValueError, match=r"must be 0\.\.49"):
        schedule.accept([MASK, 0, 0, 0])
    schedule.accept([1, MASK, MASK, MASK])  # tokens without a target are ignored
    with pytest.raises(RuntimeError, match="before the first"):
        schedule.prefix(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="shape"):
        schedule.accept([1, 2])
    with pytest.raises(ValueError, match="codes have shape"):
        Schedule(pattern, MASK, 5).prefix(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="codes are"):
        Schedule(pattern, MASK, 5).prefix(np.full((2, 4), MASK))
    with pytest.raises(ValueError, match="origin is -1"):
        Schedule(pattern, MASK, -1)
    with pytest.raises(ValueError, match="history_frames is 8"):
        Schedule(pattern, MASK, history_frames=8)
    with pytest.raises(ValueError, match="snapshot has history"):
        schedule.restore(Schedule(pattern, MASK, history_frames=64).snapshot())
    with pytest.raises(ValueError, match="start is 9"):
        context_rows(pattern, MASK, np.zeros((3, 4)), start=9)
