"""A take under a tempo that glides, and which beat each of its frames was made for: tests and their picture.

The real session, engine and client in this thread (direct_engine.py), the fake backend emitting its sample index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from direct_engine import DirectEngine, connected

from attacca.bridge import protocol
from attacca.bridge.client import Client
from attacca.bridge.client_config import At
from attacca.bridge.host_transport import HostConfig, Tempo
from attacca.bridge.protocol import Trigger
from attacca.bridge.virtual_host import FlatOut, Recording, VirtualHost

RATE, BLOCK, HOP = 32000, 320, 640
AT = 3 * RATE  # where ramps begin
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))


class GlidingEngine(DirectEngine):
    """Its time is the stream's. `made`: by host position, the ppq for which a frame was made last."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.made: dict[int, float] = {}
        self.head = 0

    def exchange(self, frames: list[bytes]) -> list[list[bytes]]:
        message, _ = protocol.decode(frames)
        self.head = getattr(message, "position", 0)
        self._now = self.head / RATE - 0.06
        first = self.session is None
        answer = super().exchange(frames)
        if first and self.session is not None:
            self._listen_to(self.session.controls)
        return answer

    def _listen_to(self, controls: Any) -> None:
        commanded = controls.controls

        def noted(positions: np.ndarray) -> Any:
            found = commanded(positions)
            ahead = zip(np.round(positions).astype(int).tolist(), found.ppq.tolist(), strict=True)
            self.made |= {position: ppq for position, ppq in ahead if position > self.head}  # not what was heard
            return found

        controls.controls = noted


@dataclass(frozen=True, kw_only=True)
class Run:
    engine: GlidingEngine
    client: Client
    recording: Recording

    @property
    def wet(self) -> np.ndarray:
        return self.recording.wet[:, 0]

    def ppq_at(self, position: int) -> Fraction:
        """The host's own, as if the tempo of the block that holds it went on."""
        block = next(b for b in reversed(self.recording.blocks) if b.position <= position)
        return block.ppq + (position - block.position) * Fraction(block.host.bpm) / (60 * RATE)

    def position_of(self, ppq: int) -> int:
        """The first sample at or after it, by the tempo of the block before."""
        block = next(b for b in reversed(self.recording.blocks) if b.ppq <= ppq)
        return block.position + math.floor(
            (ppq - block.ppq) * 60 * RATE / Fraction(block.host.bpm) + Fraction(1, 2)
        )

    def beat_errors_ms(self, start: int, stop: int) -> np.ndarray:
        """Of every frame heard within [start, stop): how late its beat comes."""
        found = []
        for position in range(-(-start // HOP) * HOP, stop, HOP):
            true = self.ppq_at(position)
            late = float(true) - self.engine.made[position]
            found.append(1000.0 * late * 60.0 / self.recording.blocks[position // BLOCK].host.bpm)
        return np.array(found)


def ramp(low: int, high: int, seconds: float, *, at: int = AT, every: int = BLOCK) -> list[tuple[int, Any]]:
    """A tempo for every block, as hosts tell a line; ends with `high`."""
    steps = round(seconds * RATE / every)
    tempi = [Fraction(round(1000 * (low + (high - low) * n / steps)), 1000) for n in range(1, steps + 1)]
    return [(at + n * every, Tempo(bpm=bpm)) for n, bpm in enumerate(tempi)]


def played(
    script: list[tuple[int, Any]], seconds: float, *, bpm: int = 120, block: int = BLOCK, **fake: Any
) -> Run:
    engine = GlidingEngine(**fake)
    client = connected(engine, RATE)
    config = HostConfig(sample_rate=RATE, block_samples=block, bpm=Fraction(bpm))
    host = VirtualHost(config, clock=FlatOut(), non_realtime=False)
    recording = host.run(client, round(seconds * RATE), script=script)
    return Run(engine=engine, client=client, recording=recording)
