"""The plugin's position ring and input FIFO: the same scripts as the reference, bit for bit. What
two threads do with them: test_plugin_sanitizers.py."""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_ring import PLAYBACK_COUNTERS, RING_COUNTERS, NativeFifo, NativePlayback, NativeRing, declare

from attacca.bridge.playback import Playback
from attacca.bridge.ring import MISSING, PositionRing

pytestmark = pytest.mark.plugin

STARTS = (0, 2**31 - 200, 2**33 + 5, 2**46)  # stream positions go on for ever
FAR_SAMPLES = 2**62  # what the protocol lets a chunk say


@pytest.fixture(scope="module")
def library(native: Any) -> ctypes.CDLL:
    return declare(native.library)


class Pair:
    """The reference and the native ring, driven alike; every step compares all that can be seen."""

    def __init__(self, native: NativeRing, capacity: int, channels: int, start: int) -> None:
        self.native = native
        self.reference = PositionRing(capacity_samples=capacity, channels=channels)
        self._noise = np.random.default_rng(capacity * 8 + channels)
        self.read(start, 0)

    def write(self, ahead: int, count: int, committed: bool, generation: int) -> None:
        samples = self._noise.standard_normal((count, self.reference.channels)).astype(np.float32)
        position = self.reference.read_end + ahead
        kept = self.reference.write(position, samples, committed=committed, generation=generation)
        assert self.native.write(position, samples, committed=committed, generation=generation) == kept

    def read(self, ahead: int, count: int) -> None:
        position = self.reference.read_end + ahead
        expected, found = self.reference.read(position, count), self.native.read(position, count)
        assert found.samples.tobytes() == expected.samples.tobytes()
        assert found.sources.tolist() == expected.sources.tolist()
        assert found.generations.tolist() == expected.generations.tolist()

    def cut(self, ahead: int, generation: int) -> None:
        position = self.reference.read_end + ahead
        try:
            self.reference.cut(position, generation)
        except ValueError:
            assert not self.native.cut(position, generation)
        else:
            assert self.native.cut(position, generation)

    def move(self, instead_of: int, ahead: int, generation: int) -> None:
        """One of the cuts that are to come, or none that is there."""
        read_end = self.reference.read_end
        coming = [cut.position for cut in self.reference._cuts if cut.position >= read_end]
        there = coming[instead_of] if instead_of < len(coming) else read_end + instead_of
        try:
            self.reference.cut(read_end + ahead, generation, instead_of=there)
        except ValueError:
            assert not self.native.move_cut(there, read_end + ahead, generation)
        else:
            assert self.native.move_cut(there, read_end + ahead, generation)

    def until(self, ahead: int, limit: int) -> None:
        position = self.reference.read_end + ahead
        expected = self.reference.committed_until(position, position + limit)
        assert self.native.committed_until(position, position + limit) == expected

    def look_ahead(self) -> None:
        assert self.native.lookahead_samples() == self.reference.lookahead_samples()

    def same(self) -> None:
        assert self.native.read_end == self.reference.read_end
        assert self.native.counters() == [getattr(self.reference, name) for name in RING_COUNTERS]


generations = st.one_of(st.integers(0, 3), st.sampled_from([65536, 65537, 131073, 2**31 - 1]))
writes = st.tuples(
    st.just("write"),
    st.one_of(st.integers(-40, 100), st.sampled_from([-FAR_SAMPLES - 200, FAR_SAMPLES - 2**47])),
    st.integers(0, 200),
    st.booleans(),
    generations,
)
steps = st.one_of(
    writes,
    writes,
    st.tuples(st.just("read"), st.integers(0, 9), st.one_of(st.integers(0, 9), st.integers(60, 300))),
    st.tuples(st.just("cut"), st.integers(0, 150), generations),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 150), generations),
    st.tuples(st.just("until"), st.integers(0, 50), st.integers(0, 300)),
    st.tuples(st.just("look_ahead")),
)
FILLED = [
    ("cut", 0, 1),
    ("write", 0, 70, True, 1),
    ("look_ahead",),
    ("cut", 30, 2),
    ("look_ahead",),
    ("read", 0, 70),
]
MOVED = [
    *[("cut", 0, 1), ("cut", 40, 2), ("move", 1, 50, 2), ("move", 1, 60, 2), ("write", 30, 60, True, 2)],
    *[("move", 1, 44, 2), ("look_ahead",), ("read", 0, 90)],
]
CROWDED = [step for at in range(30) for step in (("cut", at, at % 3), ("write", at, 9, at % 2 == 0, at % 3))]


