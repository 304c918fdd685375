"""A whole plugin instance by ctypes, as the virtual host's plugin: over real sockets, or inline with an engine.

`SocketPlugin` is what a shell holds: audio half, network half and its thread (plugin_stub/tests/capi_instance.cpp).
`InlinePlugin` is the same two halves on a scripted wire, whose every exchange happens between two blocks, so that a
run is the same every time (plugin_stub/tests/capi_network.cpp).
"""

from __future__ import annotations

import ctypes
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_uint32, c_void_p
from typing import Any, Final

import numpy as np
from native_network import Bench

from attacca.bridge import params
from attacca.bridge.client_config import At, HostBlock
from attacca.bridge.protocol import Midi, Param, Release, Trigger

INDEX: Final = {row.name: index for index, row in enumerate((*params.PARAMETERS, *params.PLUGIN_PARAMETERS))}
METERS: Final = (
    "connected", "seed", "sessions_lost", "chunks", "lost_chunks", "disordered_chunks", "stale_chunks",
    "broken_chunks", "bad_messages", "unsent_messages", "committed_end", "position", "lookahead_samples",
    "underrun_callbacks", "underrun_samples", "repeat_samples", "planned_samples", "fade_samples", "launches",
    "joins", "dropped_messages", "wait_timeouts", "take", "take_start", "sounding", "late_samples", "stale_samples",
    "early_samples", "missing_samples",
)  # fmt: skip
NOTE: Final = 24  # in the trigger zone
_MIDI: Final = np.dtype([("offset", "<u4"), ("size", "u1"), ("data", "u1", 3)])
_TEXT_BYTES: Final = 600


class HostFields(ctypes.Structure):
    """capi_instance.cpp's HostFields."""

    _fields_ = (
        *((name, c_double) for name in ("ppq", "bpm", "bar_start_ppq", "loop_start_ppq", "loop_end_ppq")),
        ("frame", c_int64),
        *((name, c_int32) for name in ("meter_num", "meter_den")),
        *((name, c_int32) for name in ("valid", "tick_grid", "playing", "non_realtime", "has_loop")),
    )


def fields_of(host: HostBlock) -> HostFields:
    """A host's block as the library takes it."""
    loop = host.loop or (0.0, 0.0)
    return HostFields(
        ppq=host.ppq, bpm=host.bpm, bar_start_ppq=host.bar_start_ppq, loop_start_ppq=loop[0], loop_end_ppq=loop[1],
        frame=-1, meter_num=host.meter_num, meter_den=host.meter_den, valid=1, tick_grid=0, playing=host.playing,
        non_realtime=host.non_realtime, has_loop=host.loop is not None,
    )  # fmt: skip


