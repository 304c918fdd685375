"""The decoder's kernels by themselves: every set of instructions near the portable one, no byte out of bounds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    "tests/kernels_check.cpp",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "kernels").glob("*.cpp")) if path.stem != "module"),
]
QUIET = ["-Wno-psabi", "-Wno-maybe-uninitialized", "-Wno-unknown-warning-option"]  # of gcc about its own headers
COMMON = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", *QUIET, "-Ikernels"]
ARM, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build(compiler: str, program: Path, *flags: str) -> None:
    command = [compiler, *COMMON, "-Werror", *flags, *SOURCES, "-o", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "right"
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_all_sets_agree_under_sanitizers(tmp_path: Path) -> None:
    """Address and undefined behaviour; the portable set is always among them."""
    build("c++", tmp_path / "check", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert any("portable" in line for line in run(str(tmp_path / "check")))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang")
def test_another_compiler_agrees(tmp_path: Path) -> None:
    build("clang++", tmp_path / "check", "-O2")
    run(str(tmp_path / "check"))


@pytest.mark.slow
@pytest.mark.skipif(None in (shutil.which(ARM), shutil.which(EMULATOR)), reason=f"no {ARM} or {EMULATOR}")
def test_arm_agrees(tmp_path: Path) -> None:
    """On an emulated processor: what its instructions compute, not how fast."""
    build(ARM, tmp_path / "check", "-O2", "-static", "-march=armv8.2-a+dotprod")
    assert any("neon" in line for line in run(EMULATOR, str(tmp_path / "check")))
