"""The position ring against a dict: late, stale and early samples, plans, cuts, wrap-around, holes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.bridge.ring import COMMITTED, IDLE, MISSING, NOTHING, PLANNED, PositionRing

CAPACITY = 23


def ramp(position: int, count: int, channels: int = 1) -> np.ndarray:
    """Samples whose value is their position (and the channel, in the fraction)."""
    values = np.arange(position, position + count, dtype=np.float32)[:, None]
    return values + np.arange(channels, dtype=np.float32)[None, :] / 4.0


@dataclass
class Reference:
    """The slow, obvious ring: one dict entry per sample, one cut per entry of a list."""

    capacity: int
    read_end: int = 0
    stored: dict[tuple[bool, int], tuple[int, float]] = field(default_factory=dict)
    cuts: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, NOTHING, 0)])
    late: int = 0
    stale: int = 0
    early: int = 0
    holes: list[int] = field(default_factory=list)

    def due(self, position: int) -> int:
        return next((generation for start, generation, _ in reversed(self.cuts) if start <= position), NOTHING)

    def accepts(self, position: int, generation: int) -> bool:
        coming = (since for start, due, since in self.cuts if due == generation and start > position)
        return next(coming, position + 1) <= position

    def write(self, position: int, values: list[float], committed: bool, generation: int) -> None:
        for index, value in enumerate(values):
            here = position + index
            if here >= self.read_end + self.capacity:
                self.early += 1
            elif generation == NOTHING or not (self.due(here) == generation or self.accepts(here, generation)):
                self.stale += 1
            elif here < self.read_end:
                self.late += committed
            else:
                self.stored[committed, here] = (generation, value)

    def read(self, position: int, count: int) -> tuple[list[float], list[int]]:
        values, sources = [], []
        for here in range(position, position + count):
            generation = self.due(here)
            found = {kind: entry for kind in (True, False) if (entry := self.stored.get((kind, here)))}
            found = {kind: entry for kind, entry in found.items() if entry[0] == generation}
            if generation == NOTHING:
                source, value = IDLE, 0.0
            elif True in found:
                source, value = COMMITTED, found[True][1]
            elif False in found:
                source, value = PLANNED, found[False][1]
            else:
                source, value = MISSING, 0.0
            values.append(value)
            sources.append(source)
        self.read_end = position + count
        while len(self.cuts) > 8 and self.cuts[8][0] <= self.read_end:
            self.cuts.pop(0)
        if missing := sources.count(MISSING):
            self.holes.append(missing)
        return values, sources

    def cut(self, position: int, generation: int) -> None:
        self.cuts = [cut for cut in self.cuts if cut[0] < position] + [(position, generation, position)]

    def move(self, instead_of: int, position: int, generation: int) -> None:
        first = min(position, instead_of)
        since = min([first, *(since for start, _, since in self.cuts if start == instead_of)])
        self.cuts = [cut for cut in self.cuts if cut[0] < first] + [(position, generation, since)]


writes = st.tuples(st.just("write"), st.integers(-8, 40), st.integers(0, 30), st.booleans(), st.integers(0, 3))
reads = st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, 12))
cuts = st.tuples(st.just("cut"), st.integers(0, 20), st.integers(0, 3))
moves = st.tuples(st.just("move"), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(operations=st.lists(st.one_of(writes, reads, cuts, moves), max_size=40))
def test_ring_equals_dict(operations: list[tuple]) -> None:
    ring = PositionRing(capacity_samples=CAPACITY, channels=1)
    reference = Reference(CAPACITY)
    value = 0.0
    for operation in operations:
        if operation[0] == "write":
            _, ahead, count, committed, generation = operation
            position = reference.read_end + ahead
            values = [value + index for index in range(1, count + 1)]
            value += count
            reference.write(position, values, committed, generation)
            ring.write(
                position, np.array(values, dtype=np.float32)[:, None], committed=committed, generation=generation
            )
        elif operation[0] == "read":
            position = reference.read_end + operation[1]
            expected_values, expected_sources = reference.read(position, operation[2])
            reading = ring.read(position, operation[2])
            assert reading.samples[:, 0].tolist() == expected_values
            assert reading.sources.tolist() == expected_sources
            assert reading.missing == expected_sources.count(MISSING)
        elif len(coming := [cut[0] for cut in reference.cuts if cut[0] >= reference.read_end]) < 8:
            position = reference.read_end + operation[-2]
            if operation[0] == "cut":
                reference.cut(position, operation[-1])
                ring.cut(position, operation[-1])
            else:
                instead_of = [*coming, reference.read_end + operation[1]][operation[1] % (len(coming) + 1)]
                reference.move(instead_of, position, operation[-1])
                ring.cut(position, operation[-1], instead_of=instead_of)
        assert ring.late_samples == reference.late
        assert ring.stale_samples == reference.stale
        assert ring.early_samples == reference.early
        assert ring.missing_callbacks == len(reference.holes)
        assert ring.missing_samples == sum(reference.holes)


def test_late_samples_are_discarded_never_shifted() -> None:
    ring = PositionRing(capacity_samples=64, channels=2)
    ring.cut(0, 1)
    assert ring.read(0, 10).missing == 10
    assert ring.write(4, ramp(4, 12, 2), committed=True, generation=1) == 6
    assert ring.late_samples == 6
    np.testing.assert_array_equal(ring.read(10, 6).samples, ramp(10, 6, 2))


def test_committed_overrides_plan_and_plan_is_backup() -> None:
    ring = PositionRing(capacity_samples=64, channels=1)
    ring.cut(0, 1)
    ring.write(0, -ramp(0, 20), committed=False, generation=1)
    ring.write(0, ramp(0, 8), committed=True, generation=1)
    ring.write(4, -ramp(4, 8), committed=False, generation=1)
    reading = ring.read(0, 24)
    assert reading.sources.tolist() == [COMMITTED] * 8 + [PLANNED] * 12 + [MISSING] * 4
    assert reading.samples[:, 0].tolist() == [*range(8), *(-x for x in range(8, 20)), 0, 0, 0, 0]
    assert (ring.missing_callbacks, ring.missing_samples) == (1, 4)


def test_cut_forgets_at_once_and_for_good() -> None:
    ring = PositionRing(capacity_samples=64, channels=1)
    ring.cut(0, 1)
    ring.write(0, ramp(0, 40), committed=True, generation=1)
    ring.write(0, ramp(0, 40), committed=False, generation=1)
    ring.read(0, 10)
    ring.cut(16, 2)
    assert ring.write(20, ramp(20, 10), committed=True, generation=1) == 0
    assert ring.write(30, ramp(30, 2), committed=True, generation=2) == 2
    reading = ring.read(10, 30)
    assert reading.sources.tolist() == [COMMITTED] * 6 + [MISSING] * 14 + [COMMITTED] * 2 + [MISSING] * 8
    ring.cut(40, 1)  # the generation's old samples at these slots are other positions: nothing comes back
    assert ring.read(40, 24).missing == 24


def test_lookahead_and_committed_until() -> None:
    ring = PositionRing(capacity_samples=20000, channels=1)
    assert ring.lookahead_samples() == 0
    ring.cut(100, 1)
    ring.write(100, ramp(100, 9000), committed=True, generation=1)
    assert ring.lookahead_samples() == 0
    assert ring.committed_until(0, 9100) == 9100
    assert ring.committed_until(0, 9200) == 9100
    ring.read(0, 150)
    assert ring.lookahead_samples() == 8950
    ring.cut(5000, NOTHING)
    assert ring.lookahead_samples() == 4850


def test_memory_is_fixed_over_a_long_stream() -> None:
    ring = PositionRing(capacity_samples=256, channels=2)
    buffers = {id(plane.samples) for plane in (ring._committed, ring._planned)}
    ring.cut(0, 1)
    for position in range(0, 256 * 40, 100):
        ring.write(position, ramp(position, 100, 2), committed=True, generation=1)
        np.testing.assert_array_equal(ring.read(position, 100).samples, ramp(position, 100, 2))
    assert {id(plane.samples) for plane in (ring._committed, ring._planned)} == buffers
    assert len(ring._cuts) == 1
    assert ring.missing_samples == ring.late_samples == 0


def test_two_threads_never_hear_a_wrong_sample() -> None:
    """Every sample that sounds equals its position, however writer and reader interleave."""
    ring = PositionRing(capacity_samples=512, channels=1)
    ring.cut(0, 1)
    total, stop = 60_000, threading.Event()

    def write() -> None:
        position = 0
        while not stop.is_set():
            position = max(position, ring.read_end)
            position += ring.write(position, ramp(position, 64), committed=True, generation=1)

    writer = threading.Thread(target=write)
    writer.start()
    heard = 0
    try:
        for position in range(0, total, 48):
            reading = ring.read(position, 48)
            there = reading.sources == COMMITTED
            np.testing.assert_array_equal(reading.samples[there, 0], np.arange(position, position + 48)[there])
            heard += int(there.sum())
    finally:
        stop.set()
        writer.join(10)
    assert heard + ring.missing_samples == total


@pytest.mark.parametrize("arguments", [{"capacity_samples": 0}, {"channels": 0}, {"channels": 9}])
def test_construction_is_validated(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="outside"):
        PositionRing(**{"capacity_samples": 8, "channels": 1, **arguments})


def test_misuse_is_named() -> None:
    ring = PositionRing(capacity_samples=8, channels=2)
    ring.read(0, 4)
    with pytest.raises(ValueError, match="already read"):
        ring.read(2, 1)
    with pytest.raises(ValueError, match="already read"):
        ring.cut(3, 1)
    with pytest.raises(ValueError, match="2 channels"):
        ring.write(4, np.zeros((3, 1), dtype=np.float32), committed=True, generation=1)
