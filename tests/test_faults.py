"""Faults while a take plays: chunks lost or late, the engine killed or frozen, over real sockets and processes.

Whatever happens, the output is finite, makes no step larger than a bound, and every missing sample is counted.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from direct_engine import MODEL_RATE, DirectEngine, connected, model_time
from paced import paced

from attacca.bridge.client import Client
from attacca.bridge.client_config import At, ClientConfig
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.engine_process import EngineProcess, EngineProcessError
from attacca.bridge.host_transport import HostConfig
from attacca.bridge.playback import Playback
from attacca.bridge.protocol import Chunk, Trigger
from attacca.bridge.ring import PositionRing
from attacca.bridge.server import Server
from attacca.bridge.virtual_host import BlockRecord, FlatOut, RealTime, Recording, VirtualHost
from attacca.engine.fake import FakeConfig, FakeModel

RATE = MODEL_RATE
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))
# The tone's own steps are at most 0.0044; a ramp of 2 ms over its whole swing adds 0.0032, a second one as much.
STEP_BOUND = 0.02


def host(clock: RealTime, *, bpm: int = 240, block: int = 256, start_ppq: str = "7/2") -> VirtualHost:
    config = HostConfig(sample_rate=RATE, block_samples=block, bpm=Fraction(bpm), start_ppq=Fraction(start_ppq))
    return VirtualHost(config, clock=clock, non_realtime=False)


def check_sound(client: Client, wet: np.ndarray, launch: int) -> None:
    """Finite, without clicks, and every missing sample accounted for by one rung of the ladder."""
    counters = client.playback.counters
    assert np.isfinite(wet).all()
    assert not wet[:launch].any()
    assert np.abs(np.diff(wet[launch:, 0])).max() < STEP_BOUND
    assert counters.underrun_samples == counters.repeat_samples + counters.fade_samples
    assert client.ring.missing_samples == counters.underrun_samples + counters.waiting_samples


def lossy(seed: int, drop: float, hold: float) -> Callable[[Chunk, bytes], list[tuple[Chunk, bytes]]]:
    """Drops some chunks, and holds some back until after the next."""
    chance, held = random.Random(seed), []

    def spoil(chunk: Chunk, payload: bytes) -> list[tuple[Chunk, bytes]]:
        draw = chance.random()
        if draw < drop:
            return []
        if draw < drop + hold:
            held.append((chunk, payload))
            return []
        out = [(chunk, payload), *held]
        held.clear()
        return out

    return spoil


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("drop", "hold"), [(0.3, 0.0), (0.0, 0.4), (0.25, 0.25)])
def test_lost_and_disordered_chunks(seed: int, drop: float, hold: float) -> None:
    client = connected(DirectEngine(spoil=lossy(seed, drop, hold), tone=True), RATE)
    launch = 4000
    wet = host(FlatOut()).run(client, 6 * RATE, script=[(500, TRIGGER)]).wet
    entered = client.playback.entries[0].position
    check_sound(client, wet, entered)
    assert entered >= launch
    assert client.network.counts["lost_chunks"] + client.network.counts["disordered_chunks"] > 0


def test_without_faults_the_same_check_sees_none() -> None:
    client = connected(DirectEngine(tone=True), RATE)
    wet = host(FlatOut()).run(client, 3 * RATE, script=[(500, TRIGGER)]).wet
    check_sound(client, wet, 4000)
    assert client.ring.missing_samples == 0
    assert client.playback.entries[0].position == 4000


class Launches:
    """A grid of bars of 400 samples, on which a take may launch anywhere."""

    def bar_lines(self, position: int) -> tuple[int, int, int]:
        present = position - position % 400
        return present - 400, present, present + 400

    def is_launch(self, position: int) -> bool:
        return True


def test_a_launch_is_exact_out_of_silence_and_crossfaded_out_of_sound() -> None:
    """As when an engine comes back while the last bar repeats: the new take's first sample may be anything."""
    ring = PositionRing(capacity_samples=4000, channels=1)
    playback = Playback(ring, sample_rate=RATE, history_s=1.0)
    for start, generation, level in ((500, 1, 0.5), (1500, 2, -0.5)):
        ring.cut(start, generation)
        ring.write(start, np.full((1000, 1), level, np.float32), committed=True, generation=generation)
    wet = playback.render(0, 2500, Launches())[:, 0]
    assert not wet[:500].any() and (wet[500:1500] == 0.5).all() and (wet[1564:] == -0.5).all()
    assert np.abs(np.diff(wet[500:])).max() <= 1.0 / (0.002 * RATE) * 1.001


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_take_that_goes_on_is_bridged_until_it_is_there(goes_on: bool) -> None:
    """As when an engine comes back just before a bar line; for another take there would be silence until then."""
    ring = PositionRing(capacity_samples=4000, channels=1)
    playback = Playback(ring, sample_rate=RATE, history_s=1.0)
    ring.cut(400, 1)
    ring.write(400, np.arange(400, 900, dtype=np.float32)[:, None], committed=True, generation=1)
    wet = playback.render(0, 1000, Launches())
    ring.cut(1200, 2)
    if goes_on:
        playback.go_on_into(2)
    ring.write(1500, np.full((1000, 1), -1.0, np.float32), committed=True, generation=2)
    wet = np.concatenate([wet, playback.render(1000, 1000, Launches())])[:, 0]
    counters = playback.counters
    np.testing.assert_array_equal(wet[964:1200], wet[564:800])
    if goes_on:
        np.testing.assert_array_equal(wet[1200:1500], wet[800:1100])
    assert (wet[1564:] == -1.0).all()
    assert (counters.waiting_samples, counters.underrun_samples) == ((0, 600) if goes_on else (300, 300))
    assert counters.repeat_samples == counters.underrun_samples


