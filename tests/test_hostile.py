"""Hostile input over real sockets: nothing ends, everything is counted, and a good client plays on beside it."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
import zmq
from plain_client import BLOCK, RATE, PlainClient

from attacca.bridge import protocol
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.protocol import MAX_PAYLOAD_BYTES, Audio, Chunk, Hello, Release, Trigger
from attacca.bridge.queues import INBOX_MESSAGES
from attacca.bridge.server import Server
from attacca.engine.fake import FakeModel

ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def server() -> Iterator[Server]:
    config = EndpointConfig(address=ANY, publish=ANY, heartbeat_s=0.2, timeout_s=3.0)
    with Server(FakeModel(), config=config, osc_port=0) as made:
        yield made


@pytest.fixture
def good(server: Server) -> Iterator[PlainClient]:
    client = PlainClient(server.ready.address)
    client.hello()
    client.play(30)
    client.take(Trigger(take=1, position=client.position, quantum_bars=0.25))
    client.play(60)
    yield client
    client.close()


@pytest.fixture
def bad(server: Server) -> Iterator[PlainClient]:
    client = PlainClient(server.ready.address)
    yield client
    client.close()


def plays_on(server: Server, good: PlainClient) -> None:
    """The good client's take has gone on without a hole or an error, and both threads live."""
    good.heard = [(m, p) for m, p in good.heard if isinstance(m, Chunk)]
    before = len(good.chunks())
    for _ in range(60):
        good.play(10)
        if len(good.chunks()) >= before + 3:
            break
    chunks = [chunk for chunk, _ in good.chunks()]
    assert len(chunks) >= before + 3
    assert [c.position for c in chunks[1:]] == [c.position + c.samples for c in chunks[:-1]]
    assert not good.errors()
    assert {"attacca-io", "attacca-decode"} <= {thread.name for thread in threading.enumerate()}
    assert server.worker.counts["crashes"] == 0


def settled(server: Server, name: str, least: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while server.counts()[name] < least and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.counts()[name] >= least


def header(**fields: object) -> bytes:
    return msgspec.msgpack.encode({"v": 1, **fields})


def test_random_bytes(server: Server, good: PlainClient, bad: PlainClient) -> None:
    chance = random.Random(1)
    for _ in range(300):
        bad.raw(*(chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(1, 5))))
    settled(server, "bad", 300)
    bad.pump(0.2)
    assert 1 <= len(bad.errors()) <= 60  # answered, but not all: that would be a flood of our own
    assert server.counts()["errors withheld"] >= 240
    plays_on(server, good)


def test_truncated_messages(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    whole = bytes(protocol.encode(Trigger(take=1, position=0))[0])
    for length in range(len(whole)):
        bad.raw(whole[:length])
    settled(server, "bad: header", len(whole))
    plays_on(server, good)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "trigger", "take": "one", "position": 0}, "header"),
        ({"type": "trigger", "take": 1, "position": 2**63}, "header"),
        ({"type": "trigger", "take": -1, "position": 0}, "header"),
        ({"type": "nothing"}, "header"),
        ({"type": "param", "name": "gain", "value": float("nan")}, "header"),
        ({"type": "param", "name": "gain", "value": float("inf")}, "header"),
        ({"type": "param", "name": "g" * 100, "value": 0.0}, "header"),
        ({"type": "midi", "position": 0, "data": b"\x90\x01\x01\x01"}, "header"),
        ({"type": "audio", "position": 0, "samples": 2**31, "channels": 2}, "payload"),
        ({"type": "audio", "position": 0, "samples": 7, "channels": 1}, "payload"),
        ({"type": "welcome"}, "header"),
        ({"type": "error", "code": "x", "text": "y"}, "direction"),
        ({"type": "hello", "v": 2, "client": 5}, "version"),
        ({"type": "hello", "client": "x", "sample_rate": 1, "channels": 1}, "header"),
        ({"type": "hello", "client": "x", "sample_rate": 48000, "channels": 1, "model": "none such"}, "model"),
    ],
)
def test_wrong_fields_are_answered(server: Server, bad: PlainClient, fields: dict[str, object], code: str) -> None:
    if fields["type"] != "hello":
        bad.hello()
    bad.raw(header(**fields))
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == code
    assert server.counts()[f"bad: {code}"] == 1


