"""Where the take lands: proven on recorded samples, with the engine's fake backend emitting its own sample index.

The real session, engine, resampler and chunker run in this thread (direct_engine.py); `marked` adds the epoch to
every sample, so that a recording tells of each sample which position it was made for and in which epoch.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from direct_engine import DirectEngine, connected, model_time

from attacca.bridge.client import Client
from attacca.bridge.client_config import At
from attacca.bridge.host_transport import HostConfig, Loop, Meter, Play, Seek, Stop, Tempo
from attacca.bridge.protocol import Chunk, Late, Mode, Release, Trigger
from attacca.bridge.virtual_host import FlatOut, VirtualHost

TEMPI = ("60", "97", "123.45", "180")
METERS = ((4, 4), (3, 4), (5, 4), (6, 8), (7, 8))
RATES = (44100, 48000, 32000, 96000)
BLOCKS = (1, 3, 64, 441, 512, 4096)
EPOCH_STEP = float(1 << 17)  # above every sample index of a marked take; sums stay fine in float32
TOLERANCE = 0.05  # of a model sample: what the resampler does to a straight line
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))
RELEASE = At(offset=0, event=Release(take=0, position=0))


def pairwise(*axes: tuple) -> list[tuple]:
    """Combinations such that every pair of values of two axes occurs; greedy, always the same."""
    left = {(i, a, j, b) for (i, x), (j, y) in itertools.combinations(enumerate(axes), 2) for a in x for b in y}
    places = list(itertools.combinations(range(len(axes)), 2))
    everything = list(itertools.product(*axes))
    chosen = []
    while left:
        best = max(
            everything,
            key=lambda row: sum(
                (i, row[i], j, row[j]) in left for i, j in itertools.combinations(range(len(axes)), 2)
            ),
        )
        left -= {(i, best[i], j, best[j]) for i, j in places}
        chosen.append(best)
    return chosen


def marked(chunk: Chunk, payload: bytes) -> list[tuple[Chunk, bytes]]:
    samples = np.frombuffer(payload, "<f4") + np.float32(chunk.epoch * EPOCH_STEP)
    return [(chunk, samples.astype("<f4").tobytes())]


def host_at(
    rate: int, block: int, start_ppq: Fraction, bpm: str = "120", meter: tuple[int, int] = (4, 4)
) -> VirtualHost:
    config = HostConfig(sample_rate=rate, block_samples=block, bpm=Fraction(bpm), meter=meter, start_ppq=start_ppq)
    return VirtualHost(config, clock=FlatOut(), non_realtime=False)


def epochs_of(wet: np.ndarray) -> np.ndarray:
    """Epoch of each marked sample; 0 is silence."""
    return np.floor((wet[:, 0] + 1.0) / EPOCH_STEP).astype(int)


def assert_in_place(wet: np.ndarray, start: int, stop: int, rate: int, epoch: int = 0) -> None:
    """Samples [start, stop) are those that the model made for these very positions, in `epoch`."""
    positions = np.arange(start, stop)
    error = wet[start:stop, 0].astype(np.float64) - epoch * EPOCH_STEP - model_time(positions, rate)
    worst = float(np.abs(error).max())
    assert worst <= (0.0 if rate == 32000 and not epoch else TOLERANCE + epoch * 0.01), worst


def check_start(bpm: str, meter: tuple[int, int], rate: int, block: int) -> None:
    """A take triggered 0.12 s before a bar line starts at its nearest sample, with the sample made for it."""
    per_sample = Fraction(bpm) / (60 * rate)
    bar = Fraction(4 * meter[0], meter[1])
    start_ppq = 3 * bar - per_sample * Fraction(rate * 15, 100) - Fraction(1, 7919)  # never on a sample
    exact = (3 * bar - start_ppq) / per_sample
    launch = math.floor(exact + Fraction(1, 2))
    client = connected(DirectEngine(), rate)
    host = host_at(rate, block, start_ppq, bpm, meter)
    wet = host.run(client, launch + rate // 25, script=[(rate * 3 // 100, TRIGGER)]).wet
    assert abs(launch - exact) <= Fraction(1, 2)
    assert not wet[:launch].any()
    assert_in_place(wet, launch, launch + rate // 25, rate)
    assert [(entry.position, entry.launch) for entry in client.playback.entries] == [(launch, True)]
    assert client.playback.counters.underrun_samples == client.ring.late_samples == 0


@pytest.mark.parametrize(("bpm", "meter", "rate", "block"), pairwise(TEMPI, METERS, RATES, BLOCKS))
def test_start_error_is_zero(bpm: str, meter: tuple[int, int], rate: int, block: int) -> None:
    check_start(bpm, meter, rate, block)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bpm", "meter"), list(itertools.product(TEMPI, METERS)))
def test_start_error_is_zero_for_every_combination(bpm: str, meter: tuple[int, int]) -> None:
    for rate, block in itertools.product(RATES, BLOCKS):
        check_start(bpm, meter, rate, block)


def playing(
    rate: int, block: int, script: list, seconds: float, *, start_ppq: str = "31/8", bpm: str = "120"
) -> tuple[np.ndarray, Client]:
    """A take on the bar line at ppq 4 (0.0625 s from the start at 120 BPM), marked, with `script` in its way."""
    client = connected(DirectEngine(spoil=marked), rate)
    host = host_at(rate, block, Fraction(start_ppq), bpm)
    wet = host.run(client, round(seconds * rate), script=[(0, TRIGGER), *script]).wet
    return wet, client


def assert_no_stale(wet: np.ndarray, cut: int, epoch: int, rate: int) -> int:
    """From 10 ms after `cut` on all is silent or of `epoch` and in place; returns where it entered."""
    fade = int(0.010 * rate)
    epochs = epochs_of(wet)
    later = epochs[cut + fade :]
    assert set(np.unique(later)) <= {0, epoch}
    entered = cut + int(np.flatnonzero(epochs[cut:] == epoch)[0]) if (later == epoch).any() else -1
    if entered >= 0:
        ramp = int(0.002 * rate)
        assert_in_place(wet, max(entered, cut + fade) + ramp, len(wet), rate, epoch)
    return entered


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 512), (96000, 1000)])
@pytest.mark.parametrize("change", [Tempo(bpm=Fraction(97)), Seek(ppq=Fraction(100)), Meter(num=7, den=8)])
def test_new_epoch_replaces_what_was_sent(change: object, rate: int, block: int) -> None:
    cut = rate * 2 // 5 + 17
    wet, client = playing(rate, block, [(cut, change)], 0.8)
    launch = rate // 16
    assert not wet[:launch].any()
    assert_in_place(wet, launch, cut, rate, epoch=1)
    entered = assert_no_stale(wet, cut, 2, rate)
    assert cut <= entered < cut + rate // 20 + block
    assert client.ring.read_end == len(wet)


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441)])
def test_stop_ends_the_take_and_play_does_not_bring_it_back(rate: int, block: int) -> None:
    cut = rate * 2 // 5 + 17
    wet, client = playing(rate, block, [(cut, Stop()), (cut + rate // 5, Play())], 0.9)
    assert_in_place(wet, rate // 16, cut, rate, epoch=1)
    assert not wet[cut + rate // 100 :].any()
    assert client.takes.current is None


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 512)])
def test_loop_of_whole_bars_wraps_without_a_seam(rate: int, block: int) -> None:
    loop = Loop(start_ppq=Fraction(4), end_ppq=Fraction(8))
    wet, client = playing(rate, block, [(0, loop)], 0.6, bpm="600")
    launch = math.floor(Fraction(1, 8) * 60 * rate / 600 + Fraction(1, 2))
    assert not wet[:launch].any()
    assert_in_place(wet, launch, len(wet), rate, epoch=1)
    assert client.playback.counters.launches == 1
    assert client.playback.counters.waiting_samples == 0


def test_loop_of_no_whole_bars_is_a_new_epoch_at_every_wrap() -> None:
    rate = 32000
    wrap = 8000 + 2000  # ppq 4.625 is 0.375 s away from 31/8
    loop = Loop(start_ppq=Fraction(4), end_ppq=Fraction(31, 8) + Fraction(5, 8))
    wet, client = playing(rate, 64, [(0, loop)], 0.45)
    assert_in_place(wet, 2000, wrap, rate, epoch=1)
    entered = assert_no_stale(wet, wrap, 2, rate)
    assert wrap <= entered < wrap + 1600
    assert client.takes.epoch == 2


@pytest.mark.parametrize("before_s", ["0.5", "0.3", "0.15", "0.08", "0.03"])
@pytest.mark.parametrize("block", [64, 441])
def test_tempo_change_before_the_launch_moves_it_onto_the_new_grid(before_s: str, block: int) -> None:
    """However near the launch, and though the engine may have committed its first chunk already."""
    rate, change = 32000, 20000
    start_ppq = 4 - (Fraction(change, rate) + Fraction(before_s)) * 2
    client = connected(DirectEngine(spoil=marked), rate)
    host = host_at(rate, block, start_ppq)
    exact = change + Fraction(before_s) * 120 / 97 * rate
    launch = math.floor(exact + Fraction(1, 2))
    wet = host.run(client, launch + 8000, script=[(2000, TRIGGER), (change, Tempo(bpm=Fraction(97)))]).wet
    assert not wet[:launch].any()
    assert_in_place(wet, launch, launch + 8000, rate, epoch=2)
    assert [(entry.position, entry.launch) for entry in client.playback.entries] == [(launch, True)]


@pytest.mark.parametrize("quantum", [0.25, 1 / 3, 2.0])
def test_quanta_in_quarter_notes(quantum: float) -> None:
    rate, bpm = 44100, 120
    event = Trigger(take=0, position=0, quantum_bars=None, quantum_ppq=quantum)
    client = connected(DirectEngine(), rate)
    trigger = rate * 9 // 100
    samples_per_quarter = Fraction(60 * rate, bpm)
    grid = Fraction(quantum).limit_denominator(192) * samples_per_quarter
    launch = math.floor(math.ceil(trigger / grid) * grid + Fraction(1, 2))
    host = host_at(rate, 128, Fraction(0))
    wet = host.run(client, launch + 3000, script=[(trigger, At(offset=0, event=event))]).wet
    assert not wet[:launch].any()
    assert_in_place(wet, launch, len(wet), rate)


def test_fill_ends_on_its_bar_line() -> None:
    rate = 32000
    event = Trigger(take=0, position=0, mode=Mode.FILL, bars=1)
    client = connected(DirectEngine(), rate)
    bar = rate * 60 * 4 // 600
    wet = host_at(rate, 500, Fraction(3), "600").run(client, 4 * bar, script=[(0, At(offset=0, event=event))]).wet
    launch = bar // 4
    assert_in_place(wet, launch, launch + bar, rate)
    assert not wet[launch + bar + rate // 100 :].any()
    assert client.takes.current is None


def test_late_wait_moves_to_the_next_bar_line() -> None:
    rate = 32000
    event = Trigger(take=0, position=0, late=Late.WAIT)
    client = connected(DirectEngine(), rate)
    near = Fraction(4) - Fraction(1, 2000)  # 4 samples before the bar line: nothing can be there by then
    wet = host_at(rate, 500, near, "240").run(client, 36000, script=[(0, At(offset=0, event=event))]).wet
    launch = 4 + rate  # a bar lasts a second
    assert not wet[:launch].any()
    assert_in_place(wet, launch, 36000, rate)
    assert [(entry.position, entry.launch) for entry in client.playback.entries] == [(launch, True)]


def test_release_is_exact_and_nothing_follows() -> None:
    rate = 48000
    wet, client = playing(rate, 512, [(rate // 2 + 5, RELEASE)], 0.8)
    assert_in_place(wet, rate // 16, rate // 2 + 5, rate, epoch=1)
    assert not wet[rate // 2 + 5 + rate // 100 :].any()
    assert client.takes.current is None


def test_an_offline_host_waits_and_gets_the_same_take() -> None:
    """Non-realtime, with blocks longer than the engine's look-ahead: still on the sample, nothing missing."""
    rate = 48000
    client = connected(DirectEngine(), rate)
    config = HostConfig(sample_rate=rate, block_samples=16384, start_ppq=Fraction(3))
    host = VirtualHost(config, clock=FlatOut())
    wet = host.run(client, 3 * rate, script=[(100, TRIGGER)]).wet
    launch = rate // 2
    assert not wet[:launch].any()
    assert_in_place(wet, launch, 3 * rate, rate)
    assert client.wait_timeouts == client.playback.counters.underrun_samples == 0
