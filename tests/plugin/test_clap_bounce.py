"""Offline renders of the built CLAP: the same seed bounces to the same bytes, and what an absent engine costs.

With `attacca serve` and the model that comes with it in the slow tests, else with the index engine; an engine that
is not there yet, one that comes while the render runs, and one that never comes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Played, Script, host_of
from conftest import Formats, Native
from fault_run import free_address
from index_engine import IndexEngine
from stream_places import check_places

from attacca.bridge.demo_material import load_material
from attacca.bridge.engine_process import EngineProcess

pytestmark = [pytest.mark.plugin, pytest.mark.timeout(180)]

RATE = 48000
BPM = 120
BAR = 96_000
BOUNCE = 4 * BAR
CONTEXT_END = 2 * BAR
ABSENT_S = 8.0  # of all waits together; one is bounded by 10 s, the first meeting by 3 s


@dataclass(frozen=True, kw_only=True)
class Bench:
    host: ClapHost
    clap: Path

    def script(self, length: int, *, mix: float = 1.0) -> Script:
        script = Script(plugin=self.clap, rate=RATE, length=length, blocks=(1024,)).play(0, bpm=BPM)
        return script.set("render", "offline").at(0, "flush", "mix", mix)

    def at(self, address: str) -> ClapHost:
        return replace(self.host, environment={"ATTACCA_ENGINE": address})


@pytest.fixture(scope="module")
def bench(native: Native, formats: Formats, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(host=host_of(native, tmp_path_factory.mktemp("bounce")), clap=formats.effect.clap)


@pytest.fixture(scope="module")
def real_engine() -> Iterator[EngineProcess]:
    """The model that comes with Attacca."""
    with EngineProcess([]) as engine:
        yield engine


def bounce(bench: Bench, address: str, parameters: Mapping[str, float]) -> Played:
    """Two bars of the demo's riff, and two of what the model makes of it."""
    track = load_material(None, sample_rate=RATE, bpm=BPM, meter="4/4", needed_bars=4).track
    file = bench.host.folder / "riff.raw"
    track.render(Fraction(0), Fraction(BPM, 60 * RATE), BOUNCE, 2).astype("<f4").tofile(file)
    script = bench.script(BOUNCE).set("input", "raw", file)
    for name, value in parameters.items():
        script.at(0, "flush", name, value)
    played = bench.at(address).run(script.note(CONTEXT_END - 10_000), timeout_s=120)
    assert (played.report["wait_timeouts"], played.value("underruns")) == (0, 0)
    return played


@pytest.mark.slow
def test_the_same_seed_bounces_to_the_same_bytes(bench: Bench, real_engine: EngineProcess) -> None:
    """The engine runs on between the bounces, so nothing of the first must be left over; another seed differs."""
    first, again, other = (bounce(bench, real_engine.address, {"seed": seed}).audio for seed in (7, 7, 8))
    assert not first[:CONTEXT_END].any()
    assert np.abs(first[CONTEXT_END:]).max() > 0.01
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)


def test_without_an_engine_a_bounce_is_the_dry_input_after_a_bounded_wait(bench: Bench) -> None:
    script = bench.script(BAR, mix=0.5).set("input", "noise", 3).note(1000, 20_000)
    began = time.monotonic()
    played = bench.at(free_address()).run(script)
    assert time.monotonic() - began < ABSENT_S
    assert np.array_equal(played.audio, noise(bench, BAR))
    assert played.value("connection") == 0


def noise(bench: Bench, length: int) -> np.ndarray:
    """The host's noise, through a plugin that has been bypassed from the first sample on."""
    script = Script(plugin=bench.clap, rate=RATE, length=length, blocks=(1024,)).set("input", "noise", 3)
    return bench.at(free_address()).run(script.at(0, "flush", "dpf_bypass", 1), "dry").audio


def test_an_engine_that_comes_during_a_bounce_is_joined(bench: Bench) -> None:
    """It starts when the render has begun, with a key down: the take enters on a bar line, in its place."""
    address = free_address()
    script = bench.script(20 * BAR).at(0, "flush", "quantum", 5).note(1000)
    script.at(4 * BAR, "say", "here").at(4 * BAR, "wait", "connection", 1, 30)
    process = bench.at(address).start(script, "late")
    assert process.stdout is not None and process.stdout.readline().strip() == "here"
    with IndexEngine("--rates", str(RATE), "--address", address):
        played = bench.at(address).finish(process, "late", timeout_s=100)
    starts = check_places(played, RATE)
    assert starts[0] % BAR == 0 and starts[0] >= 4 * BAR
    assert played.audio[-1, 0] == len(played.audio) - 1
