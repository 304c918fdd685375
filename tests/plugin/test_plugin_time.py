"""The plugin's time against the rational reference: the shared vectors, random hosts, true bar lines from hosts
that round, and nonsense."""

from __future__ import annotations

import ctypes
import math
import random
import subprocess
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_time import NativeClock, NativeTime, NativeTracker, declare
from scripted_transport import PythonTime, ScriptedHost, same
from transport_vectors import answers, load

from attacca.bridge.bar_clock import HostTime
from attacca.bridge.transport import Change, nearest_sample

pytestmark = pytest.mark.plugin

CASES = load()
RATES = (44100, 48000, 96000)
TEMPI = ("60", "97", "123.45", "180")
METERS = ((4, 4), (3, 4), (5, 4), (6, 8), (7, 8))
BLOCKS = ((1,), (3,), (64,), (127,), (256,), (1024,), (1, 3, 64, 127, 256, 1024))
TICKS = ((1920, "floor"), (960, "floor"), (480, "floor"), (1920, "round"), (480, "round"))
SETTLED_BLOCKS = 8  # after which a host that has kept its tempo from frame 0 must be known
MOST_SAMPLES = 0.5
FINITE = ("ppq", "bpm", "bar_start_ppq")


@pytest.fixture(scope="module")
def library(native: Any) -> ctypes.CDLL:
    return declare(native.library)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_shared_vectors(library: ctypes.CDLL, case: tuple) -> None:
    _, rate, blocks, rows = case
    for number, (expected, found) in enumerate(zip(rows, answers(NativeTime(library, rate), blocks), strict=True)):
        assert same(expected, found), f"block {number}: {blocks[number]}\n{expected}\n{found}"


ppqs = st.fractions(min_value=-20, max_value=100000, max_denominator=48)
events = st.one_of(
    st.tuples(st.just("locate"), ppqs),
    st.tuples(st.just("bpm"), st.sampled_from([*TEMPI, "999.9", "1", "97.000001", "97.0000005", "33.333333"])),
    st.tuples(st.just("meter"), st.sampled_from([*METERS, (11, 16), (1, 1), (64, 64)])),
    st.tuples(st.just("playing"), st.booleans()),
    st.tuples(st.just("loop"), st.sampled_from([None, 1, 2, "7/8", "1/3", "8"])),
    st.tuples(st.just("lie"), st.sampled_from(["0", "1", "-8", "1/3", "10000"])),
    st.tuples(st.just("frame"), st.integers(0, 10**9)),
    st.tuples(st.just("broken"), st.sampled_from([{}, {}, {"ppq": math.nan}, {"bpm": 0.0}, {"valid": False}])),
)
steps = st.tuples(
    st.one_of(st.none(), events), st.integers(1, 12), st.sampled_from([1, 3, 64, 127, 256, 1024, 9999])
)
hosts = st.fixed_dictionaries(
    {
        "rate": st.sampled_from([8000, *RATES, 192000]),
        "bpm": st.sampled_from([Fraction(tempo) for tempo in TEMPI]),
        "meter": st.sampled_from(METERS),
        "ppq": ppqs,
        "frame": st.integers(0, 10**9),
        "tells_frame": st.booleans(),
        "counts_early": st.booleans(),
        "ticks": st.sampled_from([0, 0, 1920, 1920, 960, 480, 96, 3840]),
        "rounding": st.sampled_from(["floor", "floor", "round", "float32"]),
    }
)


@given(fields=hosts, script=st.lists(steps, min_size=1, max_size=12), ahead=st.integers(0, 10**7))
@settings(deadline=None, max_examples=150)
def test_random_hosts_are_read_as_the_reference_reads_them(
    library: ctypes.CDLL, fields: dict[str, Any], script: list[Any], ahead: int
) -> None:
    host = ScriptedHost(**fields)
    reference, ours = PythonTime(host.rate), NativeTime(library, host.rate)
    for event, blocks, size in script:
        if event is not None:
            host.happen(*event)
        for _ in range(blocks):
            told = host.told()
            expected, found = reference.block(host.position, told), ours.block(host.position, told)
            assert same(expected, found), f"{told}\n{expected}\n{found}"
            host.advance(size)
        for position in (host.position, host.position + ahead):
            expected, found = reference.ask(position), ours.ask(position)
            assert same(expected, found), f"{expected}\n{found}"