@pytest.fixture
def server() -> Iterator[Server]:
    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with Server(FakeModel(manifest=FakeConfig()), config=config) as running:
        yield running


@pytest.mark.parametrize(("rate", "block"), [(32000, 64), (44100, 441), (48000, 4096)])
def test_over_sockets_an_offline_host_gets_every_sample_in_place(server: Server, rate: int, block: int) -> None:
    settings = ClientConfig(sample_rate=rate, channels=2)
    with Client(server.ready.address, settings) as client:
        client.connect(5.0)
        config = HostConfig(sample_rate=rate, block_samples=block, channels=2, start_ppq=Fraction(3))
        wet = VirtualHost(config, clock=FlatOut()).run(client, 2 * rate, script=[(99, TRIGGER)]).wet
    launch = rate // 2
    assert not wet[:launch].any()
    np.testing.assert_array_equal(wet[:, 0], wet[:, 1])
    np.testing.assert_allclose(wet[launch:, 0], model_time(np.arange(launch, 2 * rate), rate), atol=0.05)
    assert client.playback.counters.underrun_samples == client.ring.late_samples == client.wait_timeouts == 0


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with EngineProcess(["--fake", "--log-level", "warning"]) as running:
        yield running


def perform(engine: EngineProcess, seconds: float, at: dict[float, Callable[[], None]]) -> tuple[Client, Recording]:
    """A paced take against a real process; `at` does things at seconds of the stream."""
    todo = sorted(at.items())

    def watch(block: BlockRecord) -> None:
        while todo and block.position >= todo[0][0] * RATE:
            todo.pop(0)[1]()

    with Client(engine.address, ClientConfig(sample_rate=RATE)) as client:
        client.connect(10.0)
        recording = host(RealTime()).run(client, round(seconds * RATE), script=[(500, TRIGGER)], on_block=watch)
    return client, recording


@paced
def test_engine_killed_in_the_middle_of_a_take(engine: EngineProcess) -> None:
    """The last whole bar goes round, in phase, then all is faded; nothing hangs and nothing clicks."""
    with Client(engine.address, ClientConfig(sample_rate=RATE)) as client:
        client.connect(10.0)
        playing, counters = host(RealTime()), client.playback.counters
        playing.run(client, 7 * RATE // 5, script=[(500, TRIGGER)])
        before = -1
        while counters.underrun_samples > before:  # until a whole bar has come in time, however busy the machine
            before = counters.underrun_samples
            playing.run(client, playing.position + RATE)
        killed = playing.position
        engine.process.kill()
        wet = playing.run(client, killed + 8 * RATE // 5).wet
    check_sound(client, wet, client.playback.entries[0].position)
    assert counters.underrun_samples - before > RATE
    assert counters.repeat_events >= 1
    missing_from = len(wet) - (counters.underrun_samples - before)
    assert missing_from >= killed
    # The repeat is the bar before, once the declick of 2 ms is over (a bar is one second here).
    start = missing_from + 64
    np.testing.assert_array_equal(wet[start : start + 8000], wet[start - RATE : start - RATE + 8000])


@paced
def test_engine_frozen_for_a_while(engine: EngineProcess) -> None:
    """What comes after the thaw for positions already played is discarded, not played late."""
    stop = lambda: engine.process.send_signal(signal.SIGSTOP)  # noqa: E731
    go_on = lambda: engine.process.send_signal(signal.SIGCONT)  # noqa: E731
    client, recording = perform(engine, 4.5, {2.0: stop, 3.0: go_on})
    check_sound(client, recording.wet, client.playback.entries[0].position)
    assert 0.3 * RATE < client.playback.counters.underrun_samples < 2.0 * RATE
    assert recording.wet[-RATE // 4 :].any()
    assert client.network.counts["sessions_lost"] == 0


def test_an_engine_that_was_restarted_in_a_moment_is_greeted_again(server: Server) -> None:
    """Too soon for silence to be noticed: the new engine answers, but knows no session."""
    with Client(server.ready.address, ClientConfig(sample_rate=RATE)) as client:
        client.connect(5.0)
        server.close()
        config = EndpointConfig(address=server.ready.address, publish=server.ready.publish)
        with Server(FakeModel(), config=config):
            playing, deadline = host(RealTime()), time.monotonic() + 20
            while not client.network.counts["sessions_lost"] or not client.network.connected:
                assert time.monotonic() < deadline
                playing.run(client, playing.position + RATE // 10)
            playing.run(client, playing.position + 2 * RATE, script=[(playing.position + RATE // 2, TRIGGER)])
            assert client.playback.entries
    assert client.network.counts["sessions_lost"] == 1


def test_process_that_cannot_start_shows_what_it_said() -> None:
    with (
        pytest.raises(EngineProcessError, match=r"(?s)exit code.*no-such-model"),
        EngineProcess(["--model", "no-such-model"]),
    ):
        pass


def test_process_is_ended_whatever_happens() -> None:
    with pytest.raises(RuntimeError, match="in the middle"), EngineProcess(["--fake"]) as running:
        process = running.process
        raise RuntimeError("in the middle")
    assert process.poll() is not None


def test_client_threads_end_with_close(server: Server) -> None:
    before = threading.active_count()
    client = Client(server.ready.address, ClientConfig(sample_rate=RATE))
    client.connect(5.0)
    assert threading.active_count() == before + 1
    client.close()
    client.close()
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
