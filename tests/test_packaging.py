"""What is shipped: every package listed, every dependency pinned, one version, and a wheel that works anywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("engine", "bridge", "export", "training")
UNPINNED = {"onnxruntime-gpu", "tensorrt", "python-rtmidi", "sounddevice"}  # need hardware that no test has


def pins() -> dict[str, str]:
    lines = [line for path in (ROOT / "requirements").glob("*.txt") for line in path.read_text().splitlines()]
    pairs = [line.split("==") for line in lines if "==" in line]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {canonicalize_name(name): pinned for name, pinned in pairs}


def declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [Requirement(text) for group in (PROJECT["project"]["dependencies"], *extras) for text in group]


def test_every_package_is_listed() -> None:
    found = {
        "attacca." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_dependency_is_pinned_inside_its_range() -> None:
    known = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        if name not in UNPINNED:
            assert name in known, f"{name} is not in requirements/*.txt"
            assert requirement.specifier.contains(known[name]), f"{name} {known[name]} is outside {requirement}"


def test_version_and_licence_have_one_source() -> None:
    assert version("attacca") == PROJECT["project"]["version"]
    pattern = re.compile(rf"""["']{re.escape(PROJECT["project"]["version"])}["']""")
    again = [
        path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if pattern.search(path.read_text())
    ]
    assert not again
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "elsewhere"
    place.mkdir()
    # A copy, so that nothing left in build/ by another build can slip into the wheel.
    run("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("attacca-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"attacca", f"attacca-{version('attacca')}.dist-info"}
    assert "attacca/engine/bundles/ostinato/manifest.json" in names
    assert any(name.startswith("attacca/bridge/assets/") for name in names)
    assert any(name.startswith("attacca/engine/_native.") for name in names) or not shutil.which("c++")

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "requirements" / "runtime.txt"
    run(python, *pip[1:], "install", "-c", constraints, wheel, cwd=place)
    attacca = tmp_path / "venv" / "bin" / "attacca"
    assert "continue" in run(attacca, "--help", cwd=place)
    assert run(attacca, "version", cwd=place) == f"attacca {version('attacca')}\n"
    assert "ostinato" in run(attacca, "models", "list", cwd=place)
    run(attacca, "models", "verify", "ostinato", cwd=place)
    site = run(python, "-c", "import attacca.engine as e; print(e.__file__)", cwd=place)
    assert str(tmp_path / "venv") in site
    if shutil.which("c++"):
        assert "portable" in run(python, "-c", "from attacca.engine.native import *; print(kernels())", cwd=place)


@pytest.mark.slow
def test_a_wheel_without_a_compiler_has_everything_but_kernels(tmp_path: Path) -> None:
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check")
    nothing = ("env", "CC=/nonexistent", "CXX=/nonexistent")
    run(*nothing, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("attacca-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "attacca/engine/native.py" in names
    assert not any("_native." in name for name in names)
