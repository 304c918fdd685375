"""`attacca models pull`: a model from where it is kept to where it can be named, by name, URL, path or OWNER/NAME.

Beside the path. Names are looked up in `downloads.json` of every folder in which bundles are looked for
(engine/bundle.py): name -> where it is, its SHA-256 and size. Files and URLs are handled here (bridge/download.py,
bridge/unpack.py); OWNER/NAME is a repository of the Hugging Face hub (bridge/hub.py);
it and checkpoint folders are converted (bridge/hub_convert.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import msgspec
import platformdirs

from attacca.bridge import hub, hub_convert
from attacca.bridge.download import Moved, PullError, download
from attacca.bridge.unpack import install, manifest_of, opened
from attacca.engine.bundle import bundle_folders, file_sha256

DOWNLOADS_FILE = "downloads.json"


class Download(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a bundle is kept: a URL, or a path (relative: from the file that says so). Empty: nowhere yet."""

    place: str = ""
    sha256: str = ""
    bytes: int | None = None
    about: str = ""


def pull(
    source: str,
    to: Path | None = None,
    *,
    sha256: str = "",
    precision: str = "int8",
    kv_bits: int = 32,
    window_frames: int | None = None,
    show: bool = True,
    environment: Mapping[str, str] | None = None,
    **hub_options: Any,
) -> Path:
    """Bring a model here; the folder it is in now.

    source: a name of `downloads.json`, a URL or path of a bundle (.zip, or a folder), a checkpoint's folder, or
    OWNER/NAME of the hub. to: the folder; default: under its name in the user's data folder.
    sha256: what the file must hash to. precision, kv_bits, window_frames: of a checkpoint's bundle.
    hub_options: as bridge/hub_convert.py's `pull_repository` takes them.
    PullError (a UserError) says what is wrong and what helps; nothing is left half. Main thread.
    """
    making: dict[str, Any] = {"precision": precision, "kv_bits": kv_bits, "window_frames": window_frames}
    making["show"] = show
    if (local := _local(source)) is not None:
        if hub_convert.is_checkpoint(local):
            name = hub_convert.bundle_name(local.resolve().name)
            return hub_convert.convert(local, to or _default(name), name=name, **making)
        return _from_file(local, to, Download(place=source, sha256=sha256))
    if _is_url(source):
        return _from_url(source, to, Download(place=source, sha256=sha256), show=show)
    known = downloads(environment)
    if source in known:
        entry, folder = known[source]
        entry = msgspec.structs.replace(entry, sha256=sha256 or entry.sha256)
        return _from_entry(source, entry, folder, to, show=show)
    if hub.is_repo(source):
        return hub_convert.pull_repository(source, to, **making, **hub_options)
    names = ", ".join(sorted(known)) or "none"
    raise PullError(
        f"{source!r} is no file, URL or OWNER/NAME of the hub, and no name that can be pulled; names: {names}"
    )


def downloads(environment: Mapping[str, str] | None = None) -> dict[str, tuple[Download, Path]]:
    """Names that can be pulled -> where from, and the folder of the list that says so; the first list wins."""
    found: dict[str, tuple[Download, Path]] = {}
    for folder in bundle_folders(environment):
        path = folder / DOWNLOADS_FILE
        if not path.is_file():
            continue
        try:
            listed = msgspec.json.decode(path.read_bytes(), type=dict[str, Download])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PullError(f"{path} is not understood: {error}") from None
        for name, entry in listed.items():
            found.setdefault(name, (entry, folder))
    return found


def _from_entry(name: str, entry: Download, folder: Path, to: Path | None, *, show: bool) -> Path:
    if not entry.place:
        raise PullError(f"{name} has no download place yet: {entry.about or 'nothing more is known of it'}")
    target = to or _default(name)
    if _is_url(entry.place) and _local(entry.place) is None:
        return _from_url(entry.place, target, entry, show=show)
    return _from_file(_local(entry.place) or folder / entry.place, target, entry)


def _from_url(url: str, to: Path | None, entry: Download, *, show: bool) -> Path:
    cache = platformdirs.user_cache_path("attacca", appauthor=False) / "downloads"
    with _bar(url, show=show) as moved:
        file = download(url, cache, size=entry.bytes, moved=moved)
    try:
        return _from_file(file, to, entry)
    finally:
        file.unlink(missing_ok=True)


def _from_file(file: Path, to: Path | None, entry: Download) -> Path:
    if entry.bytes is not None and file.is_file() and file.stat().st_size != entry.bytes:
        raise PullError(f"{entry.place} has {file.stat().st_size} bytes, expected {entry.bytes}")
    if entry.sha256:
        if not file.is_file():
            raise PullError(f"{entry.place} is no file: its SHA-256 cannot be compared")
        found = file_sha256(file)
        if found != entry.sha256.lower():
            raise PullError(
                f"{entry.place} has sha256 {found}, expected {entry.sha256}: damaged or tampered with; "
                "nothing was installed"
            )
    try:
        with opened(file) as source:
            name = manifest_of(source)[0].name
    except (OSError, KeyError) as error:
        raise PullError(f"{entry.place} cannot be read: {error}") from None
    return install(file, to.expanduser() if to is not None else _default(name))


def _default(name: str) -> Path:
    return platformdirs.user_data_path("attacca") / "models" / name


def _is_url(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https", "file")


def _local(source: str) -> Path | None:
    """The file or folder that a source names, if it is one here."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        path = Path(url2pathname(unquote(parts.path)))
        if not path.exists():
            raise PullError(f"{source} is not there")
        return path
    path = Path(source).expanduser()
    return path if not _is_url(source) and path.exists() else None


@contextmanager
def _bar(url: str, *, show: bool) -> Any:
    """A bar on stderr; gives the function to call with the bytes there and in all."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from attacca.bridge.tables import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=not show) as progress:
        task = progress.add_task(url.rsplit("/", maxsplit=1)[-1] or url, total=None)

        def moved(there: int, total: int) -> None:
            progress.update(task, completed=there, total=total or None)

        told: Moved = moved
        yield told
