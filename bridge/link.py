"""Links: how the reference client's network thread exchanges frames with an engine.

Below the client, above ZeroMQ. The small interface exists so that the client can run through a real socket, inside
one process without sockets (deterministic, for tests and offline rendering), or through a faulty wire on purpose.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import zmq

Frames = list[bytes]
_HIGH_WATER_MESSAGES = 1024


class Link(Protocol):
    """One connection to an engine. Network thread only; no method blocks longer than told."""

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Hand over one message; False if the wire is full and the message was dropped."""
        ...

    def receive(self, timeout_s: float) -> Frames | None:
        """The next message, or None if none came within `timeout_s`."""
        ...

    def reopen(self) -> None:
        """Start afresh: what was under way in either direction is lost."""
        ...

    def close(self) -> None:
        """Release everything at once, without waiting for what was not yet sent."""
        ...


class ZmqLink:
    """A DEALER socket to an engine's ROUTER."""

    def __init__(self, address: str) -> None:
        """`address` as ZeroMQ writes it, e.g. "tcp://127.0.0.1:9123"; ValueError if it cannot be one."""
        self._address = address
        self._identity = b"attacca-" + secrets.token_bytes(12)  # the engine knows this client again by it
        self._socket = self._open()

    def _open(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.ROUTING_ID, self._identity)
        socket.sndhwm = socket.rcvhwm = _HIGH_WATER_MESSAGES
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        try:
            socket.connect(self._address)
        except zmq.ZMQError as error:
            socket.close()
            raise ValueError(f"cannot connect to {self._address!r}: {error}") from None
        return socket

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """See Link."""
        try:
            self._socket.send_multipart(frames, flags=zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def receive(self, timeout_s: float) -> Frames | None:
        """See Link."""
        if not self._socket.poll(max(0, round(timeout_s * 1000))):
            return None
        return self._socket.recv_multipart()

    def reopen(self) -> None:
        """See Link. The routing identity stays: the engine reopens this client's session, none is left behind."""
        self._socket.close()
        self._socket = self._open()

    def close(self) -> None:
        """See Link."""
        self._socket.close()


class DirectLink:
    """An engine in the same process, run by the calls themselves: `exchange` takes one message and returns replies.

    `idle` is called when the client waits for a message and there is none: it lets the engine work and returns what
    it has to say. Nothing depends on time, so a run is reproducible.
    """

    def __init__(
        self, exchange: Callable[[Frames], Sequence[Frames]], idle: Callable[[], Sequence[Frames]]
    ) -> None:
        self._exchange = exchange
        self._idle = idle
        self._waiting: deque[Frames] = deque()

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """See Link. The engine handles the message before this returns."""
        self._waiting.extend(self._exchange([bytes(frame) for frame in frames]))
        return True

    def receive(self, timeout_s: float) -> Frames | None:
        """See Link. Never sleeps: with nothing to say after its work, the engine has nothing to say."""
        if not self._waiting and timeout_s > 0:
            self._waiting.extend(self._idle())
        return self._waiting.popleft() if self._waiting else None

    def reopen(self) -> None:
        """See Link."""
        self._waiting.clear()

    def close(self) -> None:
        """See Link."""
        self._waiting.clear()
