"""The built CLAP as hosts see it: ports, latency, rates that change, the mixer, bypass, and what process() calls.

The engine's samples are their own stream positions. Offline renders, but for one paced run of a few seconds, whose
process() calls are counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Script, host_of
from conftest import Formats, Native
from fault_run import free_address
from index_engine import IndexEngine
from stream_places import check_places, offline

pytestmark = pytest.mark.plugin

RATE, OTHER_RATE = 48000, 44100
RAMP = RATE * 5 // 1000  # samples of the mixer's ramps
COUNTED = ("allocations", "frees", "locks", "try_locks", "signals", "system_calls")


@dataclass(frozen=True, kw_only=True)
class Bench:
    host: ClapHost
    clap: Path
    engine: IndexEngine

    def script(self, *, length: int = 20_000, rate: int = RATE) -> Script:
        script = offline(Script(plugin=self.clap, rate=rate, length=length, blocks=(512,))).play(0)
        return script.at(0, "flush", "quantum", 0)


@pytest.fixture(scope="module")
def bench(native: Native, formats: Formats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One server, whose model runs at RATE."""
    with IndexEngine("--rates", str(RATE)) as engine:
        host = host_of(native, tmp_path_factory.mktemp("formats"), ATTACCA_ENGINE=engine.address(RATE))
        yield Bench(host=host, clap=formats.effect.clap, engine=engine)


def test_ports_latency_and_extensions(bench: Bench, formats: Formats) -> None:
    for variant, identity, channels in (
        (formats.effect, "org.attacca.effect", 2),
        (formats.instrument, "org.attacca.instrument", 2),
        (formats.mono, "org.attacca.effect-mono", 1),
    ):
        script = Script(plugin=variant.clap, length=1000, blocks=(100,)).at(500, "deactivate")
        report = bench.host.run(script.at(500, "activate", OTHER_RATE)).report
        about = report["plugin"]
        assert (about["id"], about["inputs"], about["outputs"]) == (identity, [channels], [channels])
        assert report["latency"] == [0, 0]
        needed = ("audio-ports", "note-ports", "params", "state", "latency", "render")
        assert all(about["extensions"][f"clap.{name}"] for name in needed)
        assert report["render_modes"]


def test_a_rate_change_begins_a_new_stream(bench: Bench) -> None:
    """Takes before and after are at the positions of their streams; nothing of the first comes back."""
    script = bench.script(length=30_000).note(1000).at(10_240, "deactivate").at(10_240, "activate", OTHER_RATE)
    script.at(11_000, "note_on", 0, 25, 0.5).at(20_480, "deactivate").at(20_480, "activate", RATE)
    script.at(20_480, "wait", "connection", 1, 10).at(21_000, "note_on", 0, 26, 0.5)
    played = bench.host.run(script)
    assert check_places(played, RATE, stop=10_240) == [1000]
    middle = played.audio[10_240:20_480, 0]
    assert not middle[:760].any()  # the engine resamples there: sound, no longer indices
    assert middle[2000:].all() and np.isfinite(middle).all()
    assert check_places(played, RATE, start=20_480, origin=20_480) == [21_000]


def test_the_dry_signal_passes_bit_for_bit_until_a_take_sounds(bench: Bench) -> None:
    for blocks in ((512,), (1, 7, 300)):
        script = Script(plugin=bench.clap, rate=RATE, length=3000, blocks=blocks).play(0).set("input", "ramp")
        played = bench.host.run(script)
        ramp = np.arange(3000, dtype=np.float32) * np.float32(2.0**-24)
        assert np.array_equal(played.audio, np.stack([ramp, -ramp], axis=1))


def test_the_mono_variant_passes_one_channel_and_places_takes_as_the_stereo_one(
    bench: Bench, formats: Formats
) -> None:
    script = Script(plugin=formats.mono.clap, rate=RATE, length=3000, blocks=(1, 7, 300)).play(0)
    played = bench.host.run(script.set("input", "ramp"))
    assert np.array_equal(played.audio, np.arange(3000, dtype=np.float32)[:, None] * np.float32(2.0**-24))
    take = offline(Script(plugin=formats.mono.clap, rate=RATE, length=20_000, blocks=(512,))).play(0)
    heard = bench.host.run(take.at(0, "flush", "quantum", 0).note(1234)).audio
    assert heard.shape == (20_000, 1) and not heard[:1234].any()
    assert np.array_equal(heard[1234:, 0], np.arange(1234, 20_000))


