"""The plugin's audio half alone by ctypes (plugin_stub/tests/capi_audio.cpp): what it sends, as the reference's own
messages; what the network half would tell it, by hand."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from native_instance import INDEX, METERS, PROCESS, declare, fields_of

from attacca.bridge import params
from attacca.bridge.client_config import HostBlock
from attacca.bridge.client_network import Due
from attacca.bridge.protocol import Audio, Late, Midi, Mode, Param, Ping, Release, Transport, Trigger
from attacca.bridge.ring import Samples

NAMES: Final = tuple(INDEX)
OPENED, LOST, FIRST, ENDED, UNCLAIMED = range(5)
_TRANSPORT, _AUDIO, _MIDI, _TRIGGER, _RELEASE, _PARAM, _DUE, _SETTLED = range(8)
_EVENT: Final = np.dtype([("offset", "<u4"), ("size", "u1"), ("data", "u1", 3)])
_TABLE: Final[dict[str, tuple[Any, ...]]] = {
    "new": (c_void_p, c_double, c_int32, c_int64, c_double, c_double, c_int64),
    "free": (None, c_void_p),
    "parameter": (None, c_void_p, c_int32, c_double),
    "restore": (None, c_void_p, c_int32, c_double),
    "bypass": (None, c_void_p, c_int32),
    "process": (None, c_void_p, *PROCESS),
    "record": (c_int32, c_void_p, c_void_p, c_void_p, c_void_p),
    "input": (c_int32, c_void_p, c_void_p, c_int64),
    "note": (c_int32, c_void_p, c_int32, c_int32, c_int64, c_int64, c_int64),
    "write": (c_int64, c_void_p, c_int64, c_void_p, c_int64, c_int32, c_int32),
    "settled": (None, c_void_p, c_int64),
    "meters": (None, c_void_p, POINTER(c_int64)),
    "bad_input": (c_int64, c_void_p),
    "peaks": (None, c_void_p, c_int64, c_void_p),
}


@dataclass(frozen=True)
class Sent:
    """One record for the network half: `message` (a Due is none of the protocol's), and audio's samples."""

    message: Any
    payload: bytes | None = None


class NativeAudio:
    """attacca::AudioHalf with an Exchange of its own; a context manager, for it owns memory."""

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        rate: int,
        channels: int = 1,
        max_block_samples: int = 8192,
        ring_s: float = 4.0,
        wait_s: float = 0.0,
    ) -> None:
        declare(library, "audio", _TABLE)
        self._library, self.channels = library, channels
        self._handle = library.attacca_audio_new(
            float(rate), channels, max_block_samples, ring_s, wait_s, 4 * rate + max_block_samples
        )

    def __enter__(self) -> NativeAudio:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.attacca_audio_free(self._handle)

    def call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._library, f"attacca_audio_{name}")(self._handle, *arguments)

    def set(self, name: str, value: float) -> None:
        self.call("parameter", INDEX[name], float(value))

    def restore(self, name: str, value: float) -> None:
        self.call("restore", INDEX[name], float(value))

    def bypass(self, on: bool) -> None:
        self.call("bypass", on)

    def process(
        self,
        host: HostBlock,
        midi: Sequence[tuple[int, bytes]],
        audio: Samples | None,
        *,
        count: int | None = None,
        in_place: bool = False,
    ) -> Samples:
        """One callback; `midi` as (offset, bytes). Without `audio` there is no input, for `count` samples."""
        count = len(audio) if audio is not None else count
        assert count is not None
        events = np.array([(at, len(data), tuple(data.ljust(3, b"\0"))) for at, data in midi], _EVENT)
        planar = None if audio is None else np.array(audio.T, dtype=np.float32, order="C")
        out = planar if in_place and planar is not None else np.full((self.channels, count), np.nan, np.float32)
        pointers = c_void_p * self.channels
        inputs = None if planar is None else pointers(*(row.ctypes.data for row in planar))
        outputs = pointers(*(row.ctypes.data for row in out))
        self.call("process", ctypes.byref(fields_of(host)), inputs, outputs, count, events.ctypes.data, len(events))
        return out.T.copy()

    def sent(self) -> list[Sent]:
        """Everything that waits for the network half."""
        found = []
        position, whole, real = c_int64(), (c_int64 * 8)(), (c_double * 5)()
        while (kind := self.call("record", ctypes.byref(position), whole, real)) != -1:
            found.append(self._record(kind, position.value, list(whole), list(real)))
        return found

    def _record(self, kind: int, position: int, whole: list[int], real: list[float]) -> Sent:
        if kind == _AUDIO:
            samples = np.full((whole[0], self.channels), np.nan, np.float32)
            assert self.call("input", samples.ctypes.data, whole[0])
            message = Audio(position=position, samples=whole[0], channels=self.channels)
            return Sent(message, samples.tobytes())
        if kind == _TRANSPORT:
            return Sent(_transport(position, whole, real))
        if kind == _MIDI:
            return Sent(Midi(position=position, data=bytes(whole[1 : 1 + whole[0]])))
        if kind == _TRIGGER:
            return Sent(_trigger(position, whole, real))
        if kind == _RELEASE:
            return Sent(Release(take=whole[0], position=position, quantized=bool(whole[1])))
        if kind == _PARAM:
            return Sent(Param(name=NAMES[whole[0]], value=real[0], position=position))
        if kind == _DUE:
            return Sent(Due(generation=whole[0], epoch=whole[1], take=whole[2]))
        assert kind == _SETTLED
        return Sent(Ping(nonce=position, settled=True))

    def note(self, kind: int, *, epoch: int = 0, take: int = 0, position: int = 0, generation: int = 0) -> None:
        assert self.call("note", kind, generation, epoch, take, position)

    def write(self, position: int, samples: Samples, *, committed: bool, generation: int) -> int:
        block = np.ascontiguousarray(samples, dtype=np.float32)
        return int(self.call("write", position, block.ctypes.data, len(block), committed, generation))

    @property
    def meters(self) -> dict[str, int]:
        """By the names of METERS."""
        values = (c_int64 * len(METERS))()
        self.call("meters", values)
        return dict(zip(METERS, values, strict=True))


def _transport(position: int, whole: list[int], real: list[float]) -> Transport:
    epoch, num, den, playing, looping, non_realtime = whole[:6]
    ppq, bpm, bar_start, loop_start, loop_end = real
    return Transport(
        epoch=epoch, position=position, ppq=ppq, bpm=bpm, meter_num=num, meter_den=den, bar_start_ppq=bar_start,
        playing=bool(playing), loop_start_ppq=loop_start if looping else None,
        loop_end_ppq=loop_end if looping else None, non_realtime=bool(non_realtime),
    )  # fmt: skip


def _trigger(position: int, whole: list[int], real: list[float]) -> Trigger:
    take, in_bars, mode, bars, waits, seed = whole[:6]
    return Trigger(
        take=take, position=position, quantum_bars=real[0] if in_bars else None,
        quantum_ppq=0.0 if in_bars else real[0], mode=Mode(params.MODES[mode]), bars=bars,
        late=Late(params.LATE[waits]), seed=None if seed < 0 else seed,
    )  # fmt: skip
