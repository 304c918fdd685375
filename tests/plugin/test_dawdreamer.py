"""The VST3 in DawDreamer: where takes start, parameters, automation, state, a real engine along a tempo curve.

DawDreamer knows no meter but 4/4 and always starts at 0; other meters are tested in test_clap_matrix.py. It takes
its tempo at the start of each block, which makes the bar line an exact figure also along a tempo curve. Every
render in a process of its own (dawdreamer_host.py).
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Formats, Native
from host_process import run_host
from index_engine import RATES, IndexEngine
from parameter_rows import EXPECTED, normalised, seen
from test_clap_matrix import TEMPI, pairwise

from attacca.bridge.demo_material import load_material
from attacca.bridge.engine_process import EngineProcess
from attacca.bridge.params import METERS

pytestmark = pytest.mark.plugin

BLOCKS, SMALL_BLOCKS = (480, 1000, 1024, 2048), (64, 127)  # each waits for the engine: small ones take minutes
HEARD_S = 0.05
LINE_BEATS = 4  # the first bar line after the start
NOTE = "24:{}:64"
MIX = ("--set", "Mix=1")


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine() as process:
        yield process


def render(
    formats: Formats, folder: Path, address: str, *words: object, offline: bool = True
) -> tuple[np.ndarray, dict[str, Any]]:
    """Float32 [samples, 2] and the host's report."""
    environment = {"ATTACCA_ENGINE": address} | ({"ATTACCA_OFFLINE": "1"} if offline else {})
    out = folder / "out.raw"
    report = run_host("dawdreamer", formats.effect.vst3, "--out", out, *words, **environment)
    return np.fromfile(out, "<f4").reshape(-1, 2), report


def start_of(audio: np.ndarray) -> int:
    heard = np.flatnonzero(audio.any(axis=1))
    assert len(heard), "no take was heard"
    return int(heard[0])


def check_places(audio: np.ndarray) -> None:
    """From the start on every sample is its own stream position."""
    start = start_of(audio)
    for channel in audio[start:].T:
        assert np.array_equal(channel, np.arange(start, len(audio)))


def bar_line(tempo: list[tuple[int, float]], rate: int, block: int, *, ramp: bool = False) -> Fraction:
    """Samples until LINE_BEATS, with the tempo that holds at each block's start. `tempo`: (beat, BPM)."""
    beats, at = Fraction(0), 0
    while True:
        if ramp:
            (low_at, low), (high_at, high) = tempo
            bpm = float(np.interp(float(int(beats * 960)) / 960, [low_at, high_at], [low, high]))
        else:
            bpm = next(bpm for beat, bpm in reversed(tempo) if beats >= beat)
        per_sample = Fraction(float(np.float32(bpm))) / (60 * rate)
        if beats + block * per_sample > LINE_BEATS:
            return at + (LINE_BEATS - beats) / per_sample
        beats += block * per_sample
        at += block


def check_start(formats: Formats, engine: IndexEngine, folder: Path, bpm: str, rate: int, block: int) -> None:
    """A note a tenth of a beat before the first bar line starts a take there, every sample in its place."""
    exact = Fraction(60 * rate * LINE_BEATS) / Fraction(bpm)
    seconds = float(exact / rate) + HEARD_S
    words = ("--rate", rate, "--block", block, "--bpm", bpm, "--seconds", seconds, *MIX, "--note", NOTE.format(3.9))
    audio, report = render(formats, folder, engine.address(rate), *words)
    off = start_of(audio) - exact
    assert abs(off) <= Fraction(1, 2), f"{bpm} {rate} {block}: {float(off):.3f} samples off"
    check_places(audio)
    assert report["latency_samples"] == 0


@pytest.mark.parametrize("rate", RATES)
def test_takes_start_on_the_bar_line(formats: Formats, engine: IndexEngine, rate: int, tmp_path: Path) -> None:
    """Every two of tempo, rate and block size meet at least once."""
    rows: Any = pairwise(TEMPI, RATES, BLOCKS)
    for bpm, at_rate, block in rows:
        if at_rate == rate:
            check_start(formats, engine, tmp_path, bpm, rate, block)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rate", RATES)
def test_takes_start_on_the_bar_line_in_small_and_odd_blocks(
    formats: Formats, engine: IndexEngine, rate: int, tmp_path: Path
) -> None:
    for bpm, block in itertools.product(TEMPI, SMALL_BLOCKS):
        check_start(formats, engine, tmp_path, bpm, rate, block)


@pytest.mark.parametrize(
    ("curve", "tempo", "ramp"),
    [("0:100,2:130", [(0, 100.0), (2, 130.0)], False), ("0:100-16:132", [(0, 100.0), (16, 132.0)], True)],
)
def test_takes_start_on_the_bar_line_along_a_tempo_curve(
    formats: Formats,
    engine: IndexEngine,
    curve: str,
    tempo: list[tuple[int, float]],
    ramp: bool,
    tmp_path: Path,
) -> None:
    """A note half a bar before the bar line, so before the tempo changes."""
    exact = bar_line(tempo, 48000, 512, ramp=ramp)
    words = ("--bpm", curve, "--seconds", float(exact / 48000) + HEARD_S, *MIX, "--note", NOTE.format(1.5))
    audio, _ = render(formats, tmp_path, engine.address(48000), *words)
    off = start_of(audio) - exact
    assert abs(off) <= Fraction(1, 2), f"{float(off):.3f} samples off"


