"""The plugin's links against libzmq: both ways, largest messages, slow readers, restarts, topics, heartbeats."""

from __future__ import annotations

import ctypes
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import zmq
from link_peers import LOCAL, bound, got, router, until
from native_wire import Frames, Wire, declare, recode

from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.protocol import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, Hello, Welcome, decode, encode
from attacca.bridge.server import Server
from attacca.engine.fake import FakeModel

pytestmark = pytest.mark.plugin

QUEUED_MESSAGES = 1024


@pytest.fixture(scope="module")
def library(native: Any) -> ctypes.CDLL:
    return declare(native.library)


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def wire(library: ctypes.CDLL) -> Iterator[Callable[..., Wire]]:
    with ExitStack() as stack:
        yield lambda address, **how: stack.enter_context(Wire(library, address, **how))


def exchanged(ours: Wire, theirs: Any, note: bytes = b"") -> None:
    """One message each way."""
    assert until(lambda: ours.send([b"there" + note]))
    assert until(lambda: (ours.receive(1), got(theirs))[1]) == [b"tester", b"there" + note]
    theirs.send_multipart([b"tester", b"back" + note, b"x"])
    assert until(lambda: ours.receive(20)) == [b"back" + note, b"x"]


def test_messages_both_ways_in_order(context: Any, wire: Any) -> None:
    theirs, port = router(context, RCVHWM=0, SNDHWM=0)
    ours = wire(f"{LOCAL}:{port}")
    rng = random.Random(3)
    sent = [[b"%d" % i, rng.randbytes(rng.choice((0, 1, 255, 256, 8192)))] for i in range(4000)]
    there: list[Frames] = []
    back: list[Frames] = []
    waiting = list(reversed(sent))

    def go_on() -> bool:
        while waiting and ours.send(waiting[-1]):
            waiting.pop()
        while (message := got(theirs)) is not None:
            there.append(message[1:])
            theirs.send_multipart(message)
        while (reply := ours.receive(0)) is not None:
            back.append(reply)
        return len(back) == len(sent)

    until(go_on)
    assert there == sent
    assert back == sent


def test_the_largest_messages_both_ways(context: Any, wire: Any) -> None:
    theirs, port = router(context)
    ours = wire(f"{LOCAL}:{port}")
    large = [bytes(MAX_HEADER_BYTES), random.Random(5).randbytes(MAX_PAYLOAD_BYTES)]
    for _ in range(5):
        assert ours.send(large)
        assert until(lambda: (ours.receive(0), got(theirs))[1])[1:] == large
        theirs.send_multipart([b"tester", *large])
        assert until(lambda: ours.receive(10)) == large


@pytest.mark.parametrize("sizes", [(MAX_HEADER_BYTES + 1, 1), (1, MAX_PAYLOAD_BYTES + 1)])
def test_longer_messages_cost_the_engine_its_connection(context: Any, wire: Any, sizes: tuple[int, int]) -> None:
    theirs, port = router(context)
    ours = wire(f"{LOCAL}:{port}")
    exchanged(ours, theirs)
    theirs.send_multipart([b"tester", *map(bytes, sizes)])
    until(lambda: (ours.receive(1), ours.why)[1])
    assert "at most" in ours.why
    exchanged(ours, theirs)  # on a new connection


def test_what_is_said_before_the_engine_is_there_arrives(context: Any, wire: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]
    ours = wire(f"tcp://localhost:{port}")
    assert ours.send([b"hello"])
    assert ours.receive(250) is None
    assert ours.why == "nobody listens there"
    theirs, _ = router(context, port)
    assert until(lambda: (ours.receive(5), got(theirs))[1]) == [b"tester", b"hello"]


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_an_engine_on_ipv6_alone(context: Any, wire: Any, host: str) -> None:
    theirs = context.socket(zmq.ROUTER)
    theirs.setsockopt(zmq.IPV6, 1)
    try:
        port = theirs.bind_to_random_port("tcp://[::1]")
    except zmq.ZMQError as error:
        pytest.skip(f"no IPv6 here: {error}")
    exchanged(wire(f"tcp://{host}:{port}"), theirs)


def test_a_reader_that_stops_and_goes_on(context: Any, wire: Any) -> None:
    theirs, port = router(context, RCVHWM=1, RCVBUF=4096)
    ours = wire(f"{LOCAL}:{port}")
    exchanged(ours, theirs)
    payload, sent = bytes(20000), 0
    while ours.send([b"%d" % sent, payload]):
        begun = time.monotonic()
        assert ours.receive(0) is None
        assert time.monotonic() - begun < 1.0
        sent += 1
    assert sent >= 100
    refused = sent
    assert not ours.send([b"refused", payload])  # the newest is dropped, nothing else
    seen = []
    until(
        lambda: (ours.receive(0), [seen.append(m) for m in iter(lambda: got(theirs), None)], len(seen) == sent)[2]
    )
    assert [m[1] for m in seen] == [b"%d" % i for i in range(refused)]
    assert {m[2] for m in seen} == {payload}
    exchanged(ours, theirs)