@settings(max_examples=400, deadline=None)
@given(
    capacity=st.one_of(st.integers(1, 20), st.integers(60, 140)),
    channels=st.integers(1, 8),
    start=st.sampled_from(STARTS),
    script=st.lists(steps, max_size=50),
)
@example(capacity=100, channels=2, start=0, script=FILLED)
@example(capacity=100, channels=2, start=0, script=MOVED)
@example(
    capacity=23, channels=1, start=0, script=[*CROWDED, *[("read", 0, 5), ("look_ahead",), ("until", 0, 40)] * 9]
)
@example(capacity=23, channels=1, start=0, script=[("cut", 0, 1), ("write", 0, 9, True, 65537), ("read", 0, 9)])
def test_the_same_script_as_the_reference(
    library: ctypes.CDLL, capacity: int, channels: int, start: int, script: list[tuple]
) -> None:
    with NativeRing(library, capacity_samples=capacity, channels=channels) as native:
        pair = Pair(native, capacity, channels, start)
        for name, *arguments in script:
            getattr(pair, name)(*arguments)
            pair.same()


def test_looking_ahead_remembers_only_what_stays_true(library: ctypes.CDLL) -> None:
    """The native ring scans on from where it last stopped: over a long stream it must stay the reference."""
    with NativeRing(library, capacity_samples=100, channels=1) as native:
        pair = Pair(native, 100, 1, 0)
        chance = np.random.default_rng(3)
        generation = 1
        pair.cut(0, generation)
        for _ in range(1500):
            pair.write(
                int(chance.integers(-5, 40)), int(chance.integers(0, 60)), bool(chance.random() < 0.9), generation
            )
            if chance.random() < 0.1:
                generation = int(chance.integers(0, 4))
                pair.cut(int(chance.integers(0, 30)), generation)
            pair.look_ahead()
            pair.read(0, int(chance.integers(0, 30)))
            pair.look_ahead()
            pair.same()


def test_a_cut_where_all_is_read_counts_from_there_on(library: ctypes.CDLL) -> None:
    with NativeRing(library, capacity_samples=64, channels=1) as native:
        native.read(0, 10)
        assert native.cut(3, 1)
        reading = native.read(10, 4)
        assert reading.sources.tolist() == [MISSING] * 4
        assert reading.generations.tolist() == [1] * 4


@pytest.mark.parametrize("arguments", [(0, 1), ((1 << 26) + 1, 1), (64, 0), (64, 9)])
def test_construction_is_validated(library: ctypes.CDLL, arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="refused"):
        NativeRing(library, capacity_samples=arguments[0], channels=arguments[1])


@settings(max_examples=200, deadline=None)
@given(
    capacity=st.integers(1, 40),
    channels=st.integers(1, 3),
    script=st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60),
)
def test_the_input_fifo_is_a_queue_of_all_or_nothing(
    library: ctypes.CDLL, capacity: int, channels: int, script: list[tuple[bool, int]]
) -> None:
    queue: deque[list[float]] = deque()
    value = 0.0
    with NativeFifo(library, capacity_samples=capacity, channels=channels) as fifo:
        for pushing, count in script:
            if pushing:
                samples = value + np.arange(count * channels, dtype=np.float32).reshape(count, channels)
                value += count * channels
                fits = len(queue) + count <= capacity
                assert fifo.push(samples) == fits
                queue.extend(samples.tolist() if fits else [])
            else:
                popped = fifo.pop(count)
                assert (popped is not None) == (count <= len(queue))
                if popped is not None:
                    assert popped.tolist() == [queue.popleft() for _ in range(count)]


