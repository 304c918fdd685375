"""The built CLAP played by MIDI and automation: notes at any sample of a block, live as out of a clip.

The engine's samples are their own stream positions, takes start at once, and the host renders offline: the first
sample heard is the sample that the note was played at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Played, Script, host_of
from conftest import Formats, Native
from index_engine import IndexEngine
from stream_places import check_places, fades, offline

pytestmark = pytest.mark.plugin

RATE = 48000
KEY = 24
BLOCK = 512
QUANTA = {"immediate": 0, "1/4": 3, "1 bar": 5}
MODES = {"continue": 0, "fill": 1, "vamp": 2}
FADE = 480  # samples into silence (bridge/playback.py)


@dataclass(frozen=True, kw_only=True)
class Bench:
    host: ClapHost
    clap: Path

    def script(
        self, *, blocks: Sequence[int] | str = (BLOCK,), length: int = 60_000, quantum: str = "immediate"
    ) -> Script:
        script = offline(Script(plugin=self.clap, rate=RATE, length=length, blocks=blocks)).play(0)
        return script.at(0, "flush", "quantum", QUANTA[quantum])

    def run(self, script: Script) -> Played:
        return self.host.run(script)


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine("--rates", str(RATE)) as process:
        yield process


@pytest.fixture(scope="module")
def bench(native: Native, formats: Formats, engine: IndexEngine, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    host = host_of(native, tmp_path_factory.mktemp("midi"), ATTACCA_ENGINE=engine.address(RATE))
    return Bench(host=host, clap=formats.effect.clap)


Event = Callable[[Script, int, bool], None]


def begins(played: Played) -> list[int]:
    """Where sound begins after the 50 samples of silence before it."""
    heard = np.flatnonzero(played.audio[:, 0])
    return heard[np.flatnonzero(np.diff(heard, prepend=-50) >= 50)].tolist()


def note_event(script: Script, at: int, on: bool) -> None:
    """As hosts that speak CLAP's notes say it."""
    script.at(at, "note_on" if on else "note_off", 0, KEY, 0.5 if on else 0)


def midi_event(script: Script, at: int, on: bool) -> None:
    """As hosts that speak MIDI say it."""
    script.at(at, "midi", bytes([0x90 if on else 0x80, KEY, 64]))


def midi_zero(script: Script, at: int, on: bool) -> None:
    """A note-on of velocity 0 is a note-off."""
    script.at(at, "midi", bytes([0x90, KEY, 64 if on else 0]))


@pytest.mark.parametrize("blocks", [(BLOCK,), (1,), "random 9 1 3000"])
@pytest.mark.parametrize("event", [note_event, midi_event, midi_zero])
def test_notes_count_from_their_sample_in_any_block(
    bench: Bench, event: Event, blocks: Sequence[int] | str
) -> None:
    """Takes one after the other, at the edges of a block and inside it; each ends where its note does."""
    times = [(1024, 2047), (3100, 3583), (4608, 5119), (6657, 7200)]
    if blocks == (1,):
        times = [(20, 21), (600, 640)]
    script = bench.script(blocks=blocks, length=times[-1][1] + 20)
    for on, off in times:
        event(script, on, True)
        event(script, off, False)
    played = bench.run(script)
    check_places(played, RATE)
    assert begins(played) == [on for on, _ in times]
    for _, off in times:
        assert np.all(np.diff(np.abs(played.audio[off : off + FADE - 1, 0])) <= 0)
    assert played.value("state") == 0


def test_note_on_and_off_in_one_block_on_a_grid_launch_nothing(bench: Bench) -> None:
    """The note is over before its bar line: nothing hangs."""
    played = bench.run(bench.script(length=100_000, quantum="1 bar").note(1100, 1200, key=KEY))
    assert check_places(played, RATE) == []
    assert played.value("state") == 0


def test_hold_vamps_until_the_grid_after_the_note(bench: Bench) -> None:
    """A vamp of a bar goes on from pass to pass while the key is down; its release waits for the quarter."""
    script = bench.script(length=260_000, quantum="1/4").at(0, "flush", "mode", MODES["vamp"])
    script.at(0, "flush", "bars", 1).at(0, "flush", "release_quantized", 1).note(1000, 230_001, key=KEY)
    heard = bench.run(script).audio[:, 0]
    assert np.array_equal(heard[24_000:96_000], np.arange(24_000, 96_000))
    assert heard[24_000:240_000].all()
    assert not heard[:24_000].any() and not heard[240_000 + FADE :].any()


