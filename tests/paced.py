"""Paced scenes on a busy machine: a verdict on real time counts unless the machine itself withheld the processor.

A thread beside the scene sleeps and wakes, and reads from the kernel how long it then had to wait for a processor.
A scene that fails although it never had to is a failure at once; one that failed while everybody had to wait is
played again, three times at most.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNS = 3
STARVED_S = 0.01  # a processor that is free, or held by short work, is had in a few ms
_EVERY_S = 0.01
_WAITED = Path("/proc/thread-self/schedstat")  # [ns on a processor, ns waiting for one, turns]


class Starvation:
    """A context manager: the longest wait for a processor while it was open."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Starvation:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = _waited_s()
        while not self._over.is_set():
            time.sleep(_EVERY_S)
            after = _waited_s()
            self.longest_s = max(self.longest_s, after - before)
            before = after


def _waited_s() -> float:
    try:
        return int(_WAITED.read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # a system that does not tell
        return 0.0


def paced(test: Callable[..., None]) -> Callable[..., None]:
    """A test that is played again where it failed while the processor was withheld."""

    @functools.wraps(test)
    def played(*args: Any, **kwargs: Any) -> None:
        for run in range(1, RUNS + 1):
            with Starvation() as starvation:
                try:
                    test(*args, **kwargs)
                except (AssertionError, TimeoutError):
                    if run == RUNS or starvation.longest_s < STARVED_S:
                        raise
                else:
                    return

    return played
