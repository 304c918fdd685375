"""The client's network half: session, heartbeats, queues, and chunks into the ring.

Runs on the client's network thread, between the link and what the audio thread reads (ring) and writes (outbox).
The two halves share only the ring, one bounded queue per direction and single-reference stores; in C++ these are
the ring's atomics, two single-producer queues and atomics.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from attacca.bridge import protocol
from attacca.bridge.link import Link
from attacca.bridge.protocol import ENGINE_TAKES_FROM, Chunk, Hello, Message, Welcome
from attacca.bridge.ring import NOTHING, PositionRing, Samples

OUTBOX_MESSAGES: Final = 1024
_AUDIO_SHARE: Final = 0.75  # of the outbox; the rest is kept for control
_BACK_OFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_MISSED_HEARTBEATS: Final = 3
_MESSAGES_PER_PUMP: Final = 256
_HEAD_SAMPLES: Final = 64
_KEPT_ARRIVALS: Final = 4096  # minutes: enough to measure by, bounded
_UNCLAIMED_CHUNKS: Final = 64
_LOUDEST: Final = 1e9  # no audio; what is larger could leave the mixer as infinity
_SETTLED_FROM: Final = 1 << 32  # nonces of pings that ask whether all is done; those below keep the session alive


class EngineError(ConnectionError):
    """The engine did not answer, refused the client, or broke the protocol while it said hello."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """Which chunks belong to a ring generation."""

    generation: int
    epoch: int
    take: int


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A chunk as it came in."""

    at_s: float  # the client's clock
    chunk: Chunk
    kept_samples: int
    read_end: int  # how far the ring had been read
    head: Samples  # its first samples, [up to 64, channels]
    digest: int  # CRC-32 of all of them


