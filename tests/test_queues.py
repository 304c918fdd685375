"""Queues between the threads, and what bounds them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from attacca.bridge import protocol
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.link import ZmqLink
from attacca.bridge.queues import (
    INBOX_OPENINGS,
    OUTBOX_MESSAGES,
    Closed,
    Inbox,
    Opened,
    Outbox,
    Outgoing,
    Received,
)
from attacca.bridge.server import Server
from attacca.engine.fake import FakeModel

HELLO = protocol.Hello(client="x", sample_rate=48000, channels=1)


def received(session: int) -> Received:
    return Received(session=session, message=protocol.Ping(nonce=1), payload=b"")


def test_what_opens_or_closes_a_session_takes_the_place_of_what_waits_for_it() -> None:
    inbox = Inbox()
    for _ in range(3):
        for session in (1, 2):
            assert inbox.put(Opened(session=session, hello=HELLO))
            assert inbox.put(received(session))
    inbox.put(Closed(session=1, reason="bye"))
    assert inbox.take(0.0) == [Opened(session=2, hello=HELLO), received(2), Closed(session=1, reason="bye")]


def test_openings_are_bounded_until_the_decode_thread_has_its_turn() -> None:
    inbox = Inbox()
    taken = [inbox.put(Opened(session=number, hello=HELLO)) for number in range(1, 200)]
    assert sum(taken) == INBOX_OPENINGS
    assert len(inbox.take(0.0)) == INBOX_OPENINGS
    assert inbox.put(Opened(session=1, hello=HELLO))


def test_drops_of_the_outbox_are_counted_per_session_and_told_in_status() -> None:
    outbox = Outbox()
    for number in range(OUTBOX_MESSAGES + 5):
        outbox.put(Outgoing(session=1 + number % 2, message=protocol.Pong(nonce=1)))
    assert (outbox.dropped[1], outbox.dropped[2]) == (3, 2)
    server = _server()
    try:
        server.endpoints.outbox.dropped[7] = 3
        assert server.endpoints.tally(7) == (3, 0)
    finally:
        server.endpoints._close()


def _server() -> Server:
    return Server(FakeModel(), config=EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*"))


def test_a_link_keeps_its_identity_and_no_two_share_one() -> None:
    links = [ZmqLink("tcp://127.0.0.1:9") for _ in range(2)]
    try:
        before = [link._socket.routing_id for link in links]
        assert before[0] != before[1]
        links[0].reopen()
        assert links[0]._socket.routing_id == before[0]
    finally:
        for link in links:
            link.close()


def test_of_those_who_left_no_session_stays() -> None:
    """A hello whose welcome reaches nobody opens nothing that lasts; a bye without a session is no offence."""
    server = _server()
    endpoints = server.endpoints
    try:
        endpoints._take(b"gone", [bytes(frame) for frame in protocol.encode(HELLO)])
        assert +endpoints.counts == {"unsent": 1, "closed: gone": 1}
        assert [type(command) for command in server._inbox.take(0.0)] == [Opened, Closed]
        endpoints._take(b"gone", [bytes(frame) for frame in protocol.encode(protocol.Bye())])
        assert +endpoints.counts == {"unsent": 1, "closed: gone": 1}
        assert not endpoints._peers
    finally:
        endpoints._close()


def test_failures_of_sessions_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    server = _server()
    worker: Any = server.worker
    worker._clock = lambda: clock[0]

    class Failing:
        number = 1

        def attach(self, engine: Any) -> None: ...
        def error(self, code: str, text: str) -> None: ...

    def fail() -> None:
        raise ArithmeticError("as told")

    try:
        with caplog.at_level(logging.ERROR):
            for step in range(1000):
                clock[0] = step * 0.021
                worker._guard(Failing(), fail)
        assert len(caplog.records) == 3  # at 0, 10 and 20 s
        assert worker.counts["session failures"] == 1000
    finally:
        server.endpoints._close()
