"""What cost grows with: the length of a take (it must not), takes at once, codebooks, context. For `attacca bench`.

Beside the path. Take length is measured here; the other series are read off rows that were measured anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacca.bridge.bench_rows import MONOTONIC_NS, ClockNs, Row
from attacca.bridge.bench_steps import fill, random_codes
from attacca.engine.generator import ConditionSource, Generator, Sampling

SEGMENTS = 10
_CHUNK_FRAMES = 8
CODEBOOKS_MARK = " K="  # in the name of a shape of random weights: how many codebooks


@dataclass(frozen=True, kw_only=True)
class Series:
    """Median cost of a call at each x."""

    against: str
    unit: str
    of: str  # what a call is
    x: list[float]
    p50_ms: list[float]


def growth(series: Series) -> float | None:
    """How many times the first cost the last one is."""
    return series.p50_ms[-1] / series.p50_ms[0] if len(series.p50_ms) > 1 and series.p50_ms[0] else None


def take_length(
    decoder: Generator,
    *,
    heard_frames: int,
    num_codebooks: int,
    codebook_size: int,
    frame_s: float,
    seconds: float,
    source: ConditionSource,
    sampling: Sampling,
    clock_ns: ClockNs = MONOTONIC_NS,
) -> Series:
    """Time of a planned frame over a take, after a context that fills the window, in SEGMENTS parts.

    Planned a chunk at a time: patterns complete frames in bursts.
    """
    fill(decoder, random_codes(heard_frames, num_codebooks, codebook_size), source)
    begin, frames = decoder.frontier, max(2 * _CHUNK_FRAMES, round(seconds / frame_s / SEGMENTS))
    x, p50 = [], []
    for part in range(SEGMENTS):
        spent_ns = []
        while (at := decoder.frontier) < begin + (part + 1) * frames:
            began = clock_ns()
            decoder.plan(at + _CHUNK_FRAMES, source, sampling)
            spent_ns.append((clock_ns() - began) / (decoder.frontier - at))
        x.append(round((decoder.frontier - begin) * frame_s, 3))
        p50.append(float(np.median(spent_ns)) / 1e6)
    return Series(against="take length", unit="s", of="frame", x=x, p50_ms=p50)


def series_of(rows: Sequence[Row]) -> list[Series]:
    """Those that rows give: takes at once, context and codebooks (of rows that differ in nothing else)."""
    whole = [row for row in rows if row.name == "whole path" and not row.busy]
    found = [_series("takes at once", "", "chunk of each take", whole, lambda row: row.takes)]
    steps = [row for row in rows if row.name == "decoder step"]
    if steps:
        first = steps[0].subject
        alike = [row for row in steps if replace(row.subject, context=first.context) == first]
        found.append(_series("context", "slots", "step", alike, lambda row: row.subject.context))
    books = [row for row in steps if CODEBOOKS_MARK in row.subject.model]
    books = [row for row in books if row.subject.backend == books[0].subject.backend]
    found.append(_series("codebooks", "", "step", books, lambda row: int(row.subject.model.rpartition("=")[2])))
    return [series for series in found if len(series.x) > 1]


def _series(against: str, unit: str, of: str, rows: Sequence[Row], x: Callable[[Row], int]) -> Series:
    points = sorted((x(row), row.p50_ms) for row in rows)
    return Series(
        against=against, unit=unit, of=of, x=[float(at) for at, _ in points], p50_ms=[cost for _, cost in points]
    )
