"""Where and how urgently the decode thread runs: priority, cores, locked memory; each asked for, none needed.

Beside the path: bridge/server.py places the decode thread by it, `attacca doctor` tells what is allowed here. What
the system refuses is reported and left out. With one thread a model, the decode thread is where all of it computes.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PRIORITIES = ("normal", "high", "realtime")
NICE = -10  # of "high"
FIFO = 10  # of "realtime": below the audio threads of hosts and sound servers
_LOCK_CURRENT, _LOCK_ON_FAULT = 1, 4  # mlockall, Linux
_LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What to ask of the system. No `cores`: any that this process may use."""

    priority: str = "normal"
    cores: tuple[int, ...] = ()
    lock_memory: bool = False

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise ValueError(f"Placement.priority {self.priority!r} is not one of {', '.join(PRIORITIES)}")
        if any(core < 0 for core in self.cores):
            raise ValueError(f"Placement.cores {self.cores} must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one request."""

    what: str
    done: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class System:
    """The calls, each for the calling thread or the whole process; OSError says why not."""

    nice: Callable[[int], None]
    fifo: Callable[[int], None]
    cores: Callable[[Sequence[int]], None]
    usable_cores: Callable[[], int]
    lock_memory: Callable[[], None]
    unlock_memory: Callable[[], None]


def parse_cores(text: str) -> tuple[int, ...]:
    """ "2,3" -> (2, 3); "" is none. ValueError on anything else."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"cores {text!r} are not numbers with commas between them, as in 2,3")
    return tuple(int(part) for part in parts)


def place(placement: Placement, system: System | None = None) -> list[Outcome]:
    """Ask for it, for the calling thread; memory for the process. Never raises what the system refuses."""
    system = system or host_system()
    outcomes: list[Outcome] = []
    if placement.cores:
        listed = ", ".join(map(str, placement.cores))
        outcomes.append(_try(f"cores {listed}", lambda: system.cores(placement.cores)))
    if placement.priority == "realtime":
        outcomes.append(_try("realtime priority", lambda: _fifo(system)))
    if placement.priority == "high" or (placement.priority == "realtime" and not outcomes[-1].done):
        outcomes.append(_try("high priority", lambda: system.nice(NICE)))
    if placement.lock_memory:
        outcomes.append(_try("locked memory", system.lock_memory))
    return outcomes


def allowed(system: System | None = None) -> list[Outcome]:
    """What `place` could do here, tried in a thread that ends, and undone."""
    system = system or host_system()
    outcomes: list[Outcome] = []

    def try_all() -> None:
        outcomes.append(_try("high priority", lambda: system.nice(NICE)))
        outcomes.append(_try("realtime priority", lambda: _fifo(system)))
        outcomes.append(_try("locked memory", system.lock_memory))
        if outcomes[-1].done:
            _try("", system.unlock_memory)

    thread = threading.Thread(target=try_all, name="placement")
    thread.start()
    thread.join()
    return outcomes


def host_system() -> System:
    """This machine's calls. Elsewhere than on Linux there are none for a single thread: all are refused."""
    if not _LINUX:
        return System(
            nice=_refuse,
            fifo=_refuse,
            cores=_refuse,
            usable_cores=lambda: os.cpu_count() or 1,
            lock_memory=_refuse,
            unlock_memory=_refuse,
        )
    return System(
        nice=lambda value: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), value),
        fifo=lambda value: os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(value)),
        cores=lambda cores: os.sched_setaffinity(0, cores),
        usable_cores=lambda: len(os.sched_getaffinity(0)),
        # Pages are locked as they are touched. Not those to come, which would fail where the limit is reached.
        lock_memory=lambda: _memory("mlockall", _LOCK_CURRENT | _LOCK_ON_FAULT),
        unlock_memory=lambda: _memory("munlockall"),
    )


def _fifo(system: System) -> None:
    """A thread that nothing interrupts must leave a core to everybody else."""
    if system.usable_cores() < 2:
        raise OSError("not on a single core")
    system.fifo(FIFO)


def _try(what: str, act: Callable[[], object]) -> Outcome:
    try:
        act()
    except (OSError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Outcome(what=what, done=False, found=f"refused: {reason}")
    return Outcome(what=what, done=True, found="granted")


def _refuse(*_: object) -> None:
    raise OSError(f"not offered on {sys.platform}")


def _memory(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