def test_gain_mix_and_solo(bench: Bench) -> None:
    """The take by 20 * log10(4) dB and more; the input beside it, alone at mix 0, and muted under solo."""
    quiet = 20 * np.log10(0.25)
    script = (
        bench.script(length=40_000).set("input", "ramp").at(0, "flush", "mix", 0.5).at(0, "flush", "gain", quiet)
    )
    script.note(1000, 35_000).at(10_240, "param", "mix", 0).at(20_480, "param", "mix", 0.5)
    script.at(30_720, "param", "solo", 1)
    heard = bench.host.run(script).audio[:, 0]
    at = np.arange(40_000, dtype=np.float64)
    dry, take = at * 2.0**-24, at * 0.25
    for span, expected in (
        (slice(2000, 10_240), dry + take),
        (slice(10_240 + RAMP, 20_480), dry),
        (slice(20_480 + RAMP, 30_720), dry + take),
        (slice(30_720 + RAMP, 35_000), take),
        (slice(36_500, 40_000), dry),
    ):
        assert np.allclose(heard[span], expected[span], rtol=1e-6, atol=0)


def test_bypass_is_dry_and_the_take_goes_on_unheard(bench: Bench) -> None:
    script = bench.script(length=40_000).set("input", "ramp").note(1000).at(10_240, "param", "dpf_bypass", 1)
    heard = bench.host.run(script.at(20_480, "param", "dpf_bypass", 0)).audio[:, 0]
    at = np.arange(40_000, dtype=np.float32)
    assert np.array_equal(heard[10_240 + RAMP : 20_480], (at * np.float32(2.0**-24))[10_240 + RAMP : 20_480])
    assert np.array_equal(heard[20_480 + RAMP :], at[20_480 + RAMP :])


def test_process_calls_nothing_while_engines_come_and_go_and_takes_begin_and_end(bench: Bench) -> None:
    """Paced, without an engine at first; it comes, two takes are played by note and by parameter, it is killed."""
    address = free_address()
    host = host_of_address(bench, address)
    script = Script(plugin=bench.clap, rate=RATE, length=4 * RATE, blocks=(256,)).play(0).set("pace", 1)
    script.at(0, "flush", "mix", 1).at(0, "flush", "quantum", 1).at(RATE // 2, "say", "start")
    script.at(RATE // 2, "wait", "connection", 1, 20)
    script.note(RATE, 2 * RATE).at(5 * RATE // 2, "param", "trigger", 1)
    script.at(3 * RATE, "mark", "playing").at(3 * RATE, "say", "kill").at(4 * RATE - 256, "param", "trigger", 0)
    process = host.start(script, "counted")
    assert process.stdout is not None and process.stdout.readline().strip() == "start"
    with IndexEngine("--rates", str(RATE), "--address", address) as engine:
        assert process.stdout.readline().strip() == "kill"
        engine.process.kill()
        played = host.finish(process, "counted")
    counts = {name: played.counts[name] for name in COUNTED}
    assert counts == dict.fromkeys(COUNTED, 0), json.dumps(played.counts)
    assert played.counts["allocations_counted"]
    assert played.value("state", "playing") >= 2 and played.value("connection", "playing") == 1
    sixteenth = Fraction(60 * RATE, 120 * 4)
    first = np.flatnonzero(played.audio[:, 0])[0]
    assert first >= RATE and played.audio[first : 2 * RATE, 0].any()
    assert first - RATE < 4 * sixteenth
    assert not played.audio[2 * RATE + 2 * int(sixteenth) : 5 * RATE // 2, 0].any()


def host_of_address(bench: Bench, address: str) -> ClapHost:
    return ClapHost(program=bench.host.program, folder=bench.host.folder, environment={"ATTACCA_ENGINE": address})
