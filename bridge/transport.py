"""Transport: from the host's snapshots to exact bar arithmetic, and back to stream positions.

First thing behind the protocol: triggers ask it where a launch falls, conditioning asks it for the beat, and the
plugin's half (bridge/epochs.py) decides with the same code what to send. All arithmetic is in `fractions.Fraction`;
only the very last step rounds to a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from . import protocol

TOLERANCE_S = Fraction(1, 1000)  # a snapshot further than this from the prediction ends the epoch
BEND_TOLERANCE_S = Fraction(5, 1000)  # the same where the tempo glides: it moves inside a host's longest block, too
_TIE_SAMPLES = Fraction(1, 65536)  # float noise of a host's ppq, in samples, with room to spare
_TEMPO_TOLERANCE_BPM = Fraction(1, 10**6)  # 0.03 ms an hour
_KEPT_SEGMENTS = 256


class Change(StrEnum):
    """What a snapshot does to the epoch: `held`, `stale` and `bend` leave it, every other kind ends it."""

    HELD = "held"
    STALE = "stale"  # of an epoch that has ended already
    FIRST = "first"
    START = "start"
    STOP = "stop"
    SEEK = "seek"  # off the prediction by more than 1 ms: a jump, or a loop of no whole number of bars
    TEMPO = "tempo"
    BEND = "bend"  # the tempo glides: another law from here on, the beat where it was predicted, the same epoch
    METER = "meter"
    RENUMBERED = "renumbered"  # the sender began a new epoch though the prediction holds

    @property
    def ends_epoch(self) -> bool:
        return self not in (Change.HELD, Change.STALE, Change.BEND)


def decimal(value: float) -> Fraction:
    """The shortest decimal that names this float: 123.45 is 2469/20, as the musician typed it."""
    return Fraction(repr(float(value)))


def nearest_sample(position: Fraction) -> int:
    """Nearest sample; a tie, to within 1/65536 of a sample, goes up, so that float noise cannot decide it."""
    return math.floor(position + Fraction(1, 2) + _TIE_SAMPLES)


def quantum_of(value: float) -> Fraction:
    """A launch grid as sent in floats, as the rational it means: 0.25, 0.3333333 (a triplet) and so on."""
    return Fraction(value).limit_denominator(192)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of the host's grid. Index 0 is the song's first; `position` is exact, not rounded."""

    index: int
    ppq: Fraction
    position: Fraction


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where a take starts: the exact grid line and its nearest sample."""

    ppq: Fraction
    position: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the host said of the block at `position` (samples); ppq in quarter notes, exact."""

    epoch: int
    position: int
    ppq: Fraction
    bpm: Fraction
    meter_num: int
    meter_den: int
    bar_ppq: Fraction
    playing: bool
    loop: tuple[Fraction, Fraction] | None = None
    non_realtime: bool = False

    @classmethod
    def of(cls, message: protocol.Transport) -> Snapshot:
        """From the wire; a loop that is no interval counts as none."""
        start, end = message.loop_start_ppq, message.loop_end_ppq
        loop = (Fraction(start), Fraction(end)) if start is not None and end is not None and start < end else None
        return cls(
            epoch=message.epoch,
            position=message.position,
            ppq=Fraction(message.ppq),
            bpm=decimal(message.bpm),
            meter_num=message.meter_num,
            meter_den=message.meter_den,
            bar_ppq=Fraction(message.bar_start_ppq),
            playing=message.playing,
            loop=loop,
            non_realtime=message.non_realtime,
        )

    @property
    def bar_quarters(self) -> Fraction:
        """Quarter notes in a bar."""
        return Fraction(4 * self.meter_num, self.meter_den)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A law: position -> ppq, for an epoch or until it is bent. `ppq` is *linear*: it runs on where a loop of whole
    bars wraps."""

    snapshot: Snapshot
    sample_rate: int
    bar: Bar  # the bar that holds the snapshot
    begun: int  # the first position that it holds for
    offset: Fraction = Fraction(0)  # linear ppq less host ppq, after the wraps so far
    loop: tuple[Fraction, Fraction] | None = None  # of whole bars, in host ppq

    @property
    def quarters_per_sample(self) -> Fraction:
        return self.snapshot.bpm / (60 * self.sample_rate)

    def ppq_at(self, position: int | Fraction) -> Fraction:
        """Linear ppq; constant while the host stands still."""
        if not self.snapshot.playing:
            return self.snapshot.ppq
        return self.snapshot.ppq + (position - self.snapshot.position) * self.quarters_per_sample

    def position_of(self, ppq: Fraction) -> Fraction:
        """Exact position of a linear ppq. ValueError while the host stands still."""
        if not self.snapshot.playing:
            raise ValueError("the host stands still: no ppq has a position")
        return self.snapshot.position + (ppq - self.snapshot.ppq) / self.quarters_per_sample

    def host_ppq(self, linear_ppq: Fraction) -> Fraction:
        """What the host itself would show for a linear ppq: wrapped at the loop's end."""
        host = linear_ppq - self.offset
        if self.loop is None:
            return host
        start, end = self.loop
        entered = self.snapshot.ppq - self.offset < end  # a play head beyond the loop never wraps
        return start + (host - start) % (end - start) if entered and host >= end else host

    def bar_of(self, ppq: Fraction) -> Bar:
        """The bar that holds a linear ppq. ValueError while the host stands still."""
        count = math.floor((ppq - self.bar.ppq) / self.snapshot.bar_quarters)
        start = self.bar.ppq + count * self.snapshot.bar_quarters
        return Bar(index=self.bar.index + count, ppq=start, position=self.position_of(start))

    def first_multiple(self, position: int, origin: Fraction, step: Fraction) -> Launch:
        """The first of origin + k * step whose nearest sample is at or after `position`."""
        count = math.ceil((self.ppq_at(position) - origin) / step) - 1
        while nearest_sample(self.position_of(origin + count * step)) < position:
            count += 1
        ppq = origin + count * step
        return Launch(ppq=ppq, position=nearest_sample(self.position_of(ppq)))


