"""Engines that die, freeze, come late, lose messages or lie, under a whole native instance.

Whatever happens the output is finite and makes no step larger than a bound, every missing sample is counted, music
is back within a bar of the engine's return, and nothing is left over.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Native
from faulty_wire import GREETING, READY, HostilePeer, LossyProxy, framed
from native_instance import SocketPlugin
from paced import STARVED_S, Starvation, paced

from attacca.bridge import protocol
from attacca.bridge.client_config import At, HostBlock
from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.engine_process import EngineProcess
from attacca.bridge.host_transport import HostConfig
from attacca.bridge.protocol import Trigger
from attacca.bridge.server import Server
from attacca.bridge.virtual_host import BlockRecord, FlatOut, RealTime, Recording, VirtualHost
from attacca.engine.fake import FakeConfig, FakeModel

pytestmark = [pytest.mark.plugin, pytest.mark.timeout(300)]

RATE = 32000
BAR = RATE  # 4/4 at 240 BPM
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))
# As in tests/test_faults.py: the fake's tone moves by 0.0044 at most, a declick adds 0.0032, a second as much.
STEP_BOUND = 0.02
STOP_S = 0.4
# Half a second until the next attempt (zmtp_link.cpp), as much for a session and its take, then a bar line.
BACK_SAMPLES = 2 * BAR
SLOWEST_STOP_S = 2.0  # where the machine withheld the processor; as long as what the network thread could wait for


class Host:
    """A paced host with one plugin; remembers of each block how the plugin stood."""

    def __init__(self, plugin: SocketPlugin, *, clock: RealTime | None = None) -> None:
        config = HostConfig(sample_rate=RATE, block_samples=256, bpm=Fraction(240), start_ppq=Fraction(7, 2))
        self.plugin = plugin
        self.host = VirtualHost(config, clock=clock or RealTime(), non_realtime=False)
        self.sounding: list[tuple[int, bool]] = []  # (block's start, committed audio sounds)

    def play(self, seconds: float, *, trigger: bool = False) -> Recording:
        start = self.host.position
        script = [(start + 500, TRIGGER)] if trigger else []
        return self.host.run(self.plugin, start + round(seconds * RATE), script=script, on_block=self._note)

    def play_until(self, found: Callable[[], bool], timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not found():
            assert time.monotonic() < deadline, self.plugin.state
            self.play(0.05)

    def _note(self, block: BlockRecord) -> None:
        meters = self.plugin.meters
        self.sounding.append((block.position, bool(meters["sounding"]) and meters["lookahead_samples"] > 0))

    @property
    def sounds(self) -> bool:
        return self.sounding[-1][1]

    def first_sound(self, after: int) -> int:
        """Start of the first block at or after a position in which committed audio sounded."""
        return next(position for position, sounds in self.sounding if position >= after and sounds)


def check_sound(host: Host, wet: np.ndarray, *, bound: float | None) -> None:
    """Finite, without clicks, every missing sample on one rung of the ladder. `bound`: of the steps, if known."""
    meters = host.plugin.meters
    entered = int(np.flatnonzero(wet[:, 0])[0])
    assert np.isfinite(wet).all()
    assert bound is None or np.abs(np.diff(wet[entered:, 0])).max() < bound
    assert meters["underrun_samples"] == meters["repeat_samples"] + meters["fade_samples"]
    assert meters["missing_samples"] >= meters["underrun_samples"]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def engine_at(address: str, *arguments: str) -> Iterator[EngineProcess]:
    with EngineProcess(["--address", address, "--log-level", "warning", *arguments]) as running:
        yield running


def threads() -> set[str]:
    names = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            names.add(f"{task.name} {(task / 'comm').read_text().strip()}")
    return names


def until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits for it, but judges nothing."""
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


ENGINES = [
    pytest.param(["--fake"], id="fake"),
    pytest.param([], id="ostinato", marks=pytest.mark.slow),
]


