"""An LV2 host in Python's hands, over liblilv: an instance with options, worker, state and events.

Between tests and an LV2 plugin. Runs in the test's own process, block by block, without an audio device.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_uint32, c_void_p
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from lilv_bundle import EXT, Bundle

EVENT_BYTES = 8192
_PORTABLE = 3  # LV2_STATE_IS_POD | LV2_STATE_IS_PORTABLE

_MAP = CFUNCTYPE(c_uint32, c_void_p, c_char_p)
_UNMAP = CFUNCTYPE(c_void_p, c_void_p, c_uint32)
_SCHEDULE = CFUNCTYPE(c_int, c_void_p, c_uint32, c_void_p)
_GET_PORT = CFUNCTYPE(c_void_p, c_char_p, c_void_p, POINTER(c_uint32), POINTER(c_uint32))
_SET_PORT = CFUNCTYPE(None, c_char_p, c_void_p, c_void_p, c_uint32, c_uint32)
_WORK = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_uint32, c_void_p)
_SET_OPTIONS = CFUNCTYPE(c_uint32, c_void_p, c_void_p)


class _Handled(ctypes.Structure):
    """LV2_URID_Map, LV2_URID_Unmap and LV2_Worker_Schedule: a handle and a function."""

    _fields_ = (("handle", c_void_p), ("function", c_void_p))


class _Feature(ctypes.Structure):
    _fields_ = (("uri", c_char_p), ("data", c_void_p))


class _Option(ctypes.Structure):
    _fields_ = (
        ("context", c_uint32), ("subject", c_uint32), ("key", c_uint32), ("size", c_uint32), ("type", c_uint32),
        ("value", c_void_p),
    )  # fmt: skip


class _Descriptor(ctypes.Structure):
    _fields_ = (
        ("uri", c_char_p),
        ("instantiate", c_void_p),
        ("connect_port", CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)),
        ("activate", CFUNCTYPE(None, c_void_p)),
        ("run", CFUNCTYPE(None, c_void_p, c_uint32)),
        ("deactivate", CFUNCTYPE(None, c_void_p)),
        ("cleanup", c_void_p),
        ("extension_data", CFUNCTYPE(c_void_p, c_char_p)),
    )


class _Instance(ctypes.Structure):
    _fields_ = (("descriptor", POINTER(_Descriptor)), ("handle", c_void_p), ("private", c_void_p))


class Urids:
    """URI <-> number, as every LV2 host keeps them."""

    def __init__(self) -> None:
        self._uris: list[ctypes.Array[ctypes.c_char]] = []
        self._keep = (_MAP(self._map), _UNMAP(lambda _, urid: ctypes.addressof(self._uris[urid - 1])))
        self.map, self.unmap = (_Handled(None, ctypes.cast(function, c_void_p)) for function in self._keep)

    def _map(self, _: object, uri: bytes) -> int:
        known = [each.value for each in self._uris]
        if uri in known:
            return known.index(uri) + 1
        self._uris.append(ctypes.create_string_buffer(uri))
        return len(self._uris)

    def __call__(self, uri: str) -> int:
        return self._map(None, uri.encode())


@dataclass(kw_only=True)
class Instance:
    """An instance under way; a context manager. `values` are the control ports', by symbol; `events` go to the next
    block as (offset, type's URI, body)."""

    bundle: Bundle
    rate: int
    block: int = 512
    values: dict[str, float] = field(default_factory=dict)
    events: list[tuple[int, str, bytes]] = field(default_factory=list)
    scheduled: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        lilv, self.urids = self.bundle.lilv, Urids()
        self._numbers = [c_int32(self.block), c_int32(self.block), c_float(self.rate)]
        self._options = self._option_array()
        self._keep = _SCHEDULE(self._schedule)
        self._worker = _Handled(None, ctypes.cast(self._keep, c_void_p))
        data = {
            EXT + "urid#map": self.urids.map,
            EXT + "urid#unmap": self.urids.unmap,
            EXT + "options#options": self._options,
            EXT + "worker#schedule": self._worker,
            EXT + "buf-size#boundedBlockLength": None,
        }
        self._features = [
            _Feature(uri.encode(), None if value is None else ctypes.addressof(value))
            for uri, value in data.items()
        ]
        pointers = [ctypes.addressof(feature) for feature in self._features]
        self.features = (c_void_p * (len(pointers) + 1))(*pointers, None)
        made = lilv.lilv_plugin_instantiate(self.bundle.plugin, c_double(self.rate), self.features)
        assert made, "the plugin was not made"
        self._made = c_void_p(made)
        self.inner = _Instance.from_address(made)
        self._connect()

    def _option_array(self) -> ctypes.Array[_Option]:
        keys = ("buf-size#maxBlockLength", "buf-size#nominalBlockLength", "parameters#sampleRate")
        types = ("atom#Int", "atom#Int", "atom#Float")
        options = [
            _Option(0, 0, self.urids(EXT + key), 4, self.urids(EXT + kind), ctypes.addressof(number))
            for key, kind, number in zip(keys, types, self._numbers, strict=True)
        ]
        return (_Option * 4)(*options, _Option())

    def _connect(self) -> None:
        self._buffers: dict[str, Any] = {}
        for port in self.bundle.ports:
            if "AudioPort" in port.kinds:
                buffer: Any = (c_float * self.block)()
            elif "ControlPort" in port.kinds:
                buffer = (c_float * 1)(self.values.get(port.symbol, port.default or 0.0))
            else:
                buffer = (ctypes.c_uint64 * (EVENT_BYTES // 8))()
            self._buffers[port.symbol] = buffer
            self.inner.descriptor.contents.connect_port(self.inner.handle, port.index, ctypes.addressof(buffer))

    def __enter__(self) -> Self:
        self.inner.descriptor.contents.activate(self.inner.handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.inner.descriptor.contents.deactivate(self.inner.handle)
        self.bundle.lilv.lilv_instance_free(self._made)

    def _schedule(self, _: object, size: int, data: int) -> int:
        self.scheduled.append(ctypes.string_at(data, size))
        return 0

    def extension(self, uri: str, *functions: Any) -> list[Callable[..., int]]:
        """An extension's functions, whose types are given; the instance's handle is their first argument."""
        data = self.inner.descriptor.contents.extension_data((EXT + uri).encode())
        assert data, f"no {uri}"
        table = (c_void_p * len(functions)).from_address(data)
        return [kind(address) for kind, address in zip(functions, table, strict=True)]

    def set_options(self, block: int, rate: float) -> int:
        """While it is not active: the host's block length and sample rate change."""
        self.block, self.rate = block, int(rate)
        self._numbers = [c_int32(block), c_int32(block), c_float(rate)]
        self._options = self._option_array()
        self._connect()
        _, set_options = self.extension("options#interface", _SET_OPTIONS, _SET_OPTIONS)
        return set_options(self.inner.handle, ctypes.addressof(self._options))

    def work(self, data: bytes) -> int:
        """What was scheduled, done as a host's worker thread does it."""
        (work,) = self.extension("worker#interface", _WORK)
        buffer = ctypes.create_string_buffer(data, len(data))
        return work(self.inner.handle, None, None, len(data), ctypes.addressof(buffer))

    def value(self, symbol: str) -> float:
        """What stands in a control port."""
        return float(self._buffers[symbol][0])

    def run(self, samples: int, audio: np.ndarray | None = None) -> np.ndarray:
        """One block: float32 [samples, 2] in (silence if not given) and out. Takes `events` in."""
        for port in self.bundle.ports:
            if "ControlPort" in port.kinds and "InputPort" in port.kinds and port.symbol in self.values:
                self._buffers[port.symbol][0] = self.values[port.symbol]
        given = np.zeros((samples, 2), np.float32) if audio is None else audio
        for channel in range(2):
            self._buffers[f"lv2_audio_in_{channel + 1}"][:samples] = given[:, channel].tolist()
        self._fill_events()
        self.inner.descriptor.contents.run(self.inner.handle, samples)
        heard = [self._buffers[f"lv2_audio_out_{channel + 1}"][:samples] for channel in range(2)]
        return np.array(heard, np.float32).T

    def _fill_events(self) -> None:
        body = b""
        for offset, kind, data in self.events:
            body += struct.pack("<qII", offset, len(data), self.urids(kind)) + data + bytes(-len(data) % 8)
        self.events.clear()
        head = struct.pack("<IIII", 8 + len(body), self.urids(EXT + "atom#Sequence"), 0, 0)
        ctypes.memmove(self._buffers["lv2_events_in"], head + body, len(head + body))
        room = struct.pack("<II", EVENT_BYTES - 8, self.urids(EXT + "atom#Chunk"))
        ctypes.memmove(self._buffers["lv2_events_out"], room, len(room))

    def midi(self, offset: int, *data: int) -> None:
        """A message in the next block."""
        self.events.append((offset, EXT + "midi#MidiEvent", bytes(data)))

    def position(self, offset: int = 0, **properties: float) -> None:
        """A time:Position in the next block: frame, bar and beatUnit as integers, the others as float32."""
        body = struct.pack("<II", 0, self.urids(EXT + "time#Position"))
        for name, value in properties.items():
            if name in ("frame", "bar"):
                atom = struct.pack("<IIq", 8, self.urids(EXT + "atom#Long"), int(value))
            elif name == "beatUnit":
                atom = struct.pack("<IIi4x", 4, self.urids(EXT + "atom#Int"), int(value))
            else:
                atom = struct.pack("<IIf4x", 4, self.urids(EXT + "atom#Float"), value)
            body += struct.pack("<II", self.urids(EXT + f"time#{name}"), 0) + atom
        self.events.append((offset, EXT + "atom#Object", body))

    def save(self) -> bytes:
        """The whole state, ports and properties, as Turtle."""
        lilv = self.bundle.lilv
        state = lilv.lilv_state_new_from_instance(
            self.bundle.plugin, self._made, ctypes.byref(self.urids.map), None, None, None, None,
            _GET_PORT(self._get_port), None, _PORTABLE, self.features,
        )  # fmt: skip
        lilv.lilv_state_to_string.restype = c_char_p
        assert state
        return lilv.lilv_state_to_string(
            self.bundle.world, ctypes.byref(self.urids.map), ctypes.byref(self.urids.unmap), c_void_p(state),
            b"urn:test:state", None,
        )  # fmt: skip

    def restore(self, text: bytes) -> None:
        """What `save` gave, of any instance."""
        lilv = self.bundle.lilv
        state = lilv.lilv_state_new_from_string(self.bundle.world, ctypes.byref(self.urids.map), text)
        assert state, text.decode()
        lilv.lilv_state_restore(c_void_p(state), self._made, _SET_PORT(self._set_port), None, 0, self.features)

    def _get_port(self, symbol: bytes, _: object, size: Any, kind: Any) -> int:
        size[0], kind[0] = 4, self.urids(EXT + "atom#Float")
        return ctypes.addressof(self._buffers[symbol.decode()])

    def _set_port(self, symbol: bytes, _: object, value: int, size: int, kind: int) -> None:
        assert (size, kind) == (4, self.urids(EXT + "atom#Float"))
        self.values[symbol.decode()] = self._buffers[symbol.decode()][0] = c_float.from_address(value).value