class Timeline:
    """Snapshots in, exact positions out. Not thread-safe: it belongs to the thread that feeds it."""

    def __init__(self, sample_rate: int) -> None:
        if not 1 <= sample_rate <= 768000:
            raise ValueError(f"sample rate {sample_rate} is outside 1..768000")
        self.sample_rate = sample_rate
        self.segments: list[Segment] = []

    @property
    def segment(self) -> Segment:
        """The present epoch's law. ValueError before the first snapshot."""
        if not self.segments:
            raise ValueError("no transport has been received")
        return self.segments[-1]

    @property
    def epoch(self) -> int:
        """Number of the present epoch; 0 before the first snapshot."""
        return self.segments[-1].snapshot.epoch if self.segments else 0

    @property
    def playing(self) -> bool:
        return bool(self.segments) and self.segments[-1].snapshot.playing

    @property
    def non_realtime(self) -> bool:
        return bool(self.segments) and self.segments[-1].snapshot.non_realtime

    def judge(self, snapshot: Snapshot) -> Change:
        """What `feed` would answer, without feeding."""
        if not self.segments:
            return Change.FIRST
        segment = self.segments[-1]
        last = segment.snapshot
        if snapshot.epoch < last.epoch:
            return Change.STALE
        if snapshot.playing != last.playing:
            return Change.START if snapshot.playing else Change.STOP
        if (snapshot.meter_num, snapshot.meter_den) != (last.meter_num, last.meter_den):
            return Change.METER
        error_s = max(self._error_s(segment, snapshot), self._bar_error_s(segment, snapshot))
        if abs(snapshot.bpm - last.bpm) > _TEMPO_TOLERANCE_BPM:
            bends = snapshot.playing and snapshot.epoch == last.epoch and error_s <= BEND_TOLERANCE_S
            return Change.BEND if bends else Change.TEMPO
        if error_s > TOLERANCE_S:
            return Change.SEEK
        return Change.HELD if snapshot.epoch == last.epoch else Change.RENUMBERED

    def feed(self, snapshot: Snapshot) -> Change:
        """Takes a snapshot in; says whether the epoch held, was bent, or why it ended. Which tempo may bend an
        epoch is the sender's to say (EpochTracker): one that may not comes with a new number."""
        change = self.judge(snapshot)
        if change is Change.HELD:
            self._follow_loop(snapshot)
        elif change is not Change.STALE:
            self.segments.append(self._begin(snapshot, change))
            del self.segments[:-_KEPT_SEGMENTS]
        return change

    def ppq_at(self, position: int | Fraction) -> Fraction:
        """Linear ppq of a stream position in the present epoch. ValueError before the first snapshot."""
        return self.segment.ppq_at(position)

    def host_ppq_at(self, position: int | Fraction) -> Fraction:
        """The ppq that the host shows there: as `ppq_at`, wrapped by the loop."""
        segment = self.segment
        return segment.host_ppq(segment.ppq_at(position))

    def position_of(self, ppq: Fraction) -> Fraction:
        """Exact stream position of a linear ppq. ValueError without transport, or while it stands still."""
        return self.segment.position_of(ppq)

    def bar_at(self, position: int | Fraction) -> Bar:
        """The bar that holds a stream position. ValueError without transport, or while it stands still."""
        segment = self.segment
        return segment.bar_of(segment.ppq_at(position))

    def next_launch(self, position: int, *, bars: Fraction | None, quarters: Fraction = Fraction(0)) -> Launch:
        """First grid line at or after `position`: every `bars` bars, counted from bar 0 in any meter, or, where
        `bars` is None, every `quarters` quarter notes of ppq; 0 of either is at once.

        ValueError without transport, or while it stands still and the quantum is not 0.
        """
        segment = self.segment
        quantum = quarters if bars is None else bars
        if quantum < 0:
            raise ValueError(f"quantum {quantum} is negative")
        if quantum == 0:
            return Launch(ppq=segment.ppq_at(position), position=position)
        if bars is None:
            return segment.first_multiple(position, Fraction(0), quarters)
        length = segment.snapshot.bar_quarters
        return segment.first_multiple(position, segment.bar.ppq - segment.bar.index * length, bars * length)

    def bars_after(self, position: int, bars: int) -> Fraction:
        """Exact position `bars` bars after a position, on the present grid. ValueError as for `position_of`."""
        segment = self.segment
        return segment.position_of(segment.ppq_at(position) + bars * segment.snapshot.bar_quarters)

    def _begin(self, snapshot: Snapshot, change: Change) -> Segment:
        length = snapshot.bar_quarters
        # Hosts are known to report a bar that does not hold the play head: only its phase is trusted then.
        start = snapshot.bar_ppq + math.floor((snapshot.ppq - snapshot.bar_ppq) / length) * length
        index = math.floor(start / length + Fraction(1, 10**6))
        if change in (Change.METER, Change.TEMPO, Change.BEND, Change.RENUMBERED) and snapshot.playing:
            # The bar count goes on through these; after a jump only the ppq can tell.
            before = self.segment
            linear = before.ppq_at(snapshot.position)
            if abs(before.host_ppq(linear) - snapshot.ppq) <= TOLERANCE_S * snapshot.bpm / 60:
                index = before.bar_of(linear + TOLERANCE_S * snapshot.bpm / 60).index
        position = (
            snapshot.position + (start - snapshot.ppq) * 60 * self.sample_rate / snapshot.bpm
            if snapshot.playing
            else Fraction(snapshot.position)
        )
        return Segment(
            snapshot=snapshot,
            sample_rate=self.sample_rate,
            bar=Bar(index=index, ppq=start, position=position),
            begun=snapshot.position,
            loop=_whole_bars(snapshot),
        )

    def _follow_loop(self, snapshot: Snapshot) -> None:
        segment = self.segments[-1]
        loop = _whole_bars(snapshot)
        if loop != segment.loop:
            # Moving or ending a loop changes what is predicted, not where the play head is: the bars run on.
            linear = segment.ppq_at(snapshot.position)
            law = replace(segment.snapshot, position=snapshot.position, ppq=linear)
            offset = linear - segment.host_ppq(linear)
            segment = replace(segment, snapshot=law, offset=offset, loop=loop)
        if snapshot.non_realtime != segment.snapshot.non_realtime:
            law = replace(segment.snapshot, non_realtime=snapshot.non_realtime)
            segment = replace(segment, snapshot=law)
        self.segments[-1] = segment

    def _error_s(self, segment: Segment, snapshot: Snapshot) -> Fraction:
        error = snapshot.ppq - segment.host_ppq(segment.ppq_at(snapshot.position))
        seconds = 60 / snapshot.bpm
        if segment.loop is not None:
            # At the seam the host may be a rounding before its wrap while the prediction is behind it.
            length = segment.loop[1] - segment.loop[0]
            near = TOLERANCE_S / seconds
            if min(abs(snapshot.ppq - edge) for edge in segment.loop) <= near:
                error = min(error, error - length, error + length, key=abs)
        return abs(error) * seconds

    def _bar_error_s(self, segment: Segment, snapshot: Snapshot) -> Fraction:
        """How far the host's bar grid has moved against ours; modulo a bar, since hosts report either neighbour."""
        length = snapshot.bar_quarters
        ours = segment.bar.ppq - segment.offset
        error = (snapshot.bar_ppq - ours) % length
        return min(error, length - error) * 60 / snapshot.bpm


def _whole_bars(snapshot: Snapshot) -> tuple[Fraction, Fraction] | None:
    """The loop if it is a whole number of bars, to float noise; else None: its wrap ends the epoch."""
    if snapshot.loop is None:
        return None
    bars = (snapshot.loop[1] - snapshot.loop[0]) / snapshot.bar_quarters
    whole = round(bars)
    if whole < 1 or abs(bars - whole) > Fraction(1, 10**6):
        return None
    return snapshot.loop[0], snapshot.loop[0] + whole * snapshot.bar_quarters
