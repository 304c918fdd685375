"""Where the native plugin's take lands: the reference client's end-to-end tests (tests/test_alignment.py) again.

The C++ audio half and network half stand in the client's place; the engine is the same, its fake backend says of
each sample which position it was made for, in which epoch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import Native
from direct_engine import DirectEngine
from native_instance import InlinePlugin, SocketPlugin
from test_alignment import (
    BLOCKS,
    METERS,
    RATES,
    RELEASE,
    TEMPI,
    TRIGGER,
    assert_in_place,
    assert_no_stale,
    epochs_of,
    host_at,
    marked,
    pairwise,
)

from attacca.bridge.client_config import At
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.host_transport import HostConfig, Loop, Meter, Play, Seek, Stop, Tempo
from attacca.bridge.protocol import Late, Mode, Trigger
from attacca.bridge.server import Server
from attacca.bridge.virtual_host import FlatOut, VirtualHost
from attacca.engine.fake import FakeConfig, FakeModel

pytestmark = pytest.mark.plugin


@contextmanager
def plugin_at(native: Native, rate: int, **fake: Any) -> Iterator[InlinePlugin]:
    engine = DirectEngine(**fake)
    with InlinePlugin(native.library, engine.exchange, engine.idle, rate=rate) as plugin:
        yield plugin


def check_start(native: Native, bpm: str, meter: tuple[int, int], rate: int, block: int) -> None:
    """A take triggered before a bar line starts at its nearest sample, with the sample made for it."""
    per_sample = Fraction(bpm) / (60 * rate)
    bar = Fraction(4 * meter[0], meter[1])
    lead = max(Fraction(rate * 15, 100), Fraction(5 * block, 2))  # what is played in a block is heard after it
    start_ppq = 3 * bar - per_sample * lead - Fraction(1, 7919)  # never on a sample
    exact = (3 * bar - start_ppq) / per_sample
    launch = math.floor(exact + Fraction(1, 2))
    host = host_at(rate, block, start_ppq, bpm, meter)
    with plugin_at(native, rate) as plugin:
        wet = host.run(plugin, launch + rate // 25, script=[(rate * 3 // 100, TRIGGER)]).wet
        meters = plugin.meters
    assert abs(launch - exact) <= Fraction(1, 2)
    assert not wet[:launch].any()
    assert_in_place(wet, launch, launch + rate // 25, rate)
    assert (meters["launches"], meters["joins"]) == (1, 0)
    assert meters["underrun_samples"] == meters["late_samples"] == 0


@pytest.mark.parametrize(("bpm", "meter", "rate", "block"), pairwise(TEMPI, METERS, RATES, BLOCKS))
def test_start_error_is_zero(native: Native, bpm: str, meter: tuple[int, int], rate: int, block: int) -> None:
    check_start(native, bpm, meter, rate, block)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bpm", "meter"), list(itertools.product(TEMPI, METERS)))
def test_start_error_is_zero_for_every_combination(native: Native, bpm: str, meter: tuple[int, int]) -> None:
    for rate, block in itertools.product(RATES, BLOCKS):
        check_start(native, bpm, meter, rate, block)


def playing(
    native: Native, rate: int, block: int, script: list, seconds: float, *, bpm: str = "120"
) -> tuple[np.ndarray, dict[str, int]]:
    """A take on the bar line at ppq 4, marked, with `script` in its way; 0.5 s from the start at 120 BPM."""
    with plugin_at(native, rate, spoil=marked) as plugin:
        host = host_at(rate, block, Fraction(3), bpm)
        wet = host.run(plugin, round(seconds * rate), script=[(0, TRIGGER), *script]).wet
        return wet, plugin.meters


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 512), (96000, 1000)])
@pytest.mark.parametrize("change", [Tempo(bpm=Fraction(97)), Seek(ppq=Fraction(100)), Meter(num=7, den=8)])
def test_new_epoch_replaces_what_was_sent(native: Native, change: object, rate: int, block: int) -> None:
    cut = rate * 4 // 5 + 17
    wet, _ = playing(native, rate, block, [(cut, change)], 1.2)
    launch = rate // 2
    assert not wet[:launch].any()
    assert_in_place(wet, launch, cut, rate, epoch=1)
    assert_no_stale(wet, cut + 2 * block, 2, rate)  # news of it goes out after its block, until then a bar repeats
    entered = cut + int(np.flatnonzero(epochs_of(wet)[cut:] == 2)[0])
    assert cut <= entered < cut + rate // 20 + 2 * block


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441)])
def test_stop_ends_the_take_and_play_does_not_bring_it_back(native: Native, rate: int, block: int) -> None:
    cut = rate * 4 // 5 + 17
    wet, meters = playing(native, rate, block, [(cut, Stop()), (cut + rate // 5, Play())], 1.3)
    assert_in_place(wet, rate // 2, cut, rate, epoch=1)
    assert not wet[cut + rate // 100 :].any()
    assert meters["sounding"] == 0


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 512)])
def test_loop_of_whole_bars_wraps_without_a_seam(native: Native, rate: int, block: int) -> None:
    loop = Loop(start_ppq=Fraction(4), end_ppq=Fraction(8))
    wet, meters = playing(native, rate, block, [(0, loop)], 1.4, bpm="300")
    launch = rate // 5
    assert not wet[:launch].any()
    assert_in_place(wet, launch, len(wet), rate, epoch=1)
    assert (meters["launches"], meters["underrun_samples"]) == (1, 0)


@pytest.mark.parametrize("before_s", ["0.5", "0.3", "0.15", "0.08"])
@pytest.mark.parametrize("block", [64, 441])
def test_tempo_change_before_the_launch_moves_it_onto_the_new_grid(
    native: Native, before_s: str, block: int
) -> None:
    rate, change = 32000, 20000
    start_ppq = 4 - (Fraction(change, rate) + Fraction(before_s)) * 2
    exact = change + Fraction(before_s) * 120 / 97 * rate
    launch = math.floor(exact + Fraction(1, 2))
    with plugin_at(native, rate, spoil=marked) as plugin:
        host = host_at(rate, block, start_ppq)
        wet = host.run(plugin, launch + 8000, script=[(2000, TRIGGER), (change, Tempo(bpm=Fraction(97)))]).wet
    assert not wet[:launch].any()
    assert_in_place(wet, launch, launch + 8000, rate, epoch=2)


def test_fill_ends_on_its_bar_line(native: Native) -> None:
    rate = 32000
    event = Trigger(take=0, position=0, mode=Mode.FILL, bars=1)
    bar = rate * 60 * 4 // 600
    with plugin_at(native, rate) as plugin:
        host = host_at(rate, 500, Fraction(3), "600")
        wet = host.run(plugin, 4 * bar, script=[(0, At(offset=0, event=event))]).wet
    launch = bar // 4
    assert_in_place(wet, launch, launch + bar, rate)
    assert not wet[launch + bar + rate // 100 :].any()


def test_late_wait_moves_to_the_next_bar_line(native: Native) -> None:
    rate = 32000
    event = Trigger(take=0, position=0, late=Late.WAIT)
    near = Fraction(4) - Fraction(1, 2000)  # 4 samples before the bar line: nothing can be there by then
    with plugin_at(native, rate) as plugin:
        host = host_at(rate, 500, near, "240")
        wet = host.run(plugin, 36000, script=[(0, At(offset=0, event=event))]).wet
    launch = 4 + rate  # a bar lasts a second
    assert not wet[:launch].any()
    assert_in_place(wet, launch, 36000, rate)


def test_release_is_exact_and_nothing_follows(native: Native) -> None:
    rate = 48000
    wet, _ = playing(native, rate, 512, [(rate * 9 // 10 + 5, RELEASE)], 1.2)
    assert_in_place(wet, rate // 2, rate * 9 // 10 + 5, rate, epoch=1)
    assert not wet[rate * 9 // 10 + 5 + rate // 100 :].any()


@pytest.fixture
def server() -> Iterator[Server]:
    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with Server(FakeModel(manifest=FakeConfig()), config=config) as running:
        yield running


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 4096)])
def test_over_sockets_an_offline_host_gets_every_sample_in_place(
    native: Native, server: Server, rate: int, block: int
) -> None:
    with SocketPlugin(native.library, server.ready.address, rate=rate, channels=2) as plugin:
        plugin.await_connection()
        config = HostConfig(sample_rate=rate, block_samples=block, channels=2, start_ppq=Fraction(3))
        wet = VirtualHost(config, clock=FlatOut()).run(plugin, 2 * rate, script=[(99, TRIGGER)]).wet
        meters = plugin.meters
    launch = rate // 2
    assert not wet[:launch].any()
    np.testing.assert_array_equal(wet[:, 0], wet[:, 1])
    assert_in_place(wet, launch, 2 * rate, rate)
    assert meters["underrun_samples"] == meters["late_samples"] == meters["wait_timeouts"] == 0
