"""The plugin's wire by ctypes (plugin_stub/tests/capi_wire.cpp): links, one connection fed by hand, the codec."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass

CAPACITY = 3 << 20
MOST_FRAMES = 8
_TEXT_BYTES = 512

Frames = list[bytes]


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives the functions their types."""
    frames_in = (c_char_p, POINTER(c_int64), c_int)
    frames_out = (c_void_p, c_int64, POINTER(c_int64), c_int)
    table = {
        "dealer_new": (c_void_p, c_char_p, c_char_p, c_int64),
        "subscriber_new": (c_void_p, c_char_p, c_char_p, c_int64),
        "link_free": (None, c_void_p),
        "link_send": (c_int, c_void_p, *frames_in),
        "link_receive": (c_int, c_void_p, c_int, *frames_out),
        "link_reopen": (None, c_void_p),
        "link_close": (None, c_void_p),
        "link_ready": (c_int, c_void_p),
        "link_why": (None, c_void_p, c_char_p, c_int64),
        "parse_address": (None, c_char_p, c_char_p, c_char_p, c_int64),
        "connection_new": (c_void_p, c_int, c_char_p),
        "connection_free": (None, c_void_p),
        "connection_feed": (c_int, c_void_p, c_char_p, c_int64, POINTER(c_int64), *frames_out, POINTER(c_int)),
        "connection_reply": (c_int64, c_void_p, c_void_p, c_int64),
        "connection_ready": (c_int, c_void_p),
        "connection_why": (None, c_void_p, c_char_p, c_int64),
        "recode": (c_int, *frames_in, *frames_out, c_char_p, c_int64),
    }
    for name, (result, *arguments) in table.items():
        function = getattr(library, f"attacca_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class Buffer:
    """Where the library writes frames, used again and again."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(CAPACITY)
        self.sizes = (c_int64 * MOST_FRAMES)()
        self.arguments = (ctypes.addressof(self.bytes), CAPACITY, self.sizes, MOST_FRAMES)

    def frames(self, count: int) -> Frames:
        assert count >= 0, "the buffer is too small"
        view, at, frames = memoryview(self.bytes), 0, []
        for size in self.sizes[:count]:
            frames.append(bytes(view[at : at + size]))
            at += size
        return frames


@functools.cache
def shared_buffer() -> Buffer:
    """For calls that come one after the other."""
    return Buffer()


def handed(frames: Sequence[bytes]) -> tuple[bytes, ctypes.Array[c_int64], int]:
    return b"".join(frames), (c_int64 * max(len(frames), 1))(*map(len, frames)), len(frames)


class Wire:
    """A DEALER or a SUB of ours. `library` comes from `declare`."""

    def __init__(
        self, library: ctypes.CDLL, address: str, *, identity: bytes = b"tester", topic: bytes | None = None
    ):
        self._library, self._buffer = library, Buffer()
        if topic is None:
            self.handle = library.attacca_dealer_new(address.encode(), identity, len(identity))
        else:
            self.handle = library.attacca_subscriber_new(address.encode(), topic, len(topic))
        if not self.handle:
            raise ValueError(f"refused: {address!r}")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.attacca_link_free(self.handle)

    def send(self, frames: Sequence[bytes]) -> bool:
        return bool(self._library.attacca_link_send(self.handle, *handed(frames)))

    def receive(self, timeout_ms: int = 0) -> Frames | None:
        count = self._library.attacca_link_receive(self.handle, timeout_ms, *self._buffer.arguments)
        return self._buffer.frames(count) if count else None

    def reopen(self) -> None:
        self._library.attacca_link_reopen(self.handle)

    def close(self) -> None:
        self._library.attacca_link_close(self.handle)

    @property
    def ready(self) -> bool:
        return bool(self._library.attacca_link_ready(self.handle))

    @property
    def why(self) -> str:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        self._library.attacca_link_why(self.handle, text, _TEXT_BYTES)
        return text.value.decode()


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a connection made of bytes: whole messages, what it answered, and why it gave up ("" if it did not)."""

    messages: list[Frames]
    reply: bytes
    ready: bool
    why: str


def feed(
    library: ctypes.CDLL, pieces: Sequence[bytes], *, subscriber: bool = False, name: bytes = b"tester"
) -> Heard:
    """One connection, fed piece by piece until it has failed."""
    handle = library.attacca_connection_new(int(subscriber), name)
    buffer, used, count, messages = shared_buffer(), c_int64(), c_int(), []
    failed = False
    try:
        for piece in pieces:
            rest = piece
            while not failed:
                outcome = library.attacca_connection_feed(
                    handle, rest, len(rest), ctypes.byref(used), *buffer.arguments, ctypes.byref(count)
                )
                rest = rest[used.value :]
                failed = outcome == 2
                if outcome == 1:
                    messages.append(buffer.frames(count.value))
                if outcome == 0:
                    assert not rest
                    break
        size = library.attacca_connection_reply(handle, *buffer.arguments[:2])
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        library.attacca_connection_why(handle, text, _TEXT_BYTES)
        assert bool(text.value) == failed
        ready = bool(library.attacca_connection_ready(handle))
        return Heard(
            messages=messages, reply=bytes(memoryview(buffer.bytes)[:size]), ready=ready, why=text.value.decode()
        )
    finally:
        library.attacca_connection_free(handle)


def recode(library: ctypes.CDLL, frames: Sequence[bytes]) -> tuple[Frames, str]:
    """(frames decoded and encoded again, "") or ([], why they were refused)."""
    buffer, text = shared_buffer(), ctypes.create_string_buffer(_TEXT_BYTES)
    count = library.attacca_recode(*handed(frames), *buffer.arguments, text, _TEXT_BYTES)
    return (buffer.frames(count), "") if count else ([], text.value.decode())