@pytest.mark.parametrize("field", ["ppq", "bpm", "bar_start_ppq", "loop_start_ppq"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_transport_that_is_no_number(server: Server, bad: PlainClient, field: str, value: float) -> None:
    bad.hello()
    bad.transport(**{field: value})
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "header"


def test_messages_before_hello(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.send(Audio(position=0, samples=BLOCK, channels=1), bytes(4 * BLOCK))
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "hello"
    bad.transport()
    bad.send(Trigger(take=1, position=0))
    settled(server, "bad: hello", 3)
    plays_on(server, good)


def test_huge_frames_cost_the_sender_its_connection_only(
    server: Server, good: PlainClient, bad: PlainClient
) -> None:
    bad.hello()
    bad.raw(header(type="audio", position=0, samples=1, channels=1), bytes(MAX_PAYLOAD_BYTES * 4))
    bad.raw(bytes(protocol.MAX_HEADER_BYTES + 1))
    plays_on(server, good)


def test_many_frames_in_one_message(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    bad.raw(*[b"x"] * 5000)
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "frames"
    plays_on(server, good)


def test_a_flood_is_dropped_and_counted(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    stop = threading.Event()
    real = server.worker._engine.work
    server.worker._engine.work = lambda: (stop.wait(5.0), real())[1]  # type: ignore[method-assign,func-returns-value]
    payload = bytes(4 * BLOCK)
    for number in range(4 * INBOX_MESSAGES):
        bad.send(Audio(position=number * BLOCK, samples=BLOCK, channels=1), payload)
        if number % 100 == 0:
            good.pump()  # answers pings
    deadline = time.monotonic() + 5.0
    while server._inbox.dropped[2] < INBOX_MESSAGES and time.monotonic() < deadline:
        good.pump(0.01)
    stop.set()
    del server.worker._engine.work
    assert server._inbox.dropped[2] >= INBOX_MESSAGES
    assert not server._inbox.dropped[1]
    told: list[int] = []
    while not any(told) and time.monotonic() < deadline + 5.0:
        good.pump()
        bad.pump(0.02)
        told = [m.dropped_messages for m, _ in bad.heard if isinstance(m, protocol.Status)]
    assert any(told)
    plays_on(server, good)


def test_a_flood_of_triggers(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    bad.transport()
    for number in range(1000):
        bad.send(Trigger(take=number % 400, position=number, quantum_ppq=0.25, quantum_bars=None))
    bad.until(lambda m: isinstance(m, protocol.Error) and m.code == "take")
    bad.send(Release(take=10**9, position=0))
    bad.send(protocol.Bye())
    settled(server, "closed: bye", 1)
    plays_on(server, good)


def test_broken_audio_is_silenced_and_told(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    bad.transport()
    worst = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0] * 80, "<f4").tobytes()
    for number in range(40):
        bad.send(Audio(position=number * BLOCK, samples=BLOCK, channels=1), worst)
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "audio"
    bad.send(Trigger(take=2, position=40 * BLOCK, quantum_bars=0.0))
    bad.until(lambda m: isinstance(m, Chunk))
    for _, samples in bad.chunks() + bad.chunks(committed=False):
        assert np.isfinite(samples).all()
    plays_on(server, good)


def test_positions_from_nowhere(server: Server, good: PlainClient, bad: PlainClient) -> None:
    bad.hello()
    silence = bytes(4 * BLOCK)
    chance = random.Random(2)
    for number in range(60):
        position = chance.choice([-(2**62), 2**62, 0, 1, -1, chance.randrange(-(2**62), 2**62)])
        bad.transport(position=position, epoch=chance.randrange(2**53), ppq=chance.uniform(-1e9, 1e9))
        bad.send(Audio(position=position, samples=BLOCK, channels=1), silence)
        bad.send(Trigger(take=number, position=chance.choice([position, -position])))
        bad.send(protocol.Midi(position=position, data=bytes([0x90, chance.randrange(128), 100])))
        bad.send(Release(take=chance.randrange(60), position=-position, quantized=True))
    bad.pump(0.2)
    plays_on(server, good)


def test_old_epochs_change_nothing(server: Server, bad: PlainClient) -> None:
    bad.hello()
    bad.epoch = 5
    bad.play(30)
    for epoch in (0, 1, 4):
        bad.transport(epoch=epoch, ppq=999.0)
    bad.play(10)
    deadline = time.monotonic() + 3.0
    session = server.worker._sessions[1]
    while session.counts["stale transports"] < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.counts["stale transports"] == 3
    assert session.timeline.epoch == 5
    assert len(session.timeline.segments) == 1


def test_other_channels_than_said(server: Server, bad: PlainClient) -> None:
    bad.hello()
    bad.send(Audio(position=0, samples=4, channels=2), bytes(32))
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "channels"


def test_a_client_that_vanishes_is_cleaned_up(server: Server, good: PlainClient) -> None:
    gone = PlainClient(server.ready.address)
    gone.hello()
    gone.play(30)
    gone.send(Trigger(take=1, position=gone.position, quantum_bars=0.25))
    good.pump()
    gone.play(40)
    gone.close()
    deadline = time.monotonic() + 15.0
    while len(server.worker._sessions) > 1 and time.monotonic() < deadline:
        good.play(5)
    assert list(server.worker._sessions) == [1]
    assert server.worker._engine.sessions == (1,)
    assert server.counts()["closed: timeout"] == 1
    plays_on(server, good)


def test_raw_tcp_that_is_no_zeromq(server: Server, good: PlainClient) -> None:
    host, port = server.ready.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: attacca\r\n\r\n" + random.Random(3).randbytes(4096))
        plays_on(server, good)


def test_hello_again_and_again(server: Server, good: PlainClient, bad: PlainClient) -> None:
    for _ in range(200):
        bad.send(Hello(client="x", sample_rate=RATE, channels=1))
    assert bad.until(lambda m: isinstance(m, protocol.Error)).code == "rate"
    while server.counts()["reopened"] + server.counts()["bad: rate"] < 199:
        bad.pump(0.01)
    assert server.counts()["reopened"] < 40
    plays_on(server, good)


@pytest.mark.parametrize("listener", [zmq.SUB, zmq.DEALER])
def test_a_listener_that_never_reads(server: Server, good: PlainClient, listener: int) -> None:
    context = zmq.Context()
    sleeper = context.socket(listener)
    sleeper.setsockopt(zmq.RCVHWM, 1)
    if listener == zmq.SUB:
        sleeper.setsockopt(zmq.SUBSCRIBE, b"")
    sleeper.connect(server.ready.publish if listener == zmq.SUB else server.ready.address)
    plays_on(server, good)
    context.destroy(linger=0)


def test_osc_garbage(server: Server, good: PlainClient) -> None:
    chance = random.Random(4)
    target = ("127.0.0.1", server.ready.osc_port or 0)
    make: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 300)),
        lambda: b"#bundle\0" + chance.randbytes(chance.randrange(40)),
        lambda: b"/attacca/param/gain\0,f\0\0" + chance.randbytes(2),
        lambda: b"/attacca/trigger\0\0\0\0" + b",[[[[[[",
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc:
        for number in range(200):
            osc.sendto(make[number % len(make)](), target)
            if number % 20 == 0:
                time.sleep(0.01)
    settled(server, "osc bad", 100)
    plays_on(server, good)


def test_status_tells_what_was_wrong_with_the_input(bad: PlainClient) -> None:
    bad.hello()
    bad.play(60)
    bad.position += 1234
    broken = np.zeros(BLOCK, "<f4")
    broken[7:10] = np.nan, np.inf, 1e9
    bad.send(Audio(position=bad.position, samples=BLOCK, channels=1), broken.tobytes())
    bad.position += BLOCK
    bad.play(60)
    status = bad.until(lambda m: isinstance(m, protocol.Status) and m.gap_samples > 0)
    assert (status.gap_samples, status.bad_samples) == (1234, 3)
