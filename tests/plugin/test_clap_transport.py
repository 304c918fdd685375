"""The built CLAP while its host's transport changes, on armed and on sounding takes.

The engine's samples are their own stream positions, the host renders offline. Every sample heard lies at its stream
position or belongs to a fade of at most 10 ms, and takes enter at the sample nearest to their launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from clap_host import ClapHost, Played, Script, clap_file, host_of, nearest
from conftest import Native
from index_engine import IndexEngine
from stream_places import FADE_S, check_places, fades, offline, spans

pytestmark = pytest.mark.plugin

RATE = 48000
LENGTH = 120_000
NOTE = 1000
BAR = 96_000  # 4/4 at 120 BPM from ppq 0 on
QUARTER = 24_000
MARGIN = Fraction(1, 2)


@dataclass(frozen=True, kw_only=True)
class Bench:
    host: ClapHost
    clap: Path

    def script(
        self, *, blocks: Sequence[int] | str = (1024,), length: int = LENGTH, ppq: Fraction | int = 0
    ) -> Script:
        """A note in the first bar, the transport rolling at 120 BPM in 4/4."""
        script = offline(Script(plugin=self.clap, rate=RATE, length=length, blocks=blocks))
        return script.play(ppq).note(NOTE)

    def run(self, script: Script) -> Played:
        return self.host.run(script)


@pytest.fixture(scope="module")
def bench(native: Native, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with IndexEngine("--rates", str(RATE)) as engine:
        host = host_of(native, tmp_path_factory.mktemp("transport"), ATTACCA_ENGINE=engine.address(RATE))
        yield Bench(host=host, clap=clap_file(native))


Change = Callable[[Script], Script]

# What is done at 50000, between the note and its bar line, and the exact time of the launch after it.
ARMED: dict[str, tuple[Change, Fraction]] = {
    "slower": (lambda s: s.at(50_000, "tempo", 90), 50_000 + (4 - Fraction(50_000, QUARTER)) * 32_000),
    "faster": (lambda s: s.at(50_000, "tempo", "180.5"), 50_000 + (BAR - 50_000) * Fraction(1200, 1805)),
    "meter": (lambda s: s.at(50_000, "meter", 3, 4), Fraction(3 * QUARTER)),
    "odd meter": (lambda s: s.at(50_000, "meter", 7, 8), Fraction(7 * QUARTER, 2)),
    "seek on": (lambda s: s.at(50_000, "seek", "7/3"), 50_000 + Fraction(5, 3) * QUARTER),
    "seek back": (lambda s: s.at(50_000, "seek", "-1/7"), 50_000 + Fraction(1, 7) * QUARTER),
    "stop and start": (lambda s: s.at(50_000, "stop").at(60_000, "play"), Fraction(-1)),
    "loop of a bar": (lambda s: s.at(0, "loop", 0, 4), Fraction(BAR)),
    # Its end lies before the first bar line: the wrap at 60000 goes back to a bar line.
    "loop of no bar": (lambda s: s.at(0, "loop", 0, "5/2"), Fraction(60_000)),
}


@pytest.mark.parametrize("name", ARMED)
def test_an_armed_take_starts_on_the_bar_line_of_the_changed_transport(bench: Bench, name: str) -> None:
    change, launch = ARMED[name]
    starts = check_places(played := bench.run(change(bench.script(length=115_000))), RATE)
    if launch < 0:  # stopping ends what waits
        assert starts == [] and played.value("state") == 0
        return
    assert len(starts) == 1
    assert abs(starts[0] - launch) <= MARGIN
    assert starts[0] == nearest(launch)


# What is done at 110001 to a take that sounds since 96000.
SOUNDING: dict[str, Change] = {
    "tempo": lambda s: s.at(110_001, "tempo", 90),
    "meter": lambda s: s.at(110_001, "meter", 3, 4),
    "seek on": lambda s: s.at(110_001, "seek", "22/3"),
    "seek back": lambda s: s.at(110_001, "seek", "1/9"),
    "loop of no bar": lambda s: s.at(0, "loop", 0, Fraction(110_001, QUARTER)),
}


@pytest.mark.parametrize("name", SOUNDING)
def test_a_sounding_take_goes_on_in_the_changed_transport(bench: Bench, name: str) -> None:
    """Old audio is gone within 10 ms, and new audio is at its position, without a hole between."""
    played = bench.run(SOUNDING[name](bench.script()))
    assert check_places(played, RATE) == [BAR]
    (fade,) = fades(played)
    assert fade[0] == 110_001
    assert fade[1] - fade[0] <= FADE_S * RATE
    assert played.audio[-1, 0] == LENGTH - 1


def test_a_loop_of_whole_bars_is_no_change(bench: Bench) -> None:
    script = bench.script(length=240_000).at(0, "loop", 0, 4)
    played = bench.run(script)
    assert check_places(played, RATE) == [BAR]
    assert fades(played) == []


def test_stop_fades_and_start_brings_nothing_back(bench: Bench) -> None:
    played = bench.run(bench.script(length=200_000).at(110_001, "stop").at(120_000, "play"))
    assert check_places(played, RATE) == [BAR]
    (fade,) = fades(played)
    assert (fade[0], not played.audio[fade[1] :].any(), played.value("state")) == (110_001, True, 0)


def test_a_take_asked_for_while_stopped_waits_for_the_roll(bench: Bench) -> None:
    """The host starts in the middle of a bar, at 40000: the launch is the next bar line."""
    script = offline(Script(plugin=bench.clap, rate=RATE, length=LENGTH, blocks=(512,))).note(NOTE)
    played = bench.run(script.at(40_000, "seek", 1).at(40_000, "play"))
    assert check_places(played, RATE) == [40_000 + 3 * QUARTER]


@pytest.mark.parametrize("blocks", [(512,), (200,), (1500,), "random 3 1 900"])
def test_a_take_armed_before_a_tempo_ramp_starts_on_the_ramps_bar_line(
    bench: Bench, blocks: Sequence[int] | str
) -> None:
    """120 to 150 BPM in a second from 50000 on: the bar line lies on a parabola.

    Every block of a ramp is an epoch, so that blocks shorter than a crossfade are heard as fades alone: only the
    start is measured here.
    """
    played = bench.run(bench.script(blocks=blocks, length=93_000).at(50_000, "ramp", 150, 48_000))
    start = spans(played)[0].stop
    seconds = Fraction(start - 50_000, RATE)
    ppq = Fraction(50_000, QUARTER) + 2 * seconds + seconds * seconds / 4
    assert played.audio[start, 0] == start
    assert abs(ppq - 4) <= MARGIN * (120 + 30 * seconds) / (60 * RATE)


def test_a_tempo_ramp_under_a_sounding_take_leaves_every_sample_in_its_place(bench: Bench) -> None:
    played = bench.run(bench.script(length=150_000).at(110_000, "ramp", 150, 24_000))
    assert check_places(played, RATE) == [BAR]
    assert all(start >= 110_000 and stop <= 134_000 + 1024 + FADE_S * RATE for start, stop in fades(played))
    assert played.audio[-1, 0] == 149_999


@pytest.mark.parametrize("blocks", [(1, 3, 700, 2000, 64), "random 11 1 4000"])
def test_many_changes_under_changing_blocks(bench: Bench, blocks: Sequence[int] | str) -> None:
    """Three takes: each is armed, moved and ended by something else."""
    script = bench.script(blocks=blocks, length=400_000)
    script.at(100_123, "tempo", 60).at(130_001, "note_off", 0, 24, 0)
    script.at(140_000, "seek", "15/4").at(140_007, "note_on", 0, 24, 0.5).at(143_000, "meter", 3, 8)
    script.at(200_003, "stop").at(210_000, "play").at(210_001, "tempo", 150).at(210_001, "seek", "-1/2")
    script.at(210_002, "note_on", 0, 24, 0.5).at(300_000, "loop", 0, 6)
    starts = check_places(bench.run(script), RATE)
    third = 210_001 + Fraction(60 * RATE, 150) / 2
    assert starts[0] == BAR
    # At 143000 the play head is 3000 samples (1/16) before ppq 4 - 1/4 + 3000/48000; bars of 3/8 follow from ppq 0.
    assert starts[1:] == [140_000 + nearest(Fraction(3, 4) * 48_000), nearest(third)]
