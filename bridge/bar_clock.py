"""BarClock: true bar lines from hosts that round their ticks or lie about bars; the slow, obvious reference.

Stands before `epochs.EpochTracker`: takes what the host said of a block, hands on what it meant. The native
plugin runs plugin_stub/core/bar_clock.cpp, which must give the same readings; all arithmetic here is in `Fraction`.

The fit, for hosts with a `tick_grid` while they play at one tempo: true ppq is c + position * quarters per sample,
and a reading r of a host that floors to ticks allows c in [r, r + tick) less the linear part. Which ticks the host
has is not told, so a set of tick lengths is carried, and one case without ticks (LV2's float32 beats); a length is
given up when a reading lies off its grid, or when its interval is empty while another's is not. Rounding to the
nearest tick moves the interval by half a tick and cannot be told from flooring but by the law through frame 0 =
ppq 0, which is taken wherever every reading allows it; what it showed of the host is remembered.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from .transport import Change, Snapshot, Timeline, decimal

# Most usual first.
TICKS_PER_BEAT: Final = (1920, 960, 480, 240, 192, 120, 96, 48, 24, 3840, 7680, 15360, 1000, 10000)
NO_TICKS: Final = len(TICKS_PER_BEAT)  # index of the case without ticks
_USUAL: Final = 1920  # a law through frame 0 may move the play head by a longer tick only once that has passed and
_SETTLED: Final = 4  # so many readings lay on its grid
_DRIFT: Final = Fraction(1, 50_000_000)  # a host's own tempo rounding, relative: intervals widen by this
_FLOAT32: Final = Fraction(1, 2**23)  # relative, with room to spare
_FLOAT64: Final = Fraction(1, 2**51)
_GRID_TICKS: Final = Fraction(1e-6)  # the double, as in C++
_BAR_SLACK: Final = Fraction(1e-6)  # of a bar: float noise in a host's bar start
_SNAP_QUARTERS: Final = 1e-5  # bar lines of a tick host lie on 64th notes, to this
_LIE_S: Final = Fraction(1, 5)  # whole bars off for longer are a jump
_MOST_PPQ: Final = 1e8  # a year and a half at 120 BPM
_FREE_BPM: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class HostTime:
    """Transport at a block's first sample, as plugin_stub/core/host_time.hpp has it."""

    valid: bool = True
    tick_grid: bool = False
    playing: bool = True
    non_realtime: bool = False
    loop: tuple[float, float] | None = None
    ppq: float = 0.0
    bpm: float = _FREE_BPM
    bar_start_ppq: float = 0.0
    meter_num: int = 4
    meter_den: int = 4
    frame: int = -1  # the host's own song position in samples; -1: not told
    carried: bool = False  # the host says ppq on change only (LV2): this one was carried on from its last
    misread: bool = False  # what was handed on before was not what the host meant: BarClock begins anew

    @property
    def bar_quarters(self) -> Fraction:
        """Quarter notes in a bar."""
        return Fraction(4 * self.meter_num, self.meter_den)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`host` made sane; `uncertainty_samples`: half-width of what the ticks still leave open."""

    host: HostTime
    refined: bool = False
    uncertainty_samples: float = 0.0
    repaired_bar: bool = False


@dataclass(kw_only=True)
class _Fit:
    law: tuple[float, int, int]  # bpm and meter
    position: int
    frame: int
    frame_told: bool
    start: int  # position of the first of `readings`
    readings: int
    intervals: dict[int, tuple[Fraction, Fraction]]  # by index into TICKS_PER_BEAT, or NO_TICKS; quarters, of c
    rounds_before: bool  # whether the host was known to round before these readings


def drift_samples(timeline: Timeline, snapshot: Snapshot) -> Fraction:
    """By how much the bar lines of a snapshot that holds lie after those of the present law; 0 for any other."""
    if timeline.judge(snapshot) is not Change.HELD or not snapshot.playing:
        return Fraction(0)
    segment, length = timeline.segment, snapshot.bar_quarters
    theirs = snapshot.bar_ppq - snapshot.ppq
    drift = (theirs - segment.bar.ppq + segment.ppq_at(snapshot.position)) % length
    return (drift - length if 2 * drift > length else drift) / segment.quarters_per_sample


def typed_bpm(bpm: float) -> float:
    """The tempo that was typed, where a host hands on a float32 of it; any other double as it is."""
    if _as_float32(bpm) != bpm:
        return bpm
    for places in range(8):
        scale = 10.0**places
        candidate = math.floor(bpm * scale + 0.5) / scale
        if _as_float32(candidate) == bpm:
            return candidate
    return bpm


def _as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class BarClock:
    """One call per block, in order. Never fails: nonsense becomes the free clock (120 BPM, 4/4 from position 0)."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.reset()

    def reset(self) -> None:
        """Forget everything, the host's ticks included."""
        self._last = HostTime(valid=False, playing=True)
        self._last_position = 0
        self._fit: _Fit | None = None
        self._excluded: set[int] = set()
        self._lying_from: int | None = None  # about the number of the bar
        self._rounds = False  # the host rounds to the nearest tick: known once the law through frame 0 has shown it

    def block(self, position: int, host: HostTime) -> Reading:
        """What the host meant by `host` for the block that begins at `position`."""
        if host.misread:
            self.reset()
        reading = self._sane(position, host)
        if reading.host.valid and host.tick_grid and host.playing and _is_ppq(host.ppq):
            reading = self._refined(position, self._without_lie(position, reading))
        else:
            self._fit, self._lying_from = None, None
        self._last, self._last_position = reading.host, position
        return reading

    def _sane(self, position: int, host: HostTime) -> Reading:
        if not host.valid:
            ppq = 2 * position / self.sample_rate
            bar = math.floor(ppq / 4) * 4.0
            free = HostTime(valid=False, non_realtime=host.non_realtime, ppq=ppq, bar_start_ppq=bar)
            return Reading(host=free)
        last = self._last
        bpm = host.bpm if 1.0 <= host.bpm <= 1000.0 else last.bpm
        meter = (host.meter_num, host.meter_den)
        if not (1 <= meter[0] <= 64 and meter[1] in (1, 2, 4, 8, 16, 32, 64)):
            meter = (last.meter_num, last.meter_den)
        loop = host.loop
        if loop is not None and not (_is_ppq(loop[0]) and _is_ppq(loop[1]) and loop[0] < loop[1]):
            loop = None
        bar = host.bar_start_ppq if _is_ppq(host.bar_start_ppq) else last.bar_start_ppq
        if host.tick_grid:
            bpm = typed_bpm(bpm)
            line = math.floor(bar * 16 + 0.5) / 16
            bar = line if abs(bar - line) <= _SNAP_QUARTERS else bar
        sane = replace(
            host,
            bpm=bpm,
            meter_num=meter[0],
            meter_den=meter[1],
            loop=loop,
            ppq=host.ppq if _is_ppq(host.ppq) else self._continued(position, bpm),
            bar_start_ppq=bar,
            frame=max(host.frame, -1),
        )
        held = _holding(sane)
        return Reading(host=held, repaired_bar=held is not sane or not _is_ppq(host.bar_start_ppq))

    def _continued(self, position: int, bpm: float) -> float:
        """Where the play head would be had it gone on from the last block."""
        passed = (position - self._last_position) * decimal(bpm) / (60 * self.sample_rate)
        return float(Fraction(self._last.ppq) + (passed if self._last.playing else 0))

    def _without_lie(self, position: int, reading: Reading) -> Reading:
        """Some hosts count a bar early or late: whole bars off, for a block or two, while `frame` goes on."""
        host, lying_from, self._lying_from = reading.host, self._lying_from, None
        lasts = lying_from is not None and position - lying_from >= _LIE_S * self.sample_rate
        if lasts or not self._goes_on(position, host) or not self._frame_told(position, host):
            return reading
        length = host.bar_quarters
        off = Fraction(host.ppq) - Fraction(self._continued(position, host.bpm))
        bars = math.floor(off / length + Fraction(1, 2))
        if bars == 0 or abs(off - bars * length) > Fraction(4, host.meter_den * min(TICKS_PER_BEAT)):
            return reading
        self._lying_from = position if lying_from is None else lying_from
        ppq, bar = Fraction(host.ppq) - bars * length, Fraction(host.bar_start_ppq) - bars * length
        return replace(reading, host=replace(host, ppq=float(ppq), bar_start_ppq=float(bar)), repaired_bar=True)

    def _frame_told(self, position: int, host: HostTime) -> bool:
        """Whether the host tells its song position, and not the same one again and again."""
        fit = self._fit
        return host.frame >= 0 and (fit is None or host.frame != fit.frame or position == fit.position)

    def _goes_on(self, position: int, host: HostTime) -> bool:
        """Whether this block follows from the one before: the same law, and no jump of the song position."""
        fit, told = self._fit, self._frame_told(position, host)
        if fit is None or (fit.law, fit.frame_told) != (_law(host), told):
            return False
        return not told or host.frame - fit.frame == position - fit.position

    def _refined(self, position: int, reading: Reading) -> Reading:
        host = reading.host
        speed = decimal(host.bpm) / (60 * self.sample_rate)  # quarters per sample
        fit = self._carried_on(position, host) or self._take_in(position, host, speed)
        linear = position * speed
        index, offset = self._choose(fit, speed, Fraction(4, host.meter_den))
        low, high = fit.intervals[index]
        refined = replace(host, ppq=float(offset + linear))
        return replace(
            reading,
            host=_holding(refined),
            refined=True,
            uncertainty_samples=float((high - low) / (2 * speed)),
        )

    def _carried_on(self, position: int, host: HostTime) -> _Fit | None:
        """What was not told says nothing new of the ticks: the law of the readings before goes on."""
        fit = self._fit
        if fit is None or not host.carried or not self._goes_on(position, host):
            return None
        fit.position, fit.frame = position, host.frame
        return fit

    def _take_in(self, position: int, host: HostTime, speed: Fraction) -> _Fit:
        """The fit with this reading in it, begun afresh where it does not follow from the ones before."""
        beats = (Fraction(host.ppq) - Fraction(host.bar_start_ppq)) * host.meter_den / 4  # in the bar
        noise_beats = (1 + abs(beats)) * _FLOAT32
        noise = noise_beats * Fraction(4, host.meter_den) + abs(Fraction(host.ppq)) * _FLOAT64
        self._give_up_grids(beats, noise_beats)
        offset = Fraction(host.ppq) - position * speed
        allowed = {}
        for index in range(NO_TICKS + 1):
            tick = Fraction(0) if index == NO_TICKS else Fraction(4, host.meter_den * TICKS_PER_BEAT[index])
            if index not in self._excluded:
                allowed[index] = (offset - noise, offset + tick + noise)
        fit, told = self._fit, self._frame_told(position, host)
        survivors: dict[int, tuple[Fraction, Fraction]] = {}
        start, readings, rounds_before = position, 1, self._rounds
        if fit is not None and self._goes_on(position, host):
            survivors = _intersected(fit.intervals, allowed, _DRIFT * abs(position - fit.position) * speed)
            if survivors:
                start, readings, rounds_before = fit.start, fit.readings + 1, fit.rounds_before
                self._excluded |= allowed.keys() - survivors.keys()
        self._fit = _Fit(
            law=_law(host),
            position=position,
            frame=host.frame,
            frame_told=told,
            start=start,
            readings=readings,
            intervals=survivors or allowed,
            rounds_before=rounds_before,
        )
        return self._fit

    def _choose(self, fit: _Fit, speed: Fraction, beat_quarters: Fraction) -> tuple[int, Fraction]:
        """Which interval is believed, and c: through frame 0 if any allows it, else the most usual one's middle."""
        through_zero = (fit.frame - fit.position) * speed
        passed = (fit.position - fit.start) * speed

        def allows(index: int, *, rounds: bool) -> bool:
            ticks_per_beat = _USUAL if index == NO_TICKS else TICKS_PER_BEAT[index]
            unproven = fit.readings < _SETTLED or passed < beat_quarters / ticks_per_beat
            if not fit.frame_told or (ticks_per_beat < _USUAL and unproven):
                return False
            moved = _half_tick(index, beat_quarters) if rounds else Fraction(0)
            low, high = fit.intervals[index]
            return low - moved <= through_zero <= high - moved

        for rounds in (False, True):
            for index in sorted(fit.intervals):
                if allows(index, rounds=rounds):
                    if fit.readings >= _SETTLED and not (
                        allows(index, rounds=False) and allows(index, rounds=True)
                    ):
                        self._rounds = rounds
                    return index, through_zero
        self._rounds = fit.rounds_before  # a law that these readings have refuted has shown nothing
        index = min(fit.intervals)
        middle = sum(fit.intervals[index], Fraction(0)) / 2
        return index, middle - _half_tick(index, beat_quarters) if self._rounds else middle

    def _give_up_grids(self, beats: Fraction, noise_beats: Fraction) -> None:
        """Ticks that this reading does not lie on are not the host's, for good; unless nothing would be left."""
        off = set()
        for index, ticks_per_beat in enumerate(TICKS_PER_BEAT):
            ticks = beats * ticks_per_beat
            if abs(ticks - math.floor(ticks + Fraction(1, 2))) > noise_beats * ticks_per_beat + _GRID_TICKS:
                off.add(index)
        self._excluded |= off
        if len(self._excluded) > NO_TICKS:
            self._excluded = off
            self._fit = None


