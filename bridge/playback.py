"""Playback: what sounds of the ring, block by block, without a gap or a click, whatever arrived.

Sits on the audio thread between the position ring and the output. A take enters silence sample-exactly at its
launch; every other change of source (a late join, a repeat, a take in place of another, a new epoch, an end) is
declicked: the old source lives on for 2 ms (10 ms into silence) as its own mirror image, fading out, while the new
one fades in. Missing audio is bridged by a ladder: the plan, else the last whole bar in phase, else a fade; each
rung is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from attacca.bridge.ring import COMMITTED, MISSING, NOTHING, PLANNED, PositionRing, Samples

_JOIN_S = 0.002
_FADE_S = 0.010
_SILENT, _AUDIBLE_COMMITTED, _AUDIBLE_PLANNED, _REPEATED, _FADED = range(5)


class Grid(Protocol):
    """Bar lines and launch points of the stream; called from the audio thread."""

    def bar_lines(self, position: int) -> tuple[int, int, int] | None:
        """(previous bar's first sample, this bar's, next bar's) around `position`; None while it is unknown."""
        ...

    def is_launch(self, position: int) -> bool:
        """Whether a take may enter at `position` without a ramp: it is its launch point."""
        ...


@dataclass(kw_only=True)
class PlaybackCounters:
    """Holes, and what each rung of the ladder supplied. Written by the audio thread only.

    An underrun is a sample that was due after its take had entered; before that it is waited for.
    """

    underrun_callbacks: int = 0
    underrun_samples: int = 0
    waiting_samples: int = 0

    planned_samples: int = 0
    repeat_samples: int = 0
    fade_samples: int = 0
    planned_events: int = 0
    repeat_events: int = 0
    fade_events: int = 0
    joins: int = 0  # entries away from a launch point
    launches: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a take (in one epoch) first sounded."""

    position: int
    generation: int
    launch: bool


class Playback:
    """Renders the wet signal. Audio thread only, except the constructor; memory is fixed."""

    def __init__(self, ring: PositionRing, *, sample_rate: int, history_s: float, max_repeats: int = 4) -> None:
        """`history_s`: longest bar that can be repeated; `max_repeats`: bars before a repeat gives up and fades."""
        self.counters = PlaybackCounters()
        self.entries: list[Entry] = []
        self._ring = ring
        self._history: Samples = np.zeros((max(1, round(history_s * sample_rate)), ring.channels), dtype=np.float32)
        self._join_samples = max(1, int(_JOIN_S * sample_rate))
        self._fade_samples = max(1, int(_FADE_S * sample_rate))
        self._max_repeats = max_repeats
        self._tail: Samples = np.zeros((0, ring.channels), dtype=np.float32)
        self._fade_in = (1.0, 0.0)  # gain of the incoming source and its increment per sample
        self._kind = _SILENT
        self._generation = 0
        self._going_on_into = NOTHING
        self._solid_from: int | None = None  # the take has sounded without a hole since; None: not yet
        self._missing_from: int | None = None

    def render(self, position: int, count: int, grid: Grid) -> Samples:
        """The next `count` samples [count, channels] of the wet signal, from stream position `position`."""
        reading = self._ring.read(position, count)
        wet = reading.samples
        changed = np.flatnonzero((np.diff(reading.sources) != 0) | (np.diff(reading.generations) != 0)) + 1
        edges = [0, *changed.tolist(), count] if count else []
        underrun = self.counters.underrun_samples
        for low, high in pairwise(edges):
            source, generation = int(reading.sources[low]), int(reading.generations[low])
            self._run(wet[low:high], position + low, source, generation, grid)
        self.counters.underrun_callbacks += self.counters.underrun_samples > underrun
        return wet

    def join_gains(self, offset: int, count: int) -> npt.NDArray[np.float64]:
        """Gains [count] of a take that joined away from its launch, from `offset` samples after its entry."""
        gains: npt.NDArray[np.float64] = (np.arange(offset, offset + count) + 1.0) / self._join_samples
        return np.minimum(gains, 1.0)

    def go_on_into(self, generation: int) -> None:
        """That generation plays on what sounds: until it is there it is bridged, as a hole in the same take."""
        self._going_on_into = generation

    @property
    def sounding(self) -> bool:
        """Whether the take is heard, fallbacks included."""
        return self._kind in (_AUDIBLE_COMMITTED, _AUDIBLE_PLANNED, _REPEATED)

    def _run(self, out: Samples, position: int, source: int, generation: int, grid: Grid) -> None:
        """Fill `out`, samples of one source and generation, in place."""
        late = source == MISSING and self._solid_from is not None and generation == self._going_on_into
        if generation != self._generation and not late:
            self._generation, self._solid_from, self._missing_from = generation, None, None
            self._switch(_SILENT, position)
        if source in (COMMITTED, PLANNED):
            self._enter(out, position, source, grid)
        elif source == MISSING and (self._solid_from is not None or self._kind == _FADED):
            self.counters.underrun_samples += len(out)
            self._bridge(out, position, grid)
        else:
            self.counters.waiting_samples += len(out) * (source == MISSING)
            self._switch(_SILENT, position)
            self._emit(out, position)

    def _enter(self, out: Samples, position: int, source: int, grid: Grid) -> None:
        kind = _AUDIBLE_COMMITTED if source == COMMITTED else _AUDIBLE_PLANNED
        if self._solid_from is None:
            launch = self._kind != _FADED and grid.is_launch(position)
            self.counters.launches += launch
            self.counters.joins += not launch
            self.entries.append(Entry(position=position, generation=self._generation, launch=launch))
            del self.entries[:-64]
            self._switch(kind, position, clean=launch)
            self._solid_from = position
        else:
            self._switch(kind, position)
        self._missing_from = None
        if kind == _AUDIBLE_PLANNED:
            self.counters.planned_samples += len(out)
        self._emit(out, position)

    def _bridge(self, out: Samples, position: int, grid: Grid) -> None:
        """Bridge a hole: the last whole bar while there is one, then a fade."""
        if self._missing_from is None:
            self._missing_from = position
        done = 0
        while done < len(out):
            here = position + done
            found = self._repeat_source(here, grid)
            if found is None:
                self._switch(_FADED, here)
                self._solid_from = None
                self.counters.fade_samples += len(out) - done
                self._emit(out[done:], here)
                return
            source, length = found
            length = min(length, len(out) - done)
            self._switch(_REPEATED, here)
            out[done : done + length] = self._past(source, length)
            self.counters.repeat_samples += length
            self._emit(out[done : done + length], here)
            done += length

    def _repeat_source(self, position: int, grid: Grid) -> tuple[int, int] | None:
        """(position to copy from, samples until that changes), or None if no whole bar can be repeated."""
        lines = grid.bar_lines(position)
        if lines is None or self._solid_from is None or self._missing_from is None:
            return None
        previous, this, following = lines
        source = position - this + previous
        whole = previous >= self._solid_from
        kept = position - source <= len(self._history)
        left = self._missing_from + self._max_repeats * (this - previous) - position
        if not whole or not kept or left <= 0:
            return None
        # Bars differ by a sample where they are no whole number of samples; the last one then plays on by one.
        return source, min(following - position, position - source, left)

    def _switch(self, kind: int, position: int, *, clean: bool = False) -> None:
        """Change the source at `position`; `clean` lets the new one enter silence at full level at once."""
        if kind == self._kind:
            return
        was_silent = self._kind in (_SILENT, _FADED) and not len(self._tail)
        to_silence = kind in (_SILENT, _FADED)
        self.counters.planned_events += kind == _AUDIBLE_PLANNED
        self.counters.repeat_events += kind == _REPEATED
        self.counters.fade_events += kind == _FADED
        if not (to_silence and self._kind in (_SILENT, _FADED)):
            length = self._fade_samples if to_silence else self._join_samples
            steps = np.arange(1, length + 1, dtype=np.float32)[:, None] / np.float32(length)
            if not was_silent:
                self._tail = self._past(position - length, length)[::-1] * (1.0 - steps)
            self._fade_in = (1.0, 0.0) if to_silence or (clean and was_silent) else (0.0, 1.0 / length)
        self._kind = kind

    def _emit(self, out: Samples, position: int) -> None:
        """Apply fade-in and tail to `out` in place and remember it."""
        if self._kind in (_SILENT, _FADED):
            out[:] = 0.0
        gain, increment = self._fade_in
        if increment:
            gains = np.minimum(gain + increment * np.arange(1, len(out) + 1), 1.0).astype(np.float32)
            out *= gains[:, None]
            self._fade_in = (float(gains[-1]), increment) if gains[-1] < 1.0 else (1.0, 0.0)
        if len(self._tail):
            used = min(len(self._tail), len(out))
            out[:used] += self._tail[:used]
            self._tail = self._tail[used:]
        self._remember(position, out)

    def _remember(self, position: int, samples: Samples) -> None:
        capacity = len(self._history)
        kept = samples[-capacity:]
        start = position + len(samples) - len(kept)
        self._history[np.arange(start, start + len(kept)) % capacity] = kept

    def _past(self, position: int, count: int) -> Samples:
        """What sounded from `position`, a copy; positions before the stream's start are silence."""
        capacity = len(self._history)
        indices = np.arange(position, position + count)
        return self._history[indices % capacity] * (indices >= 0)[:, None].astype(np.float32)
