"""An engine in a process of its own whose audio says where each sample belongs, with faults at the test's command.

The real server (bridge/server.py) with the fake backend at the host's own rates, one server a rate, so that nothing
is resampled: a sample that belongs at stream position n has the value n. `--tone` emits sound instead. With
`--relay` plugins connect to a relay that delays, stalls, drops, doubles and swaps what the engine says. As a script
it prints one JSON line of addresses, then answers each JSON line of faults on standard input with what was done.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import zmq

from attacca.bridge import protocol
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.server import Server
from attacca.engine.fake import FakeConfig, FakeModel

RATES: Final = (44100, 48000, 96000)
FRAMES_PER_S: Final = 50
_POLL_MS: Final = 5
_START_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the relay does to what the engine says. Chances are per chunk; `stall_s` holds everything once."""

    latency_ms: float = 0.0
    stall_s: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    seed: int = 0


class Relay:
    """Between plugins and one engine: a ROUTER in front, a DEALER per plugin behind. Its own thread."""

    def __init__(self, context: zmq.Context[Any], engine: str, address: str) -> None:
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self._context, self._engine = context, engine
        self._front = context.socket(zmq.ROUTER)
        self._front.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._front.bind(address)
        self.address = self._front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._behind: dict[bytes, zmq.Socket[Any]] = {}
        self._late: list[tuple[float, int, bytes, list[bytes]]] = []  # due at, in order, to whom, what
        self._numbers = itertools.count()
        self._held: dict[bytes, list[bytes]] = {}  # a chunk that its follower overtakes
        self._random = random.Random(0)
        self._stalled_until = 0.0
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def set(self, faults: Faults) -> None:
        """Any thread."""
        self._random = random.Random(faults.seed)
        self.faults = faults
        self._stalled_until = time.monotonic() + faults.stall_s

    def _run(self) -> None:
        while True:
            poller = zmq.Poller()
            for socket in (self._front, *self._behind.values()):
                poller.register(socket, zmq.POLLIN)
            ready = dict(poller.poll(_POLL_MS if self._late else 50))
            if self._front in ready:
                self._drain_front()
            for plugin, socket in list(self._behind.items()):
                if socket in ready:
                    self._drain(plugin, socket)
            self._send_due()

    def _drain_front(self) -> None:
        while self._front.poll(0):
            plugin, *frames = self._front.recv_multipart()
            message = protocol.decode(frames)[0]
            if isinstance(message, protocol.Midi):
                self.counts[f"midi {message.data.hex()} at {message.position}"] += 1
            if plugin not in self._behind:
                self._behind[plugin] = self._context.socket(zmq.DEALER)
                self._behind[plugin].setsockopt(zmq.IDENTITY, plugin)
                self._behind[plugin].connect(self._engine)
            self._behind[plugin].send_multipart(frames)

    def _drain(self, plugin: bytes, socket: zmq.Socket[Any]) -> None:
        while socket.poll(0):
            for frames in self._spoiled(plugin, socket.recv_multipart()):
                due = max(time.monotonic() + self.faults.latency_ms / 1000, self._stalled_until)
                heapq.heappush(self._late, (due, next(self._numbers), plugin, frames))

    def _spoiled(self, plugin: bytes, frames: list[bytes]) -> list[list[bytes]]:
        faults, held = self.faults, self._held.pop(plugin, None)
        if not isinstance(protocol.decode(frames)[0], protocol.Chunk):
            return [frames] if held is None else [held, frames]
        self.counts["chunks"] += 1
        if self._random.random() < faults.drop:
            self.counts["dropped"] += 1
            return [] if held is None else [held]
        if held is None and self._random.random() < faults.swap:
            self.counts["swapped"] += 1
            self._held[plugin] = frames
            return []
        doubled = self._random.random() < faults.double
        self.counts["doubled"] += doubled
        return [frames] * (1 + doubled) + ([] if held is None else [held])

    def _send_due(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, plugin, frames = heapq.heappop(self._late)
            self._front.send_multipart([plugin, *frames])


class IndexEngine:
    """The process, from outside; a context manager. `address(rate)` is what a plugin at that rate connects to.
    With `standby` all is loaded, but nobody can connect before `begin`."""

    def __init__(self, *arguments: str, standby: bool = False) -> None:
        self._arguments = (*arguments, "--standby") if standby else arguments
        self._standby = standby
        self._loaded = False
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not self._standby:
            self._addresses = json.loads(self._told())
        return self

    def stand_by(self) -> None:
        """Waits until all is loaded."""
        if not self._loaded:
            self._told()
        self._loaded = True

    def begin(self) -> None:
        """Of one that stands by: plugins can connect when this returns."""
        self.stand_by()
        assert self.process.stdin is not None
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()
        self._addresses = json.loads(self._told())

    def _told(self) -> str:
        timer = threading.Timer(_START_S, self.process.kill)
        timer.start()
        line = self._line()
        timer.cancel()
        if not line:
            raise RuntimeError(f"the index engine did not start (exit code {self.process.wait()})")
        return line

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def address(self, rate: int) -> str:
        """Where a plugin that runs at `rate` finds its engine."""
        return self._addresses[str(rate)]

    def fault(self, **faults: float) -> dict[str, int]:
        """Sets Faults of the relay (the default is none); what the relay has done to chunks so far, and the MIDI
        that plugins sent through it ("midi 903c40 at 3001")."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(Faults(**faults))) + "\n")  # type: ignore[arg-type]
        self.process.stdin.flush()
        counts: dict[str, int] = json.loads(self._line())
        return counts

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="model rates, one server each")
    parser.add_argument("--address", default="tcp://127.0.0.1:*", help="where plugins connect (of the first rate)")
    parser.add_argument("--tone", action="store_true", help="emit 220 Hz instead of indices")
    parser.add_argument("--relay", action="store_true", help="plugins connect to a relay with faults")
    parser.add_argument(
        "--standby", action="store_true", help="say so when all is loaded; go on at a line of input"
    )
    options = parser.parse_args()
    if options.standby:
        print("standing by", flush=True)
        sys.stdin.readline()
    context: zmq.Context[Any] = zmq.Context()
    servers, relays, addresses = [], [], {}
    for index, rate in enumerate(map(int, options.rates.split(","))):
        fake = FakeConfig(sample_rate=rate, hop_samples=rate // FRAMES_PER_S, tone=options.tone)
        outer = options.address if index == 0 else "tcp://127.0.0.1:*"
        inner = "tcp://127.0.0.1:*" if options.relay else outer
        config = replace(EndpointConfig(), address=inner, publish="tcp://127.0.0.1:*", max_sessions=64)
        servers.append(Server(FakeModel(manifest=fake), config=config).start())
        addresses[rate] = servers[-1].ready.address
        if options.relay:
            relays.append(Relay(context, addresses[rate], outer))
            addresses[rate] = relays[-1].address
    print(json.dumps(addresses), flush=True)
    for line in sys.stdin:
        counts: Counter[str] = Counter()
        for relay in relays:
            relay.set(Faults(**json.loads(line)))
            counts += relay.counts
        print(json.dumps(counts), flush=True)
    for server in servers:
        server.close()


if __name__ == "__main__":
    main()
