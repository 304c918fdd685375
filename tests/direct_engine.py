"""The real engine with the fake backend in this very thread: no socket, no clock, so every run is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attacca.bridge import protocol
from attacca.bridge.client import Client
from attacca.bridge.client_config import ClientConfig
from attacca.bridge.link import DirectLink
from attacca.bridge.queues import Outgoing
from attacca.bridge.session import Session
from attacca.engine.fake import FakeConfig, FakeModel
from attacca.engine.service import Engine

MODEL_RATE = 32000
Spoil = Callable[[protocol.Chunk, bytes], list[tuple[protocol.Chunk, bytes]]]


class DirectEngine:
    """One session; works until it is idle after every message, unless `frozen`. `spoil` makes faults of chunks."""

    def __init__(self, *, spoil: Spoil | None = None, **fake: Any) -> None:
        self.engine = Engine(FakeModel(manifest=FakeConfig(sample_rate=MODEL_RATE, **fake)), clock=lambda: 0.0)
        self.frozen = False
        self.sent: list[protocol.Message] = []
        self.session: Session | None = None
        self._spoil = spoil
        self._out: list[list[bytes]] = []
        self._now = 0.0

    def exchange(self, frames: list[bytes]) -> list[list[bytes]]:
        message, payload = protocol.decode(frames)
        self._now += 0.06
        if isinstance(message, protocol.Hello):
            self.session = Session(
                1, message, engine=self.engine, send=self._send, choose_seed=lambda: 1, initial={}, now=0.0
            )
            welcome = protocol.Welcome(
                session=1, model="fake", model_rate=MODEL_RATE, hop_samples=640, num_codebooks=4, publish="",
                heartbeat_s=3600.0, engine="test",
            )  # fmt: skip
            self._put(welcome, None)
        elif self.session is not None:
            self.session.receive(message, payload, self._now)
            self.session.flush(self._now)
        return self.idle()

    def idle(self) -> list[list[bytes]]:
        while not self.frozen and (events := self.engine.work()):
            for event in events:
                if self.session is not None:
                    self.session.event(event)
        out, self._out = self._out, []
        return out

    def _send(self, outgoing: Outgoing) -> None:
        if outgoing.to_owner:
            self._put(outgoing.message, outgoing.payload)

    def _put(self, message: protocol.Message, payload: bytes | None) -> None:
        entries = [(message, payload)]
        if isinstance(message, protocol.Chunk) and self._spoil is not None and payload is not None:
            entries = list(self._spoil(message, payload))
        for entry, data in entries:
            self.sent.append(entry)
            self._out.append([bytes(frame) for frame in protocol.encode(entry, data)])


def connected(engine: DirectEngine, rate: int, **settings: Any) -> Client:
    """A client whose every exchange happens inside its own calls."""
    client = Client(
        DirectLink(engine.exchange, engine.idle),
        ClientConfig(sample_rate=rate, inline=True, wait_s=1.0, **settings),
    )
    client.connect(1.0)
    return client


def model_time(positions: np.ndarray, rate: int) -> np.ndarray:
    """The model-time sample index that belongs at stream positions: what the fake emits there."""
    return positions * (MODEL_RATE / rate)
