"""A bundle from a folder or a .zip into its place: verified file by file, there whole or not at all.

Under bridge/pull.py. Only what the manifest names is taken, so nothing else in an archive reaches the disk; a
broken or hostile one leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from attacca.bridge.download import PullError
from attacca.engine.bundle import verify_bundle
from attacca.engine.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

_READ_BYTES = 1 << 20


class Source(Protocol):
    """A bundle's files by their paths inside it."""

    def open(self, path: str) -> IO[bytes]:
        """The file's bytes. KeyError or OSError if it is not there."""


class _Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, path: str) -> IO[bytes]:
        return (self.folder / path).open("rb")


class _Archive:
    """A .zip with the bundle at its root or in one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        manifests = [name for name in archive.namelist() if PurePosixPath(name).name == MANIFEST_FILE]
        tops = [name for name in manifests if len(PurePosixPath(name).parts) <= 2]
        if len(tops) != 1:
            raise PullError(
                f"the archive holds {len(tops)} bundles, allowed: one {MANIFEST_FILE}, at most a folder deep"
            )
        self.archive, self.top = archive, tops[0].removesuffix(MANIFEST_FILE)

    def open(self, path: str) -> IO[bytes]:
        return self.archive.open(self.top + path)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A bundle's folder or .zip, to read from. PullError if it is neither."""
    if (path / MANIFEST_FILE).is_file():
        yield _Folder(path)
        return
    if path.is_dir():
        raise PullError(f"{path} is no bundle: it has no {MANIFEST_FILE}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield _Archive(archive)
    except zipfile.BadZipFile as error:
        raise PullError(f"{path} is no .zip, or is damaged ({error})") from None


def manifest_of(source: Source) -> tuple[Manifest, bytes]:
    """The manifest, understood, and as it was written. PullError says what is wrong."""
    try:
        with source.open(MANIFEST_FILE) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        return parse_manifest(content), content
    except ManifestError as error:
        raise PullError(str(error)) from None


def install(path: Path, target: Path) -> Path:
    """Put the bundle in `path` (folder or .zip) into the folder `target`, not there yet or the same bundle.

    PullError says what is wrong; then nothing is left behind.
    """
    target = target.absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with opened(path) as source:
            manifest, content = manifest_of(source)
            if target.exists():
                return _same(target, content)
            needed = sum(entry.bytes for entry in manifest.files.values())
            target.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(target.parent).free
            if needed > free:
                raise PullError(f"{target.parent} has {free / 1e6:.0f} MB free, needed: {needed / 1e6:.0f} MB")
            _write(source, manifest, content, partial)
        if problems := verify_bundle(partial):
            raise PullError("; ".join(problems) + "; nothing was installed")
        partial.replace(target)
    except KeyError as error:
        raise PullError(f"{path} is not complete: {error.args[0]}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise PullError(f"{path} is damaged ({error}); nothing was installed") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise PullError(f"the disk of {target.parent} is full" if full else str(error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write(source: Source, manifest: Manifest, content: bytes, folder: Path) -> None:
    folder.mkdir()
    (folder / MANIFEST_FILE).write_bytes(content)
    for entry in manifest.files.values():
        place = folder / entry.path
        place.parent.mkdir(parents=True, exist_ok=True)
        left = entry.bytes
        with source.open(entry.path) as read, place.open("wb") as write:
            while chunk := read.read(min(_READ_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise PullError(f"{entry.path} has more than the {entry.bytes} bytes that the manifest says")
                write.write(chunk)


def _same(target: Path, content: bytes) -> Path:
    """The bundle that is there already, if it is this one and sound."""
    there = target / MANIFEST_FILE
    if there.is_file() and there.read_bytes() == content and not verify_bundle(target):
        return target
    raise PullError(
        f"{target} is there already and is another bundle, or damaged: remove it or choose another --to"
    )
