"""The plugin's links against bad peers: silent, garbled, of other versions, slow, cut off; all cost only time."""

from __future__ import annotations

import ctypes
import itertools
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import zmq
from link_peers import GREETING, LOCAL, PATIENCE_S, READY, Neighbour, got, router, served, until, wait_for_end
from native_wire import Wire, declare

pytestmark = pytest.mark.plugin


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


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (served(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak ZMTP 3"),
        (served(b"\xff" + bytes(7) + b"\x01\x7f\x01\x06"), "does not speak ZMTP 3"),  # ZMTP 2.0: a ROUTER
        (served(b"\x05\0IDEN"), "does not speak ZMTP 3"),  # ZMTP 1.0
        (served(random.Random(1).randbytes(100000)), "does not speak ZMTP 3"),
        (served(GREETING, READY, random.Random(6).randbytes(100000)), ""),
        (served(), "it says nothing"),
        (served(GREETING), "it says nothing"),
        (served(GREETING, READY[:-1]), "it says nothing"),
        (lambda accepted, _: None, "closed"),
    ],
    ids=["ssh", "zmtp2", "zmtp1", "noise", "noise later", "silent", "no ready", "half ready", "closes"],
)
def test_bad_neighbours_are_left_and_tried_again(wire: Any, behave: Any, why: str) -> None:
    with closing(Neighbour(behave)) as neighbour:
        ours = wire(neighbour.address)
        until(lambda: (ours.receive(20), len(neighbour.accepted_s) >= 2)[1])
        assert why in ours.why or "lost" in ours.why or "closed" in ours.why
        assert ours.why


def test_a_machine_that_does_not_answer(wire: Any) -> None:
    """A full backlog: the system sends and sends again, and nobody answers."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        ours = wire(f"{LOCAL}:{listener.getsockname()[1]}")
        begun = time.monotonic()
        longest_s = 0.0
        while not ours.why and time.monotonic() - begun < PATIENCE_S:
            before = time.monotonic()
            assert ours.receive(20) is None
            longest_s = max(longest_s, time.monotonic() - before)
        assert ours.why == "nobody listens there"
        assert time.monotonic() - begun >= 1.9
        assert longest_s < 1.0


def test_attempts_come_less_and_less_often(wire: Any) -> None:
    with closing(Neighbour(lambda accepted, _: None)) as neighbour:
        ours = wire(neighbour.address)
        until(lambda: (ours.receive(20), len(neighbour.accepted_s) >= 5)[1])
        times = neighbour.accepted_s
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(gap >= least for gap, least in zip(gaps, (0.09, 0.19, 0.39, 0.49), strict=False))


def test_an_engine_that_sends_a_byte_at_a_time(wire: Any) -> None:
    def behave(accepted: socket.socket, _: int) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GREETING + READY + b"\x01\x06header\x00\x07payload" * 3:
            accepted.sendall(bytes([byte]))
        wait_for_end(accepted)

    with closing(Neighbour(behave)) as neighbour:
        ours = wire(neighbour.address)
        assert [until(lambda: ours.receive(20)) for _ in range(3)] == [[b"header", b"payload"]] * 3


def test_connections_cut_at_random_leave_only_whole_messages(context: Any, wire: Any) -> None:
    """A relay that cuts every connection after some thousand bytes: losses, but nothing broken or out of order."""
    theirs, port = router(context)
    rng = random.Random(11)

    def pump(source: socket.socket, sink: socket.socket, left: int) -> None:
        while left > 0 and (data := source.recv(min(left, 1 + rng.randrange(4000)))):
            sink.sendall(data)
            left -= len(data)
        for end in (source, sink):
            end.shutdown(socket.SHUT_RDWR)

    def behave(accepted: socket.socket, _: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as onward:
            upward = threading.Thread(target=quietly, args=(pump, accepted, onward, rng.randrange(100, 60000)))
            upward.start()
            quietly(pump, onward, accepted, rng.randrange(100, 60000))
            upward.join()

    there: list[int] = []
    back: list[int] = []
    with closing(Neighbour(behave)) as relay:
        ours = wire(relay.address)
        count = 0

        def go_on() -> bool:
            nonlocal count
            count += ours.send([b"%d" % count, b"%d," % count * 100])
            while (message := got(theirs)) is not None:
                identity, number, payload = message
                assert (identity, payload) == (b"tester", number + b"," + (number + b",") * 99)
                there.append(int(number))
                theirs.send_multipart(message)
            while (reply := ours.receive(1)) is not None:
                assert reply[1] == reply[0] + b"," + (reply[0] + b",") * 99
                back.append(int(reply[0]))
            return len(relay.accepted_s) > 12

        until(go_on)
    for numbers in (there, back):
        assert len(numbers) > 20
        assert numbers == sorted(set(numbers))


def quietly(pump: Callable[..., None], *arguments: Any) -> None:
    try:
        pump(*arguments)
    except OSError:
        return  # cut from the other side


def test_no_signal_and_no_waiting_when_the_engine_drops_dead(context: Any, wire: Any) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: heard.append(number))
    try:
        with closing(Neighbour(lambda accepted, _: accepted.sendall(GREETING + READY))) as neighbour:
            ours = wire(neighbour.address)
            for _ in range(200):
                ours.send([bytes(100000)])
                ours.receive(1)
            assert len(neighbour.accepted_s) >= 2
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not heard


def test_a_name_that_cannot_be_looked_up_costs_no_time(library: ctypes.CDLL) -> None:
    for _ in range(3):
        with Wire(library, "tcp://there-is-no-such-host.invalid:9") as ours:
            for _ in range(5):
                begun = time.monotonic()
                assert ours.receive(20) is None
                assert time.monotonic() - begun < 1.0
            begun = time.monotonic()
        assert time.monotonic() - begun < 1.0  # freed at once, whether or not the system still looks