def _law(host: HostTime) -> tuple[float, int, int]:
    return host.bpm, host.meter_num, host.meter_den


def _is_ppq(value: float) -> bool:
    return abs(value) <= _MOST_PPQ  # False for NaN


def _holding(host: HostTime) -> HostTime:
    """`host` where its bar holds the play head, to float noise; else with the bar of the same phase that does."""
    length = host.bar_quarters
    phase = Fraction(host.ppq) - Fraction(host.bar_start_ppq)
    if -_BAR_SLACK * length <= phase < length * (1 + _BAR_SLACK):
        return host
    return replace(host, bar_start_ppq=float(Fraction(host.bar_start_ppq) + math.floor(phase / length) * length))


def _half_tick(index: int, beat_quarters: Fraction) -> Fraction:
    return Fraction(0) if index == NO_TICKS else beat_quarters / (2 * TICKS_PER_BEAT[index])


def _intersected(
    before: dict[int, tuple[Fraction, Fraction]], now: dict[int, tuple[Fraction, Fraction]], widening: Fraction
) -> dict[int, tuple[Fraction, Fraction]]:
    both = {}
    for index in before.keys() & now.keys():
        low = max(before[index][0] - widening, now[index][0])
        high = min(before[index][1] + widening, now[index][1])
        if low <= high:
            both[index] = (low, high)
    return both
