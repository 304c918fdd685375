"""The Windows build, run by wine: its CLAP in our CLAP host, against an engine of this machine over TCP."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Script
from conftest import ROOT
from index_engine import IndexEngine

pytestmark = [pytest.mark.plugin, pytest.mark.slow, pytest.mark.timeout(900)]

BUILT = Path("build") / "plugin-windows"
WINE = next(
    (place for place in (shutil.which("wine64"), "/usr/lib/wine/wine64") if place and Path(place).exists()), None
)
SYSTEM_LIBRARIES = {
    "ADVAPI32", "COMDLG32", "DWMAPI", "GDI32", "KERNEL32", "MSVCRT", "OLE32", "OPENGL32", "SHELL32", "USER32",
    "WS2_32",
}  # fmt: skip
RATES = (44100, 48000)


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of `make plugin-windows`, brought up to date."""
    done = subprocess.run(["make", "plugin-windows"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "cannot be built, not found" in done.stderr:
        pytest.skip(done.stderr.splitlines()[0])
    assert done.returncode == 0, done.stderr[-6000:]
    return ROOT / BUILT


@pytest.fixture(scope="module")
def host(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClapHost]:
    """clap_host.exe by wine, in a Windows of its own that is made first."""
    if WINE is None:
        pytest.skip("wine64 is not installed")
    folder = tmp_path_factory.mktemp("wine")
    program = folder / "clap_host"
    program.write_text(f'#!/bin/sh\nexec "{WINE}" "{built / "clap_host.exe"}" "$@"\n')
    program.chmod(0o755)
    environment = {"WINEPREFIX": str(folder / "prefix"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    made = os.environ | environment
    subprocess.run([WINE, "wineboot", "--init"], env=made, capture_output=True, timeout=300, check=False)
    yield ClapHost(program=program, folder=folder, environment=environment)
    server = Path(WINE).parent / "wineserver"
    if server.exists():
        subprocess.run([server, "--kill"], env=made, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def engine() -> Iterator[IndexEngine]:
    with IndexEngine("--rates", ",".join(map(str, RATES))) as process:
        yield process


@pytest.mark.parametrize("variant", ["Attacca", "AttaccaInstrument"])
@pytest.mark.parametrize(
    ("rate", "meter", "bpm", "blocks"),
    [(48000, (4, 4), "120", (512,)), (44100, (7, 8), "97", (441,)), (48000, (5, 4), "123.45", "random 5 1 1500")],
)
def test_a_take_starts_on_the_bar_line_and_every_sample_is_in_its_place(
    host: ClapHost, built: Path, engine: IndexEngine, variant: str, rate: int, meter: tuple[int, int], bpm: str,
    blocks: tuple[int, ...] | str,
) -> None:  # fmt: skip
    bar, per_sample = Fraction(4 * meter[0], meter[1]), Fraction(bpm) / (60 * rate)
    start_ppq = 3 * bar - Fraction(1, 2) - Fraction(1, 7919)
    exact = (3 * bar - start_ppq) / per_sample
    length = round(exact) + rate // 10
    script = Script(plugin=built / "bin" / f"{variant}.clap", rate=rate, length=length, blocks=blocks)
    script.play(start_ppq, bpm=bpm, meter=meter).set("render", "offline")
    script.at(0, "flush", "mix", 1).at(0, "wait", "connection", 1, 20).note(rate // 100)
    played = ClapHost(
        program=host.program,
        folder=host.folder,
        environment=host.environment | {"ATTACCA_ENGINE": engine.address(rate)},
    ).run(script, timeout_s=120)
    heard = np.flatnonzero(played.audio[:, 0])
    assert len(heard), "no take was heard"
    assert abs(heard[0] - exact) <= Fraction(1, 2)
    for channel in played.audio.T:
        assert not channel[: heard[0]].any()
        assert np.array_equal(channel[heard[0] :], np.arange(heard[0], length))
    assert (played.value("underruns"), played.report["wait_timeouts"]) == (0, 0)


def test_it_needs_no_library_but_the_systems(built: Path) -> None:
    files = [*built.glob("bin/*.clap"), *built.glob("bin/*.vst3/Contents/x86_64-win/*.vst3")]
    assert len(files) == 6
    for file in files:
        listed = subprocess.run(
            ["x86_64-w64-mingw32-objdump", "-p", file], capture_output=True, text=True, check=True
        ).stdout
        needed = {line.split(": ")[1].removesuffix(".dll") for line in listed.splitlines() if "DLL Name" in line}
        assert {name.upper() for name in needed} <= SYSTEM_LIBRARIES
        names = listed.split("[Ordinal/Name Pointer] Table")[1].splitlines()[1:]
        exported = {line.split("] ")[-1].strip().split()[-1] for line in names if line.strip().startswith("[")}
        assert exported - {"DllMain"} == (
            {"clap_entry"} if file.suffix == ".clap" else {"GetPluginFactory", "InitDll", "ExitDll"}
        )
