"""The VST3s in pedalboard: loading time, latency, parameters, state, the dry signal, a take without transport.

Every test in a fresh process (pedalboard_host.py). pedalboard renders offline and has no transport.
"""

from __future__ import annotations

import base64
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Formats, Variant
from host_process import run_host
from index_engine import RATES, IndexEngine
from parameter_rows import EXPECTED, seen

from attacca.bridge.params import METERS

pytestmark = pytest.mark.plugin

NOBODY = "tcp://127.0.0.1:9"  # no engine listens there
MOST_LOAD_S = 0.3
LOADS = 5
SET = {"Gain": 0.25, "Seed": 1.0, "Launch": 0.75, "Trigger note": 0.5, "Solo": 1.0, "Mix": 0.125}
VARIANTS = ("effect", "instrument")


def run(variant: Variant, *words: object, address: str = NOBODY) -> dict[str, Any]:
    return run_host("pedalboard", variant.vst3, *words, ATTACCA_ENGINE=address)


def variant_of(formats: Formats, name: str) -> Variant:
    variant: Variant = getattr(formats, name)
    return variant


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine() as process:
        yield process


@pytest.mark.parametrize("name", VARIANTS)
def test_it_loads_quickly_and_says_what_it_is(formats: Formats, name: str) -> None:
    reports = [run(variant_of(formats, name), "load") for _ in range(LOADS)]
    assert statistics.median(report["load_s"] for report in reports) < MOST_LOAD_S
    for report in reports:
        assert report["name"] == ("Attacca" if name == "effect" else "Attacca Instrument")
        assert report["latency_samples"] == 0
        assert report["is_instrument"] == (name == "instrument")
    rows = [seen(row["name"], row["unit"], *row["ends"], row["default"]) for row in reports[0]["parameters"]]
    assert rows == EXPECTED


@pytest.mark.parametrize("kind", ["raw_state", "preset_data"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_comes_back_in_a_fresh_process(formats: Formats, name: str, kind: str, tmp_path: Path) -> None:
    variant = variant_of(formats, name)
    saved = run(variant, "save", *(word for item in SET.items() for word in ("--set", "{}={}".format(*item))))
    for parameter, value in SET.items():
        assert saved["values"][parameter] == pytest.approx(value, abs=2e-3)
    (tmp_path / "state").write_bytes(base64.b64decode(saved[kind]))
    restored = run(variant, "restore", "--state", tmp_path / "state", "--kind", kind)
    for values in (saved["values"], restored["values"], restored["before"]):
        for meter in METERS:
            del values[meter.label]
    assert restored["values"] == saved["values"]
    assert restored["before"] != saved["values"]
    if kind == "raw_state":
        assert restored["again"] == saved["raw_state"]


@pytest.mark.parametrize("name", VARIANTS)
def test_without_an_engine_the_input_passes_through_unchanged(formats: Formats, name: str) -> None:
    """At every rate and block size, also cut in two. Buses are stereo: a mono buffer is turned down."""
    report = run(variant_of(formats, name), "process")
    assert "does not support 1-channel" in report.pop("mono")
    del report["load_s"]
    assert len(report) == 12
    assert set(map(tuple, report.values())) == {(True, True)}


def play(variant: Variant, engine: IndexEngine, rate: int, folder: Path, *settings: str) -> np.ndarray:
    """2.5 s of the instrument, float32 [samples, 2]; a note in the trigger zone begins at 0.1 s."""
    words = [word for setting in ("Mix=1", *settings) for word in ("--set", setting)]
    run(variant, "play", "--rate", rate, "--out", folder / "out.raw", *words, address=engine.address(rate))
    return np.fromfile(folder / "out.raw", "<f4").reshape(-1, 2)


@pytest.mark.parametrize("rate", RATES)
def test_the_instrument_starts_a_take_at_the_very_sample_of_a_note(
    formats: Formats, engine: IndexEngine, rate: int, tmp_path: Path
) -> None:
    """Launched at once, not on a grid. A sample that belongs at stream position n has the value n."""
    audio = play(formats.instrument, engine, rate, tmp_path, "Launch=0")
    heard = np.flatnonzero(audio[:, 0])
    assert len(heard), "no take was heard"
    assert heard[0] == rate // 10
    first = int(audio[heard[0], 0])
    for channel in audio[heard[0] :].T:
        assert np.array_equal(channel, np.arange(first, first + len(channel)))


def test_on_a_grid_a_take_waits_for_a_transport_that_never_rolls(
    formats: Formats, engine: IndexEngine, tmp_path: Path
) -> None:
    assert not play(formats.instrument, engine, 48000, tmp_path).any()
