"""The plugin's position ring and input FIFO: the same scripts as the reference, bit for bit; two threads under the
sanitizers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_ring import RING_COUNTERS, NativeFifo, NativeRing, declare

from attacca.bridge.ring import MISSING, PositionRing

pytestmark = pytest.mark.plugin

PLUGIN = Path(__file__).resolve().parents[2] / "plugin_stub"
STRESS_SOURCES = (
    "tests/programs/stress_ring.cpp",
    "core/position_ring.cpp",
    "core/playback.cpp",
    "core/exchange.cpp",
)
STRESS_S = 2.0
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
CROWDED = [step for at in range(30) for step in (("cut", at, at % 3), ("write", at, 9, at % 2 == 0, at % 3))]


@settings(max_examples=400, deadline=None)
@given(
    capacity=st.one_of(st.integers(1, 20), st.integers(60, 140)),
    channels=st.integers(1, 8),
    start=st.sampled_from(STARTS),
    script=st.lists(steps, max_size=50),
)
@example(capacity=100, channels=2, start=0, script=FILLED)
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


def sanitized(folder: Path, sanitizer: str) -> Path:
    """The stress program under a sanitizer; skips where the compiler or the sanitizer's runtime is missing."""
    if (compiler := shutil.which("c++")) is None:
        pytest.skip("c++ is not installed: the stress program cannot be built (docs/plugin.md)")
    # GCC warns that its thread sanitizer does not model fences: all that they order here is atomic.
    flags = ["-std=c++17", "-O1", "-g", f"-fsanitize={sanitizer}", "-Wno-tsan", "-pthread", f"-I{PLUGIN}"]
    empty, probe, program = folder / "empty.cpp", folder / "empty", folder / "stress_ring"
    empty.write_text("int main() { return 0; }\n")
    linked = subprocess.run(
        [compiler, *flags, str(empty), "-o", str(probe)], capture_output=True, text=True, check=False
    )
    if linked.returncode or subprocess.run([probe], capture_output=True, check=False).returncode:
        pytest.skip(f"no runtime for -fsanitize={sanitizer} here: {linked.stderr[-200:]}")
    sources = [str(PLUGIN / source) for source in STRESS_SOURCES]
    built = subprocess.run(
        [compiler, *flags, *sources, "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert not built.returncode, built.stderr[-4000:]
    return program


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_two_threads_never_hear_a_wrong_sample(tmp_path: Path, sanitizer: str) -> None:
    program = sanitized(tmp_path, sanitizer)
    done = subprocess.run([program, str(STRESS_S)], capture_output=True, text=True, check=False, timeout=60)
    assert not done.returncode, (done.stdout + done.stderr)[-6000:]
    assert not done.stderr, done.stderr[-6000:]
    counted = dict(word.split("=") for word in done.stdout.split())
    for what in ("committed", "planned", "missing", "cuts", "records", "fifo_samples", "rendered"):
        assert int(counted[what]) > 0, f"the run proved nothing of {what}: {done.stdout}"
