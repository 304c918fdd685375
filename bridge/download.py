"""One file from a URL into a folder of our own, over broken connections: what comes is kept and gone on with.

Under bridge/pull.py; standard library only. A part file is named by its URL's hash, and beside it stands what the
server said of the file, so that a file which changed there is begun anew and never patched together.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacca.bridge.cli_group import UserError

TIMEOUT_S = 30.0
MAX_BYTES = 16 << 30
_TRIES = 5  # without a new byte in between
_READ_BYTES = 1 << 18
_PASSING_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504))

Moved = Callable[[int, int], None]  # bytes there, bytes in all (0: unknown)


class PullError(UserError):
    """A model that cannot be brought here; the message says why and what helps."""


class _Broken(Exception):
    """The connection ended early; worth another try."""


def download(
    url: str,
    cache: Path,
    *,
    size: int | None = None,
    moved: Moved = lambda there, total: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The whole file in the folder `cache`, not verified; `size` in bytes if known. Goes on where a part is there.

    PullError in the user's words; what has come stays for the next call. The caller deletes the file.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:24]
    part, whole, note = (cache / f"{name}.{suffix}" for suffix in ("part", "whole", "json"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if whole.exists() and (size is None or whole.stat().st_size == size):
            return whole
        part.touch()
        failures = 0
        while True:
            before = part.stat().st_size
            try:
                _stream(url, part, note, size, moved)
                break
            except (_Broken, OSError, http.client.HTTPException) as error:
                failures = 1 if part.stat().st_size > before else failures + 1
                if not _passing(error) or failures >= _TRIES:
                    raise _explain(error, url, cache) from None
                sleep(min(0.25 * 2.0**failures, 5.0))
        part.replace(whole)
        note.unlink(missing_ok=True)
    except OSError as error:
        raise _explain(error, url, cache) from None
    return whole


def _stream(url: str, part: Path, note: Path, size: int | None, moved: Moved) -> None:
    """Append what is missing. Raises _Broken where the connection ended early."""
    there = part.stat().st_size
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    if there and (not known or (size is not None and there > size)):
        part.write_bytes(b"")  # of unknown origin
        there = 0
    if there and there == known.get("total"):
        return
    headers = {"User-Agent": "attacca", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
        if known.get("tag"):
            headers["If-Range"] = known["tag"]
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.write_bytes(b"")  # there is no such range: the file has become shorter
        raise _Broken("the file has changed on the server") from None
    with response:
        begin, total = _extent(response, there)
        if begin != there:
            part.write_bytes(b"")
            if begin:
                raise _Broken(f"the server began at byte {begin}, asked was {there}")
        if size is not None and total not in (0, size):
            raise PullError(f"{url} has {total} bytes, expected {size}: it is not what was published")
        if max(total, size or 0) > MAX_BYTES:
            raise PullError(f"{url} has {total} bytes, allowed: up to {MAX_BYTES}")
        _need_space(part, (total or size or 0) - begin)
        note.write_text(json.dumps({"total": total, "tag": _tag(response)}), encoding="utf-8")
        _append(response, part, begin, total, size, moved)


def _append(response: Any, part: Path, begin: int, total: int, size: int | None, moved: Moved) -> None:
    limit = total or size or MAX_BYTES
    there = begin
    with part.open("r+b") as file:
        file.seek(begin)
        moved(there, total)
        while chunk := response.read1(_READ_BYTES):
            there += len(chunk)
            if there > limit:
                raise _Broken(f"more than {limit} bytes came")
            file.write(chunk)
            moved(there, total)
    if there < (total or size or 0):
        raise _Broken(f"the connection ended at byte {there} of {total or size}")


def _extent(response: Any, asked: int) -> tuple[int, int]:
    """Where the answer begins and how many bytes the whole file has (0: not said)."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None:
            return 0 if asked == 0 else -1, 0
        return int(match[1]), 0 if match[2] == "*" else int(match[2])
    return 0, int(response.headers.get("Content-Length") or 0)


def _tag(response: Any) -> str:
    """What names this very content to the server; a weak ETag does not."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _need_space(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise PullError(
            f"{part.parent} has {free / 1e6:.0f} MB free, needed: {wanted / 1e6:.0f} MB; make room and run it again"
        )


def _passing(error: Exception) -> bool:
    """Whether another try may help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING_STATUS
    if isinstance(error, urllib.error.URLError):
        return isinstance(error.reason, TimeoutError | ConnectionError)
    return isinstance(error, _Broken | TimeoutError | ConnectionError | http.client.HTTPException)


def _explain(error: Exception, url: str, cache: Path) -> PullError:
    """An error of the network, the server or the disk, in the user's words."""
    if isinstance(error, urllib.error.HTTPError):
        return PullError(f"{url}: the server answers {error.code} {error.reason}")
    network = isinstance(error, urllib.error.URLError | TimeoutError | ConnectionError | http.client.HTTPException)
    if network or isinstance(error, _Broken):
        reason = getattr(error, "reason", None) or error or type(error).__name__
        return PullError(
            f"cannot reach {url}, or it broke off ({reason}); what has come is kept: run the same command again"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PullError(f"the disk of {cache} is full; make room and run the same command again")
    return PullError(f"{cache}: {error}")
