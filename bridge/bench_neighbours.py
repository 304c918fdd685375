"""Busy neighbours: processes of our own that keep every core at work while something is measured beside them.

For `attacca bench`. They end with the block that started them, with their parent if that dies, and in any case
after `limit_s`.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

_SPIN = (
    "import os, sys, time\n"
    "parent, until = os.getppid(), time.monotonic() + float(sys.argv[1])\n"
    "while os.getppid() == parent and time.monotonic() < until:\n"
    "    sum(range(100_000))\n"
)


class Neighbours:
    """A context manager: `count` processes that compute without a pause."""

    def __init__(self, count: int, *, limit_s: float = 3600.0) -> None:
        if not 0 <= count <= 256:
            raise ValueError(f"neighbours {count} is outside 0..256")
        self.count = count
        self.processes: list[subprocess.Popen[bytes]] = []
        self._limit_s = limit_s

    def __enter__(self) -> Neighbours:
        command = [sys.executable, "-S", "-c", _SPIN, str(self._limit_s)]
        quiet = subprocess.DEVNULL
        for _ in range(self.count):
            self.processes.append(subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
