"""Where a take starts in hosts whose timebase tells whole ticks: our JACK standalone, and the LV2 in jalv.

A JACK server with the dummy driver runs in real time (jack_rig.py). The engine's audio is its own stream position
and mix is 1; the bar line is known as an exact fraction of transport frames, which JACK tells exactly.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Formats
from index_engine import RATES, IndexEngine
from test_clap_matrix import METERS, TEMPI, pairwise

pytestmark = pytest.mark.plugin

RIG = Path(__file__).with_name("jack_rig.py")
PERIODS = (128, 256, 512, 1024)
ATTEMPTS = 4
MIX_ON = "B0587F"  # controller 88, mix: 1
NOTE_ON = "901864"  # C1, in the trigger zone
LEAD_S, NOTE_S, HEARD_S = Fraction(9, 10), Fraction(3, 10), Fraction(3, 10)
HOSTS = ("standalone", "jalv")
TICKS = 1920  # of jack_rig.py


@dataclass(frozen=True, kw_only=True)
class Row:
    meter: tuple[int, int]
    bpm: str
    rate: int
    period: int
    first_ppq: str = "0"  # quarters at frame 0
    bbt_offset: int = 0  # the timebase tells of so many frames before each cycle

    def most_off(self, name: str) -> Fraction:
        """Samples. jalv tells musical time once, when the transport starts: of a song that does not begin at
        frame 0 a plugin knows no more than that one tick."""
        tick = Fraction(60 * self.rate, TICKS) / Fraction(self.bpm) * 4 / self.meter[1]
        return tick if name == "jalv" and self.first_ppq != "0" else Fraction(1)

    def start(self, near_s: int = 20) -> tuple[int, Fraction]:
        """The frame to roll from, and the bar line after it, in frames."""
        bar, per_frame = Fraction(4 * self.meter[0], self.meter[1]), Fraction(self.bpm) / (60 * self.rate)
        first = Fraction(self.first_ppq)
        number = (first + near_s * self.rate * per_frame) // bar
        line = (number * bar - first) / per_frame
        return round(line - LEAD_S * self.rate), line


FEW = (
    Row(meter=(7, 8), bpm="123.45", rate=44100, period=512),
    Row(meter=(5, 4), bpm="97", rate=96000, period=1024, first_ppq="1/3"),
    Row(meter=(6, 8), bpm="180", rate=48000, period=512),
)


CONDITIONS = [*(("standalone", row) for row in FEW), ("jalv", FEW[0]), ("jalv", FEW[2])]
# jalv knows nothing of such offsets
CONDITIONS.append(("standalone", Row(meter=(3, 4), bpm="60", rate=48000, period=512, bbt_offset=700)))


class CyclesLostError(Exception):
    """In a cycle that is lost JACK's timebase goes stale against its frame, so that nothing can be measured."""


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine() as process:
        yield process


@dataclass(frozen=True, kw_only=True)
class Recording:
    audio: np.ndarray  # float32 [frames, 2] from `first` on; NaN where a cycle was lost
    first: int
    report: dict[str, Any]

    def heard(self) -> tuple[int, float]:
        """The transport frame and the value of the first sample that is not silence."""
        sounding = np.flatnonzero(np.nan_to_num(self.audio[:, 0]))
        assert len(sounding), f"no take was heard: {self.report}"
        return self.first + int(sounding[0]), float(self.audio[sounding[0], 0])

    def check_places(self) -> None:
        """All heard samples are in their places: the engine's stream position goes on with JACK's frames."""
        frame, value = self.heard()
        for channel in self.audio.T:
            held = channel[frame - self.first :]
            assert np.array_equal(held, np.arange(len(held)) + value)


def record(command: list[str | Path], engine: IndexEngine, folder: Path, row: Row, *options: str) -> Recording:
    """What the rig recorded when no cycle was lost; CyclesLostError where the machine never manages that."""
    for _ in range(ATTEMPTS):
        recording = record_once(command, engine, folder, row, *options)
        if not recording.report["xruns"]:
            return recording
    raise CyclesLostError(f"this machine loses JACK cycles of {row.period} frames at {row.rate} Hz")