class Outbox:
    """Audio thread to network thread. Bounded; when it fills, audio is dropped first, then everything, counted."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Message, bytes | None]] = deque()
        self.dropped: Counter[str] = Counter()

    def put(self, message: Message, payload: bytes | None = None) -> bool:
        """Audio thread; never blocks. False if the message was dropped."""
        limit = OUTBOX_MESSAGES * (_AUDIO_SHARE if payload is not None else 1.0)
        if len(self._queue) >= limit:
            self.dropped[type(message).__name__] += 1
            return False
        self._queue.append((message, payload))
        return True

    def take(self) -> tuple[Message, bytes | None] | None:
        """Network thread; never blocks."""
        return self._queue.popleft() if self._queue else None


class NetworkHalf:
    """One session with an engine, reopened by itself when the engine falls silent. Network thread only.

    Exceptions: `due` is stored by the audio thread, which also empties `ended` and `unclaimed`; `welcome`,
    `connected` and the counters may be read by any.
    """

    def __init__(self, link: Link, hello: Hello, ring: PositionRing, clock: Callable[[], float]) -> None:
        self.outbox = Outbox()
        self.due: tuple[Due, ...] = ()
        self.welcome: Welcome | None = None
        self.events: deque[Message] = deque(maxlen=1024)  # status and errors, for the main thread
        self.arrivals: deque[Arrival] = deque(maxlen=_KEPT_ARRIVALS)
        self.counts: Counter[str] = Counter()
        self.ended: deque[tuple[int, int, int]] = deque(maxlen=64)  # (epoch, take, position) of takes' ends
        self.unclaimed: deque[Chunk] = deque(maxlen=_UNCLAIMED_CHUNKS)  # first heard of takes the engine started
        self.openings = 0  # of sessions, and losses: a take does not outlive a change
        self._held: deque[tuple[Chunk, Samples]] = deque(maxlen=_UNCLAIMED_CHUNKS)  # until the audio thread claims
        self._link, self._hello, self._ring, self._clock = link, hello, ring, clock
        self.first_committed: tuple[int, int] | None = None  # (generation, position) of the newest generation
        self.arrived = 0  # chunks
        self.settled = 0  # newest of `ask_settled` that was answered
        self.text: str | None = None  # what to play, for models that take text; stored by the main thread
        self._said: str | None = None  # of that, what the session knows
        self._next_seq: dict[int, int] = {}
        self._heard_s = self._sent_s = clock()
        self._hello_s = float("-inf")
        self._attempt = 0
        self._nonce = 0

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self.welcome is not None

    def connect(self, timeout_s: float) -> Welcome:
        """Say hello until welcomed. EngineError if refused, or if nothing answers within `timeout_s`."""
        deadline = self._clock() + timeout_s
        while (welcome := self.welcome) is None:
            if self._clock() >= deadline:
                if self.counts["bad_messages"]:
                    raise EngineError(f"what answers does not speak protocol {protocol.PROTOCOL_VERSION}")
                raise EngineError(f"no answer within {timeout_s:g} s; is `attacca serve` running there?")
            self.pump(0.02)
            for event in list(self.events):
                if isinstance(event, protocol.Error) and not self.connected:
                    raise EngineError(f"the engine refused: {event.text} ({event.code})")
        return welcome

    def pump(self, timeout_s: float) -> int:
        """Send what is queued, take in what came, keep the session alive; returns how many messages came."""
        self._keep_alive()
        self._place_held()
        self._say_text()
        while (entry := self.outbox.take()) is not None:
            self._send(*entry)
        received = 0
        while received < _MESSAGES_PER_PUMP:
            frames = self._link.receive(timeout_s if received == 0 else 0.0)
            if frames is None:
                break
            received += 1
            self._receive(frames)
        return received

    def ask_settled(self, number: int) -> None:
        """Audio thread: have `settled` reach `number` (ascending) when the engine has done all that was sent."""
        self.outbox.put(protocol.Ping(nonce=_SETTLED_FROM + number, settled=True))

    def close(self) -> None:
        """Say goodbye and close the link. An unanswered hello too opens a session that nobody else would close."""
        if self.connected or self._attempt:
            self._link.send(protocol.encode(protocol.Bye()))
        self._link.close()

    def _keep_alive(self) -> None:
        now = self._clock()
        welcome = self.welcome
        if welcome is None:
            if now - self._hello_s >= _BACK_OFF_S[min(self._attempt, len(_BACK_OFF_S) - 1)]:
                if self._attempt:
                    self._link.reopen()
                self._attempt += 1
                self._hello_s = now
                self._link.send(protocol.encode(self._hello))
            return
        silence_s = now - self._heard_s
        if silence_s > _MISSED_HEARTBEATS * welcome.heartbeat_s:
            self._begin_anew()
        elif now - self._sent_s > welcome.heartbeat_s / 2 or silence_s > welcome.heartbeat_s:
            self._nonce += 1
            if now - self._sent_s > 0.1:
                self._send(protocol.Ping(nonce=self._nonce), None)

    def _begin_anew(self) -> None:
        """The session is lost: say hello on a fresh connection."""
        self.counts["sessions_lost"] += 1
        self.welcome = None
        self.openings += 1
        self._attempt, self._hello_s = 1, self._clock()
        self._link.reopen()
        self._link.send(protocol.encode(self._hello))

    def _send(self, message: Message, payload: bytes | None) -> None:
        if not self.connected:
            self.counts["unsent_messages"] += 1  # a new session starts with what is true then
            return
        if self._link.send(protocol.encode(message, payload)):
            self._sent_s = self._clock()
        else:
            self.counts["unsent_messages"] += 1

    def _say_text(self) -> None:
        text, welcome = self.text, self.welcome
        if text is not None and text != self._said and welcome is not None and welcome.takes_text:
            self._said = text
            self._send(protocol.Prompt(text=text), None)

    def _receive(self, frames: list[bytes]) -> None:
        try:
            message, payload = protocol.decode(frames)
        except protocol.ProtocolError:
            self.counts["bad_messages"] += 1
            return
        self._heard_s = self._clock()
        if isinstance(message, Chunk):
            self._take_chunk(message, payload)
        elif isinstance(message, Welcome):
            self._take_welcome(message)
        elif isinstance(message, protocol.Ping):
            self._send(protocol.Pong(nonce=message.nonce), None)
        elif isinstance(message, protocol.Pong):
            self.settled = max(self.settled, message.nonce - _SETTLED_FROM)
        elif isinstance(message, protocol.Status | protocol.Error):
            self.events.append(message)
            if isinstance(message, protocol.Error) and message.code == "hello" and self.connected:
                self._begin_anew()  # another engine took the address: it answers, but knows no session of ours

    def _take_welcome(self, message: Welcome) -> None:
        if self.welcome is not None and self.welcome.session != message.session:
            self.counts["sessions_replaced"] += 1
        self.openings += 1
        self.welcome = message
        self._attempt = 0
        self._said = None
        self._next_seq.clear()

    def _take_chunk(self, chunk: Chunk, payload: bytes) -> None:
        """Into the ring, if it belongs to what is due. Gaps and disorder in `seq` are counted."""
        if self.welcome is None or chunk.session != self.welcome.session or chunk.channels != self._ring.channels:
            self.counts["foreign_chunks"] += 1
            return
        samples: Any = np.frombuffer(payload, dtype="<f4").astype(np.float32).reshape(chunk.samples, chunk.channels)
        if not (np.abs(samples) <= _LOUDEST).all():  # NaN too
            self.counts["broken_chunks"] += 1
            return
        expected = self._next_seq.get(chunk.take, chunk.seq)
        self.counts["lost_chunks"] += max(chunk.seq - expected, 0)
        self.counts["disordered_chunks"] += chunk.seq < expected
        self._next_seq = {chunk.take: max(chunk.seq + 1, expected)}
        generation = self._generation_of(chunk)
        if generation == NOTHING and chunk.take >= ENGINE_TAKES_FROM and chunk.committed and chunk.samples:
            self._held.append((chunk, samples))
            self.unclaimed.append(chunk)
        else:
            self._place(chunk, samples, generation)
        if chunk.last and chunk.committed:
            self.ended.append((chunk.epoch, chunk.take, chunk.position + chunk.samples))

    def _generation_of(self, chunk: Chunk) -> int:
        key = (chunk.epoch, chunk.take)
        return next((due.generation for due in reversed(self.due) if (due.epoch, due.take) == key), NOTHING)

    def _place_held(self) -> None:
        """Chunks of takes that the engine started go into the ring once the audio thread has made them due."""
        for _ in range(len(self._held)):
            chunk, samples = self._held.popleft()
            generation = self._generation_of(chunk)
            if generation != NOTHING or chunk.position + chunk.samples <= self._ring.read_end:
                self._place(chunk, samples, generation)
            else:
                self._held.append((chunk, samples))

    def _place(self, chunk: Chunk, samples: Samples, generation: int) -> None:
        kept = 0
        if generation == NOTHING:
            self.counts["stale_chunks"] += chunk.committed or chunk.take < ENGINE_TAKES_FROM  # its plan came first
        else:
            kept = self._ring.write(chunk.position, samples, committed=chunk.committed, generation=generation)
            if chunk.committed and (self.first_committed is None or self.first_committed[0] != generation):
                self.first_committed = (generation, chunk.position)
        self.arrived += 1
        self.arrivals.append(
            Arrival(
                at_s=self._clock(),
                chunk=chunk,
                kept_samples=kept,
                read_end=self._ring.read_end,
                head=samples[:_HEAD_SAMPLES].copy(),
                digest=zlib.crc32(samples.tobytes()),
            )
        )
