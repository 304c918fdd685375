"""Where a take starts in a CLAP host: meters, tempi, sample rates and blocks, measured on the recorded output.

The plugin plays against an engine in another process whose audio is its own stream position, mix is 1, and the host
renders offline, in lockstep with the engine. The bar line is known as an exact fraction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import Script, clap_file, host_of
from conftest import Native
from index_engine import RATES, IndexEngine

pytestmark = pytest.mark.plugin

METERS = ((4, 4), (3, 4), (5, 4), (6, 8), (7, 8))
TEMPI = ("60", "97", "123.45", "180")
BLOCKS: tuple[Sequence[int] | str, ...] = ((1,), (3,), (64,), (127,), (480,), (1024,), "random 5 1 1500")
NOTE_S, LEAD_S = Fraction(1, 1000), Fraction(4, 1000)
HEARD_S, HEARD_IN_TINY_S = Fraction(30, 1000), Fraction(6, 1000)  # offline, every block waits for the engine
TINY_BLOCKS = ((1,), (3,))

Row = tuple[tuple[int, int], str, int, Sequence[int] | str]


def pairwise(*axes: Sequence[object]) -> list[Row]:
    """Rows such that every two values of two axes meet in one; greedy, always the same."""
    places = list(itertools.combinations(range(len(axes)), 2))
    left = {(i, a, j, b) for i, j in places for a in axes[i] for b in axes[j]}
    rows = []
    while left:
        everything = itertools.product(*axes)
        best = max(everything, key=lambda row: sum((i, row[i], j, row[j]) in left for i, j in places))
        left -= {(i, best[i], j, best[j]) for i, j in places}
        rows.append(best)
    return rows  # type: ignore[return-value]


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine() as process:
        yield process


@pytest.fixture(scope="module")
def clap(native: Native) -> Path:
    return clap_file(native)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


def check_start(native: Native, folder: Path, clap: Path, address: str, row: Row, moved_by: int = 0) -> None:
    """A note 3 ms before a bar line starts a take at the sample nearest to it, and all samples are in their places.

    `moved_by`: samples by which the host lies about its bar start.
    """
    meter, bpm, rate, blocks = row
    bar, per_sample = Fraction(4 * meter[0], meter[1]), Fraction(bpm) / (60 * rate)
    start_ppq = 3 * bar - per_sample * rate * LEAD_S - Fraction(1, 7919)  # bar lines never fall on a sample
    exact = (3 * bar - start_ppq) / per_sample
    length = round(exact) + int(rate * (HEARD_IN_TINY_S if blocks in TINY_BLOCKS else HEARD_S))
    script = Script(plugin=clap, rate=rate, length=length, blocks=blocks).play(start_ppq, bpm=bpm, meter=meter)
    script.set("render", "offline").set("tell", "bar_offset", moved_by * per_sample)
    script.at(0, "flush", "mix", 1).at(0, "wait", "connection", 1, 10).note(int(rate * NOTE_S))
    played = host_of(native, folder, ATTACCA_ENGINE=address).run(script)
    heard = np.flatnonzero(played.audio[:, 0])
    assert len(heard), "no take was heard"
    assert abs(heard[0] - exact) <= Fraction(1, 2), f"{row}: {float(heard[0] - exact):.3f} samples off"
    for channel in played.audio.T:
        assert not channel[: heard[0]].any()
        assert np.array_equal(channel[heard[0] :], np.arange(heard[0], length)), row
    assert (played.value("underruns"), played.report["wait_timeouts"]) == (0, 0)


@pytest.mark.parametrize("rate", RATES)
def test_takes_start_on_the_bar_line(
    native: Native, folder: Path, clap: Path, engine: IndexEngine, rate: int
) -> None:
    """Every two of meter, tempo, rate and blocks meet at least once."""
    for row in pairwise(METERS, TEMPI, RATES, BLOCKS):
        if row[2] == rate:
            check_start(native, folder, clap, engine.address(rate), row)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("meter", "bpm"), list(itertools.product(METERS, TEMPI)))
def test_takes_start_on_the_bar_line_in_every_combination(
    native: Native, folder: Path, clap: Path, engine: IndexEngine, meter: tuple[int, int], bpm: str
) -> None:
    for rate, blocks in itertools.product(RATES, BLOCKS):
        check_start(native, folder, clap, engine.address(rate), (meter, bpm, rate, blocks))


@pytest.mark.parametrize("moved_by", [2, -2])
def test_the_matrix_notices_a_bar_line_that_is_two_samples_off(
    native: Native, folder: Path, clap: Path, engine: IndexEngine, moved_by: int
) -> None:
    for row in (((7, 8), "123.45", 44100, (64,)), ((4, 4), "97", 48000, (480,))):
        with pytest.raises(AssertionError, match=r"samples off"):
            check_start(native, folder, clap, engine.address(row[2]), row, moved_by)
