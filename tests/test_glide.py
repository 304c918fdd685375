"""A tempo that glides under a take: nothing falls silent, nothing jumps, and the beat stays near the host's.

By glide_scene.py, which knows of every frame which beat it was made for.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from direct_engine import connected, model_time
from glide_scene import AT, BLOCK, RATE, TRIGGER, GlidingEngine, Run, played, ramp

from attacca.bridge import protocol
from attacca.bridge.client import Client
from attacca.bridge.client_config import At, ClientConfig
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.epochs import GLIDE_S, GLIDE_SHARE, EpochTracker
from attacca.bridge.glide import REPLAN_SHARE, STEADY_S
from attacca.bridge.host_transport import HostConfig, Tempo
from attacca.bridge.protocol import Mode, Release, Trigger
from attacca.bridge.server import Server
from attacca.bridge.transport import Change
from attacca.bridge.virtual_host import FlatOut, RealTime, VirtualHost
from attacca.engine.fake import FakeConfig, FakeModel

LOOK_AHEAD_S = 0.5  # the engine's bound
NEAR_S = 0.015  # what is committed stays, so launches and ends along a glide are off by no more
FADE = RATE // 100


def assert_in_place(run: Run, start: int, stop: int) -> None:
    """Every sample in [start, stop) was made for its position; none is missing, none is bridged."""
    np.testing.assert_array_equal(run.wet[start:stop], model_time(np.arange(start, stop), RATE))
    counters = run.client.playback.counters
    assert counters.underrun_samples == counters.fade_samples == counters.repeat_samples == 0
    assert run.client.ring.late_samples == run.client.ring.stale_samples == 0


@pytest.mark.parametrize(
    ("low", "high", "seconds", "most_ms"),
    [(120, 140, 1.5, 9.0), (120, 130, 8.0, 1.5), (120, 80, 2.0, 17.0), (120, 180, 1.5, 21.0)],
)
def test_a_take_sounds_through_a_ramp_and_its_beat_stays_near(
    low: int, high: int, seconds: float, most_ms: float
) -> None:
    end = AT + round(seconds * RATE)
    run = played([(1000, TRIGGER), *ramp(low, high, seconds)], seconds + 5.0, bpm=low)
    launch = 2 * RATE
    assert [(entry.position, entry.launch) for entry in run.client.playback.entries] == [(launch, True)]
    assert_in_place(run, launch, len(run.wet))
    assert run.client.takes.epoch == 1
    errors = run.beat_errors_ms(AT, end)
    assert 0.5 * most_ms < np.abs(errors).max() <= most_ms
    settled = run.beat_errors_ms(end + round((LOOK_AHEAD_S + STEADY_S) * RATE), len(run.wet))
    assert len(settled) > 20
    assert np.abs(settled).max() < 1e-6
    session = run.engine.session
    assert session is not None
    assert session.counts["bends"] == round(seconds * RATE / BLOCK)
    assert session.counts["replans"] <= abs(high - low) / min(low, high) / REPLAN_SHARE + 3


@pytest.mark.parametrize("block", [64, 441, 4096])
def test_the_hosts_blocks_do_not_matter(block: int) -> None:
    run = played([(1000, TRIGGER), *ramp(120, 140, 1.5, every=block)], 5.5, block=block)
    assert_in_place(run, 2 * RATE, len(run.wet))


def test_a_ramp_offline_is_exact_and_as_it_was() -> None:
    """Where audio is waited for, every block of a ramp is an epoch, whose audio is made for its very beat."""
    engine = GlidingEngine()
    client = connected(engine, RATE)
    host = VirtualHost(HostConfig(sample_rate=RATE, block_samples=BLOCK), clock=FlatOut())
    script = [(1000, TRIGGER), *ramp(120, 140, 1.5)]
    wet = host.run(client, 5 * RATE, script=script).wet[:, 0]
    assert (wet[2 * RATE + 1 :] != 0).all()
    assert client.takes.epoch == 1 + round(1.5 * RATE / BLOCK)
    assert client.wait_timeouts == 0


@pytest.mark.parametrize(("low", "high"), [(120, 100), (120, 160)])
@pytest.mark.parametrize("launch_in_s", [0.05, 0.3, 1.0])
def test_a_launch_along_a_ramp_is_whole_and_near_its_bar_line(low: int, high: int, launch_in_s: float) -> None:
    """The ramp begins so long before the bar line at 4 s; the first sample is the first that the engine made."""
    at = (4 * RATE - round(launch_in_s * RATE)) // BLOCK * BLOCK
    run = played([(2 * RATE + 5000, TRIGGER), *ramp(low, high, 1.5, at=at)], 6.0, bpm=low)
    (entry,) = run.client.playback.entries
    assert entry.launch
    assert abs(entry.position - run.position_of(8)) <= NEAR_S * RATE
    assert not run.wet[: entry.position].any()
    assert_in_place(run, entry.position, len(run.wet))
    first = next(chunk for chunk in run.engine.sent if isinstance(chunk, protocol.Chunk) and chunk.committed)
    assert entry.position == first.position


def test_a_launch_after_a_ramp_is_exact() -> None:
    at = round(2.2 * RATE)
    run = played([(2 * RATE + 5000, TRIGGER), *ramp(120, 140, 1.0, at=at)], 6.0)
    (entry,) = run.client.playback.entries
    assert (entry.position, entry.launch) == (run.position_of(8), True)
    assert run.beat_errors_ms(entry.position, 5 * RATE) == pytest.approx(0.0, abs=1e-6)


def test_an_end_along_a_ramp_lies_on_its_bar_line() -> None:
    over = At(offset=0, event=Release(take=0, position=0, quantized=True))
    run = played([(1000, TRIGGER), (AT - 1000, over), *ramp(120, 140, 1.5)], 6.0)
    end = run.client.takes.records[-1].released
    assert end is not None
    assert abs(end - run.position_of(8)) <= NEAR_S * RATE
    assert_in_place(run, 2 * RATE, end)
    assert not run.wet[end + FADE :].any()
    assert run.client.takes.current is None


def test_a_fill_along_a_ramp_ends_on_its_bar_line() -> None:
    fill = At(offset=0, event=Trigger(take=0, position=0, mode=Mode.FILL, bars=1))
    run = played([(1000, fill), *ramp(120, 140, 1.5)], 6.0)
    heard = np.flatnonzero(run.wet)
    assert heard[0] == 2 * RATE
    assert abs(heard[-1] + 1 - FADE - run.position_of(8)) <= NEAR_S * RATE
    assert run.client.takes.current is None


def test_a_vamp_along_a_ramp_plays_on() -> None:
    vamp = At(offset=0, event=Trigger(take=0, position=0, mode=Mode.VAMP, bars=1))
    run = played([(1000, vamp), *ramp(120, 140, 1.0)], 8.0)
    assert (run.wet[2 * RATE :] != 0).all()
    assert run.client.playback.counters.underrun_samples == 0


@pytest.mark.parametrize("change", ["150", "110"])
def test_a_step_beyond_a_glide_ends_the_epoch(change: str) -> None:
    run = played([(1000, TRIGGER), (AT, Tempo(bpm=Fraction(change)))], 3.5)
    assert run.client.takes.epoch == 2


def test_a_hole_in_a_glide_is_no_repeat_of_bars_of_another_length() -> None:
    """The engine says nothing more along the ramp: what is left in the ring sounds, then a fade."""
    engine = GlidingEngine()
    client = connected(engine, RATE)
    host = VirtualHost(HostConfig(sample_rate=RATE, block_samples=BLOCK), clock=FlatOut(), non_realtime=False)
    script = [(1000, TRIGGER), *ramp(120, 140, 1.5, at=5 * RATE)]
    host.run(client, 5 * RATE + RATE // 2, script=script)
    engine.frozen = True
    wet = host.run(client, 8 * RATE, script=[entry for entry in script if entry[0] >= host.position]).wet[:, 0]
    counters = client.playback.counters
    assert counters.repeat_samples == 0
    assert counters.fade_samples > 0
    last = int(np.flatnonzero(wet)[-1])
    assert last > 5 * RATE + RATE // 2
    silent = int(np.flatnonzero(wet != model_time(np.arange(len(wet)), RATE))[-1])
    assert silent > last


def test_paced_over_sockets_a_ramp_sounds() -> None:
    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with (
        Server(FakeModel(manifest=FakeConfig(sample_rate=RATE)), config=config) as server,
        Client(server.ready.address, ClientConfig(sample_rate=RATE)) as client,
    ):
        client.connect(5.0)
        host = VirtualHost(
            HostConfig(sample_rate=RATE, block_samples=BLOCK, start_ppq=Fraction(3)), clock=RealTime()
        )
        script = [(500, TRIGGER), *ramp(120, 140, 1.5, at=RATE)]
        wet = host.run(client, 3 * RATE, script=script).wet[:, 0]
    assert client.takes.epoch == 1
    assert (wet[RATE : RATE * 5 // 2] != 0).mean() >= 0.95
    assert client.ring.stale_samples == 0


def tracked(tempi: list[Fraction], *, every_s: Fraction = Fraction(1, 100), **fields: Any) -> list[Change]:
    """What becomes of the epoch where the tempo is told anew every so often."""
    rate = 48000
    tracker, ppq, changes = EpochTracker(rate), Fraction(0), []
    count = int(every_s * rate)
    for number, bpm in enumerate(tempi):
        block: dict[str, Any] = {"meter_num": 4, "meter_den": 4, "bar_start_ppq": 0.0, "playing": True} | fields
        tracker.block(position=number * count, ppq=float(ppq), bpm=float(bpm), **block)
        changes.append(tracker.change)
        ppq += count * bpm / (60 * rate)
    return changes


def test_what_is_a_glide() -> None:
    low, most = Fraction(120), Fraction(120) * (1 + GLIDE_SHARE)
    assert tracked([low, most]) == [Change.FIRST, Change.BEND]
    assert tracked([low, low * (1 - GLIDE_SHARE)]) == [Change.FIRST, Change.BEND]
    assert tracked([low, most + Fraction(1, 100)]) == [Change.FIRST, Change.TEMPO]
    assert tracked([low, most], non_realtime=True) == [Change.FIRST, Change.TEMPO]
    # Measured from where the glide began, then from GLIDE_S later: 13 blocks of 10 ms.
    step = (most - low) / 2
    burst = [low, low + step, low + 2 * step, low + 3 * step]
    assert tracked(burst) == [Change.FIRST, Change.BEND, Change.BEND, Change.TEMPO]
    held = math.ceil(GLIDE_S * 100)
    slow = [low, low + step] + [low + 2 * step] * held + [low + 3 * step]
    assert tracked(slow) == [Change.FIRST, Change.BEND, Change.BEND, *[Change.HELD] * (held - 1), Change.BEND]
