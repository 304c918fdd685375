"""What the fault tests and their picture play: a take in bars of four quarters, and an engine to kill and freeze.

Between fault_run.py, which runs the host, and those who measure what it recorded.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from clap_host import ClapHost, Script, bar_lines
from fault_run import TICK, Watched, free_address, watch
from index_engine import IndexEngine

from attacca.bridge.engine_process import EngineProcess

RATE, BLOCK = 48000, 512
# A bar of 49442.06 samples, no whole number, and 226.6 cycles of the tone: no bar fits the next by chance.
BPM = Fraction(233)
BAR = 4 * 60 * RATE / BPM
LAUNCH = Fraction(RATE, 2)  # the first bar line, in samples
START_PPQ = 4 - LAUNCH * BPM / (60 * RATE)
KILLED_S, FROZEN_S, THAWED_S = 1.7, 4.7, 7.7
AWAY_S = 0.7  # as long as a process takes to load; long enough for an attempt that meets nobody


def at(seconds: float) -> int:
    """A tick's position."""
    return round(seconds * RATE / TICK) * TICK


class Engine:
    """An engine that can be killed and started again at one address: the index engine, or what a user serves.

    The first index engine that is to follow stands by, loaded: a busy machine takes seconds to load one.
    """

    def __init__(self, *arguments: str, served: bool = False) -> None:
        self.address = free_address()
        self.returned: list[float] = []  # time.monotonic() when it was ready again, or thawed
        self._arguments = ("--address", self.address, *arguments)
        self._served = served
        self._following: IndexEngine | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Engine:
        self.start()
        if not self._served:
            self._following = self._stack.enter_context(self._index_engine(standby=True))
            self._following.stand_by()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        self._running: EngineProcess | IndexEngine
        if self._served:
            self._running = self._stack.enter_context(EngineProcess([*self._arguments, "--log-level", "error"]))
        elif self._following is None:
            self._running = self._stack.enter_context(self._index_engine(standby=False))
        else:
            self._running, self._following = self._following, None
            self._running.begin()
        self.returned.append(time.monotonic())

    def _index_engine(self, *, standby: bool) -> IndexEngine:
        return IndexEngine(*self._arguments, "--rates", str(RATE), standby=standby)

    def fault(self, **faults: float) -> dict[str, int]:
        """As IndexEngine.fault."""
        assert isinstance(self._running, IndexEngine)
        return self._running.fault(**faults)

    def restart(self) -> None:
        self._running.process.kill()
        self._running.process.wait()
        if self._following is not None:
            time.sleep(AWAY_S)
        self.start()

    def freeze(self) -> None:
        self._running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running.process.send_signal(signal.SIGCONT)
        self.returned.append(time.monotonic())


def script_of(clap: Path, seconds: float) -> Script:
    """A take from the first bar line on, held to the end, alone in the output."""
    script = Script(plugin=clap, rate=RATE, length=at(seconds), blocks=(BLOCK,)).play(START_PPQ, bpm=BPM)
    return script.at(0, "flush", "mix", 1).at(0, "wait", "connection", 1, 10).note(RATE // 4)


def lines_of(run: Watched) -> list[Fraction]:
    return bar_lines(len(run.audio), RATE, START_PPQ, BPM, (4, 4))


def killed_and_frozen(
    host: ClapHost, clap: Path, engine: Engine, *, seconds: float = 9.2, seed: int = -1, heard: Path | None = None
) -> tuple[Watched, list[int]]:
    """kill -9 in the second bar, a new engine at once; later nothing for three seconds.

    The run, and the positions at which the engine was back. `seed`: of the takes; -1: the engine chooses.
    `heard`: the plugin's input, float32 [n, 2]; silence if there is none.
    """
    deeds = {at(KILLED_S): engine.restart, at(FROZEN_S): engine.freeze, at(THAWED_S): engine.thaw}
    script = script_of(clap, seconds).at(0, "flush", "seed", seed)
    if heard is not None:
        script.set("input", "raw", heard)
    run = watch(host, script, deeds)
    return run, [run.position_at(time_s) for time_s in engine.returned[1:]]