def readable(value: float) -> float:
    """106 bits do not tell 4 from 4 - 1e-262; nor need they."""
    return 0.0 if abs(value) < 1e-12 else value


anything = st.one_of(
    st.floats().map(readable), st.sampled_from([0.0, 4.0, 120.0, 1e8, -1e8, 1e9, 1e308, math.nan, math.inf])
)
positions_ppq = st.floats(-1e6, 1e6).map(readable)
wild = st.builds(
    HostTime,
    valid=st.sampled_from([True, True, True, False]),
    tick_grid=st.booleans(),
    playing=st.sampled_from([True, True, False]),
    non_realtime=st.booleans(),
    loop=st.one_of(st.none(), st.tuples(anything, anything)),
    ppq=st.one_of(anything, positions_ppq),
    bpm=st.one_of(anything, st.floats(1, 1000)),
    bar_start_ppq=st.one_of(anything, positions_ppq),
    meter_num=st.integers(-(2**31), 2**31 - 1) | st.integers(1, 64),
    meter_den=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    frame=st.integers(-(2**62), 2**62),
    carried=st.booleans(),
    misread=st.sampled_from([False, False, False, True]),
)


@given(blocks=st.lists(st.tuples(wild, st.integers(1, 10**6)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=200)
def test_nonsense_is_read_as_the_reference_reads_it(
    library: ctypes.CDLL, blocks: list[tuple[HostTime, int]]
) -> None:
    reference, ours, position = PythonTime(48000), NativeTime(library, 48000), 0
    for host, count in blocks:
        expected, found = reference.block(position, host), ours.block(position, host)
        assert same(expected, found), f"{host}\n{expected}\n{found}"
        position += count


@given(blocks=st.lists(st.tuples(wild, st.integers(1, 10**6)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=200)
def test_no_nonsense_comes_out(library: ctypes.CDLL, blocks: list[tuple[HostTime, int]]) -> None:
    clock, tracker, position = NativeClock(library, 48000), NativeTracker(library, 48000), 0
    for host, count in blocks:
        reading = clock.block(position, host)
        told = tracker.block(position, reading.host)
        assert math.isfinite(reading.uncertainty_samples)
        assert all(abs(getattr(reading.host, name)) <= 1.1e8 for name in FINITE)
        assert 1 <= reading.host.bpm <= 1000
        assert reading.host.loop is None or reading.host.loop[0] < reading.host.loop[1]
        slack = Fraction(1, 10**5)
        phase = (Fraction(reading.host.ppq) - Fraction(reading.host.bar_start_ppq)) / reading.host.bar_quarters
        assert -slack <= phase <= 1 + slack
        assert math.isfinite(told.drift_samples)
        assert math.isfinite(tracker.ppq_at(position))
        if reading.host.playing:
            launch = tracker.next_launch(position, 1.0, in_bars=True)
            assert launch is not None
            assert launch[1] >= position
        position += count


def bar_errors(library: ctypes.CDLL, host: ScriptedHost, sizes: tuple[int, ...], blocks: int) -> list[float]:
    """Of the present epoch's bar lines against the true ones, in samples, after each block."""
    time, errors = NativeTime(library, host.rate), []
    for block in range(blocks):
        time.block(host.position, host.told())
        bar = time.tracker.bar_at(host.position)
        assert bar is not None
        length = float(host.bar_quarters * 60 * host.rate / host.bpm)
        errors.append(abs((bar[2] - float(host.next_bar_line) + length / 2) % length - length / 2))
        host.advance(sizes[block % len(sizes)])
    return errors


@pytest.mark.parametrize(("ticks", "rounding"), [*TICKS, (0, "float32"), (0, "floor")])
def test_hosts_that_round_show_their_true_bar_lines_after_a_few_blocks(
    library: ctypes.CDLL, ticks: int, rounding: str
) -> None:
    rng = random.Random(ticks)
    for rate, tempo, meter, sizes in product(RATES, TEMPI, METERS, BLOCKS):
        host = ScriptedHost(rate=rate, bpm=Fraction(tempo), meter=meter, ticks=ticks, rounding=rounding)
        host.frame = rng.randrange(rate * 3600)
        host.ppq = host.frame * host.bpm / (60 * rate)
        tick = 60 * rate / float(host.bpm) / ticks * 4 / meter[1] if ticks else 0.0
        settled = SETTLED_BLOCKS + (0 if ticks in (0, 1920) else math.ceil(2 * tick / min(sizes)))
        errors = bar_errors(library, host, sizes, settled + 4)
        assert max(errors[settled:]) <= MOST_SAMPLES, (rate, tempo, meter, sizes)
        if ticks in (0, 1920):
            assert max(errors) < 0.01, (rate, tempo, meter, sizes)


@pytest.mark.parametrize(("ticks", "rounding"), TICKS)
def test_one_residue_is_enough_with_the_song_position(library: ctypes.CDLL, ticks: int, rounding: str) -> None:
    # 120 BPM at 48 kHz: a 1920th of a beat is 12.5 samples, so blocks of 2000 leave every residue as it is.
    for frame in (0, 1, 7, 12, 1999):
        host = ScriptedHost(rate=48000, ticks=ticks, rounding=rounding, frame=frame, ppq=Fraction(frame, 24000))
        errors = bar_errors(library, host, (2000,), SETTLED_BLOCKS + 2)
        assert errors[-1] <= MOST_SAMPLES


@given(
    start=st.fractions(min_value=0, max_value=1000, max_denominator=10**6),
    frame=st.one_of(st.none(), st.integers(0, 10**8)),
    ticks=st.sampled_from([1920, 960, 480]),
    tempo=st.sampled_from(TEMPI),
    meter=st.sampled_from(METERS),
    rate=st.sampled_from(RATES),
    sizes=st.sampled_from(BLOCKS),
)
@example(start=Fraction(387, 154820), frame=62, ticks=480, tempo="97", meter=(4, 4), rate=96000, sizes=(64,))
@settings(deadline=None, max_examples=100)
def test_without_a_law_through_frame_0_the_error_is_within_what_is_said_to_be_open(
    library: ctypes.CDLL,
    start: Fraction,
    frame: int | None,
    ticks: int,
    tempo: str,
    meter: tuple[int, int],
    rate: int,
    sizes: tuple[int, ...],
) -> None:
    host = ScriptedHost(rate=rate, bpm=Fraction(tempo), meter=meter, ppq=start, frame=frame or 0, ticks=ticks)
    host.tells_frame = frame is not None
    clock, off = NativeClock(library, rate), 0.0
    for block in range(80):
        reading = clock.block(host.position, host.told())
        off = abs(float((Fraction(reading.host.ppq) - host.ppq) * 60 * rate / host.bpm))
        tick = 60 * rate / float(host.bpm) / ticks * 4 / meter[1]
        assert off <= max(3 * reading.uncertainty_samples, tick) + 0.5
        host.advance(sizes[block % len(sizes)])
    assert reading.refined
    # A finer tick than the host's is believed until a reading speaks against it; one that has not in so many blocks
    # is as good as the host's own residues allow.
    assert off <= max(2 * reading.uncertainty_samples, tick / 2) + 0.5


def test_what_the_law_through_frame_0_showed_of_the_rounding_is_remembered(library: ctypes.CDLL) -> None:
    host = ScriptedHost(rate=48000, bpm=Fraction(60), ticks=1920, rounding="round")
    clock = NativeClock(library, 48000)
    for block in range(240):
        if block == 40:
            host.bpm = Fraction(97)
        reading = clock.block(host.position, host.told())
        off = abs(float((Fraction(reading.host.ppq) - host.ppq) * 60 * host.rate / host.bpm))
        host.advance(1021)
    assert off < 1.0  # half a tick would be 7.7


@given(fields=hosts, sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=30))
@settings(deadline=None, max_examples=50)
def test_exact_hosts_come_out_bit_identical(library: ctypes.CDLL, fields: dict[str, Any], sizes: list[int]) -> None:
    host = ScriptedHost(**(fields | {"ticks": 0, "rounding": "floor", "counts_early": False}))
    clock = NativeClock(library, host.rate)
    for size in sizes:
        told = host.told()
        reading = clock.block(host.position, told)
        assert reading.host == told
        assert (reading.refined, reading.repaired_bar, reading.uncertainty_samples) == (False, False, 0.0)
        host.advance(size)


@pytest.mark.parametrize("sizes", BLOCKS[1:])
def test_a_bar_counted_a_block_too_early_is_no_jump(library: ctypes.CDLL, sizes: tuple[int, ...]) -> None:
    host = ScriptedHost(rate=8000, bpm=Fraction(180), meter=(7, 8), ticks=1920, counts_early=True)
    time, repaired = NativeTime(library, host.rate), 0
    while host.position < 100000:
        true = host.ppq
        row = time.block(host.position, host.told())
        assert row[0] == ("held" if host.position else "first")
        assert abs(row[7] - float(true)) < 1e-9
        repaired += row[5]
        host.advance(sizes[host.position % len(sizes)])
    assert repaired >= 8  # of 10 bars: blocks below a tick may never be early


def test_a_tempo_ramp_is_followed_block_by_block(library: ctypes.CDLL) -> None:
    for ticks in (0, 1920, 480):
        host = ScriptedHost(rate=48000, bpm=Fraction(100), ticks=ticks, frame=777)
        time = NativeTime(library, 48000)
        for block in range(400):
            row = time.block(host.position, host.told())
            assert row[0] == (Change.BEND if block else Change.FIRST)
            off = abs(float(Fraction(row[7]) - host.ppq))
            assert off <= (1 / ticks if ticks else 1e-9)
            host.advance(512)
            host.bpm += Fraction(1, 7)


@pytest.mark.parametrize("tempo", TEMPI)
@pytest.mark.parametrize("meter", METERS)
def test_after_ten_hours_a_bar_line_is_still_its_sample(
    library: ctypes.CDLL, tempo: str, meter: tuple[int, int]
) -> None:
    rate, bpm = 96000, Fraction(tempo)
    tracker = NativeTracker(library, rate)
    tracker.block(0, HostTime(bpm=float(bpm), meter_num=meter[0], meter_den=meter[1]))
    samples = Fraction(4 * meter[0], meter[1]) * 60 * rate / bpm
    for bar in range(0, math.floor(36000 * rate / samples), 997):
        at = nearest_sample(bar * samples)
        launch = tracker.next_launch(at, 1.0, in_bars=True)
        assert launch == (float(bar * Fraction(4 * meter[0], meter[1])), at)
        after = tracker.next_launch(at + 1, 1.0, in_bars=True)
        assert after is not None
        assert after[1] == nearest_sample((bar + 1) * samples)


def test_refined_readings_renumber_only_when_asked(library: ctypes.CDLL) -> None:
    tracker = NativeTracker(library, 48000)
    tracker.block(0, HostTime())
    host = HostTime(ppq=2.0 - 20 / 24000)  # its bar lines lie 20 samples later
    assert tracker.drift_samples(48000, host) == pytest.approx(20)
    assert tracker.block(48000, host).change is Change.HELD
    told = tracker.block(48000, host, renumber=True)
    assert (told.change, told.epoch, told.sent) == (Change.RENUMBERED, 2, (2, 48000, host))
    assert tracker.drift_samples(48000, host) == pytest.approx(0, abs=1e-9)
    far = HostTime(ppq=9.0, bar_start_ppq=8.0)
    assert tracker.drift_samples(96000, far) == 0.0  # it ends the epoch anyway
    assert tracker.block(96000, far, renumber=True).change is Change.SEEK


def test_time_allocates_nothing_and_says_nothing_that_is_not_a_number(native: Any) -> None:
    done = subprocess.run([native.program("time_soak"), "20000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks, allocations, broken, _ = map(int, done.stdout.split())
    assert (blocks, allocations, broken) == (20000, 0, 0)
