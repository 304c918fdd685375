"""What rows cost in a step: its time as a + b * rows, and what arithmetic that is. For `attacca bench`.

Beside the path. Delay hands the graph one row for each guidance branch, stack-delay K + 1: whether that costs the
same hangs on what all rows share (a: weights and cache read, nodes) against what each adds (b: its arithmetic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import process_time_ns
from typing import Any

import numpy as np

from attacca.bridge.bench_rows import ClockNs
from attacca.bridge.bench_steps import random_codes
from attacca.engine.onnx_weights import Initializer
from attacca.engine.runtime import BRANCHES, PREFILL_ROWS, StepLane, StepRuntime

WANTED = 1.35  # stack-delay's step over delay's
_CODES = (".q8", ".q7", ".q4")
_PROBE = 384  # rows and columns of the product that the core's arithmetic is probed with


@dataclass(frozen=True, kw_only=True)
class Line:
    """Milliseconds of processor of a call by rows (both branches counted), and the line through them.

    `row_macs`: multiply-adds of a row in products and attention; `core_gmacs`: 10^9 of them a second that one
    thread does in a large product of floats. `ratio`: the line at stack-delay's rows over delay's.
    """

    model: str
    backend: str
    precision: str
    context: int
    rows: list[int]
    p50_ms: list[float]
    shared_ms: float
    row_ms: float
    row_macs: int
    core_gmacs: float
    delay_rows: int
    stack_rows: int
    ratio: float

    @property
    def wanted_row_ms(self) -> float:
        """What a row may add, for WANTED at what is shared now."""
        return self.shared_ms * (WANTED - 1.0) / (self.stack_rows - WANTED * self.delay_rows)


def line_of(
    runtime: StepRuntime,
    tensors: Sequence[Initializer],
    *,
    model: str,
    backend: str,
    precision: str,
    core_gmacs: float,
    rounds: int = 100,
    clock_ns: ClockNs = process_time_ns,
) -> Line:
    """Calls of 2 to 16 rows a branch, in turns, at a full window. Processor time: a busy machine bends it least."""
    shape = runtime.shape
    most = max(PREFILL_ROWS, shape.num_codebooks + 1)
    counts = sorted({2, 3, 4, 6, 8, 12, most, shape.num_codebooks + 1})
    lane = _filled(runtime)
    spent: dict[int, list[int]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            _run(lane, runtime, count)  # binds, and leaves every size the caches that it finds in use
            began = clock_ns()
            _run(lane, runtime, count)
            spent[count].append(clock_ns() - began)
    medians = [float(np.median(spent[count])) / 1e6 for count in counts]
    rows = [BRANCHES * count for count in counts]
    slope, shared = (float(value) for value in np.polyfit(rows, medians, 1))
    delay = BRANCHES * runtime.least_rows
    stack = BRANCHES * (shape.num_codebooks + 1)
    attention = 2 * shape.layers * shape.window * shape.heads * shape.head_dim
    return Line(
        model=model,
        backend=backend,
        precision=precision,
        context=shape.window,
        rows=rows,
        p50_ms=[round(value, 4) for value in medians],
        shared_ms=round(shared, 4),
        row_ms=round(slope, 5),
        row_macs=product_macs(tensors) + attention,
        core_gmacs=round(core_gmacs, 2),
        delay_rows=delay,
        stack_rows=stack,
        ratio=round((shared + slope * stack) / (shared + slope * delay), 3),
    )


def product_macs(tensors: Sequence[Initializer]) -> int:
    """Multiply-adds of a row in the layers' products: the elements of their matrices, two to a byte in 4 bits."""
    found = 0
    for tensor in tensors:
        matrix = tensor.name.endswith((".weight", *_CODES)) and ".norm" not in tensor.name
        if tensor.name.startswith("layers.") and matrix:
            found += tensor.elements * (2 if tensor.name.endswith(".q4") else 1)
    return found


def core_gmacs(rounds: int = 12) -> float:
    """10^9 multiply-adds a second of one thread in a large product of floats, the best of some rounds.

    By processor time, which counts all threads that numpy takes for it.
    """
    a = np.random.default_rng(0).standard_normal((_PROBE, _PROBE)).astype(np.float32)
    best = 0.0
    for _ in range(rounds):
        began = process_time_ns()
        for _ in range(4):
            a @ a
        best = max(best, 4.0 * _PROBE**3 / max(1, process_time_ns() - began))
    return best


def _filled(runtime: StepRuntime) -> StepLane:
    """A lane whose window is full of random rows."""
    lane, shape = runtime.lane(), runtime.shape
    while lane.cache.count < shape.window:
        count = min(PREFILL_ROWS, lane.cache.room(lane.cache.count), shape.window - lane.cache.count)
        first = lane.cache.count
        _run(lane, runtime, count)
        lane.cache.keep(list(range(first, first + count)))
    return lane


def _run(lane: StepLane, runtime: StepRuntime, count: int) -> None:
    shape = runtime.shape
    first, books = lane.cache.count, shape.num_codebooks
    stack = random_codes(count, books, shape.codebook_size).astype(np.int64)
    level: Any = np.full(count, books)
    conditions = np.zeros((count, shape.conditioning_width), np.float32)
    chosen = np.minimum(np.arange(1, books + 1), count - 1)
    lane.run(stack, level, np.arange(first, first + count), conditions, slot=first, row_of_level=chosen)
