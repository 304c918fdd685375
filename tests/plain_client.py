"""A client of a few lines over real sockets, for tests of the server: no ring, no thread, nothing clever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zmq

from attacca.bridge import protocol
from attacca.bridge.protocol import Audio, Chunk, Error, Hello, Message, Status, Transport, Welcome

RATE = 48000
BLOCK = 480
_SOON_SAMPLES = 12 * BLOCK


@dataclass
class PlainClient:
    """Speaks to a server; `heard` keeps everything that came, as (message, payload)."""

    address: str
    routing_id: bytes | None = None
    channels: int = 1
    position: int = 0
    epoch: int = 1
    heard: list[tuple[Any, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 100000)
        if self.routing_id is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, self.routing_id)
        self.socket.connect(self.address)

    def close(self) -> None:
        self.context.destroy(linger=0)

    def send(self, message: Message, payload: bytes | None = None) -> None:
        self.socket.send_multipart(protocol.encode(message, payload))

    def raw(self, *frames: bytes) -> None:
        self.socket.send_multipart(list(frames))

    def pump(self, seconds: float = 0.0) -> None:
        """Takes in what comes, answers pings; returns once `seconds` have passed and nothing is waiting."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if not self.socket.poll(max(0, int(left * 1000))):
                return
            message, payload = protocol.decode(self.socket.recv_multipart())
            if isinstance(message, protocol.Ping):
                self.send(protocol.Pong(nonce=message.nonce))
            self.heard.append((message, payload))

    def until(self, found: Callable[[Any], bool], seconds: float = 10.0) -> Any:
        """The first message, heard already or yet to come, that is what is looked for."""
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            for message, _ in self.heard[seen:]:
                if found(message):
                    return message
            seen = len(self.heard)
            if time.monotonic() > deadline:
                raise AssertionError(f"not heard; the last were {[m for m, _ in self.heard[-3:]]}")
            self.pump(0.02)

    def hello(self, **changes: Any) -> Welcome:
        fields: dict[str, Any] = {"client": "test", "sample_rate": RATE, "channels": self.channels}
        self.send(Hello(**(fields | changes)))
        found = self.until(lambda m: isinstance(m, Welcome))
        self.heard.clear()
        return found  # type: ignore[no-any-return]

    def transport(self, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "epoch": self.epoch,
            "position": self.position,
            "ppq": self.position / (RATE / 2),
            "bpm": 120.0,
            "meter_num": 4,
            "meter_den": 4,
            "bar_start_ppq": 0.0,
            "playing": True,
        }
        self.send(Transport(**(fields | changes)))

    def take(self, trigger: protocol.Trigger) -> None:
        """Triggers, and waits for the first plan: a loaded machine shall not make the take late."""
        self.send(trigger)
        self.until(lambda m: isinstance(m, Chunk) and m.take == trigger.take)

    def play(self, blocks: int, *, pace_s: float = 0.001, transport: bool = True) -> None:
        """Audio of silence, a snapshot every ten blocks; as fast as the take that sounds, if one does, follows."""
        silence = np.zeros(BLOCK * self.channels, "<f4").tobytes()
        for number in range(blocks):
            if transport and number % 10 == 0:
                self.transport()
            self.send(Audio(position=self.position, samples=BLOCK, channels=self.channels), silence)
            self.position += BLOCK
            time.sleep(pace_s)
            self.pump()
            if number % 10 == 9:
                self.catch_up()

    def catch_up(self) -> None:
        """Waits, as an offline host does, until what sounds, or soon will, is there up to the play head."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            own = [m for m, _ in self.heard if isinstance(m, Chunk) and m.epoch == self.epoch]
            sent = [chunk for chunk in own if chunk.committed]
            if sent and (sent[-1].last or sent[-1].position + sent[-1].samples > self.position):
                return
            if not sent and (not own or own[-1].position > self.position + _SOON_SAMPLES):
                return
            self.pump(0.01)
        raise AssertionError(f"no audio for {self.position}; the last was {own[-1]}")

    def chunks(self, *, committed: bool = True) -> list[tuple[Chunk, np.ndarray[Any, Any]]]:
        return [
            (m, np.frombuffer(p, "<f4").reshape(m.samples, m.channels))
            for m, p in self.heard
            if isinstance(m, Chunk) and m.committed == committed
        ]

    def errors(self) -> list[str]:
        return [m.code for m, _ in self.heard if isinstance(m, Error)]

    def states(self) -> list[str]:
        return [m.state for m, _ in self.heard if isinstance(m, Status)]