def test_a_fill_ends_by_itself(bench: Bench) -> None:
    script = bench.script(length=130_000, quantum="1/4").at(0, "flush", "mode", MODES["fill"])
    played = bench.run(script.at(0, "flush", "bars", 1).note(1000, 2000, key=KEY))
    assert check_places(played, RATE) == [24_000]
    assert [start for start, _ in fades(played)] == [24_000 + 96_000]


def test_a_new_note_takes_over_at_its_sample(bench: Bench) -> None:
    """The second take enters while the first sounds; the first key's going up changes nothing."""
    script = bench.script().note(5000, 30_001, key=KEY).note(20_003, 40_005, key=KEY + 1)
    played = bench.run(script)
    assert check_places(played, RATE) == [5000]
    assert [start for start, _ in fades(played)] == [20_003, 40_005]


def test_all_notes_off_releases(bench: Bench) -> None:
    played = bench.run(bench.script(length=30_000).note(1000, key=KEY).at(10_001, "midi", b"\xb0\x7b\x00"))
    assert check_places(played, RATE) == [1000]
    assert [start for start, _ in fades(played)] == [10_001]


def test_notes_outside_the_zone_reach_the_engine_as_chords_and_start_nothing(
    native: Native, formats: Formats, tmp_path: Path
) -> None:
    """At their sample, as notes and as MIDI, with whatever else is played; trigger keys stay here."""
    with IndexEngine("--rates", str(RATE), "--relay") as engine:
        host = host_of(native, tmp_path, ATTACCA_ENGINE=engine.address(RATE))
        script = Bench(host=host, clap=formats.effect.clap).script(length=12_000)
        script.note(1001, 9001, key=60).at(1001, "midi", b"\x91\x40\x50").at(9003, "midi", b"\x81\x40\x00")
        script.at(4001, "midi", b"\xb0\x40\x7f").note(11_000, 11_900, key=KEY)
        played = host.run(script)
        sent = {key: count for key, count in engine.fault().items() if key.startswith("midi")}
    assert sent == {
        "midi 903c66 at 1001": 1, "midi 914050 at 1001": 1, "midi b0407f at 4001": 1, "midi 803c00 at 9001": 1,
        "midi 814000 at 9003": 1,
    }  # fmt: skip
    assert begins(played) == [11_000]


@pytest.mark.parametrize("blocks", [(BLOCK,), (64,), "random 4 1 2000"])
def test_the_trigger_parameter_counts_from_its_sample(bench: Bench, blocks: Sequence[int] | str) -> None:
    """Automation, on and off, three takes, the last within one block."""
    times = [(1100, 2600), (4001, 5003), (6145, 6460)]
    script = bench.script(blocks=blocks, length=9000)
    for on, off in times:
        script.at(on, "param", "trigger", 1).at(off, "param", "trigger", 0)
    played = bench.run(script)
    check_places(played, RATE)
    assert begins(played) == [on for on, _ in times]
    for _, off in times:
        assert not played.audio[off + FADE : off + FADE + 100].any()


def test_the_trigger_parameter_after_a_bar_line_waits_for_the_next(bench: Bench) -> None:
    """The line at 96000 lies in the block of the event at 96200, before it."""
    script = bench.script(length=200_000, quantum="1 bar").at(96_200, "param", "trigger", 1)
    assert check_places(bench.run(script), RATE) == [192_000]


@pytest.mark.parametrize("event", [note_event, midi_event])
def test_the_instrument_hears_notes_alike(bench: Bench, formats: Formats, event: Event) -> None:
    script = replace(bench, clap=formats.instrument.clap).script(length=10_000)
    event(script, 1100, True)
    event(script, 5003, False)
    played = bench.run(script)
    assert check_places(played, RATE) == [1100]
    assert [start for start, _ in fades(played)] == [5003]


@pytest.mark.parametrize("quantum", ["immediate", "1 bar"])
def test_a_reset_ends_what_sounds_and_what_waits(bench: Bench, quantum: str) -> None:
    """The key stays down: the take is gone all the same, and the next key starts one."""
    script = bench.script(length=110_000, quantum=quantum).note(1000, 100_000, key=KEY).at(20_000, "reset")
    script.at(30_000, "note_on", 0, KEY + 1, 0.5)
    played = bench.run(script)
    starts = check_places(played, RATE)
    assert starts == ([1000, 30_000] if quantum == "immediate" else [96_000])
    assert [start for start, _ in fades(played)] == ([20_000] if quantum == "immediate" else [])
