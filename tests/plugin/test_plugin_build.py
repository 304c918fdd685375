"""What `make plugin` leaves: exported names, needed libraries, version, loading and unloading."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, Formats

pytestmark = [
    pytest.mark.plugin,
    pytest.mark.skipif(platform.system() != "Linux", reason="reads ELF files"),
]

ENTRIES = {
    "clap": {"clap_entry"},
    "vst3": {"GetPluginFactory", "ModuleEntry", "ModuleExit"},
    "lv2": {"lv2_descriptor", "lv2_generate_ttl"},
}
WITH_WINDOW = {"lv2": {"lv2ui_descriptor"}}
LIBRARIES = {"libc", "libm", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}
WINDOW_LIBRARIES = {"libX11", "libXext", "libXrandr", "libXcursor", "libGL", "libOpenGL", "libGLX"}
MOST_LOADING_S = 0.3

# dlopen must not be measured or judged inside a process that holds other plugins.
LOAD = """
import ctypes, sys, time
from _ctypes import dlclose
began = time.perf_counter()
library = ctypes.CDLL(sys.argv[1])
print(time.perf_counter() - began)
dlclose(library._handle)
print(sys.argv[1] in open("/proc/self/maps").read())
"""


def said(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def objects(formats: Formats) -> dict[tuple[str, str], Path]:
    """(variant, format): shared object."""
    found = {}
    for variant in (formats.effect, formats.instrument, formats.mono):
        found[variant.name, "clap"] = variant.clap
        (found[variant.name, "vst3"],) = variant.vst3.glob("Contents/*-linux/*.so")
        (found[variant.name, "lv2"],) = variant.lv2.glob("*.so")
    return found


def test_only_entry_points_are_exported(formats: Formats) -> None:
    for (_, kind), file in objects(formats).items():
        rows = [line.split() for line in said("nm", "-D", "--defined-only", file).splitlines()]
        assert {row[2] for row in rows} - WITH_WINDOW.get(kind, set()) == ENTRIES[kind], file
        assert "u" not in {row[1] for row in rows}, f"{file} has unique symbols: it could never be unloaded"


def test_nothing_beyond_the_system_is_needed(formats: Formats) -> None:
    for file in objects(formats).values():
        dynamic = said("readelf", "-dW", file)
        needed = {name.split(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.+)]", dynamic)}
        assert "libc" in needed
        assert needed <= LIBRARIES | WINDOW_LIBRARIES, file
        assert not re.search(r"\((RPATH|RUNPATH|TEXTREL)\)", dynamic), file
        assert "NODELETE" not in dynamic, file


def test_it_loads_at_once_and_can_be_unloaded(formats: Formats) -> None:
    """The fastest of three: other processes may hold the cores."""
    for file in objects(formats).values():
        runs = [said(sys.executable, "-c", LOAD, file).split() for _ in range(3)]
        assert min(float(run[0]) for run in runs) < MOST_LOADING_S, file
        assert {run[1] for run in runs} == {"False"}, f"{file} is still mapped after dlclose"


def test_the_version_is_the_packages(formats: Formats) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    mark = f"attacca-plugin-version={version};".encode()
    for file in (*objects(formats).values(), formats.effect.standalone, formats.instrument.standalone):
        assert mark in file.read_bytes(), file
    minor, micro = version.split(".")[1:3]
    for variant in (formats.effect, formats.instrument):  # LV2 has no major version: DPF writes the other two
        described = "".join(file.read_text() for file in variant.lv2.glob("*.ttl"))
        assert re.search(rf"lv2:minorVersion {minor}\b", described)
        assert re.search(rf"lv2:microVersion {micro}\b", described)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for changes, lack in (
        ({"DPF_SOURCE": str(tmp_path)}, f"DPF in {tmp_path}"),
        ({"CXX": "no-such-c++"}, "no-such-c++"),
    ):
        done = subprocess.run(
            [ROOT / "plugin_stub" / "build.sh", "native", tmp_path / "build"],
            env=os.environ | changes, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3
        assert lack in done.stderr
        assert "install: " in done.stderr
        assert not (tmp_path / "build").exists()


def test_a_second_run_builds_nothing() -> None:
    folder = ROOT / "build" / "plugin"
    if not (folder / "build.ninja").exists():
        pytest.skip("build/plugin was not built: make plugin")
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*.o")}
    done = said("make", "-C", str(ROOT), "plugin")
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.o")} == times
    for name in ("Attacca.vst3", "AttaccaInstrument.clap", "Attacca.lv2"):
        assert f"build/plugin/bin/{name}" in done
