"""Measures of recorded output: which rung of the ladder each sample is, and whether a seam clicks.

Used by the fault tests. Bounds come from the recording itself: a declicked seam moves from sample to sample by no
more than its two sources do, plus what the crossfade moves; and it is no more of an event than music's own onsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from clap_host import nearest

JOIN_S, FADE_S = 0.002, 0.010  # bridge/playback.py
WINDOW, HOP = 256, 64
_SETTLED_SAMPLES = 8
_LONG_S = 0.02  # of equal samples, that are no chance
NOTHING, COMMITTED, REPEATED, SILENT = range(4)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Samples [start, stop) of one rung. A seam belongs to the rung that it leads to."""

    rung: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def bar_before(length: int, lines: Sequence[Fraction]) -> np.ndarray:
    """Of each position the one a bar earlier; -1 where there is none. `lines`: exact, ascending, in samples.

    Bars differ by a sample where they are no whole number of samples: the last sample of a longer one has no
    counterpart, and the shorter one is played on by a sample, which is the present bar's first.
    """
    sources = np.full(length, -1, np.int64)
    firsts = [nearest(line) for line in lines]
    for (previous, present), following in zip(pairwise(firsts), [*firsts[2:], length], strict=True):
        here = np.arange(present, min(following, length))
        sources[here] = here - present + previous
    return sources


def repeated(audio: np.ndarray, lines: Sequence[Fraction]) -> np.ndarray:
    """Whether each sample [n] is exactly the one a bar before it, and not silence."""
    sources = bar_before(len(audio), lines)
    same: np.ndarray = (sources >= 0) & (audio == audio[sources]) & (audio != 0)
    return same


def rungs(index: np.ndarray, lines: Sequence[Fraction], rate: int) -> list[Span]:
    """Spans of a recording [n] of the index engine, whose samples rise by one (exact in float32) while committed.

    AssertionError where a sample is on no rung and no seam explains it. A rung holds until a seam leaves it: what
    an engine that skipped whole bars commits may equal what was repeated before.
    """
    again, zero = repeated(index, lines), index == 0
    rising = np.concatenate([[False], np.diff(index) == 1])
    on = {COMMITTED: rising, REPEATED: again, SILENT: zero}
    leads_to = {COMMITTED: (REPEATED, SILENT, COMMITTED), REPEATED: (COMMITTED, SILENT), SILENT: (COMMITTED,)}
    heard = int(np.argmax(~zero)) if not zero.all() else len(index)
    spans, rung, start = [Span(rung=NOTHING, start=0, stop=heard)], COMMITTED, heard
    settled = heard  # where the seam into this rung ends
    while start < len(index):
        left = np.flatnonzero(~on[rung][settled + 1 :])
        stop = settled + 1 + int(left[0]) if len(left) else len(index)
        spans.append(Span(rung=rung, start=start, stop=stop))
        start, before = stop, rung
        if stop < len(index):
            rung, settled = _settles(on, leads_to[before], stop, rate)
    return spans


def _settles(on: Mapping[int, np.ndarray], rungs: Sequence[int], start: int, rate: int) -> tuple[int, int]:
    """(rung that a seam leads to, where it ends)."""
    length = len(on[SILENT])
    for at in range(start, start + round(FADE_S * rate) + 1):
        for rung in rungs:
            held = on[rung][at + 1 : at + 1 + _SETTLED_SAMPLES]
            if held.all() and (rung == SILENT or at - start <= round(JOIN_S * rate) or at >= length):
                return rung, min(at, length - 1)
    raise AssertionError(f"samples from {start} on are on no rung of the ladder")


def repeats(audio: np.ndarray, lines: Sequence[Fraction], rate: int) -> list[tuple[int, int]]:
    """[start, stop) of every stretch of any recording [n] that repeats the bar before it, with its first seam."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], repeated(audio, lines), [False]]).astype(np.int8)))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(low - round(JOIN_S * rate) + 1, high) for low, high in pairs if high - low >= _LONG_S * rate]


def flux(audio: np.ndarray) -> np.ndarray:
    """Spectral flux of samples [n], from frame to frame: growth of magnitudes, [(n - WINDOW) // HOP].

    Only above a sixteenth of the rate, where clicks are and tones are few.
    """
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1))[:, WINDOW // 16 :]
    return np.maximum(np.diff(magnitudes, axis=0), 0.0).sum(axis=1)


def hard_cuts(audio: np.ndarray, lines: Sequence[Fraction], rate: int) -> np.ndarray:
    """The recording as it would be without crossfades where a repeat begins and ends: what a click measures."""
    cut, sources, join = audio.copy(), bar_before(len(audio), lines), round(JOIN_S * rate)
    for start, stop in repeats(audio, lines, rate):
        for seam in (start, stop):
            cut[seam : seam + join] = audio[sources[seam : seam + join]]
    return cut


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """Steps between samples and spectral flux, at the seams and elsewhere."""

    seam_step: float
    clean_step: float  # the largest
    allowed_step: float  # that of the sources, and what a crossfade over JOIN_S adds
    seam_flux: float  # the largest, as `clean_flux`
    clean_flux: float


def clicks(audio: np.ndarray, near: np.ndarray, rate: int) -> Clicks:
    """Of samples [n]; `near`: where a seam may be. Leave out what comes before the music."""
    steps = np.abs(np.diff(audio))
    flow = flux(audio)
    starts = np.arange(len(flow)) * HOP  # of the earlier of two frames
    touched = np.array([near[start : start + HOP + WINDOW].any() for start in starts])
    clean_step, peak = float(steps[~near[1:]].max()), float(np.abs(audio).max())
    return Clicks(
        seam_step=float(steps[near[1:]].max(initial=0.0)),
        clean_step=clean_step,
        allowed_step=clean_step + 2 * peak / round(JOIN_S * rate),
        seam_flux=float(flow[touched].max(initial=0.0)),
        clean_flux=float(flow[~touched].max()),
    )


def near_seams(
    audio: np.ndarray, lines: Sequence[Fraction], rate: int, changes: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Whether each sample may belong to a seam: the ends of repeats, [start, stop) in which a meter saw a change,
    and what repeats one of those."""
    near, spread = np.zeros(len(audio), bool), round(FADE_S * rate)
    spans = [(edge, edge + 1) for repeat in repeats(audio, lines, rate) for edge in repeat]
    for start, stop in (*spans, *changes):
        near[max(start - 2, 0) : stop + spread] = True
    again, sources = repeated(audio, lines), bar_before(len(audio), lines)
    for _ in lines:
        near |= again & near[sources]
    return near
