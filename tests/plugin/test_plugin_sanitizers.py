"""Ring, time, wire link and the whole plugin under ThreadSanitizer, AddressSanitizer and UBSan: with an engine,
with bad peers. The programs (plugin_stub/tests/programs) are built for it, once for each sanitizer."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from conftest import ROOT
from faulty_wire import GREETING, READY, HostilePeer, LossyProxy, framed

from attacca.bridge.endpoints import EndpointConfig
from attacca.bridge.server import Server
from attacca.engine.fake import FakeConfig, FakeModel

pytestmark = pytest.mark.plugin

SANITIZERS = {"thread": "thread", "address": "address,undefined"}
PROGRAMS = ("stress_ring", "stress_instance", "stress_link", "time_soak")
FLAGS = (
    "-O1 -g1 -fno-sanitize-recover=all -Wno-tsan"  # of GCC's: fences are not modelled; what they order is atomic
)
SOAK_BLOCKS = 20_000
SHORT_S, LONG_S = 3.0, 30.0
Run = Callable[..., dict[str, int]]


def built(name: str) -> Path:
    """The build folder; skips where a tool or the sanitizer's runtime is missing, fails as the compiler says."""
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the plugin cannot be built (docs/plugin.md)")
    sanitizer, folder = SANITIZERS[name], ROOT / "build" / f"sanitized-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    source, probe = folder / "probe.cpp", folder / "probe"
    source.write_text("int main() { return 0; }\n")
    linked = subprocess.run(
        ["c++", f"-fsanitize={sanitizer}", source, "-o", probe], capture_output=True, check=False
    )
    if linked.returncode or subprocess.run([probe], capture_output=True, check=False).returncode:
        pytest.skip(f"no runtime for -fsanitize={sanitizer} here: {linked.stderr[-200:]!r}")
    options = [
        *("-DATTACCA_FORMATS=OFF", "-DATTACCA_TESTS=ON", f"-DATTACCA_SANITIZE={sanitizer}"),
        *("-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={FLAGS}"),
    ]
    configure = ["cmake", "-S", str(ROOT / "plugin_stub"), "-B", str(folder), "-G", "Ninja", *options]
    for command in (configure, ["ninja", "-C", str(folder), *PROGRAMS]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    return folder


@pytest.fixture(scope="module", params=SANITIZERS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a program to its end: nothing may be reported; what it counted comes back by name."""
    folder = built(request.param)

    def run(name: str, *arguments: object) -> dict[str, int]:
        command = [str(folder / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert not done.returncode, (done.stdout + done.stderr)[-8000:]
        assert not done.stderr, done.stderr[-8000:]
        counted = (word.split("=") for word in done.stdout.split() if "=" in word)
        return {name: int(count) for name, count in counted}

    return run


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    config = EndpointConfig(address="tcp://127.0.0.1:*", publish="tcp://127.0.0.1:*")
    with Server(FakeModel(manifest=FakeConfig()), config=config) as running:
        yield running


@contextmanager
def echo() -> Iterator[str]:
    """A ROUTER that sends everything back; yields its address."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            if socket.poll(20):
                socket.send_multipart(socket.recv_multipart())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join()
        context.destroy(linger=0)


def check_instance(counted: dict[str, int], *, blocks_a_second: float, seconds: float) -> None:
    assert counted["wrong"] == 0
    assert counted["blocks"] > blocks_a_second * seconds, f"the run proved little: {counted}"


def check_music(counted: dict[str, int], seconds: float) -> None:
    """The session came about, and takes were heard, in real time and offline."""
    check_instance(counted, blocks_a_second=10, seconds=seconds)
    for what in ("chunks", "sounding", "offline"):
        assert counted[what] > 0, f"the run proved nothing of {what}: {counted}"


def test_two_threads_on_the_ring_never_hear_a_wrong_sample(run: Run) -> None:
    counted = run("stress_ring", SHORT_S)
    for what in ("committed", "planned", "missing", "cuts", "records", "fifo_samples", "rendered"):
        assert counted[what] > 0, f"the run proved nothing of {what}: {counted}"


def test_time(run: Run) -> None:
    run("time_soak", SOAK_BLOCKS)


def test_link_against_an_echo(run: Run) -> None:
    with echo() as address:
        counted = run("stress_link", address.replace("127.0.0.1", "localhost"), SHORT_S / 2)
    assert counted["back"] > 50
    assert counted["reopened"] > 0


def test_plugin_with_an_engine(run: Run, server: Server) -> None:
    check_music(run("stress_instance", server.ready.address, SHORT_S, 3), SHORT_S)


def test_plugin_with_a_peer_that_talks_rubbish(run: Run) -> None:
    chance = random.Random(7)
    rubbish = [framed(chance.randbytes(64), chance.randbytes(500)) for _ in range(300)]
    with HostilePeer([GREETING, READY, *rubbish], close=False) as peer:
        counted = run("stress_instance", peer.address, SHORT_S / 2, 5)
    check_instance(counted, blocks_a_second=10, seconds=SHORT_S / 2)
    assert counted["bad_messages"] > 0
    assert counted["chunks"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_long(run: Run, server: Server) -> None:
    """Ring, link and plugin for half a minute each, over a wire that loses, doubles and swaps messages."""
    assert run("stress_ring", LONG_S, 11)["committed"] > 0
    with echo() as address:
        assert run("stress_link", address, LONG_S, 11)["reopened"] > 0
    with LossyProxy(server.ready.address, 11, drop=0.1, hold=0.1, double=0.1) as proxy:
        check_music(run("stress_instance", proxy.address, LONG_S, 11), LONG_S)
