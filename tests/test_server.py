"""The server over real sockets on loopback: sessions, takes, epochs, listeners, OSC, shutdown."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from plain_client import RATE, PlainClient
from pythonosc.osc_message import OscMessage

from attacca.bridge import protocol
from attacca.bridge.endpoints import BindError, EndpointConfig, is_local
from attacca.bridge.osc import build
from attacca.bridge.protocol import Chunk, CodesChunk, Late, Mode, Param, Release, Status, Trigger, Welcome
from attacca.bridge.server import Server, serve
from attacca.bridge.worker import CRASHES
from attacca.engine.fake import FakeModel
from attacca.engine.service import Engine

ANY = "tcp://127.0.0.1:*"
BAR = 96000


def make_server(**changes: Any) -> Server:
    config = EndpointConfig(address=ANY, publish=ANY, **changes.pop("config", {}))
    return Server(FakeModel(), config=config, **changes)


@pytest.fixture
def server() -> Iterator[Server]:
    with make_server(osc_port=0) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[PlainClient]:
    made = PlainClient(server.ready.address)
    yield made
    made.close()


def test_a_take_starts_on_the_bar_line_and_ends_there(client: PlainClient) -> None:
    welcome = client.hello()
    assert (welcome.model_rate, welcome.hop_samples, welcome.num_codebooks) == (32000, 640, 4)
    client.play(100)
    client.take(Trigger(take=7, position=client.position - 3, seed=5))
    client.play(250)
    client.send(Release(take=7, position=client.position, quantized=True))
    client.play(80)
    last = client.until(lambda m: isinstance(m, Chunk) and m.last and m.committed)
    chunks = client.chunks()
    assert chunks[0][0].position == BAR
    assert last.position + last.samples == 2 * BAR
    expected = BAR
    for chunk, samples in chunks:
        assert (chunk.position, chunk.epoch, chunk.take) == (expected, 1, 7)
        assert chunk.ppq == pytest.approx(chunk.position / 24000, abs=1e-9)
        # The fake's samples are their own model-time index: 2/3 of the host's stream position.
        want = np.arange(chunk.position, chunk.position + chunk.samples) * (2 / 3)
        np.testing.assert_allclose(samples[5:-5, 0], want[5:-5], atol=1.0)
        expected += chunk.samples
    states = client.states()
    assert states.index("armed for bar 2") < states.index("playing take 7")
    started = next(m for m, _ in client.heard if isinstance(m, Status) and m.take == 7)
    assert (started.seed, started.start_position) == (5, BAR)


def test_stop_cancels_and_no_stale_chunk_follows(client: PlainClient) -> None:
    client.hello()
    client.play(60)
    client.take(Trigger(take=1, position=client.position, quantum_bars=0.25))
    client.play(100)
    assert client.chunks()
    client.transport(playing=False, epoch=2)
    client.send(protocol.Ping(nonce=99))
    client.until(lambda m: isinstance(m, protocol.Pong) and m.nonce == 99)
    client.heard.clear()
    client.epoch = 2
    client.play(100, transport=False)
    client.pump(0.3)
    assert not client.chunks()
    assert not client.chunks(committed=False)
    assert client.states()[-1] == "listening"


@pytest.mark.parametrize("what", ["seek", "tempo"])
def test_a_new_epoch_goes_on_at_its_position(client: PlainClient, what: str) -> None:
    client.hello()
    client.play(60)
    client.take(Trigger(take=1, position=client.position, quantum_bars=0.25))
    client.play(120)
    first = client.chunks()[0][0]
    assert first.position == 48000
    client.heard.clear()
    client.epoch = 2
    at = client.position
    ppq = {"seek": 33.0, "tempo": at / 24000}[what]
    bpm = {"seek": 120.0, "tempo": 140.0}[what]
    client.transport(ppq=ppq, bpm=bpm)
    client.play(120, transport=False)
    client.pump(0.2)
    fresh = [chunk for chunk, _ in client.chunks() if chunk.epoch == 2]
    assert fresh[0].position == at
    assert fresh[0].ppq == pytest.approx(ppq, abs=1e-6)
    positions = [chunk.position for chunk in fresh]
    assert positions[1:] == [chunk.position + chunk.samples for chunk in fresh[:-1]]
    after = [m.epoch for m, _ in client.heard if isinstance(m, Chunk)]
    assert after == sorted(after)  # none of the old after one of the new


def test_a_pending_take_moves_with_the_tempo(client: PlainClient) -> None:
    client.hello()
    client.play(40)
    client.take(Trigger(take=1, position=client.position))
    client.play(20)
    client.heard.clear()
    client.epoch = 2
    at = client.position  # 28800: ppq 1.2; 2.8 quarters to go, at 60 BPM
    client.transport(bpm=60.0)
    client.until(lambda m: isinstance(m, Chunk) and m.epoch == 2)
    for _ in range(30):
        client.play(10, transport=False)
    client.until(lambda m: isinstance(m, Chunk) and m.committed)
    assert client.chunks()[0][0].position == at + round(2.8 * RATE)


def test_a_trigger_while_the_host_stands_still_waits_for_it(client: PlainClient) -> None:
    client.hello()
    client.transport(playing=False)
    client.play(20, transport=False)
    client.send(Trigger(take=4, position=client.position))
    client.until(lambda m: isinstance(m, Status) and m.state == "armed until the host plays")
    client.epoch = 2
    start = client.position
    client.transport(ppq=3.0)
    client.until(lambda m: isinstance(m, Chunk))
    client.play(120, transport=False)
    client.until(lambda m: isinstance(m, Chunk) and m.committed)
    assert client.chunks()[0][0].position == start + 24000  # ppq 4


@pytest.mark.parametrize("mode", [Mode.FILL, Mode.ANSWER])
def test_fill_and_answer_end_by_themselves(client: PlainClient, mode: Mode) -> None:
    client.hello()
    client.play(20)
    client.send(Trigger(take=1, position=client.position, mode=mode, bars=1, quantum_bars=0.5))
    client.play(250 if mode is Mode.ANSWER else 10)  # an answer listens until 0.4 s before it starts
    client.until(lambda m: isinstance(m, Chunk))
    client.play(350)
    last = client.until(lambda m: isinstance(m, Chunk) and m.last)
    start = 48000 + (BAR if mode is Mode.ANSWER else 0)
    assert client.chunks()[0][0].position == start
    assert last.position + last.samples == start + BAR


@pytest.mark.parametrize("late", list(Late))
def test_a_start_that_cannot_be_met(client: PlainClient, late: Late) -> None:
    client.hello()
    client.play(99)
    wanted = 48000  # a sixteenth, 480 samples on: nearer than the host's own stride
    client.take(Trigger(take=1, position=wanted - 5, quantum_bars=None, quantum_ppq=0.25, late=late))
    client.play(60)
    started = client.chunks()[0][0].position
    assert started > wanted
    if late is Late.WAIT:
        assert started % 6000 == 0
    else:
        assert started < wanted + 6000
    shown = client.until(lambda m: isinstance(m, Status) and m.state == "playing take 1")
    assert shown.start_position == started


def test_a_vamp_goes_on_until_it_is_released(client: PlainClient) -> None:
    client.hello()
    client.play(20)
    client.take(Trigger(take=1, position=client.position, mode=Mode.VAMP, bars=1, quantum_bars=0.25))
    client.play(350)
    client.send(Release(take=1, position=client.position + 100))
    last = client.until(lambda m: isinstance(m, Chunk) and m.last)
    assert last.position + last.samples == client.position + 100


def test_parameters_replan_coalesced_and_clamped(server: Server, client: PlainClient) -> None:
    client.hello()
    client.play(50)
    for value in range(200):
        client.send(Param(name="temperature", value=value / 100))
    client.send(Param(name="guidance", value=99.0))
    client.send(Param(name="tempreature", value=1.0))
    client.play(30)
    client.until(lambda m: isinstance(m, protocol.Error) and m.code == "param")
    assert "range" in client.errors()
    session = server.worker._sessions[1]
    assert session.values["temperature"] == 1.99
    assert session.values["guidance"] == 10.0
    assert 1 <= session.counts["replans"] <= 20


def test_listeners_choose_what_they_hear(server: Server, client: PlainClient) -> None:
    context = zmq.Context()
    listeners = {}
    for topic in (b"pcm/", b"codes/", b"status/"):
        subscriber = listeners[topic] = context.socket(zmq.SUB)
        subscriber.setsockopt(zmq.SUBSCRIBE, topic)
        subscriber.connect(server.ready.publish)
    time.sleep(0.2)
    client.hello()
    client.play(50)
    client.take(Trigger(take=3, position=client.position, quantum_bars=None, quantum_ppq=1.0))
    client.play(100)
    kinds: dict[bytes, type] = {b"pcm/": Chunk, b"codes/": CodesChunk, b"status/": Status}
    codes = b""
    for topic, subscriber in listeners.items():
        assert subscriber.poll(5000)
        while subscriber.poll(50):
            name, *frames = subscriber.recv_multipart()
            message, payload = protocol.decode(frames)
            assert name == topic + b"1/"
            assert isinstance(message, kinds[topic])
            codes = payload if isinstance(message, CodesChunk) else codes
    assert len(codes) == 4 * 2 * 8
    assert not [m for m, _ in client.heard if isinstance(m, CodesChunk)]  # it wants pcm
    context.destroy(linger=0)


def test_osc_controls_and_hears_status(server: Server, client: PlainClient) -> None:
    client.hello()
    client.play(20)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc:
        osc.bind(("127.0.0.1", 0))
        osc.settimeout(5.0)
        target = ("127.0.0.1", server.ready.osc_port or 0)
        osc.sendto(build("/attacca/subscribe", "si", ("127.0.0.1", osc.getsockname()[1])), target)
        osc.sendto(build("/attacca/param/quantum", "f", (3.0,)), target)
        osc.sendto(build("/attacca/trigger", "", ()), target)
        client.until(lambda m: isinstance(m, Chunk))
        client.play(150)
        heard: dict[str, list[Any]] = {}
        while "/attacca/status/take" not in heard:
            message = OscMessage(osc.recv(4096))
            heard[message.address] = message.params
        assert heard["/attacca/status/state"][0] == 1
    client.until(lambda m: isinstance(m, Chunk) and m.committed)
    assert client.chunks()[0][0].position % 24000 == 0  # a quarter


def test_the_same_routing_id_reopens_its_session(server: Server) -> None:
    first = PlainClient(server.ready.address, routing_id=b"plugin-1")
    session = first.hello().session
    first.play(30)
    first.send(Trigger(take=1, position=first.position))
    first.play(10)
    first.close()
    second = PlainClient(server.ready.address, routing_id=b"plugin-1")
    assert second.hello().session == session
    second.play(30)
    second.take(Trigger(take=1, position=second.position, quantum_bars=0.25))
    second.play(100)
    assert second.chunks()[0][0].position == 24000
    assert server.counts()["reopened"] == 1
    second.close()


def test_silence_closes_a_session_and_pings_keep_it() -> None:
    with make_server(config={"heartbeat_s": 0.1, "timeout_s": 1.0, "max_sessions": 1}) as server:
        silent, lively = PlainClient(server.ready.address), PlainClient(server.ready.address)
        silent.hello()
        lively.send(protocol.Hello(client="b", sample_rate=RATE, channels=1))
        assert lively.until(lambda m: isinstance(m, protocol.Error)).code == "full"
        deadline = time.monotonic() + 10.0
        while not server.counts()["closed: timeout"] and time.monotonic() < deadline:
            time.sleep(0.01)
        lively.hello()
        lively.pump(2.0)  # answers pings, sends nothing else
        assert server.counts()["closed: timeout"] == 1
        assert len(server.worker._sessions) == 1
        silent.close()
        lively.close()


class Breaking(Engine):
    """An engine that fails when it is told to."""

    fail = threading.Event()
    always = False

    def work(self) -> list[Any]:
        if self.fail.is_set():
            if not self.always:
                self.fail.clear()
            raise MemoryError("as told")
        return super().work()


def test_a_failed_engine_is_made_anew_and_sessions_told() -> None:
    with make_server(make_engine=lambda: Breaking(FakeModel())) as server:
        client = PlainClient(server.ready.address)
        client.hello()
        client.play(30)
        Breaking.fail.set()
        client.play(30)
        assert client.until(lambda m: isinstance(m, protocol.Error)).code == "engine"
        client.heard.clear()
        client.take(Trigger(take=1, position=client.position, quantum_bars=0.25))
        client.play(100)
        assert client.chunks()
        assert server.counts()["crashes"] == 1
        client.close()


def test_what_fails_in_one_session_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Touchy(Engine):
        def listen(self, session: int, position: int, pcm: Any) -> None:
            if pcm.any():
                raise ArithmeticError("as told")
            super().listen(session, position, pcm)

    with make_server(make_engine=lambda: Touchy(FakeModel())) as server:
        good, bad = PlainClient(server.ready.address), PlainClient(server.ready.address)
        good.hello()
        bad.hello()
        good.play(30)
        good.take(Trigger(take=1, position=good.position, quantum_bars=0.25))
        good.play(50)
        bad.send(protocol.Audio(position=0, samples=1, channels=1), b"\0\0\0\x3f")
        assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "engine"
        good.play(50)
        assert len(good.chunks()) > 2
        assert not good.errors()
        assert server.counts()["session failures"] == 1
        assert server.counts()["crashes"] == 0
        good.close()
        bad.close()


def test_an_engine_that_only_fails_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaking, "always", True)
    server = make_server(make_engine=lambda: Breaking(FakeModel())).start()
    Breaking.fail.set()
    assert server.wait(10.0)
    Breaking.fail.clear()
    with pytest.raises(RuntimeError, match="again and again: as told"):
        server.close()
    assert server.counts()["crashes"] == CRASHES


def test_idle_costs_nothing(server: Server) -> None:
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.1


def test_signals_end_serve_and_give_handlers_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ready(told: Any) -> None:
        assert told.address.startswith("tcp://127.0.0.1:")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    threads = threading.active_count()
    counts = serve(FakeModel(), address=ANY, publish=ANY, ready=ready)
    assert not counts
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.active_count() <= threads + 1  # the timer may still be ending


def test_closing_tells_clients() -> None:
    server = make_server().start()
    client = PlainClient(server.ready.address)
    assert isinstance(client.hello(), Welcome)
    server.close()
    assert client.until(lambda m: isinstance(m, protocol.Error)).code == "closing"
    client.close()


def test_addresses_that_cannot_or_may_not_be_bound() -> None:
    with make_server() as server, pytest.raises(BindError, match=r"cannot be bound"):
        make_server_at(server.ready.address)
    with pytest.raises(BindError, match=r"other machines"):
        EndpointConfig(address="tcp://0.0.0.0:1", publish=ANY)
    with pytest.raises(OSError, match=r"other machines"):
        make_server(osc_port=0, osc_host="0.0.0.0")
    assert not is_local("tcp://*:5570")
    assert is_local("tcp://[::1]:1")
    assert is_local("ipc:///tmp/x")


def make_server_at(address: str) -> Server:
    return Server(FakeModel(), config=EndpointConfig(address=address, publish=ANY))
