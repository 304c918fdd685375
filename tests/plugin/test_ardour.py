"""Ardour without its window: a session with the plugin on a track, exported, the take on the bar line of the WAV.

The engine's audio is its own stream position. ardour_session.lua makes the session, Ardour's exporter renders it
faster than time. In Ardour an audio track without a MIDI input tells its LV2 plugins no transport (the plugin's
free clock runs), so the LV2 stands on a MIDI track as an instrument; the VST3 is told everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clap_host import bar_lines
from conftest import Formats
from index_engine import IndexEngine

pytestmark = [pytest.mark.plugin, pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).with_name("ardour_session.lua")
SCANNERS = sorted(Path("/usr/lib").glob("ardour*/ardour-vst3-scanner"))
RATE, LENGTH_S, SUPERCLOCKS_PER_S = 48000, 4, 282240000
TRIGGER = 60000
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Ardour:
    folder: Path
    lua: str
    export: str
    environment: dict[str, str]

    def run(self, *command: object) -> str:
        for _ in range(ATTEMPTS):
            done = subprocess.run(
                list(map(str, command)), env=os.environ | self.environment, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            if "Failed to register port" not in done.stderr:  # Ardour's own, now and then, in a new track
                break
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout + done.stderr

    def render(self, plugin: tuple[str, str, str], bpm: str, meter: tuple[int, int], name: str) -> np.ndarray:
        """float32 [samples, 2] of the first seconds of a new session, from its start."""
        session, wav = self.folder / name, self.folder / f"{name}.wav"
        told = self.run(self.lua, SCRIPT, session, *plugin, bpm, *meter, TRIGGER)
        assert "port Trigger" in told, told
        assert "outputs 2" in told, told
        file = session / "session.ardour"
        text, ends = file.read_text(), f'start="a0" end="a{SUPERCLOCKS_PER_S * LENGTH_S}"'
        location = f'<Location id="9001" name="session" {ends} flags="IsSessionRange" locked="0"/>'
        assert "<Locations/>" in text
        file.write_text(text.replace("<Locations/>", f"<Locations>{location}</Locations>"))
        self.run(self.export, "-b", "float", "-o", wav, session, "session")
        audio, rate = soundfile.read(wav, dtype="float32", always_2d=True)
        assert (audio.shape, rate) == ((RATE * LENGTH_S, 2), RATE)
        return audio


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine("--rates", str(RATE)) as process:
        yield process


@pytest.fixture
def ardour(formats: Formats, engine: IndexEngine, tmp_path: Path) -> Ardour:
    programs = [
        next((found for major in (8, 7, 6) if (found := shutil.which(f"ardour{major}-{kind}"))), None)
        for kind in ("lua", "export")
    ]
    if programs[0] is None or programs[1] is None:
        pytest.skip("Ardour's command line tools (ardour) are not installed")
    environment = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / ".config"),
        "XDG_CACHE_HOME": str(tmp_path / ".cache"),
        "LV2_PATH": f"{tmp_path / '.lv2'}:/usr/lib/lv2",
        "ATTACCA_ENGINE": engine.address(RATE),
    }
    host = Ardour(folder=tmp_path, lua=programs[0], export=programs[1], environment=environment)
    for bundle in (
        each for variant in (formats.effect, formats.instrument) for each in (variant.lv2, variant.vst3)
    ):
        (tmp_path / bundle.suffix).mkdir(exist_ok=True)
        (tmp_path / bundle.suffix / bundle.name).symlink_to(bundle)
    return host


def scanned(ardour: Ardour, formats: Formats) -> dict[str, str]:
    """The VST3s' ids; Ardour makes only what its scanner has seen."""
    ids = {}
    for variant in (formats.effect, formats.instrument):
        libraries = f"LD_LIBRARY_PATH={SCANNERS[-1].parent}"
        told = ardour.run("env", libraries, SCANNERS[-1], "-v", "-f", ardour.folder / ".vst3" / variant.vst3.name)
        ids[variant.name] = told.partition('uid="')[2].partition('"')[0]
    return ids


def check(audio: np.ndarray, bpm: str, meter: tuple[int, int]) -> None:
    """The take begins at the first bar line after the trigger, and all is in place."""
    tempo = Fraction(bpm)
    lines = bar_lines(len(audio), RATE, Fraction(0), tempo, meter)
    line = next(line for line in lines if line >= TRIGGER)
    (sounding,) = np.nonzero(audio[:, 0])
    assert len(sounding), "no take was heard"
    assert abs(sounding[0] - line) <= 1, float(sounding[0] - line)
    held = audio[sounding[0] :]
    assert np.array_equal(held[:, 0], held[0, 0] + np.arange(len(held)))
    assert np.array_equal(held[:, 0], held[:, 1])


@pytest.mark.parametrize(("bpm", "meter"), [("97", (3, 4)), ("123.45", (7, 8))])
def test_the_lv2_instrument_starts_on_the_bar_line(ardour: Ardour, bpm: str, meter: tuple[int, int]) -> None:
    check(ardour.render(("LV2", "urn:attacca:instrument", "midi"), bpm, meter, "one"), bpm, meter)


@pytest.mark.parametrize(("name", "track"), [("Attacca", "audio"), ("AttaccaInstrument", "midi")])
def test_the_vst3_starts_on_the_bar_line(ardour: Ardour, formats: Formats, name: str, track: str) -> None:
    ids = scanned(ardour, formats)
    for bpm, meter in (("97", (3, 4)), ("123.45", (7, 8))):
        audio = ardour.render(("VST3", ids[name], track), bpm, meter, f"session-{bpm}")
        check(audio, bpm, meter)