def test_the_queue_is_bounded_without_a_connection(wire: Any) -> None:
    ours = wire(f"{LOCAL}:1")
    assert [ours.send([b"x"]) for _ in range(QUEUED_MESSAGES + 2)] == [True] * QUEUED_MESSAGES + [False] * 2
    ours.reopen()
    assert sum(ours.send([bytes(MAX_PAYLOAD_BYTES)]) for _ in range(40)) == 15  # of 1 MiB and a head in 16 MiB
    ours.close()
    assert not ours.send([b"x"])
    assert ours.receive(1000) is None


def test_the_engine_ends_and_comes_back(context: Any, wire: Any) -> None:
    theirs, port = router(context)
    ours = wire(f"{LOCAL}:{port}")
    for time_ in range(4):
        exchanged(ours, theirs, b"%d" % time_)
        theirs.close()
        until(lambda: (ours.receive(5), not ours.ready)[1])
        assert ours.why
        theirs, _ = router(context, port)
        begun = time.monotonic()
        until(lambda: (ours.receive(20), ours.ready)[1])
        assert time.monotonic() - begun < 5.0  # back-off is half a second at most
    exchanged(ours, theirs)


def test_reopening_forgets_what_was_under_way(context: Any, wire: Any) -> None:
    theirs, port = router(context)
    ours = wire(f"{LOCAL}:{port}")
    exchanged(ours, theirs)
    theirs.send_multipart([b"tester", b"old"])
    time.sleep(0.1)
    ours.reopen()
    assert ours.receive(100) is None
    exchanged(ours, theirs)  # the same identity, handed over
    ours.close()
    assert ours.receive(50) is None
    ours.reopen()
    exchanged(ours, theirs)


def test_libzmqs_own_heartbeats_are_answered(context: Any, wire: Any) -> None:
    theirs, port = router(context, HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=1000, HEARTBEAT_TTL=2000)
    ours = wire(f"{LOCAL}:{port}")
    exchanged(ours, theirs)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert ours.receive(10) is None
        assert ours.ready
    assert not ours.why


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.PUB, zmq.REP, zmq.DEALER])
def test_other_kinds_of_sockets_are_not_engines(context: Any, wire: Any, kind: int) -> None:
    theirs = context.socket(kind)
    ours = wire(f"{LOCAL}:{theirs.bind_to_random_port(LOCAL)}")
    until(lambda: (ours.receive(5), ours.why)[1])
    assert "socket of type" in ours.why or "closed" in ours.why
    assert not ours.ready


def test_an_engine_that_wants_a_password(context: Any, wire: Any) -> None:
    theirs, port = router(context, PLAIN_SERVER=1)
    ours = wire(f"{LOCAL}:{port}")
    until(lambda: (ours.receive(5), ours.why)[1])
    assert "PLAIN" in ours.why or "closed" in ours.why  # whichever side sees it first
    theirs.close()


def test_subscriptions(context: Any, wire: Any) -> None:
    theirs = context.socket(zmq.XPUB)
    theirs.linger = 0
    port = theirs.bind_to_random_port(LOCAL)
    ours, all_ = wire(f"{LOCAL}:{port}", topic=b"pcm/1"), wire(f"{LOCAL}:{port}", topic=b"")
    asked = sorted(until(lambda: (ours.receive(1), all_.receive(1), got(theirs))[2]) for _ in range(2))
    assert asked == [[b"\x01"], [b"\x01pcm/1"]]
    for topic in (b"pcm/2", b"pcm/1", b"status", b"pcm/12"):
        theirs.send_multipart([topic, b"header", b"payload" * 5000])
    topics = [until(lambda: ours.receive(5))[0] for _ in range(2)]
    assert topics == [b"pcm/1", b"pcm/12"]
    assert [until(lambda: all_.receive(5))[0] for _ in range(4)] == [b"pcm/2", b"pcm/1", b"status", b"pcm/12"]
    assert ours.receive(50) is None
    theirs.close()
    until(lambda: (ours.receive(5), not ours.ready)[1])
    theirs = context.socket(zmq.XPUB)
    until(lambda: bound(theirs, port))
    until(lambda: (ours.receive(20), got(theirs))[1])  # asks again by itself
    theirs.close(0)


def test_a_real_engine_welcomes_it(library: ctypes.CDLL, wire: Any) -> None:
    config = EndpointConfig(address=f"{LOCAL}:*", publish=f"{LOCAL}:*")
    with Server(FakeModel(), config=config, osc_port=0) as server:
        ours = wire(server.ready.address)
        hello, why = recode(library, [bytes(encode(Hello(client="c++", sample_rate=48000, channels=2))[0])])
        assert not why
        assert ours.send(hello)
        reply = until(lambda: ours.receive(20))
        welcome, _ = decode(recode(library, reply)[0])
        assert isinstance(welcome, Welcome)
        assert welcome.publish == server.ready.publish
