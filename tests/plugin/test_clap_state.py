"""What a project keeps of the built CLAP, and what it survives: states saved, loaded in a fresh process, spoilt.

Every run of the CLAP host is a process of its own. The states are those that DPF writes: key/value pairs, of which
one is ours (plugin_stub/plugin/saved_state.hpp), then the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Played, Script, host_of
from conftest import Formats, Native
from index_engine import IndexEngine
from stream_places import check_places, fades, offline

pytestmark = pytest.mark.plugin

RATE = 48000
LENGTH = 6000
# One value for every parameter, none of them its default.
VALUES = {
    "mode": 2, "quantum": 3, "bars": 7, "late": 1, "variation": 0.25, "temperature": 1.5, "guidance": 4.25,
    "top_k": 77, "seed": 123_456, "drums": 0, "bass": 2, "chords": 0, "lead": 2, "style": 2, "chord_follow": 0,
    "lookahead_ms": 250, "mix": 0.75, "gain": -7.5, "midi_channel": 3, "trigger_low": 12, "trigger_high": 48,
    "trigger_note": 100, "velocity_to": 2, "release_quantized": 1, "solo": 1, "dpf_bypass": 1,
}  # fmt: skip
UNTOUCHED = {"trigger"}


@dataclass(frozen=True, kw_only=True)
class Bench:
    host: ClapHost
    clap: Path

    def script(self, *, length: int = LENGTH) -> Script:
        script = offline(Script(plugin=self.clap, rate=RATE, length=length, blocks=(512,))).play(0)
        return script.at(0, "flush", "quantum", 0)

    def fresh(self) -> Script:
        """No parameter touched."""
        script = Script(plugin=self.clap, rate=RATE, length=LENGTH, blocks=(512,)).play(0).set("render", "offline")
        return script.at(0, "wait", "connection", 1, 10)

    def file(self, name: str, data: bytes | None = None) -> Path:
        path = self.host.folder / name
        if data is not None:
            path.write_bytes(data)
        return path

    def run(self, script: Script) -> Played:
        played = self.host.run(script)
        assert (played.report["not_finite"], played.report["errors"]) == (0, 0)
        return played


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine("--rates", str(RATE)) as process:
        yield process


@pytest.fixture(scope="module", params=["effect", "instrument"])
def bench(
    request: pytest.FixtureRequest,
    native: Native,
    formats: Formats,
    engine: IndexEngine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    host = host_of(native, tmp_path_factory.mktemp("state"), ATTACCA_ENGINE=engine.address(RATE))
    return Bench(host=host, clap=getattr(formats, request.param).clap)


def parameters_of(played: Played) -> dict[str, float]:
    return {name: row["value"] for name, row in played.report["parameters"].items() if not row["read_only"]}


def test_every_parameter_comes_back_in_a_fresh_process(bench: Bench) -> None:
    file = bench.file("all")
    script = bench.fresh()
    for name, value in VALUES.items():
        script.at(0, "flush", name, value)
    saved = bench.run(script.at(LENGTH, "save", file))
    defaults = {name: row["default"] for name, row in saved.report["parameters"].items() if not row["read_only"]}
    assert VALUES.keys() == defaults.keys() - UNTOUCHED, "a parameter without a row here"
    assert not [name for name, value in VALUES.items() if value == pytest.approx(defaults[name])]
    loaded = parameters_of(bench.run(bench.fresh().at(0, "load", file)))
    assert loaded == pytest.approx(VALUES | {name: defaults[name] for name in UNTOUCHED}, rel=1e-6)


def test_a_state_loaded_and_saved_is_the_same_bytes(bench: Bench) -> None:
    """Out of a run with a take, so that the seed that the engine chose is in it."""
    first, second, third = bench.file("first"), bench.file("second"), bench.file("third")
    bench.run(bench.script().at(0, "flush", "gain", -3.7).note(1000).at(5000, "sleep", 0.6).at(5000, "save", first))
    bench.run(bench.fresh().at(0, "load", first).at(0, "save", second).at(5000, "save", third))
    assert b"seed=" in first.read_bytes()
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_the_seed_that_the_engine_chose_is_kept(bench: Bench) -> None:
    """The next save, before any new take, has it still; a new take has one of its own."""
    first, second = bench.file("seed1"), bench.file("seed2")
    bench.run(bench.script().note(1000).at(5000, "sleep", 0.6).at(5000, "save", first))
    bench.run(bench.script().at(0, "load", first).note(1000).at(5000, "sleep", 0.6).at(5000, "save", second))
    one, other = (seed_of(file.read_bytes()) for file in (first, second))
    assert one >= 0 and other >= 0 and one != other


def seed_of(state: bytes) -> int:
    lines = [line for line in state.split(b"\0")[2].decode().splitlines() if line.startswith("seed=")]
    return int(lines[0].removeprefix("seed="))


@pytest.mark.parametrize("by", ["note", "trigger"])
def test_a_project_saved_in_a_take_reopens_without_one(bench: Bench, by: str) -> None:
    """Whether a key or the parameter held it. The first change to on starts one."""
    file = bench.file("mid_take")
    script = bench.script()
    if by == "note":
        script.note(1000)
    else:
        script.at(1000, "param", "trigger", 1)
    assert bench.run(script.at(5000, "save", file)).value("state") == 2
    reopened = bench.fresh().at(0, "load", file).at(3000, "param", "trigger", 0).at(4001, "param", "trigger", 1)
    played = bench.run(reopened)
    assert check_places(played, RATE) == [4001]


def test_a_state_loaded_while_a_take_sounds_ends_what_the_parameter_held(bench: Bench) -> None:
    """Loading a state in which the trigger is off lets go, without a click and without a take left hanging."""
    file = bench.file("idle")
    bench.run(bench.script().at(0, "save", file))
    script = bench.script(length=12_000).at(1000, "param", "trigger", 1).at(8192, "load", file)
    played = bench.run(script)
    assert check_places(played, RATE) == [1000]
    assert not played.audio[-1000:].any()
    assert played.value("state") == 0
    assert len(fades(played)) == 1


def spoilt(state: bytes) -> dict[str, bytes]:
    """States of other versions and of no version."""
    noise = np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes()
    return {
        "empty": b"",
        "zeros": bytes(1000),
        "noise": noise,
        "text": b"not a state at all",
        "cut in half": state[: len(state) // 2],
        "cut by one": state[:-1],
        "no parameters": state[: state.index(b"__dpf_parameters_begin__")],
        "no session": state[state.index(b"__dpf_parameters_begin__") :],
        "unknown parameter": state.replace(b"mode\0", b"mood\0"),
        "no number": state.replace(b"gain\x00-3.7", b"gain\x00loud"),
        "not finite": state.replace(b"gain\x00-3.7", b"gain\0nan"),
        "out of range": state.replace(b"gain\x00-3.7", b"gain\x0099999"),
        "other header": state.replace(b"attacca-state 1", b"attacca-state 99"),
        "no header": state.replace(b"attacca-state 1\n", b"x\n"),
        "bad lines": state.replace(b"attacca-state 1\n", b"attacca-state 1\n=\n==\nseed\n" + b"x" * 5000 + b"=1\n"),
        "noise at the end": state + noise,
    }  # fmt: skip


def test_spoilt_states_break_nothing(bench: Bench) -> None:
    """Loaded before and while the plugin runs; it plays a take all the same, with values that are in range."""
    file = bench.file("good")
    bench.run(bench.script().at(0, "flush", "gain", -3.7).at(5000, "save", file))
    for name, data in spoilt(file.read_bytes()).items():
        path = bench.file("spoilt", data)
        script = bench.fresh().at(0, "try_load", path).at(2000, "try_load", path)
        script.at(2100, "param", "mix", 1).at(2100, "param", "quantum", 0).at(2100, "param", "gain", 0)
        played = bench.run(script.at(2500, "param", "trigger", 0).at(3100, "param", "trigger", 1))
        assert played.audio[5000, 0] == 5000, name
        for row in played.report["parameters"].values():
            assert row["minimum"] <= row["value"] <= row["maximum"], name


def test_what_a_newer_version_wrote_is_kept(bench: Bench) -> None:
    file, again = bench.file("now"), bench.file("again")
    bench.run(bench.script().at(5000, "save", file))
    newer = file.read_bytes().replace(b"attacca-state 1\n", b"attacca-state 1\nflavour=sour=sweet\n")
    bench.run(bench.fresh().at(0, "load", bench.file("newer", newer)).at(5000, "save", again))
    assert b"\nflavour=sour=sweet\n" in again.read_bytes()
