"""The folder that a pull fills: what is missing of it, the room it needs, and the moment at which it becomes whole.

Under bridge/hub.py. Files gather in `.attacca-pull` inside the folder; they move to their places together, when
every byte of each has been verified, and the record comes last. Broken off before, nothing looks whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attacca.bridge.hub_files import (
    RECORD_FILE,
    HubError,
    Record,
    RemoteFile,
    problem_of,
    read_record,
    write_record,
)

PULL_FOLDER = ".attacca-pull"
_SPARE_BYTES = 64 << 20  # that a disk keeps free

Progress = Callable[[str, int, int], None]  # what is done, bytes gained, bytes in all


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two pulls into one would write into the same parts. HubError if another holds it."""
    from filelock import FileLock, Timeout

    (folder / PULL_FOLDER).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / (PULL_FOLDER + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise HubError(f"another pull is writing into {folder}; wait for it or choose another folder") from None
    try:
        yield
    finally:
        lock.release()


def part_path(folder: Path, name: str, entry: RemoteFile) -> Path:
    """Where a file gathers: under its hash, so that what is left of another revision is never continued."""
    return folder / PULL_FOLDER / f"{name}.{entry.digest[:16]}"


def prepare(folder: Path, record: Record, progress: Progress) -> list[str]:
    """The names still to be brought. Clears what is left of other revisions; overwrites no file of others."""
    waiting = folder / PULL_FOLDER
    before = read_record(folder / RECORD_FILE) or read_record(waiting / RECORD_FILE)
    ours = before.files if before is not None and before.repo == record.repo else {}
    missing = []
    for name, entry in record.files.items():
        if (folder / name).exists():
            if verified(folder / name, name, entry, progress):
                continue
            if name not in ours:
                found = f"{folder / name} is there and is none of {record.repo}"
                raise HubError(f"{found}: choose an empty folder with --checkpoint")
        missing.append(name)
    parts = {part_path(folder, name, record.files[name]) for name in missing}
    for path in waiting.iterdir():
        if path not in parts and path.name != RECORD_FILE:
            path.unlink()
    write_record(waiting / RECORD_FILE, record)
    return missing


def verified(path: Path, name: str, entry: RemoteFile, progress: Progress) -> bool:
    """Whether a file is as the hub states it, byte for byte."""
    progress(f"verify {name}", 0, entry.bytes)
    if problem_of(path, entry) is not None:
        return False
    progress(f"verify {name}", entry.bytes, entry.bytes)
    return True


def need_space(folder: Path, record: Record, missing: list[str]) -> None:
    """HubError if the disk has too little room for what is still to come."""
    wanted = sum(record.files[name].bytes - _there(folder, name, record.files[name]) for name in missing)
    free = shutil.disk_usage(folder).free
    if wanted > 0 and free < wanted + _SPARE_BYTES:
        raise HubError(
            f"{folder} has {free / 1e6:.0f} MB free, needed: {(wanted + _SPARE_BYTES) / 1e6:.0f} MB; "
            "make room or choose another disk with --checkpoint"
        )


def settle(folder: Path, record: Record) -> None:
    """All is there and verified: move it to its places, then say so in the record, last."""
    waiting = folder / PULL_FOLDER
    old = read_record(folder / RECORD_FILE)
    (folder / RECORD_FILE).unlink(missing_ok=True)
    for name in old.files if old is not None else ():
        if name not in record.files:
            (folder / name).unlink(missing_ok=True)
    for name, entry in record.files.items():
        part = part_path(folder, name, entry)
        if part.exists():
            os.replace(part, folder / name)
    os.replace(waiting / RECORD_FILE, folder / RECORD_FILE)
    shutil.rmtree(waiting)


def whole(folder: Path, repo: str, revision: str | None, progress: Progress) -> Record:
    """The record of a folder that is whole, without the network. HubError says what is missing."""
    record = read_record(folder / RECORD_FILE)
    started = read_record(folder / PULL_FOLDER / RECORD_FILE)
    if record is None and started is not None and started.repo == repo:
        missing = ", ".join(_missing(folder, started))
        raise HubError(f"offline, and the pull of {repo} into {folder} was not finished; missing: {missing}")
    if record is None or record.repo != repo:
        found = "nothing was pulled" if record is None else f"there is {record.repo}"
        raise HubError(
            f"offline, and {found} in {folder}: pull {repo} with the network, or name its folder: --checkpoint"
        )
    if revision is not None and revision not in (record.revision, record.commit):
        held = f"{record.revision} ({record.commit[:12]})"
        raise HubError(f"offline, and {folder} has revision {held} of {repo}, not {revision}")
    wrong = [
        str(problem_of(folder / name, entry))
        for name, entry in record.files.items()
        if not verified(folder / name, name, entry, progress)
    ]
    if wrong:
        raise HubError(f"offline, and {folder} is damaged: {'; '.join(wrong)}")
    return record


def _missing(folder: Path, record: Record) -> Iterator[str]:
    for name, entry in record.files.items():
        part = part_path(folder, name, entry)
        if problem_of(part, entry) is not None and problem_of(folder / name, entry) is not None:
            yield f"{name} ({_there(folder, name, entry)} of {entry.bytes} bytes there)"


def _there(folder: Path, name: str, entry: RemoteFile) -> int:
    part = part_path(folder, name, entry)
    return part.stat().st_size if part.exists() else 0
