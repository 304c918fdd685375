"""Builds the plugin's test libraries and programs once a run, where `make plugin` has not, and hands them out.

Skips where a tool is missing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Native:
    """What was built for tests: a library with C interfaces to the plugin's parts, and programs."""

    folder: Path

    @property
    def library(self) -> ctypes.CDLL:
        """The shared library of plugin_stub/tests/capi_*.cpp."""
        return ctypes.CDLL(str(self.folder / "libattacca_test.so"))

    def program(self, name: str) -> Path:
        """One of plugin_stub/tests/programs."""
        return self.folder / name


def build(folder: Path, *options: str) -> Path:
    """Configure and build plugin_stub into `folder`; skips where a tool is missing, fails as the compiler says."""
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the plugin cannot be built (docs/plugin.md)")
    configure = ["cmake", "-S", str(ROOT / "plugin_stub"), "-B", str(folder), "-G", "Ninja", *options]
    for command in (configure, ["ninja", "-C", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}")
    return folder


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of the plugin as it was built: effect or instrument."""

    folder: Path
    name: str

    @property
    def clap(self) -> Path:
        return self.folder / f"{self.name}.clap"

    @property
    def vst3(self) -> Path:
        """The bundle, a folder."""
        return self.folder / f"{self.name}.vst3"

    @property
    def lv2(self) -> Path:
        """The bundle, a folder."""
        return self.folder / f"{self.name}.lv2"

    @property
    def standalone(self) -> Path:
        """The JACK client."""
        return self.folder / self.name


@dataclass(frozen=True, kw_only=True)
class Formats:
    """What `make plugin` builds."""

    effect: Variant
    instrument: Variant
    mono: Variant


@pytest.fixture(scope="session")
def ready_build() -> Path | None:
    """The folder that ATTACCA_PLUGIN_BUILD names, already built (the variable is taken out of the environment:
    an engine refuses variables that it does not know)."""
    ready = os.environ.pop("ATTACCA_PLUGIN_BUILD", None)
    return None if ready is None else Path(ready).resolve()


@pytest.fixture(scope="session")
def native(ready_build: Path | None) -> Native:
    """The folder that is already built, else that of `make plugin`, up to date, else a build without formats."""
    if ready_build is not None:
        return Native(folder=ready_build)
    made = ROOT / "build" / "plugin"
    if (made / "build.ninja").exists():
        return Native(folder=build(made, "-DATTACCA_TESTS=ON"))
    folder = ROOT / "build" / "plugin-tests"
    return Native(folder=build(folder, "-DATTACCA_FORMATS=OFF", "-DATTACCA_TESTS=ON"))


@pytest.fixture(scope="session")
def formats(ready_build: Path | None, native: Native) -> Formats:
    """All formats of all variants, of the folder that is already built, else as `make plugin` builds them.
    `native` has brought that up to date."""
    folder = (ROOT / "build" / "plugin" if ready_build is None else ready_build) / "bin"
    variants = [Variant(folder=folder, name=name) for name in ("Attacca", "AttaccaInstrument", "AttaccaMono")]
    for variant in variants:
        for file in (variant.clap, variant.vst3, variant.lv2, variant.standalone):
            if not file.exists():
                pytest.skip(f"{file} was not built: make plugin")
    return Formats(effect=variants[0], instrument=variants[1], mono=variants[2])