class NativePlugin(ABC):
    """What both have in common: blocks in and out, triggers by notes, parameters by name. Only takes are heard."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._final: dict[str, int] | None = None  # meters as they were at the end
        self.wet = np.zeros((0, channels), np.float32)
        self.set("mix", 1.0)

    def set(self, name: str, value: float) -> None:
        """A parameter, from the next block on."""
        self._parameter(INDEX[name], float(value))

    def process(self, position: int, host: HostBlock, events: Sequence[At], audio: np.ndarray) -> np.ndarray:
        """See virtual_host.Plugin. Triggers carry what they ask for into the parameters of their block."""
        count = len(audio)
        rows = [row for at in events if (row := self._midi(at)) is not None]
        midi = np.array(rows, _MIDI)
        planar = np.ascontiguousarray(audio.T, dtype=np.float32)
        out = np.zeros((self.channels, count), np.float32)
        pointers = c_void_p * self.channels
        inputs = pointers(*(planar[c].ctypes.data for c in range(self.channels)))
        outputs = pointers(*(out[c].ctypes.data for c in range(self.channels)))
        self._process(ctypes.byref(fields_of(host)), inputs, outputs, count, midi.ctypes.data, len(midi))
        self.wet = out.T.copy()
        return self.wet

    def _midi(self, at: At) -> tuple[int, int, tuple[int, int, int]] | None:
        event = at.event
        if isinstance(event, Midi):
            return at.offset, len(event.data), tuple(event.data.ljust(3, b"\0"))  # type: ignore[return-value]
        if isinstance(event, Trigger):
            wanted = (event.quantum_bars, event.quantum_ppq if event.quantum_bars is None else 0.0)
            self.set("quantum", params.QUANTUM_VALUES.index(wanted))
            self.set("mode", params.MODES.index(event.mode.value))
            self.set("late", params.LATE.index(event.late.value))
            self.set("bars", event.bars)
            self.set("seed", -1 if event.seed is None else event.seed)
            return at.offset, 3, (0x90, NOTE, 100)
        if isinstance(event, Release):
            self.set("release_quantized", event.quantized)
            return at.offset, 3, (0x80, NOTE, 0)
        assert isinstance(event, Param)
        self.set(event.name, event.value)
        return None

    @abstractmethod
    def _parameter(self, index: int, value: float) -> None: ...

    @abstractmethod
    def _process(self, *arguments: Any) -> None: ...

    @abstractmethod
    def _read_meters(self, values: Any) -> None: ...

    @property
    def meters(self) -> dict[str, int]:
        """By the names of METERS; any thread. What they were at last, once the plugin is gone."""
        if self._final is not None:
            return self._final
        values = (c_int64 * len(METERS))()
        self._read_meters(values)
        return dict(zip(METERS, values, strict=True))


PROCESS = (c_void_p, c_void_p, c_void_p, c_uint32, c_void_p, c_uint32)


def declare(library: ctypes.CDLL, family: str, table: dict[str, tuple[Any, ...]]) -> None:
    """Gives functions their types."""
    for name, (result, *arguments) in table.items():
        function = getattr(library, f"attacca_{family}_{name}")
        function.restype, function.argtypes = result, arguments


class SocketPlugin(NativePlugin):
    """With its own thread and a real connection. A context manager: entering starts it, leaving frees it."""

    def __init__(
        self,
        library: ctypes.CDLL,
        address: str,
        *,
        rate: int,
        channels: int = 1,
        ring_s: float = 20.0,
        wait_s: float = 10.0,
    ) -> None:
        table: dict[str, tuple[Any, ...]] = {
            "new": (c_void_p, c_char_p, c_char_p, c_double, c_int, c_int64, c_double, c_double),
            "free": (None, c_void_p),
            "start": (None, c_void_p),
            "stop": (None, c_void_p),
            "parameter": (None, c_void_p, c_int32, c_double),
            "bypass": (None, c_void_p, c_int),
            "process": (None, c_void_p, *PROCESS),
            "text": (c_int, c_void_p, c_int, c_char_p, c_int64),
            "meters": (None, c_void_p, POINTER(c_int64)),
        }
        declare(library, "instance", table)
        self._library = library
        self._handle = library.attacca_instance_new(
            address.encode(), b"native test", rate, channels, 8192, ring_s, wait_s
        )
        super().__init__(channels)

    def __enter__(self) -> SocketPlugin:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._final = self.meters
        self._library.attacca_instance_free(self._handle)

    def start(self) -> None:
        self._library.attacca_instance_start(self._handle)

    def stop(self) -> None:
        self._library.attacca_instance_stop(self._handle)

    def _parameter(self, index: int, value: float) -> None:
        self._library.attacca_instance_parameter(self._handle, index, value)

    def _process(self, *arguments: Any) -> None:
        self._library.attacca_instance_process(self._handle, *arguments)

    def _read_meters(self, values: Any) -> None:
        self._library.attacca_instance_meters(self._handle, values)

    def await_connection(self, timeout_s: float = 10.0) -> None:
        """Returns once a session is open. TimeoutError, with the state in words, if none is in time."""
        deadline = time.monotonic() + timeout_s
        while not self.meters["connected"]:
            if time.monotonic() > deadline:
                raise TimeoutError(self.state)
            time.sleep(0.005)

    @property
    def state(self) -> str:
        return self._text(0)

    @property
    def model(self) -> str:
        return self._text(1)

    def _text(self, which: int) -> str:
        out = ctypes.create_string_buffer(_TEXT_BYTES)
        self._library.attacca_instance_text(self._handle, which, out, _TEXT_BYTES)
        return out.value.decode()


class InlinePlugin(NativePlugin):
    """With an engine that answers each message at once (direct_engine.DirectEngine)."""

    def __init__(
        self,
        library: ctypes.CDLL,
        exchange: Callable[[list[bytes]], list[list[bytes]]],
        idle: Callable[[], list[list[bytes]]],
        *,
        rate: int,
        channels: int = 1,
    ) -> None:
        self.bench = Bench(library, rate=rate, channels=channels, ring=20 * rate, input_samples=4 * rate)
        declare(
            library,
            "net",
            {
                "audio_half": (None, c_void_p, c_double),
                "parameter": (None, c_void_p, c_int32, c_double),
                "process": (None, c_void_p, *PROCESS),
                "all_meters": (None, c_void_p, POINTER(c_int64)),
            },
        )
        self.bench.call("audio_half", float(rate))
        self._exchange, self._idle = exchange, idle
        super().__init__(channels)
        self.converse()

    def __enter__(self) -> InlinePlugin:
        return self

    def __exit__(self, *_: object) -> None:
        self._final = self.meters
        self.bench.__exit__()

    def _parameter(self, index: int, value: float) -> None:
        self.bench.call("parameter", index, value)

    def _process(self, *arguments: Any) -> None:
        self.bench.call("process", *arguments)
        self.converse()

    def _read_meters(self, values: Any) -> None:
        self.bench.call("all_meters", values)

    def converse(self) -> None:
        """Until neither side has anything to say."""
        self.bench.pump()
        waiting = self.bench.sent_frames() or [None]
        while waiting:
            for frames in waiting:
                for reply in self._idle() if frames is None else self._exchange(frames):
                    self.bench.raw(*reply)
            self.bench.pump()
            self.bench.pump()
            waiting = self.bench.sent_frames()
