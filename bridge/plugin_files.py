"""The native plugin's files on this machine: what was built, where hosts look, copying it there and away.

Beside the path: `attacca plugin` (bridge/plugin_commands.py) and the doctor use it. Only files of our own names are
touched, and of these only such as carry the mark of our builds (plugin_stub/plugin/version_mark.cpp); a bundle
that holds anything else as well is not ours alone.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("Attacca", "AttaccaInstrument", "AttaccaMono")
FORMATS = ("vst3", "clap", "lv2")
BUILT = Path("build") / "plugin" / "bin"
_MARK = re.compile(rb"attacca-plugin-version=([0-9][0-9A-Za-z.+-]*);")
_KINDS = frozenset({".so", ".ttl", ".dll", ".dylib", ".vst3", ".clap", ".plist"})  # of files in our bundles
_PLAIN = frozenset({*NAMES, "PkgInfo", "CodeResources"})
_PARTIAL = ".attacca-partial"


class PluginFilesError(ValueError):
    """What stands in the way of an installation; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where this user's hosts look, by format. A format that the system does not know is absent."""

    folders: dict[str, Path]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One variant in one format: what is built, what is installed. A version is "" where there is none."""

    name: str
    format: str
    built: Path | None
    built_version: str
    target: Path
    version: str
    state: str  # "absent", "same", "differs", "installed" (nothing built to compare with) or "foreign"


def places(environment: Mapping[str, str] = os.environ, system: str | None = None) -> Places:
    """The per-user folders of this system ("Linux", "Darwin" or "Windows").

    PluginFilesError if the environment does not name the user's folder.
    """
    system = platform.system() if system is None else system
    if system == "Windows":
        local, common = environment.get("LOCALAPPDATA"), environment.get("COMMONPROGRAMFILES")
        vst3 = Path(_named(local, "LOCALAPPDATA")) / "Programs" / "Common"
        return Places(folders={"vst3": vst3 / "VST3", "clap": vst3 / "CLAP"} | _lv2_of(environment, common))
    home = Path(_named(environment.get("HOME"), "HOME"))
    if system == "Darwin":
        folder = home / "Library" / "Audio" / "Plug-Ins"
        return Places(folders={"vst3": folder / "VST3", "clap": folder / "CLAP", "lv2": folder / "LV2"})
    return Places(folders={name: home / f".{name}" for name in FORMATS})


def _lv2_of(environment: Mapping[str, str], common: str | None) -> dict[str, Path]:
    """LV2 on Windows: %APPDATA%\\LV2, else the folder of all users."""
    folder = environment.get("APPDATA") or common
    return {"lv2": Path(folder) / "LV2"} if folder else {}


def _named(value: str | None, variable: str) -> str:
    if not value:
        raise PluginFilesError(f"the environment variable {variable} is not set: where hosts look is unknown")
    return value


def build_folder() -> Path:
    """What `make plugin` fills: in the working copy that this package comes from, else in the current folder."""
    ours = Path(__file__).resolve().parents[1] / BUILT
    return ours if ours.is_dir() else Path.cwd() / BUILT


def version_of(path: Path) -> str | None:
    """The version that a file, or a file of a bundle, carries; None if it is no plugin of ours."""
    for file in _files(path):
        if found := _MARK.search(file.read_bytes()):
            return found[1].decode()
    return None


def survey(source: Path, where: Places, formats: tuple[str, ...] = FORMATS) -> list[Installed]:
    """Every variant in every format that the system knows, compared with `source`."""
    rows = []
    for kind in formats:
        if kind not in where.folders:
            continue
        for name in NAMES:
            built, target = source / f"{name}.{kind}", where.folders[kind] / f"{name}.{kind}"
            found = built if built.exists() else None
            rows.append(
                Installed(
                    name=name,
                    format=kind,
                    built=found,
                    built_version="" if found is None else version_of(found) or "",
                    target=target,
                    version=(version_of(target) or "") if target.exists() else "",
                    state=_state(found, target),
                )
            )
    return rows


def _state(built: Path | None, target: Path) -> str:
    if not os.path.lexists(target):
        return "absent"
    if version_of(target) is None or (target.is_dir() and any(map(_strange, _files(target)))):
        return "foreign"
    if built is None:
        return "installed"
    return "same" if same(built, target) else "differs"


def _strange(file: Path) -> bool:
    return file.suffix not in _KINDS and file.name not in _PLAIN


def same(first: Path, second: Path) -> bool:
    """Whether two files or two folders have the same content, byte by byte."""
    if first.is_dir() != second.is_dir():
        return False
    ours, theirs = [{file.relative_to(path): file for file in _files(path)} for path in (first, second)]
    return ours.keys() == theirs.keys() and all(
        filecmp.cmp(ours[name], theirs[name], shallow=False) for name in ours
    )


def install(row: Installed) -> None:
    """Copies what was built to where hosts look, all or nothing: what is there is replaced by a rename."""
    if row.built is None or row.built_version == "":
        raise PluginFilesError(f"{row.name}.{row.format} was not built")
    _not_foreign(row)
    row.target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = _beside(row.target, "new"), _beside(row.target, "old")
    for left in (fresh, old):
        _remove(left)
    try:
        if row.built.is_dir():
            shutil.copytree(row.built, fresh)
        else:
            shutil.copy2(row.built, fresh)
        with contextlib.suppress(FileNotFoundError):  # a folder cannot be renamed onto a folder that is not empty
            row.target.rename(old)
        try:
            fresh.rename(row.target)
        except OSError:
            if old.exists():
                old.rename(row.target)
            raise
    finally:
        for left in (fresh, old):
            _remove(left)


def uninstall(row: Installed) -> None:
    """Removes what `install` put there, and nothing else."""
    _not_foreign(row)
    old = _beside(row.target, "old")
    _remove(old)
    row.target.rename(old)  # hosts see all of it or nothing
    _remove(old)


def _not_foreign(row: Installed) -> None:
    if row.state == "foreign":
        raise PluginFilesError(f"{row.target} is not ours, or holds more than ours; it is left alone: move it away")


def _beside(target: Path, which: str) -> Path:
    """A name that no host takes for a plugin."""
    return target.with_name(f".{target.name}.{which}{_PARTIAL}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
