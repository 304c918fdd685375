"""Decoder steps, timed one by one: any pattern over a loaded graph, at a context that stays as long as it is said.

Beside the path, for `attacca bench`. What a step costs does not depend on what the weights learned, so a bundle is
timed under every pattern, and graphs of random weights stand for sizes that nobody trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacca.bridge.bench_rows import MONOTONIC_NS, ClockNs, Row, Subject, summarise
from attacca.engine.conditioning import ConditioningLayout, Controls, encode
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Codes, Conditions, ConditionSource, Generator, Sampling
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.runtime import BRANCHES, PREFILL_ROWS, StepRuntime

_PERIOD_S = 20.0  # ten bars
_SEGMENT = 64  # steps between two rollbacks that keep a context short
_FEWEST = 20  # steps after the warm-up, whatever the limit
PATTERNS = (("delay", 1), ("flat", 1), ("stack", 1), ("stack-delay", 1), ("stack-delay", 2), ("stack-delay", 3))


class Constant:
    """A condition source that commands the same everywhere: 120 BPM in 4/4, everyone plays.

    Its vectors are made once, so that what is timed is the step and not what a controller says.
    """

    def __init__(self, frames_per_second: float, layout: ConditioningLayout) -> None:
        self._table = _steady(round(_PERIOD_S * frames_per_second), 2.0 / frames_per_second, layout)

    def rows(self, first_frame: int, count: int) -> Conditions:
        """See ConditionSource."""
        found: Conditions = self._table[np.arange(first_frame, first_frame + count) % len(self._table)]
        return found


def _steady(count: int, quarters_per_frame: float, layout: ConditioningLayout) -> Conditions:
    ppq = np.arange(count, dtype=np.float64) * quarters_per_frame
    known = np.ones(count, dtype=np.bool_)
    return encode(
        Controls(
            ppq=ppq,
            bar_start_ppq=np.floor(ppq / 4.0) * 4.0,
            bpm=np.full(count, 120.0),
            meter_num=np.full(count, 4, dtype=np.int16),
            meter_den=np.full(count, 4, dtype=np.int16),
            pitch_classes=np.tile(np.isin(np.arange(12), (0, 4, 7)), (count, 1)),
            instruments=np.ones((count, 4), dtype=np.bool_),
            style=np.zeros(count, dtype=np.int16),
            beat_known=known,
            chord_known=known,
            instruments_known=known,
            style_known=known,
        ),
        layout,
    )


@dataclass(frozen=True, kw_only=True)
class StepJob:
    """What is to be timed. `context` counts cache slots; from the window on it is the window.

    After `limit_s` a row ends with the steps that it has, a few beyond the warm-up at least.
    """

    pattern: Pattern
    context: int
    steps: int
    warm_up: int = 20
    limit_s: float | None = None

    def __post_init__(self) -> None:
        if self.context < 1 or self.steps <= self.warm_up:
            raise ValueError(
                f"StepJob of {self.steps} steps at context {self.context}: more than {self.warm_up}, 1"
            )


def pattern_label(pattern: Pattern) -> str:
    """As a row has it."""
    return f"{pattern.name} p={pattern.p}" if pattern.name == "stack-delay" else pattern.name


def rows_of(pattern: Pattern) -> int:
    """Rows that a step hands to the graph, both guidance branches counted."""
    return BRANCHES * (pattern.num_codebooks + 1 if pattern.family == "stack" else 1)


def frames_at(pattern: Pattern, context: int) -> int:
    """Known frames that fill so many cache slots."""
    return max(1, context // (pattern.num_codebooks if pattern.name == "flat" else 1))


def time_steps(
    decoder: Generator,
    job: StepJob,
    *,
    window: int,
    codebook_size: int,
    source: ConditionSource,
    sampling: Sampling,
    clock_ns: ClockNs = MONOTONIC_NS,
) -> list[int]:
    """Nanoseconds of each of job.steps steps, or of those within its limit, after a context of random codes.

    A context below the window is held by rolling back, untimed, every few steps.
    """
    frames = frames_at(job.pattern, min(job.context, window))
    fill(decoder, random_codes(frames, job.pattern.num_codebooks, codebook_size), source)
    begin, held = decoder.frontier, job.context < window
    spent_ns: list[int] = []
    started, fewest = clock_ns(), job.warm_up + _FEWEST
    limit_ns = None if job.limit_s is None else 1e9 * job.limit_s
    while len(spent_ns) < job.steps:
        until = decoder.frontier + 2 * _SEGMENT  # never reached: every call is exactly one step
        began = clock_ns()
        if limit_ns is not None and len(spent_ns) >= fewest and began - started > limit_ns:
            break
        decoder.plan(until, source, sampling, max_steps=1)
        spent_ns.append(clock_ns() - began)
        if held and len(spent_ns) % _SEGMENT == 0:
            decoder.rollback(begin)
    return spent_ns


def fill(decoder: Generator, codes: Codes, source: ConditionSource) -> None:
    """Listen to codes, in pieces as prefill takes them."""
    for start in range(0, len(codes), PREFILL_ROWS):
        part = codes[start : start + PREFILL_ROWS]
        decoder.listen(part, source.rows(decoder.frontier, len(part)))


def random_codes(frames: int, num_codebooks: int, codebook_size: int) -> Codes:
    """The same ones every time."""
    return np.random.default_rng(0).integers(0, codebook_size, (frames, num_codebooks)).astype(np.uint16)


def step_row(
    runtime: StepRuntime,
    job: StepJob,
    subject: Subject,
    *,
    weights: int,
    cache_slot: int,
    frame_ms: float,
    source: ConditionSource,
    sampling: Sampling,
    bandwidth: float | None,
    decoder: Generator | None = None,
    clock_ns: ClockNs = MONOTONIC_NS,
) -> Row:
    """A row of a graph under the job's pattern. `weights` and `cache_slot`: bytes that a step and a slot are.

    `decoder` stands in for the plain PatternDecoder, as prompted models need.
    """
    shape = runtime.shape
    spent_ns = time_steps(
        decoder or PatternDecoder(runtime, job.pattern),
        job,
        window=shape.window,
        codebook_size=shape.codebook_size,
        source=source,
        sampling=sampling,
        clock_ns=clock_ns,
    )
    context = min(job.context, shape.window)
    return summarise(
        "decoder step",
        spent_ns,
        group="step",
        call="step",
        subject=replace(subject, pattern=pattern_label(job.pattern), rows=rows_of(job.pattern), context=context),
        audio_ms=frame_ms / job.pattern.steps_per_timestep,
        warm_up=job.warm_up,
        bytes_per_step=weights + context * cache_slot,
        bandwidth=bandwidth,
    )


def bundle_jobs(
    own: Pattern, window: int, *, steps: int, limit_s: float | None = None, every_pattern: bool = True
) -> list[StepJob]:
    """Own pattern at the window first, then shorter contexts, then all other patterns at the window."""
    contexts: Sequence[int] = (window, window // 2, window // 4)
    jobs = [StepJob(pattern=own, context=context, steps=steps, limit_s=limit_s) for context in contexts]
    for name, p in PATTERNS if every_pattern else ():
        pattern = make_pattern(name, own.num_codebooks, p=p)
        if pattern != own:
            jobs.append(StepJob(pattern=pattern, context=window, steps=steps, limit_s=limit_s))
    return jobs
