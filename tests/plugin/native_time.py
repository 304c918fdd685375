"""The plugin's time by ctypes: BarClock, EpochTracker and its Timeline (plugin_stub/tests/capi_time.cpp)."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_int32, c_int64, c_void_p
from dataclasses import dataclass

from scripted_transport import QUANTA, RENUMBER_SAMPLES, Row, row_of

from attacca.bridge.bar_clock import HostTime, Reading
from attacca.bridge.transport import Change

CHANGES = (
    Change.HELD,
    Change.STALE,
    Change.FIRST,
    Change.START,
    Change.STOP,
    Change.SEEK,
    Change.TEMPO,
    Change.METER,
    Change.RENUMBERED,
    Change.BEND,
)  # as plugin_stub/core/timeline.hpp numbers them


class FlatHost(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("valid", "tick_grid", "playing", "non_realtime", "has_loop")),
        *((name, c_int32) for name in ("meter_num", "meter_den", "notes")),
        *((name, c_double) for name in ("ppq", "bpm", "bar_start_ppq", "loop_start_ppq", "loop_end_ppq")),
        ("frame", c_int64),
    )

    @classmethod
    def of(cls, host: HostTime) -> FlatHost:
        start, end = host.loop or (0.0, 0.0)
        return cls(
            host.valid,
            host.tick_grid,
            host.playing,
            host.non_realtime,
            host.loop is not None,
            host.meter_num,
            host.meter_den,
            host.carried + 2 * host.misread,
            host.ppq,
            host.bpm,
            host.bar_start_ppq,
            start,
            end,
            host.frame,
        )

    def host(self) -> HostTime:
        return HostTime(
            valid=bool(self.valid),
            tick_grid=bool(self.tick_grid),
            playing=bool(self.playing),
            non_realtime=bool(self.non_realtime),
            loop=(self.loop_start_ppq, self.loop_end_ppq) if self.has_loop else None,
            ppq=self.ppq,
            bpm=self.bpm,
            bar_start_ppq=self.bar_start_ppq,
            meter_num=self.meter_num,
            meter_den=self.meter_den,
            frame=self.frame,
            carried=bool(self.notes & 1),
            misread=bool(self.notes & 2),
        )


class FlatReading(ctypes.Structure):
    _fields_ = (
        ("host", FlatHost),
        ("refined", c_int32),
        ("repaired_bar", c_int32),
        ("uncertainty_samples", c_double),
    )


class FlatBlock(ctypes.Structure):
    _fields_ = (
        ("change", c_int32),
        ("sent", c_int32),
        *((name, c_int64) for name in ("epoch", "sent_epoch", "sent_position")),
        ("sent_host", FlatHost),
        ("drift_samples", c_double),
    )


class FlatSegment(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("epoch", "position", "bar_index")),
        *((name, c_double) for name in ("ppq", "bar_ppq", "bar_position", "offset", "loop_start", "loop_end")),
        ("has_loop", c_int32),
        ("playing", c_int32),
    )


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives the functions their types."""
    position, amount = c_int64, c_double
    table = {
        "clock_new": (c_void_p, c_double),
        "clock_free": (None, c_void_p),
        "clock_reset": (None, c_void_p),
        "clock_block": (None, c_void_p, position, POINTER(FlatHost), POINTER(FlatReading)),
        "tracker_new": (c_void_p, c_double, c_int64),
        "tracker_free": (None, c_void_p),
        "tracker_block": (None, c_void_p, position, POINTER(FlatHost), c_int32, POINTER(FlatBlock)),
        "tracker_drift_samples": (c_double, c_void_p, position, POINTER(FlatHost)),
        "tracker_segment": (c_int32, c_void_p, c_int32, POINTER(FlatSegment)),
        "tracker_bar_at": (c_int32, c_void_p, position, POINTER(c_int64), POINTER(c_double), POINTER(c_double)),
        "tracker_launch": (c_int32, c_void_p, position, c_int32, amount, POINTER(c_double), POINTER(c_int64)),
        "tracker_bars_after": (c_int32, c_void_p, position, c_int64, POINTER(c_double)),
        "tracker_ppq_at": (c_double, c_void_p, position),
        "tracker_host_ppq_at": (c_double, c_void_p, position),
        "tracker_position_of": (c_double, c_void_p, c_double),
        "nearest_sample": (c_int64, c_double),
    }
    for name, (result, *arguments) in table.items():
        function = getattr(library, f"attacca_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class NativeClock:
    """plugin_stub/core/bar_clock.hpp."""

    def __init__(self, library: ctypes.CDLL, sample_rate: int) -> None:
        self._library = declare(library)
        self._self = c_void_p(library.attacca_clock_new(sample_rate))

    def __del__(self) -> None:
        self._library.attacca_clock_free(self._self)

    def reset(self) -> None:
        self._library.attacca_clock_reset(self._self)

    def block(self, position: int, host: HostTime) -> Reading:
        out = FlatReading()
        self._library.attacca_clock_block(self._self, position, byref(FlatHost.of(host)), byref(out))
        return Reading(
            host=out.host.host(),
            refined=bool(out.refined),
            uncertainty_samples=out.uncertainty_samples,
            repaired_bar=bool(out.repaired_bar),
        )


@dataclass(frozen=True, kw_only=True)
class Told:
    """What EpochTracker::block did; `sent` as (epoch, position, host)."""

    change: Change
    epoch: int
    sent: tuple[int, int, HostTime] | None
    drift_samples: float


class NativeTracker:
    """plugin_stub/core/timeline.hpp; None where bridge/transport.py raises."""

    def __init__(self, library: ctypes.CDLL, sample_rate: int, first_epoch: int = 1) -> None:
        self._library = declare(library)
        self._self = c_void_p(library.attacca_tracker_new(sample_rate, first_epoch))

    def __del__(self) -> None:
        self._library.attacca_tracker_free(self._self)

    def block(self, position: int, host: HostTime, *, renumber: bool = False) -> Told:
        out = FlatBlock()
        self._library.attacca_tracker_block(self._self, position, byref(FlatHost.of(host)), renumber, byref(out))
        return Told(
            change=CHANGES[out.change],
            epoch=out.epoch,
            sent=(out.sent_epoch, out.sent_position, out.sent_host.host()) if out.sent else None,
            drift_samples=out.drift_samples,
        )

    def drift_samples(self, position: int, host: HostTime) -> float:
        return float(self._library.attacca_tracker_drift_samples(self._self, position, byref(FlatHost.of(host))))

    def segment(self, *, before: bool = False) -> FlatSegment | None:
        out = FlatSegment()
        return out if self._library.attacca_tracker_segment(self._self, before, byref(out)) else None

    def bar_at(self, position: int) -> tuple[int, float, float] | None:
        index, ppq, start = c_int64(), c_double(), c_double()
        found = self._library.attacca_tracker_bar_at(self._self, position, byref(index), byref(ppq), byref(start))
        return (index.value, ppq.value, start.value) if found else None

    def next_launch(self, position: int, amount: float, *, in_bars: bool) -> tuple[float, int] | None:
        ppq, start = c_double(), c_int64()
        launch = self._library.attacca_tracker_launch
        found = launch(self._self, position, in_bars, amount, byref(ppq), byref(start))
        return (ppq.value, start.value) if found else None

    def bars_after(self, position: int, bars: int) -> float | None:
        end = c_double()
        found = self._library.attacca_tracker_bars_after(self._self, position, bars, byref(end))
        return end.value if found else None

    def ppq_at(self, position: int) -> float:
        return float(self._library.attacca_tracker_ppq_at(self._self, position))

    def host_ppq_at(self, position: int) -> float:
        return float(self._library.attacca_tracker_host_ppq_at(self._self, position))

    def position_of(self, ppq: float) -> float:
        return float(self._library.attacca_tracker_position_of(self._self, ppq))


class NativeTime:
    """As scripted_transport.PythonTime."""

    def __init__(self, library: ctypes.CDLL, rate: int) -> None:
        self.clock = NativeClock(library, rate)
        self.tracker = NativeTracker(library, rate)
        self._library = library

    def block(self, position: int, host: HostTime) -> Row:
        reading = self.clock.block(position, host)
        moved = abs(self.tracker.drift_samples(position, reading.host)) >= RENUMBER_SAMPLES
        told = self.tracker.block(position, reading.host, renumber=moved)
        return row_of(reading, told.change, told.epoch, told.sent is not None, told.drift_samples)

    def ask(self, position: int) -> Row:
        tracker = self.tracker
        answers: Row = [tracker.ppq_at(position), tracker.host_ppq_at(position)]
        bar = tracker.bar_at(position)
        if bar is None:
            return [*answers, None]
        answers.append(list(bar))
        answers += [list(tracker.next_launch(position, amount, in_bars=bars) or ()) for bars, amount in QUANTA]
        after = tracker.bars_after(position, 3)
        assert after is not None
        return [*answers, after, int(self._library.attacca_nearest_sample(after))]
