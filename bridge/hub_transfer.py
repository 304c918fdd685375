"""One file from a hub to the disk, resumed where it was broken off; and what the hub's errors mean to the user.

Under bridge/hub.py. huggingface_hub's own downloads begin anew after an interruption, so only its session and
errors are used here: a part file grows until it has its size, over broken connections, restarts and Ctrl-C.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from attacca.bridge.hub_files import HubError

TIMEOUT_S = 30.0
_TRIES = 6  # without a single new byte in between
_LONGEST_WAIT_S = 60.0
_PASSING_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504))

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where and what is pulled, for messages."""

    endpoint: str
    repo: str
    revision: str


class _Short(Exception):
    """The server ended a file early, or began it elsewhere than asked."""


def transfer(
    url: str, part: Path, *, size: int, headers: dict[str, str], hub: Hub, moved: Callable[[int], None]
) -> None:
    """Fill `part` up to `size` bytes, going on at its end; `moved` gets the bytes gained (or lost: below 0).

    HubError in the user's words; what has come stays in `part`.
    """
    import httpx2

    failures = 0
    part.touch()
    while (before := part.stat().st_size) != size:
        try:
            if before > size:
                _empty(part, moved)
            _stream(url, part, size=size, headers=headers, moved=moved)
        except (_Short, httpx2.HTTPError) as error:
            failures = 1 if part.stat().st_size > before else failures + 1
            _wait_or_give_up(error, failures, hub)
        except OSError as error:
            raise disk_error(error, part) from None


def call(work: Callable[[], Answer], hub: Hub) -> Answer:
    """Ask the hub's API, again where an error may pass. HubError in the user's words."""
    import httpx2

    failures = 0
    while True:
        try:
            return work()
        except httpx2.HTTPError as error:
            failures += 1
            _wait_or_give_up(error, failures, hub)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise HubError(f"{hub.endpoint} does not answer as a hub does ({what})") from None


def disk_error(error: OSError, path: Path) -> HubError:
    """A failure to write, in the user's words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError(f"the disk of {path.parent} is full; make room and run the same command again: it goes on")
    return HubError(f"{error.filename or path} cannot be written: {error.strerror or error}")


def _empty(part: Path, moved: Callable[[int], None]) -> None:
    moved(-part.stat().st_size)
    part.write_bytes(b"")


def _stream(url: str, part: Path, *, size: int, headers: dict[str, str], moved: Callable[[int], None]) -> None:
    """One request for what is missing of `part`, written as it comes."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    start = part.stat().st_size
    asked = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with get_session().stream("GET", url, headers=asked, timeout=TIMEOUT_S) as response:
        if response.status_code == 416:
            _empty(part, moved)
            raise _Short("the server has less of a file than was there before")
        hf_raise_for_status(response)
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _empty(part, moved)  # it sends the file from the start, or from anywhere
            start = 0
            if response.status_code == 206:
                raise _Short("the server began a file elsewhere than asked")
        with part.open("ab") as file:
            for chunk in response.iter_bytes():  # as it comes: what is buffered would be lost
                if start + len(chunk) > size:
                    raise HubError(f"{part.stem}: the server sends more than the {size} bytes that it stated")
                file.write(chunk)
                start += len(chunk)
                moved(len(chunk))
    if start != size:
        raise _Short(f"the server ended a file after {start} of {size} bytes")


def _wait_or_give_up(error: Exception, failures: int, hub: Hub) -> None:
    """Sleep before the next try, or raise what the user should read."""
    import httpx2

    passing = isinstance(error, (_Short, httpx2.TransportError)) or _status(error) in _PASSING_STATUS
    asked_s = _asked_wait_s(error)
    if not passing or failures >= _TRIES or asked_s > _LONGEST_WAIT_S:
        raise explain(error, hub) from None
    sleep(max(asked_s, min(0.5 * 2.0**failures, 10.0)))


def _status(error: Exception) -> int:
    """The HTTP status that an error stands for, 0 if the server did not answer."""
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)


def _header(error: Exception, name: str) -> str:
    response: Any = getattr(error, "response", None)
    return "" if response is None else str(response.headers.get(name, ""))


def _asked_wait_s(error: Exception) -> float:
    """Seconds that the server asks to wait for; 0 if it does not say."""
    limit = re.search(r";\s*r=0\s*;\s*t=(\d+)", _header(error, "RateLimit"))  # nothing remains, for t seconds
    plain = re.fullmatch(r"(\d+)", _header(error, "Retry-After"), re.ASCII)
    found = limit or plain
    return 0.0 if found is None else float(found[1])


def explain(error: Exception, hub: Hub) -> HubError:
    """An error of the hub or of the network, in the user's words."""
    page, repo, status = f"{hub.endpoint}/{hub.repo}", hub.repo, _status(error)
    reason = _header(error, "X-Error-Message") or "no reason given"
    login = "log in with `hf auth login` or set HF_TOKEN"
    if status == 0:
        what = str(error) or type(error).__name__
        return HubError(
            f"cannot reach {hub.endpoint}, or it broke off ({what}); what has come is kept: "
            "run the same command again, with --offline for what is there, or with --endpoint for a mirror"
        )
    by_code = {
        "GatedRepo": f"{repo} is gated: accept its conditions at {page}, then {login}",
        "RevisionNotFound": f"{repo} has no revision {hub.revision!r}; see {page}/tree/main",
        "EntryNotFound": f"the hub lists a file of {repo} that it does not have; run the same command again later",
    }
    by_status = {
        401: f"{repo} is not at {hub.endpoint}, or is private: check the name; for a private one, {login}",
        403: f"access to {repo} refused ({reason}): {login}; see {page}",
        404: f"{repo} is not at {hub.endpoint}, or is private: check the name; for a private one, {login}",
        429: f"{hub.endpoint} limits how much is asked of it: run the same command again "
        + (f"in {_asked_wait_s(error):.0f} s" if _asked_wait_s(error) else "later"),
    }
    text = by_code.get(_header(error, "X-Error-Code")) or by_status.get(status)
    return HubError(text or f"{hub.endpoint} answers with error {status}; run the same command again later")
