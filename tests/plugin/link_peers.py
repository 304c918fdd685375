"""Peers for the plugin's links: libzmq's ROUTER, and raw TCP servers that behave as they are told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq
from native_wire import Frames

LOCAL = "tcp://127.0.0.1"
PATIENCE_S = 15.0
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"


def router(context: zmq.Context[zmq.Socket[bytes]], port: int = 0, **options: int) -> tuple[Any, int]:
    made = context.socket(zmq.ROUTER)
    made.linger = 0
    made.setsockopt(zmq.ROUTER_HANDOVER, 1)
    for name, value in options.items():
        made.setsockopt(getattr(zmq, name), value)
    if port == 0:
        return made, made.bind_to_random_port(LOCAL)
    until(lambda: bound(made, port))
    return made, port


def bound(made: Any, port: int) -> bool:
    try:
        made.bind(f"{LOCAL}:{port}")
    except zmq.ZMQError:  # the one before is still letting go
        return False
    return True


def until(done: Callable[[], Any]) -> Any:
    """Calls again and again until something comes of it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if result := done():
            return result
        time.sleep(0.001)
    raise AssertionError("it did not come about in time")


def got(made: Any) -> Frames | None:
    return made.recv_multipart() if made.poll(0) else None


class Neighbour:
    """A raw TCP server that does to each connection, by number, what it is told."""

    def __init__(self, behave: Callable[[socket.socket, int], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"{LOCAL}:{self._listener.getsockname()[1]}"
        self.accepted_s: list[float] = []
        self._behave = behave
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.accepted_s.append(time.monotonic())
            threading.Thread(target=self._one, args=(accepted, len(self.accepted_s) - 1), daemon=True).start()

    def _one(self, accepted: socket.socket, number: int) -> None:
        with accepted:
            try:
                self._behave(accepted, number)
            except OSError:
                return  # the other side has gone

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def wait_for_end(accepted: socket.socket) -> None:
    while accepted.recv(65536):
        pass


def served(*chunks: bytes, pause_s: float = 0.0) -> Callable[[socket.socket, int], None]:
    def behave(accepted: socket.socket, _: int) -> None:
        for chunk in chunks:
            accepted.sendall(chunk)
            time.sleep(pause_s)
        wait_for_end(accepted)

    return behave
