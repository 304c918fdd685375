"""Wires with faults for a plugin, on threads of their own: a lossy proxy, and peers that mean no good."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from typing import Final

import zmq

from attacca.bridge import protocol
from attacca.bridge.protocol import Chunk

_POLL_MS: Final = 20
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY: Final = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER\x08Identity\x00\x00\x00\x00"


class LossyProxy:
    """Passes all messages on, but drops, holds back (until after the next) and doubles some of the chunks."""

    def __init__(self, engine: str, seed: int, *, drop: float, hold: float, double: float) -> None:
        self.counts: Counter[str] = Counter()
        self._chance, self._rates = random.Random(seed), (drop, hold, double)
        self._held: list[list[bytes]] = []
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._back = self._context.socket(zmq.DEALER)
        port = self._front.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self._back.connect(engine)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LossyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._front, zmq.POLLIN)
        poller.register(self._back, zmq.POLLIN)
        plugin = b""
        while not self._stop.is_set():
            ready = dict(poller.poll(_POLL_MS))
            if self._front in ready:
                plugin, *frames = self._front.recv_multipart()
                self._back.send_multipart(frames)
            if self._back in ready:
                for frames in self._spoiled(self._back.recv_multipart()):
                    self._front.send_multipart([plugin, *frames])

    def _spoiled(self, frames: list[bytes]) -> list[list[bytes]]:
        message, _ = protocol.decode(frames)
        if not isinstance(message, Chunk):
            return [frames]
        self.counts["chunks"] += 1
        draw, (drop, hold, double) = self._chance.random(), self._rates
        if draw < drop:
            self.counts["dropped"] += 1
            return []
        if draw < drop + hold:
            self.counts["held"] += 1
            self._held.append(frames)
            return []
        out = [frames, *self._held]
        self._held.clear()
        if draw < drop + hold + double:
            self.counts["doubled"] += 1
            out.append(frames)
        return out


class HostilePeer:
    """Accepts whoever comes; `script` says what each gets, then the connection is closed or left to starve."""

    def __init__(self, script: list[bytes], *, close: bool) -> None:
        self.accepted = 0
        self._script, self._close = script, close
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(_POLL_MS / 1000)
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HostilePeer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)
        for connection in [self._server, *self._kept]:
            connection.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            connection.settimeout(0.2)
            try:
                for part in self._script:
                    connection.sendall(part)
            except OSError:
                pass  # it had enough
            if self._close:
                connection.close()
            else:
                self._kept = [*self._kept[-100:], connection]


def framed(*frames: bytes) -> bytes:
    """A ZMTP message."""
    out = b""
    for index, frame in enumerate(frames):
        more = index + 1 < len(frames)
        out += bytes([2 | more]) + len(frame).to_bytes(8, "big") + frame
    return out
