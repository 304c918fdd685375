"""The position ring: where chunks wait for the host, each sample in the slot of its own stream position.

Sits between the network thread, which writes what the engine sent, and the audio thread, which reads one block per
callback. One ring holds all channels interleaved, because two rings drift apart after an underrun. A slot carries a
tag (position and generation in one word), so a sample is heard at its position or never: late samples are discarded
and counted, not shifted, and an epoch cut is one store, not a sweep. Memory is fixed at construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # [n, channels]
Sources = npt.NDArray[np.uint8]  # [n], one of IDLE, MISSING, PLANNED, COMMITTED

IDLE: Final = 0  # nothing is due at this position
MISSING: Final = 1  # a sample is due and is not there
PLANNED: Final = 2  # not there, but a plan covers it
COMMITTED: Final = 3

NOTHING: Final = 0  # the generation in which no audio is due
_EMPTY: Final = -1
_GENERATION_BITS: Final = 16
_GENERATION_MASK: Final = (1 << _GENERATION_BITS) - 1
_MAX_CUTS: Final = 24
_PAST_CUTS: Final = 8
_SCAN_SAMPLES: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One block out of the ring."""

    samples: Samples  # [n, channels], zeros where nothing is
    sources: Sources  # [n]
    generations: npt.NDArray[np.int64]  # [n], what was due at each position

    @property
    def missing(self) -> int:
        """Samples that were due and not there, committed or planned."""
        return int(np.count_nonzero(self.sources == MISSING))


@dataclass(frozen=True)
class _Cut:
    position: int
    generation: int
    accepts_from: int  # at or before `position`: samples from here on are stored, since the cut may move back


class _Plane:
    """Samples and tags of one kind (committed or planned)."""

    def __init__(self, capacity_samples: int, channels: int) -> None:
        self.samples: Samples = np.zeros((capacity_samples, channels), dtype=np.float32)
        self.tags: npt.NDArray[np.int64] = np.full(capacity_samples, _EMPTY, dtype=np.int64)

    def store(self, position: int, samples: Samples, generation: int) -> None:
        """Invalidate, copy, validate: a reader that meets a half-written slot sees an empty one."""
        capacity = len(self.tags)
        offset = 0
        while offset < len(samples):
            slot = (position + offset) % capacity
            count = min(len(samples) - offset, capacity - slot)
            self.tags[slot : slot + count] = _EMPTY
            self.samples[slot : slot + count] = samples[offset : offset + count]
            self.tags[slot : slot + count] = _tags(position + offset, count, generation)
            offset += count


def _tags(position: int, count: int, generation: int) -> npt.NDArray[np.int64]:
    start = (position << _GENERATION_BITS) | (generation & _GENERATION_MASK)
    return start + (np.arange(count, dtype=np.int64) << _GENERATION_BITS)


