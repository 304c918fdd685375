"""A project saved while the trigger parameter was on: loading it starts nothing; the parameter works on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Script, clap_file, host_of
from conftest import Native
from index_engine import IndexEngine

pytestmark = pytest.mark.plugin

RATE = 48000
QUANTUM = 1  # 1/16: 6000 samples at 120 BPM
GRID = RATE // 8


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine() as process:
        yield process


@pytest.fixture
def host(native: Native, tmp_path: Path, engine: IndexEngine) -> ClapHost:
    return host_of(native, tmp_path, ATTACCA_ENGINE=engine.address(RATE))


@pytest.fixture
def project(native: Native, host: ClapHost, tmp_path: Path) -> Path:
    """Saved with the trigger on, mix at 1."""
    file = tmp_path / "project"
    script = Script(plugin=clap_file(native), rate=RATE, length=2048)
    for name, value in (("trigger", 1), ("mix", 1), ("quantum", QUANTUM)):
        script.at(0, "flush", name, value)
    played = host.run(script.at(1024, "save", file), "saving")
    assert played.value("trigger") == 1
    return file


def offline(native: Native, length: int) -> Script:
    script = Script(plugin=clap_file(native), rate=RATE, length=length, blocks=(480,)).play(0)
    return script.set("render", "offline").at(0, "wait", "connection", 1, 10)


@pytest.mark.parametrize("loaded_at", [0, 4800])
def test_loading_starts_nothing(native: Native, host: ClapHost, project: Path, loaded_at: int) -> None:
    """Then off and on again starts a take on the next line of the grid, and off ends it."""
    off, on, released = 5 * GRID, 5 * GRID + 960, 8 * GRID
    script = offline(native, 10 * GRID).at(loaded_at, "load", project)
    script.at(off, "param", "trigger", 0).at(on, "param", "trigger", 1).at(released, "param", "trigger", 0)
    played = host.run(script)
    heard = np.flatnonzero(played.audio[:, 0])
    assert heard[0] == 6 * GRID
    assert released <= heard[-1] < released + RATE // 50


def test_on_and_off_in_one_block_is_a_take_begun_and_released(native: Native, host: ClapHost) -> None:
    """A button of a host that tells both at once: nothing is left on."""
    script = offline(native, 4 * GRID).at(0, "flush", "mix", 1).at(0, "flush", "quantum", QUANTUM)
    script.at(4810, "param", "trigger", 1).at(4820, "param", "trigger", 0)
    played = host.run(script)
    assert not played.audio.any()
    assert played.value("state") == 0
