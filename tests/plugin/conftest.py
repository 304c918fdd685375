"""Builds the plugin's test libraries and programs once a run and hands them out; skips where a tool is missing."""

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


@pytest.fixture(scope="session")
def native() -> Native:
    """The test build without plugin formats; ATTACCA_PLUGIN_BUILD names a folder that is already built
    (taken out of the environment: an engine refuses variables that it does not know)."""
    if ready := os.environ.pop("ATTACCA_PLUGIN_BUILD", None):
        return Native(folder=Path(ready))
    folder = ROOT / "build" / "plugin-tests"
    return Native(folder=build(folder, "-DATTACCA_FORMATS=OFF", "-DATTACCA_TESTS=ON"))
