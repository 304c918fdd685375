"""An engine that is told texts and plays nothing: greets, answers pings, keeps what it was told."""

from __future__ import annotations

import threading
from typing import Any

import zmq

from attacca.bridge import protocol
from attacca.bridge.protocol import Hello, Prompt, Welcome

RATE = 48000


class Listening:
    """An engine that greets, takes text, and keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._socket.poll(5):
                plugin, *frames = self._socket.recv_multipart()
                message = protocol.decode(frames)[0]
                answer: Any = None
                if isinstance(message, Hello):
                    answer = Welcome(
                        session=1, model="words", model_rate=RATE, hop_samples=640, num_codebooks=4, publish="",
                        heartbeat_s=1.0, engine="0", takes_text=True,
                    )  # fmt: skip
                elif isinstance(message, protocol.Ping):
                    answer = protocol.Pong(nonce=message.nonce)
                elif isinstance(message, Prompt):
                    self.texts.append(message.text)
                if answer is not None:
                    self._socket.send_multipart([plugin, *protocol.encode(answer)])
