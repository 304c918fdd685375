"""An engine that greets as one should, opens a session, and then says nothing that is true.

libzmq's ROUTER on a thread; it learns session, epoch, take and position from what the plugin says, so that its
chunks are as near to good ones as it likes.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import zmq

from attacca.bridge import protocol
from attacca.bridge.protocol import Chunk, Hello, Pong, Status, Trigger, Welcome

FAR = 2**62
_POLL_MS = 5
_SAMPLES = 512


class LyingEngine:
    """A context manager. `told` counts what it said, by kind; `loud`: good chunks, but of extreme samples."""

    def __init__(self, rate: int, *, loud: bool = False) -> None:
        self.told: Counter[str] = Counter()
        self._rate, self._loud = rate, loud
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._random = random.Random(3)
        self._sessions = self._epoch = self._take = self._position = self._seq = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LyingEngine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        plugin = b""
        while not self._stop.is_set():
            while self._socket.poll(_POLL_MS):
                plugin, *frames = self._socket.recv_multipart()
                self._hear(plugin, protocol.decode(frames)[0])
            if self._take and self._loud:
                self._shout(plugin)
            elif self._take:
                self._lie(plugin)

    def _hear(self, plugin: bytes, message: Any) -> None:
        if isinstance(message, Hello):
            self._sessions += 1
            self._take = self._seq = 0
            welcome = Welcome(
                session=self._sessions,
                model="liar",
                model_rate=self._rate,
                hop_samples=1,
                num_codebooks=1,
                publish="",
                heartbeat_s=1.0,
                engine="0",
            )
            self._socket.send_multipart([plugin, *protocol.encode(welcome)])
            self.told["welcome"] += 1
        if isinstance(message, protocol.Ping):
            pong = Pong(nonce=message.nonce)
            self._socket.send_multipart([plugin, *protocol.encode(pong)])
        if isinstance(message, Trigger):
            self._take = message.take
        if isinstance(message, protocol.Transport):
            self._epoch = message.epoch
        if isinstance(message, protocol.Transport | protocol.Audio):
            self._position = max(self._position, message.position)

    def _chunk(self, position: int, **fields: Any) -> Chunk:
        self._seq += 1
        usual = Chunk(
            session=self._sessions,
            epoch=self._epoch,
            take=self._take,
            seq=self._seq,
            position=position,
            ppq=0.0,
            samples=_SAMPLES,
            channels=2,
            first_frame=0,
            frames=0,
            committed=True,
        )
        return msgspec.structs.replace(usual, **fields)

    def _say(self, plugin: bytes, kind: str, chunk: Chunk, samples: np.ndarray) -> None:
        header = protocol.encode(chunk, b"")[0]
        self._socket.send_multipart([plugin, header, samples.astype("<f4").tobytes()])
        self.told[kind] += 1

    def _shout(self, plugin: bytes) -> None:
        """Samples at the ends of what a float can say, all that is due."""
        size = 2 * _SAMPLES
        shout = np.finfo(np.float32).max * (1.0 - 2.0 * (np.arange(size) // 2 % 2))
        ahead = self._position - self._position % _SAMPLES
        for position in range(ahead, ahead + self._rate // 2, _SAMPLES):
            self._say(plugin, "loud", self._chunk(position), shout)

    def _lie(self, plugin: bytes) -> None:
        """One of each lie, around what is played next."""
        size, near = 2 * _SAMPLES, self._position + _SAMPLES
        good = np.full(size, 0.5)
        spoilt = good.copy()
        for value in (np.nan, np.inf, -np.inf):
            spoilt[self._random.randrange(size)] = value
            self._say(plugin, "not finite", self._chunk(near), spoilt)
        self._say(plugin, "one channel", self._chunk(near, channels=1), good[:_SAMPLES])
        self._say(plugin, "one channel of two", self._chunk(near), good[:_SAMPLES])
        self._say(plugin, "more than there is", self._chunk(near, samples=2**31 - 1), good)
        self._say(plugin, "odd bytes", self._chunk(near), good[:3])
        for position in (-FAR, FAR - _SAMPLES, -1, near - 1_000_000, near + 100_000_000):
            self._say(plugin, "far off", self._chunk(position), good)
        for fields in ({"session": self._sessions + 1}, {"take": self._take + 1}, {"epoch": self._epoch + 1}):
            self._say(plugin, "another's", self._chunk(near, **fields), good)
        foreign = {"take": 2**52 + self._seq, "epoch": self._epoch}
        self._say(plugin, "a take of its own, far off", self._chunk(near + 100_000_000, **foreign), good)
        self._say(plugin, "a seq beyond", self._chunk(near, seq=2**52, samples=0), good[:0])
        for size in (1, 40, 4000, 70_000):
            self._socket.send_multipart([plugin, self._random.randbytes(size), self._random.randbytes(size)])
        self._socket.send_multipart([plugin, *[b"x"] * 50])
        header = protocol.encode(self._chunk(near), b"")[0]
        cut = self._random.randrange(len(header))
        self._socket.send_multipart([plugin, bytes(header)[:cut], good.astype("<f4").tobytes()])
        self._socket.send_multipart([plugin, *protocol.encode(Pong(nonce=2**40))])
        self._socket.send_multipart([plugin, *protocol.encode(Status(session=self._sessions, state="idle"))])
        self.told["nonsense"] += 8
