"""Endpoints: the sockets of the engine, and the I/O thread's poll loop. No inference happens here.

A ROUTER for the plugins that own sessions, a PUB for any number of listeners, and the OSC port. Bytes become valid
messages here or are refused: counted, answered with `error` (at most 20 a second and peer), dropped. A peer may say
hello ten times a second. Queues are
bounded by socket high-water marks; a message that does not fit is dropped, the newest first, and counted; see
bridge/queues.py for those between the threads. Heartbeats go both ways: a peer that was silent for `timeout_s` is
closed; every peer is sent a ping each `heartbeat_s`, whose answer measures the round trip. A hello with a known
routing id reopens its session. PUB messages are [topic, header, payload]; topics are `pcm/N/`, `codes/N/` and
`status/N/` for session N.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import zmq

from . import protocol
from .osc import OscPort
from .protocol import ENGINE_MESSAGES, MAX_PAYLOAD_BYTES, Error, Hello, Ping, Pong, ProtocolError, Welcome
from .queues import Closed, Inbox, Opened, Outbox, Outgoing, Received, RoundTrip

HIGH_WATER_MESSAGES: Final = 1000
DEFAULT_ADDRESS: Final = "tcp://127.0.0.1:9123"
DEFAULT_PUBLISH: Final = "tcp://127.0.0.1:9124"
_MESSAGES_PER_TURN: Final = 64
_ERRORS_PER_S: Final = 20
_HELLOS_PER_S: Final = 10
_STRANGERS: Final = 256


class BindError(OSError):
    """An address that cannot or may not be bound."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where to bind and how patient to be. Addresses off this machine need `allow_remote`: nothing is encrypted,
    and whoever reaches the port can play."""

    address: str = DEFAULT_ADDRESS
    publish: str = DEFAULT_PUBLISH
    allow_remote: bool = False
    heartbeat_s: float = 1.0
    timeout_s: float = 5.0
    max_sessions: int = 8

    def __post_init__(self) -> None:
        if not 0.01 <= self.heartbeat_s < self.timeout_s:
            raise ValueError(f"heartbeat_s {self.heartbeat_s} is outside 0.01 .. below timeout_s {self.timeout_s}")
        if not 1 <= self.max_sessions <= 1024:
            raise ValueError(f"max_sessions {self.max_sessions} is outside 1..1024")
        for address in (self.address, self.publish):
            if not self.allow_remote and not is_local(address):
                raise BindError(f"{address} can be reached from other machines; allow it explicitly if you mean it")


def is_local(address: str) -> bool:
    """Whether only this machine can reach a ZeroMQ address."""
    if address.startswith(("ipc://", "inproc://")):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0]
    return host in ("127.0.0.1", "localhost", "[::1]") or host.startswith("127.")


@dataclass(kw_only=True)
class Peer:
    """A session as the I/O thread sees it."""

    routing_id: bytes
    session: int
    want: protocol.Want
    heard_s: float
    pinged_s: float
    nonce: int = -1  # of the ping that is out
    epoch: int = -1
    bad: int = 0
    unsent: int = 0


class Meter:
    """Counts per routing id and second; remembers the latest _STRANGERS ids only."""

    def __init__(self) -> None:
        self._counts: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # routing id -> (second, count in it)

    def count(self, routing_id: bytes, now: float) -> int:
        """One more; returns how many there were in this second."""
        second, count = self._counts.get(routing_id, (-1, 0))
        count = count + 1 if second == int(now) else 1
        self._counts[routing_id] = (int(now), count)
        self._counts.move_to_end(routing_id)
        while len(self._counts) > _STRANGERS:
            self._counts.popitem(last=False)
        return count


class Endpoints:
    """Binds in the constructor (BindError says which address, and why); `run` is the I/O thread's body."""

    def __init__(
        self,
        config: EndpointConfig,
        inbox: Inbox,
        welcome: Welcome,
        *,
        osc: OscPort | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.outbox = Outbox()
        self.counts: Counter[str] = Counter()
        self._inbox, self._osc, self._clock = inbox, osc, clock
        self._sessions = itertools.count(1)
        self._nonces = itertools.count(1)
        self._peers: dict[bytes, Peer] = {}
        self._by_session: dict[int, Peer] = {}
        self._errors, self._hellos = Meter(), Meter()
        self._beat_s = clock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._context = zmq.Context()
        try:
            self._router = self._bind(zmq.ROUTER, config.address)
            self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._publisher = self._bind(zmq.PUB, config.publish)
        except BindError:
            self._context.destroy(linger=0)
            self._wake_read.close()
            self._wake_write.close()
            raise
        self.address = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.publish = self._publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        self._welcome = msgspec.structs.replace(
            welcome, publish=self.publish, heartbeat_s=config.heartbeat_s, session=0
        )

    def send(self, outgoing: Outgoing) -> None:
        """Decode thread: hands a message to the I/O thread."""
        self.outbox.put(outgoing)
        self.wake()

    def wake(self) -> None:
        """Any thread: ends the I/O thread's wait."""
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, OSError):
            return  # full: it is awake already; closed: nobody is left to wake

    def tally(self, session: int) -> tuple[int, int]:
        """Any thread: (messages of a session dropped in either direction, bad messages from it)."""
        peer = self._by_session.get(session)
        unsent, bad = (peer.unsent, peer.bad) if peer is not None else (0, 0)
        return self._inbox.dropped[session] + self.outbox.dropped[session] + unsent, bad

    def run(self, stop: threading.Event) -> None:
        """I/O thread: polls until `stop`, then tells every peer and closes everything."""
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._wake_read.fileno(), zmq.POLLIN)
        if self._osc is not None:
            poller.register(self._osc.fileno(), zmq.POLLIN)
        try:
            while not stop.is_set():
                poller.poll(round(self.config.heartbeat_s * 250))
                self._drain_wakes()
                self._receive()
                if self._osc is not None:
                    self._osc.receive()
                self._transmit()
                self._beat()
        finally:
            self._transmit()
            for peer in list(self._peers.values()):
                self._to_peer(peer, Error(code="closing", text="the engine is shutting down"))
            self._close()

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 100)
        made.setsockopt(zmq.SNDHWM, HIGH_WATER_MESSAGES)
        made.setsockopt(zmq.RCVHWM, HIGH_WATER_MESSAGES)
        made.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
        try:
            # A port of 0 is any free one, as with plain sockets.
            made.bind(address.removesuffix(":0") + ":*" if address.endswith(":0") else address)
        except zmq.ZMQError as error:
            raise BindError(f"{address} cannot be bound: {error.strerror}") from error
        return made

    def _close(self) -> None:
        self._context.destroy(linger=100)
        self._wake_read.close()
        self._wake_write.close()
        if self._osc is not None:
            self._osc.close()

    def _drain_wakes(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except (BlockingIOError, OSError):
            return

    def _receive(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            try:
                routing_id = self._router.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            frames: list[bytes] = []
            while self._router.getsockopt(zmq.RCVMORE):
                frame = self._router.recv()
                if len(frames) < 3:  # more than two is wrong anyway; do not keep what is sent beyond
                    frames.append(frame)
            self._take(routing_id, frames)

    def _take(self, routing_id: bytes, frames: list[bytes]) -> None:
        peer = self._peers.get(routing_id)
        if peer is not None:
            peer.heard_s = self._clock()
        try:
            message, payload = protocol.decode(frames)
            if isinstance(message, ENGINE_MESSAGES) and not isinstance(message, Pong):
                raise ProtocolError("direction", f"{type(message).__name__} is not for the engine")
        except ProtocolError as error:
            self._refuse(routing_id, error.code, str(error))
            return
        if isinstance(message, Hello):
            self._open(routing_id, peer, message)
        elif isinstance(message, Ping) and (peer is None or not message.settled):
            self._raw(routing_id, protocol.encode(Pong(nonce=message.nonce)), peer)
        elif isinstance(message, Pong):
            if peer is not None and message.nonce == peer.nonce:
                peer.nonce = -1
                self._inbox.put(RoundTrip(session=peer.session, seconds=self._clock() - peer.pinged_s))
        elif isinstance(message, protocol.Bye):
            if peer is not None:  # else it was refused before, and leaves
                self._drop_peer(peer, "bye")
        elif peer is None:
            self._refuse(routing_id, "hello", f"{type(message).__name__} before hello: there is no session")
        else:
            if isinstance(message, protocol.Transport):
                peer.epoch = max(peer.epoch, message.epoch)
            self._inbox.put(Received(session=peer.session, message=message, payload=payload))

    def _open(self, routing_id: bytes, peer: Peer | None, hello: Hello) -> None:
        now = self._clock()
        if self._hellos.count(routing_id, now) > _HELLOS_PER_S:
            self._refuse(routing_id, "rate", f"more than {_HELLOS_PER_S} hellos a second")
            return
        if hello.model not in ("", self._welcome.model):
            self._refuse(routing_id, "model", f"{hello.model!r} is not served here, {self._welcome.model!r} is")
            return
        if peer is None and len(self._peers) >= self.config.max_sessions:
            self._refuse(routing_id, "full", f"all {self.config.max_sessions} sessions are in use")
            return
        session = next(self._sessions) if peer is None else peer.session
        if not self._inbox.put(Opened(session=session, hello=hello)):
            self._refuse(routing_id, "busy", "the engine is behind with opening sessions; try again")
            return
        self.counts["reopened"] += peer is not None
        peer = Peer(routing_id=routing_id, session=session, want=hello.want, heard_s=now, pinged_s=now)
        self._peers[routing_id] = self._by_session[session] = peer
        if not self._to_peer(peer, msgspec.structs.replace(self._welcome, session=session)):
            self._drop_peer(peer, "gone")  # it hung up after its hello: nobody would ever close what that opened

    def _drop_peer(self, peer: Peer, reason: str) -> None:
        del self._peers[peer.routing_id], self._by_session[peer.session]
        self.counts[f"closed: {reason}"] += 1
        self._inbox.put(Closed(session=peer.session, reason=reason))

    def _refuse(self, routing_id: bytes, code: str, text: str) -> None:
        self.counts["bad"] += 1
        self.counts[f"bad: {code}"] += 1
        peer = self._peers.get(routing_id)
        if peer is not None:
            peer.bad += 1
        self._error(routing_id, peer, Error(code=code, text=text[:512]))

    def _error(self, routing_id: bytes, peer: Peer | None, error: Error) -> None:
        if self._errors.count(routing_id, self._clock()) > _ERRORS_PER_S:
            self.counts["errors withheld"] += 1
            return
        self._raw(routing_id, protocol.encode(error), peer)

    def _transmit(self) -> None:
        while (outgoing := self.outbox.take()) is not None:
            peer = self._by_session.get(outgoing.session)
            if peer is not None and outgoing.epoch is not None and outgoing.epoch < peer.epoch:
                self.counts["stale"] += 1
                continue
            if outgoing.to_owner and peer is not None:
                if isinstance(outgoing.message, Error):
                    self._error(peer.routing_id, peer, outgoing.message)
                else:
                    self._to_peer(peer, outgoing.message, outgoing.payload)
            if outgoing.topic is not None:
                topic = f"{outgoing.topic}/{outgoing.session}/".encode()
                self._publisher.send_multipart([topic, *protocol.encode(outgoing.message, outgoing.payload)])
            if self._osc is not None and isinstance(outgoing.message, protocol.Status | Error):
                self._osc.broadcast(outgoing.message)

    def _to_peer(self, peer: Peer, message: protocol.Message, payload: bytes | None = None) -> bool:
        return self._raw(peer.routing_id, protocol.encode(message, payload), peer)

    def _raw(self, routing_id: bytes, frames: list[bytes | memoryview], peer: Peer | None) -> bool:
        try:
            self._router.send_multipart([routing_id, *frames], zmq.NOBLOCK)
        except zmq.ZMQError:  # its queue is full, or it has gone: heartbeats will tell
            self.counts["unsent"] += 1
            if peer is not None:
                peer.unsent += 1
            return False
        return True

    def _beat(self) -> None:
        now = self._clock()
        if now - self._beat_s < self.config.heartbeat_s / 4:
            return
        self._beat_s = now
        for peer in list(self._peers.values()):
            if now - peer.heard_s > self.config.timeout_s:
                self._to_peer(peer, Error(code="timeout", text=f"nothing heard for {self.config.timeout_s:g} s"))
                self._drop_peer(peer, "timeout")
            elif now - peer.pinged_s >= self.config.heartbeat_s:
                peer.nonce, peer.pinged_s = next(self._nonces), now
                self._to_peer(peer, Ping(nonce=peer.nonce))
