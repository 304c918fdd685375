"""An engine for tests of the client: speaks the protocol, launches by the grid, emits positions, not music."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from attacca.bridge import protocol
from attacca.bridge.protocol import Audio, Chunk, Hello, Release, Transport, Trigger, Welcome
from attacca.bridge.transport import Snapshot, Timeline, quantum_of

SCALE = 2.0**-23


def value_at(positions: np.ndarray, epoch: int) -> np.ndarray:
    """What the engine emits: the position is in the fraction, the epoch in the step of 1/2."""
    return (positions * SCALE + 0.5 * (epoch % 2)).astype(np.float32)


@dataclass
class ScriptedEngine:
    """`spoil` sees every chunk with its payload and returns what is sent in its place (faults)."""

    chunk_samples: int = 1000
    lookahead_samples: int = 6000
    plan_samples: int = 0
    latency_samples: int = 0
    spoil: Callable[[Chunk, bytes], list[tuple[Chunk, bytes]]] = lambda chunk, payload: [(chunk, payload)]
    frozen: bool = False
    sent: list[Chunk] = field(default_factory=list)
    heard: list[protocol.Message] = field(default_factory=list)
    session: int = 1
    takes_text: bool = False
    timeline: Timeline | None = None
    channels: int = 1
    head: int = 0
    playing: bool = False
    trigger: Trigger | None = None
    next_position: int | None = None
    seq: int = 0
    end: int | None = None
    waiting: list[list[bytes]] = field(default_factory=list)

    def exchange(self, frames: list[bytes]) -> list[list[bytes]]:
        message, _ = protocol.decode(frames)
        self.heard.append(message)
        if isinstance(message, Hello):
            self.timeline = Timeline(message.sample_rate)
            self.channels = message.channels
            return [[bytes(f) for f in protocol.encode(self.welcome())]]
        if isinstance(message, Transport):
            self._transport(message)
        elif isinstance(message, Audio):
            self.head = message.position + message.samples
        elif isinstance(message, Trigger):
            self.trigger, self.seq, self.end, self.next_position = message, 0, None, None
            self._launch(message.position)
        elif isinstance(message, Release) and self.trigger is not None and message.take == self.trigger.take:
            self.end = message.position
        self.waiting += [] if self.frozen else self.work()
        replies, self.waiting = self.waiting, []
        return replies

    def idle(self) -> list[list[bytes]]:
        return [] if self.frozen else self.work()

    def welcome(self) -> Welcome:
        return Welcome(
            session=self.session, model="scripted", model_rate=32000, hop_samples=640, num_codebooks=4,
            publish="", heartbeat_s=1.0, engine="test", takes_text=self.takes_text,
        )  # fmt: skip

    def _launch(self, position: int) -> None:
        trigger = self.trigger
        assert trigger is not None
        if self.timeline is None or not self.timeline.playing:
            self.next_position = None
            return
        bars = None if trigger.quantum_bars is None else quantum_of(trigger.quantum_bars)
        launch = self.timeline.next_launch(position, bars=bars, quarters=quantum_of(trigger.quantum_ppq))
        self.next_position = max(launch.position, position + self.latency_samples)

    def _transport(self, message: Transport) -> None:
        assert self.timeline is not None
        self.head = max(self.head, message.position)
        was, self.playing = self.playing, message.playing
        if self.timeline.feed(Snapshot.of(message)).ends_epoch and self.trigger is not None:
            started = self.seq > 0
            self.next_position = None
            if was and not message.playing:
                self.trigger = None
            if self.timeline.playing:
                if started:
                    self.next_position = message.position + self.latency_samples
                else:
                    self._launch(message.position)

    def work(self) -> list[list[bytes]]:
        out: list[list[bytes]] = []
        while self.trigger is not None and self.next_position is not None:
            if self.next_position >= self.head + self.lookahead_samples:
                break
            count = self.chunk_samples
            last = self.end is not None and self.next_position + count >= self.end
            if last:
                assert self.end is not None
                count = max(0, self.end - self.next_position)
            out += self._chunk(self.next_position, count, committed=True, last=last)
            self.next_position += count
            if last:
                self.trigger = None
            elif self.plan_samples:
                out += self._chunk(self.next_position, self.plan_samples, committed=False, last=False)
        return out

    def _chunk(self, position: int, count: int, *, committed: bool, last: bool) -> list[list[bytes]]:
        assert self.timeline is not None and self.trigger is not None
        epoch = self.timeline.epoch
        values = np.repeat(value_at(np.arange(position, position + count), epoch)[:, None], self.channels, axis=1)
        chunk = Chunk(
            session=self.session, epoch=epoch, take=self.trigger.take, seq=self.seq, position=position, ppq=0.0,
            samples=count, channels=self.channels, first_frame=0, frames=0, committed=committed, last=last,
        )  # fmt: skip
        self.seq += 1
        sent = self.spoil(chunk, values.astype("<f4").tobytes())
        self.sent += [entry for entry, _ in sent]
        return [[bytes(f) for f in protocol.encode(entry, payload)] for entry, payload in sent]