def test_parameters_are_those_of_the_table(formats: Formats, tmp_path: Path) -> None:
    _, report = render(formats, tmp_path, "tcp://127.0.0.1:9", "--seconds", 0.1)
    rows = report["parameters"]
    shown = [seen(row["name"], row["label"], row["min"], row["max"], row["defaultValue"]) for row in rows]
    assert shown == EXPECTED
    read_only = {row["name"] for row in rows if not row["isAutomatable"]}
    assert read_only == {"Latency", *(meter.label for meter in METERS)}


def test_automation_of_the_trigger_plays_a_take_and_ends_it(
    formats: Formats, engine: IndexEngine, tmp_path: Path
) -> None:
    """On before the first bar line, off before the second; DawDreamer tells a parameter at each block's start."""
    words = ("--bpm", "180", "--seconds", 3.0, *MIX, "--automate", "Trigger=0:0,3:1,7:0")
    audio, _ = render(formats, tmp_path, engine.address(48000), *words)
    start, beat = start_of(audio), 60 * 48000 // 180
    assert start == LINE_BEATS * beat
    end = int(np.flatnonzero(audio.any(axis=1))[-1])
    assert 7 * beat <= end <= 7 * beat + 2048


def test_automation_of_the_mix_ends_where_it_was_led(formats: Formats, tmp_path: Path) -> None:
    """Without an engine the input is heard through the mix: none of it at 1."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (48000, 2)).astype(np.float32)
    noise.tofile(tmp_path / "in.raw")
    words = ("--seconds", 1.0, "--input", tmp_path / "in.raw", "--automate", "Mix=0:0,1:1")
    audio, _ = render(formats, tmp_path, "tcp://127.0.0.1:9", *words)
    assert np.array_equal(audio[:23000], noise[:23000])
    assert not audio[26000:].any()


def test_a_state_saved_here_opens_in_pedalboard_and_the_other_way_round(
    formats: Formats, engine: IndexEngine, tmp_path: Path
) -> None:
    """In fresh processes, and it is heard: a launch grid of a quarter note, nothing of the input."""
    settings = {"Launch": 0.375, "Gain": 0.5, "Seed": 1.0, "Bars": 1.0, "Mix": 1.0}
    words = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    nobody, state = "tcp://127.0.0.1:9", tmp_path / "state"
    render(formats, tmp_path, nobody, "--seconds", 0.1, *words, "--save", state)
    there = run_host("pedalboard", formats.effect.vst3, "restore", "--state", state, ATTACCA_ENGINE=nobody)
    saved = run_host("pedalboard", formats.effect.vst3, "save", *words, ATTACCA_ENGINE=nobody)
    preset = tmp_path / "state.vstpreset"
    preset.write_bytes(base64.b64decode(saved["preset_data"]))
    heard = ("--load", preset, "--seconds", 0.6, "--note", NOTE.format(0.5))
    audio, here = render(formats, tmp_path, engine.address(48000), *heard)
    for label, value in settings.items():
        assert there["values"][label] == pytest.approx(value, abs=2e-3), label
        assert here["values"][label] == pytest.approx(value, abs=2e-3), label
    assert start_of(audio) == 24000


def music(folder: Path) -> list[object]:
    """The demo's riff as input, and a note before the third bar that is held for long."""
    material = load_material(None, sample_rate=48000, bpm=None, meter=None, needed_bars=4)
    track = material.track.render(Fraction(0), material.bpm / (60 * 48000), 8 * 48000, 2)
    track.astype("<f4").tofile(folder / "in.raw")
    return ["--input", folder / "in.raw", "--note", NOTE.format(6.5)]


def test_a_real_engine_along_a_tempo_curve(formats: Formats, native: Native, tmp_path: Path) -> None:
    """Paced; then offline, twice with one seed: the same samples. The tempo changes after the take has begun."""
    words = [*music(tmp_path), "--bpm", "0:120,10:126", *MIX, "--set", f"Seed={normalised('Seed', 7)}"]
    pacer = native.folder / "pacer" / "AttaccaPacer.vst3"
    if not pacer.exists():
        pytest.skip(f"{pacer.name} was not built: it needs both formats and tests")
    with EngineProcess(["--log-level", "warning"]) as engine:
        paced, report = render(
            formats, tmp_path, engine.address, *words, "--seconds", 6.5, "--pacer", pacer, offline=False
        )
        assert report["rendered_s"] > 6.0
        first, second = (render(formats, tmp_path, engine.address, *words, "--seconds", 5.5)[0] for _ in range(2))
    for audio in (paced, first):
        assert np.isfinite(audio).all()
        assert 4 * 48000 <= start_of(audio) < 4 * 48000 + 12000, "the take enters on the third bar line"
        assert np.abs(audio[-24000:]).max() > 0.01, "it is heard after the tempo has changed"
    assert np.array_equal(first, second)
