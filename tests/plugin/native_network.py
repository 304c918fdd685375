"""The plugin's network half by ctypes (plugin_stub/tests/capi_network.cpp), on a scripted wire and clock."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from attacca.bridge import params, protocol

CAPACITY = 2 << 20
RATE = 48000
RING = 20_000
MODES = ("continue", "fill", "vamp", "answer")
INDEX = {row.name: index for index, row in enumerate(params.PARAMETERS)}
KINDS = ("opened", "lost", "first", "ended", "unclaimed")
_TEXT_BYTES = 600
_METERS = (
    "connected", "seed", "settled", "sessions_lost", "chunks", "lost_chunks", "disordered_chunks", "stale_chunks",
    "broken_chunks", "bad_messages", "unsent_messages", "committed_end", "planned_end",
)  # fmt: skip


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives the functions their types."""
    longs, floats = POINTER(c_int64), c_void_p
    table: dict[str, tuple[Any, ...]] = {
        "new": (c_void_p, c_int64, c_int64, c_double, c_int64, c_int64),
        "free": (None, c_void_p),
        "clock": (None, c_void_p, c_double),
        "pump": (c_int, c_void_p),
        "close": (None, c_void_p),
        "attach": (None, c_void_p),
        "reopened": (c_int, c_void_p),
        "wire": (None, c_void_p, c_int, c_int),
        "feed": (None, c_void_p, c_char_p, longs, c_int),
        "sent": (c_int, c_void_p, c_void_p, c_int64, longs, c_int),
        "audio": (c_int, c_void_p, c_int64, floats, c_int64),
        "param": (c_int, c_void_p, c_int64, c_int32, c_double),
        "transport": (
            c_int, c_void_p, c_int64, c_int64, c_double, c_double, c_int, c_int, c_double, c_int, c_void_p, c_int,
        ),
        "midi": (c_int, c_void_p, c_int64, c_char_p, c_int),
        "trigger": (c_int, c_void_p, c_int64, c_int64, c_int, c_double, c_int, c_int, c_int, c_int64),
        "release": (c_int, c_void_p, c_int64, c_int64, c_int),
        "due": (c_int, c_void_p, c_int32, c_int64, c_int64),
        "settled": (c_int, c_void_p, c_int64),
        "note": (c_int, c_void_p, longs),
        "cut": (c_int, c_void_p, c_int64, c_int32),
        "read": (None, c_void_p, c_int64, c_int64, floats, c_void_p),
        "meters": (None, c_void_p, longs),
        "text": (c_int, c_void_p, c_int, c_char_p, c_int64),
        "words": (None, c_void_p, c_char_p),
        "takes_words": (c_int, c_void_p),
    }  # fmt: skip
    for name, (result, *arguments) in table.items():
        function = getattr(library, f"attacca_net_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@dataclass(frozen=True)
class Note:
    """What the audio thread is told."""

    kind: str
    generation: int = 0
    epoch: int = 0
    take: int = 0
    position: int = 0


class Bench:
    """A network half with nobody around it. Time stands still until `at`."""

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        rate: int = 48000,
        channels: int = 1,
        history_s: float = 2.0,
        ring: int = 100_000,
        input_samples: int = 500_000,
    ) -> None:
        self._library, self.channels = declare(library), channels
        self._handle = library.attacca_net_new(rate, channels, history_s, ring, input_samples)
        self._buffer = ctypes.create_string_buffer(CAPACITY)
        self.now_s = 0.0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.attacca_net_free(self._handle)

    def call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._library, f"attacca_net_{name}")(self._handle, *arguments)

    def at(self, now_s: float) -> None:
        """Sets the clock, then lets the half have a turn."""
        self.now_s = now_s
        self.call("clock", now_s)
        self.call("pump")

    def pump(self) -> None:
        self.call("pump")

    def wire(self, *, ready: bool = True, full: bool = False) -> None:
        self.call("wire", ready, full)

    def feed(self, message: protocol.Message, payload: bytes | None = None) -> None:
        self.raw(*[bytes(frame) for frame in protocol.encode(message, payload)])

    def raw(self, *frames: bytes) -> None:
        self.call("feed", b"".join(frames), (c_int64 * max(len(frames), 1))(*map(len, frames)), len(frames))

    def sent(self) -> list[tuple[Any, bytes]]:
        """Everything sent since the last call, as (message, payload); the engine's own decoder reads it."""
        return [protocol.decode(frames) for frames in self.sent_frames()]

    def sent_frames(self) -> list[list[bytes]]:
        """Everything sent since the last call."""
        out, sizes = [], (c_int64 * 4)()
        while (count := self.call("sent", self._buffer, CAPACITY, sizes, 4)) != -1:
            assert count > 0
            at, frames = 0, []
            for size in sizes[:count]:
                frames.append(bytes(memoryview(self._buffer)[at : at + size]))
                at += size
            out.append(frames)
        return out

    def audio(self, position: int, samples: np.ndarray) -> bool:
        floats = np.ascontiguousarray(samples, dtype=np.float32)
        return bool(self.call("audio", position, floats.ctypes.data, len(floats)))

    def param(self, name: str, value: float, position: int = 0) -> bool:
        return bool(self.call("param", position, INDEX[name], value))

    def transport(self, message: protocol.Transport) -> bool:
        loop = None
        if message.loop_start_ppq is not None and message.loop_end_ppq is not None:
            loop = ctypes.addressof((c_double * 2)(message.loop_start_ppq, message.loop_end_ppq))
        return bool(
            self.call(
                "transport", message.position, message.epoch, message.ppq, message.bpm, message.meter_num,
                message.meter_den, message.bar_start_ppq, message.playing, loop, message.non_realtime,
            )
        )  # fmt: skip

    def trigger(self, message: protocol.Trigger) -> bool:
        bars = message.quantum_bars
        return bool(
            self.call(
                "trigger", message.position, message.take, bars is not None,
                message.quantum_ppq if bars is None else bars, MODES.index(message.mode), message.bars,
                message.late == "wait", -1 if message.seed is None else message.seed,
            )
        )  # fmt: skip

    def notes(self) -> list[Note]:
        found, row = [], (c_int64 * 5)()
        while self.call("note", row):
            found.append(Note(KINDS[row[0]], *row[1:]))
        return found

    def read(self, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        samples = np.zeros((count, self.channels), np.float32)
        sources = np.zeros(count, np.uint8)
        self.call("read", position, count, samples.ctypes.data, sources.ctypes.data)
        return samples, sources

    @property
    def meters(self) -> dict[str, int]:
        values = (c_int64 * len(_METERS))()
        self.call("meters", values)
        return dict(zip(_METERS, values, strict=True))

    def text(self, which: str) -> str:
        out = ctypes.create_string_buffer(_TEXT_BYTES)
        self.call("text", ("state", "error", "model", "refused").index(which), out, _TEXT_BYTES)
        return out.value.decode()


def welcome(session: int = 1, heartbeat_s: float = 1.0, *, takes_text: bool = False) -> protocol.Welcome:
    """What an engine answers to a hello."""
    return protocol.Welcome(
        session=session, model="m", model_rate=32000, hop_samples=640, num_codebooks=4, publish="",
        heartbeat_s=heartbeat_s, engine="test", takes_text=takes_text,
    )  # fmt: skip


def open_session(bench: Bench, session: int = 1) -> list[object]:
    """Says hello where that is due, is welcomed; what was sent after the welcome."""
    bench.pump()
    bench.sent()
    bench.feed(welcome(session))
    bench.pump()
    bench.pump()
    return [message for message, _ in bench.sent()]
