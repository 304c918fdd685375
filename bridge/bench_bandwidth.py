"""How fast this machine reads and writes memory: a STREAM-like probe in numpy, run beside what is judged by it.

Beside the path, for `attacca bench`. Buffers are larger than caches; a model that fits into those can read faster
than this, which its row then shows as a fraction above 1. The best of several rounds counts, as in STREAM: what
others do at the same time can only make it slower.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

BUFFER_BYTES = 256 << 20  # shared out among the threads
_ROUNDS = 5
Clock = Callable[[], float]


def probe(
    threads: Sequence[int], *, buffer_bytes: int = BUFFER_BYTES, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Bytes per second by number of threads: {"1": {"read": .., "copy": .., "triad": ..}, ..}.

    `read` is the fastest of several ways to read all bytes once; copy counts bytes read and written, triad
    (a = b + s c, in numpy's two passes) three read and two written.
    """
    return {str(count): _measured(count, buffer_bytes, clock) for count in sorted(set(threads))}


def _measured(threads: int, buffer_bytes: int, clock: Clock) -> dict[str, float]:
    words = max(1024, buffer_bytes // 8 // threads // 3)  # three buffers a thread
    parts = [[np.ones(words) for _ in range(3)] for _ in range(threads)]
    best = dict.fromkeys(("read", "copy", "triad"), 0.0)
    for name, (kernel, buffers) in _KERNELS.items():
        kind = name.partition(" ")[0]
        for _ in range(_ROUNDS):
            seconds = _together(kernel, parts, clock)
            best[kind] = max(best[kind], threads * words * 8 * buffers / seconds)
    return best


def _together(kernel: Callable[[Any, Any, Any], object], parts: list[Any], clock: Clock) -> float:
    """Seconds that one pass over every part takes, one thread for each."""
    if len(parts) == 1:
        began = clock()
        kernel(*parts[0])
        return max(clock() - began, 1e-9)
    gate = threading.Barrier(len(parts) + 1)

    def work(part: Any) -> None:
        gate.wait()
        kernel(*part)

    workers = [threading.Thread(target=work, args=(part,)) for part in parts]
    for worker in workers:
        worker.start()
    gate.wait()
    began = clock()
    for worker in workers:
        worker.join()
    return max(clock() - began, 1e-9)


def _triad(a: Any, b: Any, c: Any) -> None:
    np.multiply(c, 3.0, out=a)
    np.add(a, b, out=a)


# name -> (kernel, buffers' worth of bytes that it moves); numpy needs two passes for a triad, so five.
_KERNELS: dict[str, tuple[Callable[[Any, Any, Any], object], int]] = {
    "read maximum": (lambda a, b, c: np.maximum.reduce(a.view(np.float32)), 1),
    "read or": (lambda a, b, c: np.bitwise_or.reduce(a.view(np.uint64)), 1),
    "read count": (lambda a, b, c: np.count_nonzero(a.view(np.uint64)), 1),
    "copy": (lambda a, b, c: np.copyto(a, b), 2),
    "triad": (_triad, 5),
}
