"""A second core for models whose steps fill the first: what else a take costs is computed beside the decode thread.

Under engine/rolling.py: while steps run, the next segment's decoder hears what they made; while a codec decodes,
steps go on. What is computed is the same to the bit as without; only the decode thread's calls wait for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from .generator import Codes
from .musicgen import PromptedDecoder
from .prompted import PromptedRuntime

Found = TypeVar("Found")
WANTED = ("auto", "on", "off")
LEAST_SHARE = 0.3  # of a frame's duration: from here on a step leaves too little for the rest on one core
_WORKERS = 2  # one hears, one steps; at most two threads of the three compute at a time, but for moments
_MEASURED_STEPS = 3


class Beside:
    """Threads for a model's own jobs; they start with the first."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="attacca-beside")

    def submit(self, job: Callable[[], Found]) -> Future[Found]:
        """Run a job as soon as a thread is free; jobs begin in the order in which they came."""
        return self._pool.submit(job)


class Hearing:
    """A decoder that is only listened with, for now: on other threads where there are any, in order."""

    def __init__(self, decoder: PromptedDecoder, beside: Beside | None) -> None:
        self._decoder, self._beside = decoder, beside
        self._pending: Future[None] | None = None
        self.frontier = decoder.frontier  # once all it was given is heard

    def hear(self, codes: Codes) -> None:
        """Append known frames [n, K]. Raises, where there are no other threads, what listening raises."""
        self.frontier += len(codes)
        if self._beside is None:
            self._listen(codes, None)
        else:
            before = self._pending
            self._pending = self._beside.submit(lambda: self._listen(codes, before))

    def settle(self) -> PromptedDecoder:
        """Wait until all is heard; the decoder, which is the caller's until more is given. Raises what failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
        return self._decoder

    def _listen(self, codes: Codes, before: Future[None] | None) -> None:
        if before is not None:
            before.result()
        self._decoder.listen(codes, np.zeros((len(codes), 0), np.float32))


def beside_for(
    runtime: PromptedRuntime,
    frame_s: float,
    wanted: str,
    *,
    cores: int | None = None,
    clock: Callable[[], float] = time.thread_time,
) -> Beside | None:
    """Threads for a model, if they are wanted; "auto": if there is another core and a step takes long enough.

    Load thread; "auto" measures a few steps, by the thread's own time, which minds no busy neighbour. ValueError if
    `wanted` is not in WANTED.
    """
    if wanted not in WANTED:
        raise ValueError(f"a second core is wanted {wanted!r}, allowed: {', '.join(WANTED)}")
    if wanted != "auto":
        return Beside() if wanted == "on" else None
    if (usable_cores() if cores is None else cores) < 2:
        return None
    return Beside() if step_s(runtime, clock) >= LEAST_SHARE * frame_s else None


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_s(runtime: PromptedRuntime, clock: Callable[[], float]) -> float:
    """The shortest of a few steps with half a window behind them, seconds."""
    books = runtime.shape.num_codebooks
    lane, kept = runtime.lane(), max(1, runtime.shape.window // 2)
    lane.cache.keep(list(range(kept)))
    stack = np.full((1, books), runtime.shape.codebook_size, np.int64)
    took = []
    for _ in range(_MEASURED_STEPS):
        began = clock()
        row = stack, np.zeros(1, np.int64), np.array([kept]), np.zeros((1, 0), np.float32)
        lane.run(*row, slot=kept, row_of_level=np.zeros(books, np.int64))
        took.append(clock() - began)
    return min(took)
