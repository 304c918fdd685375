"""A host whose play head is an exact rational, told block by block with any rounding or lie, and what is asked of
the time behind it: BarClock and EpochTracker in a row, as the plugin has them, answering in plain numbers."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from attacca.bridge.bar_clock import BarClock, HostTime, Reading, drift_samples
from attacca.bridge.epochs import EpochTracker
from attacca.bridge.protocol import Transport
from attacca.bridge.transport import Snapshot, nearest_sample, quantum_of

Row = list[Any]
QUANTA = ((True, 1.0), (True, 4.0), (True, 0.5), (False, 1.0), (False, 0.25), (False, 0.3333333), (True, 0.0))
RENUMBER_SAMPLES = 0.5


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@dataclass(kw_only=True)
class ScriptedHost:
    """`ticks` per beat, 0 for an exact host; `rounding` floor, round or float32 (beats and tempo, as in LV2)."""

    rate: int
    bpm: Fraction = Fraction(120)
    meter: tuple[int, int] = (4, 4)
    ppq: Fraction = Fraction(0)
    frame: int = 0
    tells_frame: bool = True
    ticks: int = 0
    rounding: str = "floor"
    playing: bool = True
    loop: tuple[Fraction, Fraction] | None = None
    grid_from: Fraction = Fraction(0)  # a bar line; the bars of the present meter count from it
    bar_lie: Fraction = Fraction(0)  # quarters that the host adds to its bar start
    counts_early: bool = False  # the bar's number goes up one block too soon
    position: int = 0
    last_count: int = 0
    broken: dict[str, float] = field(default_factory=dict)  # fields told wrong in this block

    @property
    def bar_quarters(self) -> Fraction:
        return Fraction(4 * self.meter[0], self.meter[1])

    @property
    def bar_start(self) -> Fraction:
        return self.grid_from + math.floor((self.ppq - self.grid_from) / self.bar_quarters) * self.bar_quarters

    @property
    def next_bar_line(self) -> Fraction:
        """Exact stream position of the first true bar line after the play head."""
        left = self.bar_start + self.bar_quarters - self.ppq
        return self.position + left * 60 * self.rate / self.bpm

    def told(self) -> HostTime:
        start, beat = self.bar_start, Fraction(4, self.meter[1])
        beats = (self.ppq - start) / beat
        tick_grid = bool(self.ticks) or self.rounding == "float32"
        if self.ticks:
            half = Fraction(1, 2) if self.rounding == "round" else Fraction(0)
            beats = Fraction(math.floor(beats * self.ticks + half), self.ticks)
        if self.rounding == "float32":
            beats = Fraction(as_float32(float(beats)))
        early = (
            self.counts_early and beats * beat + self.last_count * self.bpm / (60 * self.rate) >= self.bar_quarters
        )
        start += self.bar_quarters * early
        bpm = float(self.bpm)
        host = HostTime(
            tick_grid=tick_grid,
            playing=self.playing,
            loop=None if self.loop is None else (float(self.loop[0]), float(self.loop[1])),
            ppq=float(start + beats * beat),
            bpm=as_float32(bpm) if self.rounding == "float32" else bpm,
            bar_start_ppq=float(start + self.bar_lie),
            meter_num=self.meter[0],
            meter_den=self.meter[1],
            frame=self.frame if self.tells_frame else -1,
        )
        return HostTime(**(vars(host) | self.broken)) if self.broken else host

    def advance(self, count: int) -> None:
        self.position, self.last_count = self.position + count, count
        if not self.playing:
            return
        self.frame += count
        self.ppq += count * self.bpm / (60 * self.rate)
        if self.loop is not None and self.ppq - count * self.bpm / (60 * self.rate) < self.loop[1]:
            while self.ppq >= self.loop[1]:
                length = self.loop[1] - self.loop[0]
                self.ppq -= length
                self.frame -= round(length * 60 * self.rate / self.bpm)

    def happen(self, event: str, value: Any) -> None:
        """Something that the musician does, or a lie of the host, before the next block is told."""
        if event == "locate":
            self.locate(Fraction(value))
        elif event == "bpm":
            self.bpm = Fraction(value)
        elif event == "meter":
            self.grid_from, self.meter = self.bar_start, value
        elif event == "loop":  # of so many bars from the present one on
            length = None if value is None else Fraction(value) * self.bar_quarters
            self.loop = None if length is None else (self.bar_start, self.bar_start + length)
        elif event == "lie":
            self.bar_lie = Fraction(value)
        else:
            setattr(self, event, value)

    def locate(self, ppq: Fraction) -> None:
        """Jump; `frame` follows as if the tempo had always been the present one."""
        self.ppq = ppq
        self.frame = max(0, math.floor(ppq * 60 * self.rate / self.bpm))


class Time(Protocol):
    """BarClock and EpochTracker of either language."""

    def block(self, position: int, host: HostTime) -> Row: ...
    def ask(self, position: int) -> Row: ...


def same(ours: Any, theirs: Any) -> bool:
    """Equal, floats to a few roundings, or to 1e-9 of whatever they count."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-15, abs_tol=1e-9)
    return type(ours) is type(theirs) and bool(ours == theirs)


def row_of(reading: Reading, change: str, epoch: int, sent: bool, drift: float) -> Row:
    host = reading.host
    told = [host.ppq, host.bpm, host.bar_start_ppq, host.meter_num, host.meter_den]
    clock = [reading.refined, reading.repaired_bar, reading.uncertainty_samples]
    return [str(change), epoch, sent, drift, *clock, *told]


class PythonTime:
    """The reference."""

    def __init__(self, rate: int) -> None:
        self.clock = BarClock(rate)
        self.tracker = EpochTracker(rate)

    def block(self, position: int, host: HostTime) -> Row:
        reading = self.clock.block(position, host)
        fields = transport_fields(reading.host)
        drift = float(drift_samples(self.tracker.timeline, self._snapshot(position, fields)))
        sent = self.tracker.block(position=position, **fields, renumber=abs(drift) >= RENUMBER_SAMPLES)
        return row_of(reading, self.tracker.change, self.tracker.epoch, sent is not None, drift)

    def _snapshot(self, position: int, fields: dict[str, Any]) -> Snapshot:
        start, end = fields["loop"] or (None, None)
        told = {name: value for name, value in fields.items() if name != "loop"}
        epoch = self.tracker.epoch
        return Snapshot.of(
            Transport(epoch=epoch, position=position, loop_start_ppq=start, loop_end_ppq=end, **told)
        )

    def ask(self, position: int) -> Row:
        """Bar, launches, three bars on, linear ppq and the host's ppq at a position; None where there is none."""
        timeline = self.tracker.timeline
        answers: Row = [float(timeline.ppq_at(position)), float(timeline.host_ppq_at(position))]
        if not timeline.playing:
            return [*answers, None]
        bar = timeline.bar_at(position)
        answers.append([bar.index, float(bar.ppq), float(bar.position)])
        for in_bars, amount in QUANTA:
            quantum = quantum_of(amount)
            launch = timeline.next_launch(
                position, bars=quantum if in_bars else None, quarters=Fraction(0) if in_bars else quantum
            )
            answers.append([float(launch.ppq), launch.position])
        after = timeline.bars_after(position, 3)
        return [*answers, float(after), nearest_sample(after)]


def transport_fields(host: HostTime) -> dict[str, Any]:
    names = ("ppq", "bpm", "meter_num", "meter_den", "bar_start_ppq", "playing", "loop", "non_realtime")
    return {name: getattr(host, name) for name in names}