class Bars:
    """A grid of whole bars, `launches` to a bar; no bar lines where bars are 0 samples long."""

    def __init__(self, bar: int, launches: int) -> None:
        self.bar, self.launches = bar, launches

    def bar_lines(self, position: int) -> tuple[int, int, int] | None:
        if not self.bar:
            return None
        start = position // self.bar * self.bar
        return start - self.bar, start, start + self.bar

    def is_launch(self, position: int) -> bool:
        return bool(self.bar) and position % (self.bar // self.launches) == 0


renders = st.one_of(
    st.tuples(st.just("render"), st.integers(0, 1500)),
    st.tuples(st.just("write"), st.integers(-40, 300), st.integers(0, 900), st.booleans(), st.integers(1, 2)),
    st.tuples(st.just("fill"), st.integers(0, 900)),
    st.tuples(st.just("cut"), st.integers(0, 300), st.integers(0, 2)),
)


@settings(max_examples=200, deadline=None)
@given(
    channels=st.integers(1, 2),
    bar=st.sampled_from((0, 100, 333, 800)),
    launches=st.integers(1, 4),
    max_repeats=st.integers(0, 3),
    script=st.lists(renders, max_size=40),
)
def test_playback_sounds_as_the_reference(
    library: ctypes.CDLL, channels: int, bar: int, launches: int, max_repeats: int, script: list[tuple]
) -> None:
    how: dict[str, Any] = {"sample_rate": 8000, "history_s": 0.1, "max_repeats": max_repeats}
    grid = Bars(bar, launches)
    with (
        NativeRing(library, capacity_samples=2000, channels=channels) as ring,
        NativePlayback(ring, **how) as native,
    ):
        pair = Pair(ring, 2000, channels, 0)
        reference = Playback(pair.reference, **how)
        for name, *arguments in [("cut", 0, 1), *script, ("render", 500)]:
            if name == "fill":
                pair.write(0, arguments[0], True, 1)
            elif name != "render":
                getattr(pair, name)(*arguments)
            else:
                at = pair.reference.read_end
                expected = reference.render(at, arguments[0], grid)
                assert native.render(at, arguments[0], grid).tobytes() == expected.tobytes()
                assert native.sounding == reference.sounding
                assert native.counters() == [getattr(reference.counters, name) for name in PLAYBACK_COUNTERS]
                pair.same()


class BarsOf400:
    """A playback's grid; takes enter anywhere."""

    def bar_lines(self, position: int) -> tuple[int, int, int]:
        present = position - position % 400
        return present - 400, present, present + 400

    def is_launch(self, position: int) -> bool:
        return True


@pytest.mark.parametrize("goes_on_into", [0, 2])
def test_a_take_in_place_of_another_enters_as_in_the_reference(library: ctypes.CDLL, goes_on_into: int) -> None:
    """Out of sound, out of a bridge that it goes on with, and out of silence: the same samples and counts."""
    ring = PositionRing(capacity_samples=4000, channels=1)
    reference = Playback(ring, sample_rate=32000, history_s=1.0)
    noise = np.random.default_rng(2).standard_normal((3500, 1)).astype(np.float32)
    with (
        NativeRing(library, capacity_samples=4000, channels=1) as native_ring,
        NativePlayback(native_ring, sample_rate=32000, history_s=1.0, max_repeats=4) as ours,
    ):
        scenes = ((0, 400, 1, 400, 500), (1000, 1200, 2, 1500, 300), (2000, 2000, 3, 2000, 1500))
        for at, cut, generation, start, count in scenes:
            for player in (ring, native_ring):
                player.cut(cut, generation)
                player.write(start, noise[:count], committed=True, generation=generation)
            for playback in (reference, ours):
                playback.go_on_into(goes_on_into)
            np.testing.assert_array_equal(
                ours.render(at, 1000, BarsOf400()), reference.render(at, 1000, BarsOf400())
            )
        assert reference.counters.waiting_samples == (0 if goes_on_into else 300)
        counted = dict(zip(PLAYBACK_COUNTERS, ours.counters(), strict=True))
        assert counted == {name: getattr(reference.counters, name) for name in PLAYBACK_COUNTERS}
