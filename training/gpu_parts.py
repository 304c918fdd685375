"""Large files as parts that a narrow way back lets through: split with hashes, joined and verified elsewhere.

For training/gpu_run.py. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

PART_BYTES = 15 << 20  # at most 16 MiB with what a transfer adds
LIST_SUFFIX = ".parts.json"
_READ_BYTES = 1 << 20


class PartsError(RuntimeError):
    """Parts that do not make the whole; the message names the file."""


def zip_folder(folder: Path, archive: Path) -> Path:
    """All files of `folder` in `archive`, stored in order and with one date: the same bytes each time."""
    partial = archive.with_name(archive.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            with out.open(info, "w", force_zip64=True) as target, path.open("rb") as source:
                shutil.copyfileobj(source, target, _READ_BYTES)
    partial.replace(archive)
    return archive


def split(file: Path, into: Path, *, part_bytes: int = PART_BYTES) -> Path:
    """FILE.000, .001, ... in folder `into`, then FILE.parts.json with sizes and SHA-256: the list, returned."""
    if part_bytes < 1:
        raise ValueError(f"part_bytes is {part_bytes}, allowed: 1 and up")
    into.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    parts: list[dict[str, str | int]] = []
    with file.open("rb") as source:
        while content := source.read(part_bytes):
            whole.update(content)
            name = f"{file.name}.{len(parts):03d}"
            (into / name).write_bytes(content)
            parts.append({"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    listed = {"file": file.name, "bytes": file.stat().st_size, "sha256": whole.hexdigest(), "parts": parts}
    path = into / f"{file.name}{LIST_SUFFIX}"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def join(folders: Sequence[Path], to: Path) -> list[Path]:
    """The whole files of every list of parts in `folders`, verified, in folder `to`. PartsError: what is wrong."""
    to.mkdir(parents=True, exist_ok=True)
    lists = {path.name: path for folder in folders for path in sorted(folder.rglob(f"*{LIST_SUFFIX}"))}
    if not lists:
        raise PartsError(f"no *{LIST_SUFFIX} in {', '.join(map(str, folders))}")
    return [_join(path, folders, to) for _, path in sorted(lists.items())]


def _join(path: Path, folders: Sequence[Path], to: Path) -> Path:
    listed = json.loads(path.read_text(encoding="utf-8"))
    target = to / Path(listed["file"]).name
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    whole = hashlib.sha256()
    missing = [part["file"] for part in listed["parts"] if _find(part["file"], folders) is None]
    if missing:
        raise PartsError(f"{target.name}: missing {', '.join(missing)}")
    try:
        with partial.open("wb") as out:
            for part in listed["parts"]:
                found = _find(part["file"], folders)
                content = found.read_bytes() if found is not None else b""
                if hashlib.sha256(content).hexdigest() != part["sha256"]:
                    raise PartsError(f"{found} is damaged: its SHA-256 is not {part['sha256']}")
                whole.update(content)
                out.write(content)
        if whole.hexdigest() != listed["sha256"]:
            raise PartsError(f"{target.name}: the parts are sound but are not the whole")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    found = (path for folder in folders for path in folder.rglob(Path(name).name) if path.is_file())
    return next(found, None)


def deliver(waiting: Sequence[Path], delivered: set[str], out: Path, *, files: int, total_bytes: int) -> list[str]:
    """Copy to `out` what was not delivered before, as far as so many files and bytes go; the names copied."""
    out.mkdir(parents=True, exist_ok=True)
    room, count, copied = total_bytes, files, []
    for path in waiting:
        size = path.stat().st_size
        if path.name in delivered:
            continue
        if count < 1 or size > room:
            break
        shutil.copyfile(path, out / path.name)
        room, count = room - size, count - 1
        copied.append(path.name)
    return copied