@contextmanager
def engine_later(address: str, *arguments: str, pause_s: float = 0.0) -> Iterator[Callable[[], bool]]:
    """An engine that comes while the host plays on; yields whether it is ready."""
    ready, over = threading.Event(), threading.Event()

    def run() -> None:
        over.wait(pause_s)
        with engine_at(address, *arguments):
            ready.set()
            over.wait(120.0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.is_set
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("arguments", ENGINES)
@paced
def test_killed_in_a_take_and_started_again(native: Native, arguments: list[str]) -> None:
    """kill -9, a second of nothing, then a new engine on the same port: found soon, the take back at a bar line."""
    address = free_address()
    with SocketPlugin(native.library, address, rate=RATE) as plugin:
        host = Host(plugin)
        with engine_at(address, *arguments) as first:
            plugin.await_connection()
            host.play(2.0, trigger=True)
            host.play_until(lambda: host.sounds)
            first.process.kill()
            with engine_later(address, *arguments, pause_s=1.0) as ready:
                host.play_until(ready)
                returned = host.host.position
                host.play_until(lambda: host.sounds)
                recording = host.play(1.0)
                meters = plugin.meters
    assert meters["sessions_lost"] == 1
    assert meters["underrun_samples"] > 0
    check_sound(host, recording.wet, bound=STEP_BOUND if arguments else None)
    assert host.first_sound(returned) - returned <= BACK_SAMPLES


@pytest.mark.parametrize("arguments", ENGINES)
@paced
def test_frozen_for_three_seconds(native: Native, arguments: list[str]) -> None:
    """What comes for positions already played is dropped; the take is back within a bar of the thaw."""
    with (
        engine_at(free_address(), *arguments) as engine,
        SocketPlugin(native.library, engine.address, rate=RATE) as plugin,
    ):
        host = Host(plugin)
        plugin.await_connection()
        host.play(3.0, trigger=True)
        host.play_until(lambda: host.sounds)
        engine.process.send_signal(signal.SIGSTOP)
        host.play(3.0)
        assert plugin.state.startswith("bridging")
        engine.process.send_signal(signal.SIGCONT)
        returned = host.host.position
        host.play_until(lambda: host.sounds)
        recording = host.play(1.5)
        host.play_until(lambda: host.sounds)
    meters = plugin.meters
    assert meters["sessions_lost"] <= 1  # three heartbeats are three seconds: either way will do
    assert 2.0 * RATE < meters["underrun_samples"] < 4.0 * RATE
    check_sound(host, recording.wet, bound=STEP_BOUND if arguments else None)
    assert host.first_sound(returned) - returned <= BAR


@paced
def test_started_after_the_plugin(native: Native) -> None:
    """The take is triggered with nobody there; the engine that comes is told of it, and what was played before."""
    address = free_address()
    with SocketPlugin(native.library, address, rate=RATE) as plugin:
        host = Host(plugin)
        host.play(1.0, trigger=True)
        assert plugin.state == f"no engine at {address}"
        with engine_later(address, "--fake") as ready:
            host.play_until(ready)
            returned = host.host.position
            host.play_until(lambda: host.sounds)
            recording = host.play(0.5)
            assert plugin.meters["sessions_lost"] == 0
    assert np.isfinite(recording.wet).all()
    assert host.first_sound(returned) - returned <= BACK_SAMPLES


@pytest.mark.parametrize("seed", range(3))
@paced
def test_messages_lost_disordered_and_doubled(native: Native, seed: int) -> None:
    with (
        engine_at(free_address(), "--fake") as engine,
        LossyProxy(engine.address, seed, drop=0.15, hold=0.15, double=0.15) as proxy,
        SocketPlugin(native.library, proxy.address, rate=RATE) as plugin,
    ):
        host = Host(plugin)
        plugin.await_connection()
        recording = host.play(5.0, trigger=True)
    meters, counts = plugin.meters, proxy.counts
    assert min(counts["dropped"], counts["held"], counts["doubled"]) > 0
    # A chunk that was overtaken is missed first and disordered later; a doubled one is disordered; the last few may
    # still be on their way, or have no successor by which they would be missed.
    assert counts["dropped"] + counts["held"] - 3 <= meters["lost_chunks"] <= counts["dropped"] + counts["held"]
    assert abs(meters["disordered_chunks"] - counts["held"] - counts["doubled"]) <= 3
    assert meters["sessions_lost"] == 0
    check_sound(host, recording.wet, bound=STEP_BOUND)


def random_bytes(count: int) -> bytes:
    return random.Random(7).randbytes(count)


HELLO_ERROR = [bytes(frame) for frame in protocol.encode(protocol.Error(code="hello", text="x" * 512))]
PEERS = {
    "random bytes": ([random_bytes(100_000)], False),
    "silence": ([], False),
    "closes at once": ([], True),
    "a greeting and no more": ([GREETING], False),
    "a greeting, then random bytes": ([GREETING, random_bytes(300_000)], False),
    "garbage messages": ([GREETING, READY, *[framed(random_bytes(64), random_bytes(500))] * 2000], False),
    "a huge frame": ([GREETING, READY, b"\x02" + (2**62).to_bytes(8, "big") + bytes(1_000_000)], False),
    "endless frames": ([GREETING, READY, *[b"\x01\x7f" + bytes(127)] * 20_000], False),
    "refusals": ([GREETING, READY, *[framed(*HELLO_ERROR)] * 5000], False),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_hostile_peer_only_costs_counters(native: Native, name: str) -> None:
    """The input passes as it is, memory stays, and the plugin stops when it is told to."""
    script, close = PEERS[name]
    rng = np.random.default_rng(1)
    with HostilePeer(script, close=close) as peer, SocketPlugin(native.library, peer.address, rate=RATE) as plugin:
        plugin.set("mix", 0.5)
        host = Host(plugin, clock=FlatOut())
        host.play(0.1)
        before = resident_bytes()
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            dry = rng.standard_normal((256, 1)).astype(np.float32)
            wet = plugin.process(0, silent_host(), [], dry)
            np.testing.assert_array_equal(wet, dry)
            time.sleep(0.005)
        assert peer.accepted >= 1
        assert resident_bytes() - before < 30_000_000
        assert not plugin.meters["connected"]
        stop_soon(plugin)


def stop_soon(plugin: SocketPlugin) -> None:
    """Within STOP_S, unless the kernel says that the processor was withheld meanwhile."""
    with Starvation() as starvation:
        began = time.monotonic()
        plugin.stop()
        took_s = time.monotonic() - began
    assert took_s < STOP_S or (took_s < SLOWEST_STOP_S and starvation.longest_s >= STARVED_S), took_s


def silent_host() -> HostBlock:
    return HostBlock(ppq=0.0, bpm=120.0, playing=False)


@pytest.fixture
def server() -> Iterator[Server]:
    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with Server(FakeModel(manifest=FakeConfig()), config=config) as running:
        yield running


def test_started_and_stopped_fifty_times(native: Native, server: Server) -> None:
    """One session at a time, and nothing left over: no thread, no descriptor, no memory."""
    with SocketPlugin(native.library, server.ready.address, rate=RATE) as plugin:
        plugin.await_connection()
        plugin.stop()
        until(lambda: server.counts()["closed: bye"] == 1)
        time.sleep(0.1)  # the engine's end of the connection
        before = (threads(), descriptors())
        memory = 0
        for turn in range(50):
            plugin.start()
            plugin.start()
            plugin.await_connection()
            plugin.process(0, silent_host(), [], np.zeros((256, 1), np.float32))
            stop_soon(plugin)
            plugin.stop()
            assert plugin.state == "stopped"
            if turn == 30:  # a last 1.8 MB, once for all, come with the twentieth start or soon after
                memory = resident_bytes()
        assert resident_bytes() - memory < 1_000_000
        until(lambda: server.counts()["closed: bye"] == 51)
        until(lambda: threads() == before[0] and descriptors() <= before[1])
        assert threads() == before[0]
        assert descriptors() <= before[1]
        assert plugin.meters["sessions_lost"] == 0
    assert server.counts()["closed: bye"] == 51, server.counts()


def test_cut_off_fifty_times(native: Native) -> None:
    """A peer that lets go again and again: the same thread, no descriptor and no memory more."""
    with (
        HostilePeer([GREETING, READY], close=True) as peer,
        SocketPlugin(native.library, peer.address, rate=RATE),
    ):
        until(lambda: peer.accepted >= 10)
        before = (threads(), descriptors(), resident_bytes())
        until(lambda: peer.accepted >= 60, 60.0)
        assert peer.accepted >= 60
        assert threads() == before[0]
        assert descriptors() <= before[1] + 2  # one connection, at either end
        assert resident_bytes() - before[2] < 1_000_000


@pytest.mark.parametrize(
    ("address", "words"),
    [("udp://127.0.0.1:5", "is not an address"), ("tcp://127.0.0.1:1", "no engine at tcp://127.0.0.1:1")],
)
def test_without_an_engine_the_state_says_why(native: Native, address: str, words: str) -> None:
    with SocketPlugin(native.library, address, rate=RATE) as plugin:
        plugin.process(0, silent_host(), [], np.zeros((256, 1), np.float32))
        until(lambda: words in plugin.state)
        assert words in plugin.state


@paced
def test_the_state_follows_the_take(native: Native, server: Server) -> None:
    with SocketPlugin(native.library, server.ready.address, rate=RATE) as plugin:
        host = Host(plugin)
        plugin.await_connection()
        host.play(0.3)
        until(lambda: plugin.state == "listening")
        assert plugin.state == "listening"
        assert plugin.model == "fake"
        host.play(0.4, trigger=True)  # the next bar line is 0.8 s away
        until(lambda: plugin.state.startswith("armed for bar "))
        assert plugin.state.startswith("armed for bar ")
        host.play_until(lambda: plugin.state == "playing")