def record_once(command: list[str | Path], engine: IndexEngine, folder: Path, row: Row, *options: str) -> Recording:
    """Runs the rig; skips where a tool is missing, AssertionError with what it said if it failed."""
    for tool in ("jackd", str(command[0])):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if importlib.util.find_spec("jack") is None:
        pytest.skip("the Python package JACK-Client is not installed")
    out = folder / "jack.raw"
    rig = [sys.executable, RIG, "--rate", row.rate, "--block", row.period, "--client", "Attacca", "--out", out]
    process = subprocess.Popen(
        [*map(str, rig), *options, "--", *map(str, command)],
        env=os.environ | {"ATTACCA_ENGINE": engine.address(row.rate), "ATTACCA_WINDOW_FPS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, told = process.communicate(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it has children
    assert process.returncode == 0, told[-3000:]
    report = json.loads(said.splitlines()[-1])
    assert report["alive"], told[-3000:]
    return Recording(audio=np.fromfile(out, "<f4").reshape(-1, 2), first=report["first_frame"], report=report)


def host(name: str, formats: Formats, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """What becomes the JACK client "Attacca"."""
    if name == "standalone":
        return [formats.effect.standalone]
    monkeypatch.setenv("LV2_PATH", f"{formats.effect.lv2.parent}:/usr/lib/lv2:/usr/local/lib/lv2")
    return ["jalv", "-x", "-n", "Attacca", "-c", "mix=1", "urn:attacca:effect"]


def check_start(name: str, row: Row, command: list[str | Path], engine: IndexEngine, folder: Path) -> None:
    """A note 0.6 s before a bar line starts a take there."""
    start, _ = row.start()
    note = start + round(NOTE_S * row.rate)
    notes = ["--midi", f"{start + 2 * row.period}:{MIX_ON}", "--midi", f"{note}:{NOTE_ON}"]
    check_recording(name, row, record(command, engine, folder, row, *rolling(row), *notes))


def rolling(row: Row, moved_by: int = 0) -> list[str]:
    """The rig's options. `moved_by`: frames by which the timebase's bar lines come too early."""
    first_ppq = Fraction(row.first_ppq) + moved_by * Fraction(row.bpm) / (60 * row.rate)
    options = ["--bpm", row.bpm, "--meter", "{}/{}".format(*row.meter), "--first-ppq", str(first_ppq)]
    options += ["--start-frame", str(row.start()[0]), "--seconds", str(float(LEAD_S + HEARD_S))]
    return [*options, "--bbt-offset", str(row.bbt_offset)]


def check_recording(name: str, row: Row, recording: Recording) -> None:
    frame, _ = recording.heard()
    off = frame - row.start()[1]
    assert abs(off) <= row.most_off(name), f"{row}: {float(off):.3f} samples off"
    recording.check_places()


@contextlib.contextmanager
def on_a_machine_that_keeps_up() -> Iterator[None]:
    try:
        yield
    except CyclesLostError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "row"), CONDITIONS, ids=str)
def test_a_take_starts_on_the_bar_line(
    name: str, row: Row, formats: Formats, engine: IndexEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_a_machine_that_keeps_up():
        check_start(name, row, host(name, formats, monkeypatch), engine, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", HOSTS)
def test_a_take_starts_on_the_bar_line_in_every_pair_of_conditions(
    name: str, formats: Formats, engine: IndexEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, lost = host(name, formats, monkeypatch), 0
    rows = pairwise(METERS, TEMPI, RATES, PERIODS, ("0", "1/3", "2"))
    for meter, bpm, rate, period, first in rows:
        row = Row(meter=meter, bpm=bpm, rate=rate, period=period, first_ppq=first)  # type: ignore[arg-type]
        try:
            check_start(name, row, command, engine, tmp_path)
        except CyclesLostError:
            lost += 1
    if lost > len(rows) // 2:
        pytest.skip(f"{lost} of {len(rows)} could not be measured: this machine loses JACK cycles")


def test_a_control_changed_in_jalv_starts_a_take(
    formats: Formats, engine: IndexEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed while the transport rolls: the trigger parameter, instead of a note."""
    row = FEW[0]
    with on_a_machine_that_keeps_up():
        command = host("jalv", formats, monkeypatch)
        recording = record(command, engine, tmp_path, row, *rolling(row), "--say", f"{float(NOTE_S)}:trigger = 1")
    check_recording("jalv", row, recording)


def test_the_rig_notices_a_bar_line_that_is_off(formats: Formats, engine: IndexEngine, tmp_path: Path) -> None:
    """The timebase's bars lie two ticks before those that are measured against; the take follows them."""
    row = FEW[0]
    note = ["--midi", f"{row.start()[0] + round(NOTE_S * row.rate)}:{NOTE_ON}"]
    with on_a_machine_that_keeps_up():
        recording = record([formats.effect.standalone], engine, tmp_path, row, *rolling(row, moved_by=12), *note)
    with pytest.raises(AssertionError, match=r"-1[0-4]\..* samples off"):
        check_recording("standalone", row, recording)


def test_without_transport_a_free_clock_runs_at_120(formats: Formats, engine: IndexEngine, tmp_path: Path) -> None:
    """Bar lines of 4/4 at 120 BPM lie on whole multiples of two seconds of the stream position."""
    row = Row(meter=(4, 4), bpm="120", rate=48000, period=512)
    note = ["--midi", f"2000:{MIX_ON}", "--midi", f"4000:{NOTE_ON}"]
    command: list[str | Path] = [formats.effect.standalone]
    with on_a_machine_that_keeps_up():
        recording = record(command, engine, tmp_path, row, "--still", "--seconds", "2.6", *note)
    _, position = recording.heard()
    assert position % (2 * row.rate) == 0
    recording.check_places()