class PositionRing:
    """Interleaved audio keyed by stream position; one writer thread, one reader thread.

    A *generation* names what is due from a position on (one take in one epoch); generation 0 is nothing. Positions
    are at least 0. In C++ the tags are std::atomic<int64_t> (release on store, acquire on load), the cut table is
    two fixed tables and an atomic index, and the counters are relaxed atomics.
    """

    def __init__(self, *, capacity_samples: int, channels: int) -> None:
        """Any thread, before the others start. ValueError outside the ranges named."""
        if not 1 <= capacity_samples <= 1 << 26:
            raise ValueError(f"PositionRing capacity_samples {capacity_samples} is outside 1..{1 << 26}")
        if not 1 <= channels <= 8:
            raise ValueError(f"PositionRing channels {channels} is outside 1..8")
        self.capacity_samples = capacity_samples
        self.channels = channels
        self._committed = _Plane(capacity_samples, channels)
        self._planned = _Plane(capacity_samples, channels)
        self._cuts: tuple[_Cut, ...] = (_Cut(0, NOTHING, 0),)  # ascending; replaced whole, by the reader only
        self._read_end = 0
        self.late_samples = 0  # committed, arrived after their position was read
        self.stale_samples = 0  # of a generation that is not due there
        self.early_samples = 0  # further ahead than the ring is long
        self.missing_callbacks = 0  # reads with at least one sample due and not there
        self.missing_samples = 0

    @property
    def read_end(self) -> int:
        """Any thread. Every position below it has been read."""
        return self._read_end

    def write(self, position: int, samples: Samples, *, committed: bool, generation: int) -> int:
        """Writer thread; never blocks. Store `samples` [n, channels] from `position`; returns how many were kept.

        Samples already read are late, those outside their generation's span are stale, those a whole ring ahead are
        early; all are discarded and counted (late ones only if committed: a late plan is no loss).
        """
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            raise ValueError(f"samples of shape {samples.shape}, the ring has {self.channels} channels")
        read_end, end = self._read_end, position + len(samples)
        last = min(end, read_end + self.capacity_samples)
        self.early_samples += min(max(end - last, 0), len(samples))
        kept = 0
        plane = self._committed if committed else self._planned
        for start, stop, due in _spans(self._cuts, position, last):
            if due != generation or generation == NOTHING:
                accepted = self._accepted_from(start, stop, generation)
                self.stale_samples += accepted - start
                start = accepted
            first = min(max(start, read_end), stop)
            if committed:
                self.late_samples += first - start
            plane.store(first, samples[first - position : stop - position], generation)
            kept += stop - first
        return kept

    def _accepted_from(self, start: int, stop: int, generation: int) -> int:
        """From where in [start, stop), in which something else is due, a generation's samples are stored."""
        for cut in self._cuts:
            if cut.generation == generation != NOTHING and stop <= cut.position:
                return min(max(start, cut.accepts_from), stop)
        return stop

    def read(self, position: int, count: int) -> Reading:
        """Reader thread; never blocks. The next `count` samples; counts what is missing.

        ValueError if `position` lies before what was already read (the stream position never goes back).
        """
        if position < self._read_end:
            raise ValueError(f"read at {position}, already read up to {self._read_end}")
        reading = self._look(position, count)
        self._read_end = position + count
        if missing := reading.missing:
            self.missing_callbacks += 1
            self.missing_samples += missing
        # Past cuts are kept for a while: they tell what comes late from what was never due.
        while len(self._cuts) > _PAST_CUTS and self._cuts[_PAST_CUTS].position <= self._read_end:
            self._cuts = self._cuts[1:]
        return reading

    def _look(self, position: int, count: int) -> Reading:
        samples = np.zeros((count, self.channels), dtype=np.float32)
        sources = np.zeros(count, dtype=np.uint8)  # IDLE
        generations = np.zeros(count, dtype=np.int64)
        for start, stop, generation in _spans(self._cuts, position, position + count):
            if generation == NOTHING:
                continue
            here = slice(start - position, stop - position)
            generations[here] = generation
            slots = np.arange(start, stop) % self.capacity_samples
            wanted = _tags(start, stop - start, generation)
            planned = self._planned.tags[slots] == wanted
            committed = self._committed.tags[slots] == wanted
            sources[here] = np.where(committed, COMMITTED, np.where(planned, PLANNED, MISSING))
            picked = np.where(committed[:, None], self._committed.samples[slots], self._planned.samples[slots])
            samples[here] = np.where((committed | planned)[:, None], picked, 0.0)
        return Reading(samples=samples, sources=sources, generations=generations)

    def cut(self, position: int, generation: int, *, instead_of: int | None = None) -> None:
        """Reader thread; never blocks. From `position` on only `generation` is due: all else there is forgotten.

        Later cuts are dropped with it, and those from `instead_of` on: what was to change there changes here, and
        may yet move back. ValueError if either was already read or too many cuts are pending.
        """
        first = position if instead_of is None else min(position, instead_of)
        if first < self._read_end:
            raise ValueError(f"cut at {first}, already read up to {self._read_end}")
        accepts = (cut.accepts_from for cut in self._cuts if cut.position == instead_of)
        accepts_from = min((first, *accepts))
        kept = tuple(cut for cut in self._cuts if cut.position < first)
        if len(kept) >= _MAX_CUTS:
            raise ValueError(f"more than {_MAX_CUTS} cuts pending at {position}")
        self._cuts = (*kept, _Cut(position, generation, accepts_from))

    def committed_until(self, position: int, limit: int) -> int:
        """Reader thread. First position in [position, limit) that is due and not committed; `limit` if none.

        Positions where nothing is due count as there: nobody waits for them.
        """
        for start, stop, generation in _spans(self._cuts, position, limit):
            if generation == NOTHING:
                continue
            for low in range(start, stop, _SCAN_SAMPLES):
                count = min(_SCAN_SAMPLES, stop - low)
                slots = np.arange(low, low + count) % self.capacity_samples
                lacking = np.flatnonzero(self._committed.tags[slots] != _tags(low, count, generation))
                if len(lacking):
                    return low + int(lacking[0])
        return limit

    def lookahead_samples(self) -> int:
        """Reader thread. Committed samples from the read position on, without a gap; 0 while nothing is due."""
        start = self._read_end
        stop = start + self.capacity_samples
        ends = [low for low, _, generation in _spans(self._cuts, start, stop) if generation == NOTHING]
        return self.committed_until(start, ends[0] if ends else stop) - start


def _spans(cuts: tuple[_Cut, ...], start: int, stop: int) -> list[tuple[int, int, int]]:
    """[start, stop) split at the cuts: (start, stop, generation). Before the first cut nothing is due."""
    spans = []
    if start < min(cuts[0].position, stop):
        spans.append((start, min(cuts[0].position, stop), NOTHING))
    for index, cut in enumerate(cuts):
        until = cuts[index + 1].position if index + 1 < len(cuts) else stop
        low, high = max(cut.position, start), min(until, stop)
        if low < high:
            spans.append((low, high, cut.generation))
    return spans
