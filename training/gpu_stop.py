"""Training that must end by a certain time: it saves, says so, and goes on with the same command.

For machines that are lent for minutes (training/gpu_run.py); used by codec_train and decoder_train.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

EXIT_UNFINISHED = 75  # "try again" of sysexits.h


class Stopped(Exception):
    """The time is over; all is saved."""


class Deadline:
    """Seconds from now, or never."""

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if seconds is not None and not seconds > 0:
            raise ValueError(f"stop_after_s is {seconds}, allowed: above 0")
        self._clock = clock
        self._end = math.inf if seconds is None else clock() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._end
