"""A row of `attacca bench`: what was measured, on what, and its tails. The one schema of every speed JSON.

Beside the path. benchmarks/ (peers, GPU) write the same rows, so that tables and plots read them all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

ClockNs = Callable[[], int]
ONNXRUNTIME, NATIVE = "onnxruntime-cpu", "native"  # backends of ours on a CPU, as rows have them
OURS = (NATIVE, ONNXRUNTIME)
FEWEST_FOR_P999 = 1000  # calls; of fewer, the 99.9th percentile is the longest but one at best


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured. It goes into every row, so that rows of several reports can stand in one table."""

    model: str
    pattern: str  # "stack-delay p=3"; "" where no decoder runs
    backend: str
    precision: str  # weights, and cache where it is not of floats: "int4, cache int8"
    threads: int
    rows: int  # of one decoder step, both guidance branches counted; 0 where no decoder runs
    context: int  # slots that a row attends to


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured thing. `first_ms` is the very first call; the rest is of steady calls."""

    name: str
    group: str  # step, codec, path, live
    call: str  # what one call is
    calls: int
    takes: int = 1
    busy: int = 0  # processes of others kept running beside it
    audio_ms: float | None  # of audio a call stands for
    first_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    rtf: float | None  # mean time of a call over the audio it stands for
    bytes_per_step: int | None = None  # weights and cache that a call must read
    bandwidth_fraction: float | None = None  # of what this machine reads from memory; above 1: from its caches
    subject: Subject


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A single figure that is no duration of calls: a count, a size, an error."""

    name: str
    value: float | None  # None: there is no answer on this machine
    unit: str
    of: str  # what it was measured on, and for how long


def as_json(row: Row) -> dict[str, Any]:
    """A row as the JSON has it: flat, with its subject's fields."""
    own = {field.name: getattr(row, field.name) for field in fields(row) if field.name != "subject"}
    return own | asdict(row.subject)


def timed(call: Callable[[Any], Any], arguments: Iterable[Any], clock_ns: ClockNs) -> tuple[list[Any], list[int]]:
    """Call with each argument; results and durations in ns."""
    results, spent_ns = [], []
    for argument in arguments:
        started = clock_ns()
        results.append(call(argument))
        spent_ns.append(clock_ns() - started)
    return results, spent_ns


def summarise(
    name: str,
    spent_ns: Sequence[int],
    *,
    group: str,
    call: str,
    subject: Subject,
    audio_ms: float | None,
    warm_up: int = 0,
    takes: int = 1,
    busy: int = 0,
    bytes_per_step: int | None = None,
    bandwidth: float | None = None,
) -> Row:
    """Durations of consecutive calls (ns) as a row; the first `warm_up` count only as the first output.

    `bandwidth`: bytes per second that this machine reads. ValueError without any call.
    """
    if not len(spent_ns):
        raise ValueError(f"{name}: nothing was measured")
    steady = np.asarray(spent_ns[min(warm_up, len(spent_ns) - 1) :], dtype=np.float64) / 1e6
    p50, p99, p999 = (float(np.percentile(steady, q)) for q in (50, 99, 99.9))
    fraction = None
    if bytes_per_step is not None and bandwidth:
        fraction = bytes_per_step / (p50 / 1e3) / bandwidth if p50 > 0 else float("inf")
    return Row(
        name=name,
        group=group,
        call=call,
        calls=len(steady),
        takes=takes,
        busy=busy,
        audio_ms=audio_ms,
        first_ms=spent_ns[0] / 1e6,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=float(steady.max()),
        rtf=float(steady.mean() / audio_ms) if audio_ms else None,
        bytes_per_step=bytes_per_step,
        bandwidth_fraction=fraction,
        subject=subject,
    )


MONOTONIC_NS: ClockNs = time.perf_counter_ns
