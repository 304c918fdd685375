"""The ring, playback and input FIFO by ctypes (plugin_stub/tests/capi_ring.cpp), as the references are called."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, byref, c_double, c_int32, c_int64, c_void_p

import numpy as np

from attacca.bridge.playback import Grid
from attacca.bridge.ring import Reading, Samples

RING_COUNTERS = ("late_samples", "stale_samples", "early_samples", "missing_callbacks", "missing_samples")
PLAYBACK_COUNTERS = (
    *("underrun_callbacks", "underrun_samples", "waiting_samples"),
    *("planned_samples", "repeat_samples", "fade_samples", "planned_events", "repeat_events", "fade_events"),
    *("joins", "launches"),
)
_BAR_LINES = CFUNCTYPE(c_int32, c_int64, POINTER(c_int64), POINTER(c_int64), POINTER(c_int64))
_IS_LAUNCH = CFUNCTYPE(c_int32, c_int64)
_SIGNATURES = {
    "attacca_ring_new": (c_void_p, c_int64, c_int32),
    "attacca_ring_free": (None, c_void_p),
    "attacca_ring_write": (c_int64, c_void_p, c_int64, c_void_p, c_int64, c_int32, c_int32),
    "attacca_ring_read": (None, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p),
    "attacca_ring_cut": (c_int32, c_void_p, c_int64, c_int32),
    "attacca_ring_move_cut": (c_int32, c_void_p, c_int64, c_int64, c_int32),
    "attacca_ring_read_end": (c_int64, c_void_p),
    "attacca_ring_committed_until": (c_int64, c_void_p, c_int64, c_int64),
    "attacca_ring_lookahead": (c_int64, c_void_p),
    "attacca_ring_counters": (None, c_void_p, c_void_p),
    "attacca_playback_new": (c_void_p, c_void_p, c_double, c_double, c_int32),
    "attacca_playback_free": (None, c_void_p),
    "attacca_playback_render": (None, c_void_p, c_int64, c_int64, _BAR_LINES, _IS_LAUNCH, c_void_p),
    "attacca_playback_go_on_into": (None, c_void_p, c_int32),
    "attacca_playback_sounding": (c_int32, c_void_p),
    "attacca_playback_counters": (None, c_void_p, c_void_p),
    "attacca_fifo_new": (c_void_p, c_int64, c_int32),
    "attacca_fifo_free": (None, c_void_p),
    "attacca_fifo_push": (c_int32, c_void_p, c_void_p, c_int64),
    "attacca_fifo_pop": (c_int32, c_void_p, c_void_p, c_int64),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes what the functions take and give."""
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _interleaved(samples: Samples, channels: int) -> Samples:
    assert samples.ndim == 2 and samples.shape[1] == channels
    return np.ascontiguousarray(samples, dtype=np.float32)


class NativeRing:
    """attacca::PositionRing; a context manager, for it owns memory."""

    def __init__(self, library: ctypes.CDLL, *, capacity_samples: int, channels: int) -> None:
        """ValueError where the constructor throws."""
        self.library = library
        self.channels = channels
        self.handle = library.attacca_ring_new(capacity_samples, channels)
        if not self.handle:
            raise ValueError("refused")

    def __enter__(self) -> NativeRing:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.attacca_ring_free(self.handle)

    @property
    def read_end(self) -> int:
        return int(self.library.attacca_ring_read_end(self.handle))

    def write(self, position: int, samples: Samples, *, committed: bool, generation: int) -> int:
        block = _interleaved(samples, self.channels)
        return int(
            self.library.attacca_ring_write(
                self.handle, position, block.ctypes.data, len(block), committed, generation
            )
        )

    def read(self, position: int, count: int) -> Reading:
        """Into arrays full of rubbish: all of them must be overwritten."""
        samples = np.full((count, self.channels), np.nan, dtype=np.float32)
        sources = np.full(count, 77, dtype=np.uint8)
        generations = np.full(count, 77, dtype=np.int32)
        self.library.attacca_ring_read(
            self.handle, position, count, samples.ctypes.data, sources.ctypes.data, generations.ctypes.data
        )
        return Reading(samples=samples, sources=sources, generations=generations.astype(np.int64))

    def cut(self, position: int, generation: int) -> bool:
        return bool(self.library.attacca_ring_cut(self.handle, position, generation))

    def move_cut(self, instead_of: int, position: int, generation: int) -> bool:
        return bool(self.library.attacca_ring_move_cut(self.handle, instead_of, position, generation))

    def committed_until(self, position: int, limit: int) -> int:
        return int(self.library.attacca_ring_committed_until(self.handle, position, limit))

    def lookahead_samples(self) -> int:
        return int(self.library.attacca_ring_lookahead(self.handle))

    def counters(self) -> list[int]:
        """In the order of RING_COUNTERS."""
        counted = (c_int64 * len(RING_COUNTERS))()
        self.library.attacca_ring_counters(self.handle, counted)
        return list(counted)


class NativePlayback:
    """attacca::Playback on a ring; a context manager, for it owns memory."""

    def __init__(self, ring: NativeRing, *, sample_rate: int, history_s: float, max_repeats: int) -> None:
        self._ring = ring
        self._library = ring.library
        self._handle = self._library.attacca_playback_new(ring.handle, sample_rate, history_s, max_repeats)

    def __enter__(self) -> NativePlayback:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.attacca_playback_free(self._handle)

    def render(self, position: int, count: int, grid: Grid) -> Samples:
        def bar_lines(at: int, previous: ctypes.Array, present: ctypes.Array, following: ctypes.Array) -> int:
            lines = grid.bar_lines(at)
            if lines is None:
                return 0
            previous[0], present[0], following[0] = lines
            return 1

        wet = np.full((count, self._ring.channels), np.nan, dtype=np.float32)
        self._library.attacca_playback_render(
            self._handle, position, count, _BAR_LINES(bar_lines), _IS_LAUNCH(grid.is_launch), wet.ctypes.data
        )
        return wet

    def go_on_into(self, generation: int) -> None:
        self._library.attacca_playback_go_on_into(self._handle, generation)

    @property
    def sounding(self) -> bool:
        return bool(self._library.attacca_playback_sounding(self._handle))

    def counters(self) -> list[int]:
        """In the order of PLAYBACK_COUNTERS."""
        counted = (c_int64 * len(PLAYBACK_COUNTERS))()
        self._library.attacca_playback_counters(self._handle, byref(counted))
        return list(counted)


class NativeFifo:
    """attacca::AudioFifo; a context manager, for it owns memory."""

    def __init__(self, library: ctypes.CDLL, *, capacity_samples: int, channels: int) -> None:
        self._library = library
        self._channels = channels
        self._handle = library.attacca_fifo_new(capacity_samples, channels)

    def __enter__(self) -> NativeFifo:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.attacca_fifo_free(self._handle)

    def push(self, samples: Samples) -> bool:
        block = _interleaved(samples, self._channels)
        return bool(self._library.attacca_fifo_push(self._handle, block.ctypes.data, len(block)))

    def pop(self, count: int) -> Samples | None:
        samples = np.full((count, self._channels), np.nan, dtype=np.float32)
        popped = self._library.attacca_fifo_pop(self._handle, samples.ctypes.data, count)
        return samples if popped else None
