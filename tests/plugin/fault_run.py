"""A paced run of the CLAP host during which things are done to its engine, each at a sample of the run.

Between the fault tests and clap_host.py. The host says when it is there; what is to be done is done by a thread
beside, so that a slow start of an engine holds nothing up. Meters are noted every TICK samples.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clap_host import ClapHost, Played, Script

TICK = 1024  # samples; a multiple of the blocks
STATES = ("idle", "armed", "playing", "bridging", "late")  # bridge/params.py, meter `state`

Deed = Callable[[], object]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A run that has ended: what it gave, and when it was where."""

    played: Played
    positions: np.ndarray  # [ticks], samples
    times_s: np.ndarray  # [ticks], time.monotonic() at them

    @property
    def audio(self) -> np.ndarray:
        """The left channel [n]."""
        return self.played.audio[:, 0]

    def position_at(self, time_s: float) -> int:
        """Where the run was at that time of time.monotonic()."""
        return round(float(np.interp(time_s, self.times_s, self.positions)))

    def meter(self, name: str) -> np.ndarray:
        """[ticks]: a meter at every tick."""
        values = {int(m["position"]): m["values"][name] for m in self.played.report["marks"] if m["name"] == "tick"}
        return np.array([values[int(position)] for position in self.positions])

    @property
    def states(self) -> list[tuple[int, str]]:
        """(position, state's word) wherever it changed."""
        words = [STATES[round(value)] for value in self.meter("state")]
        changed = [i for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
        return [(int(self.positions[i]), words[i]) for i in changed]

    @property
    def changes(self) -> list[tuple[int, int]]:
        """[start, stop) of every tick during which the state changed."""
        return [(position - TICK, position) for position, _ in self.states[1:]]

    def connected_from(self, after: int) -> int:
        """First tick at or after a position at which the connection meter says connected."""
        return int(self.positions[(self.positions >= after) & (self.meter("connection") == 1)][0])


def watch(
    host: ClapHost, script: Script, deeds: Mapping[int, Deed], *, looked: Callable[[Path], None] | None = None
) -> Watched:
    """Runs a script in real time and does the deeds (by position) meanwhile; `looked` gets /proc of the host at
    every tick. AssertionError if the host fails."""
    script.set("pace", 1)
    for position in range(0, script.length, TICK):
        script.at(position, "mark", "tick").at(position, "say", f"tick {position}")
    for position in deeds:
        script.at(position, "say", f"deed {position}")
    process = host.start(script)
    ticks: list[tuple[int, float]] = []
    done: list[Future[object]] = []
    last = ""
    assert process.stdout is not None and process.stderr is not None
    with ThreadPoolExecutor(1) as doer:
        for line in process.stdout:
            word, _, position = line.strip().partition(" ")
            if word == "tick":
                ticks.append((int(position), time.monotonic()))
                if looked is not None:
                    looked(Path(f"/proc/{process.pid}"))
            elif word == "deed":
                done.append(doer.submit(deeds[int(position)]))
            else:
                last = line
        told = process.stderr.read()
        assert process.wait(10) == 0, f"exit code {process.returncode}: {told[-2000:]}"
    for deed in done:
        deed.result()
    process.stdout.close()
    process.stderr.close()
    played = host.played(last)
    positions, times = zip(*ticks, strict=True)
    return Watched(played=played, positions=np.array(positions), times_s=np.array(times))
