"""What the engine said while a plugin played: chunks and status from its PUB socket, with the time of each.

Beside plugin and engine, seen by neither; the plugin demo's figures come from it and from what was recorded.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import zmq

from attacca.bridge import protocol
from attacca.bridge.ring import Samples

_POLL_MS = 50


@dataclass(frozen=True, kw_only=True)
class HeardChunk:
    """A chunk with samples float32 [n, channels], and when it was heard (time.monotonic)."""

    at_s: float
    chunk: protocol.Chunk
    samples: Samples


class Listener:
    """A context manager with a thread of its own; read `chunks` and `statuses` after leaving it."""

    def __init__(self, publish: str) -> None:
        self.chunks: list[HeardChunk] = []
        self.statuses: list[tuple[float, protocol.Status]] = []
        self._publish = publish
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _listen(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.RCVHWM, 0)
            for topic in (b"pcm/", b"status/"):
                socket.setsockopt(zmq.SUBSCRIBE, topic)
            socket.connect(self._publish)
            while not self._ending.is_set():
                if socket.poll(_POLL_MS):
                    self._hear(socket.recv_multipart()[1:])

    def _hear(self, frames: list[bytes]) -> None:
        at_s = time.monotonic()
        message: Any
        message, payload = protocol.decode(frames)
        if isinstance(message, protocol.Status):
            self.statuses.append((at_s, message))
        elif isinstance(message, protocol.Chunk):
            samples = np.frombuffer(payload, "<f4").reshape(-1, message.channels)
            self.chunks.append(HeardChunk(at_s=at_s, chunk=message, samples=samples))
