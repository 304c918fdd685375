"""`attacca models pull OWNER/NAME`: a model repository of the Hugging Face hub, or of a mirror, as a local folder.

Before conversion (export), off the audio path. Only what that needs is taken (bridge/hub_files.py), each file is
resumed where it broke off (bridge/hub_transfer.py), and the folder becomes whole at once (bridge/hub_folder.py).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from attacca.bridge.hub_files import HubError, Record, RemoteFile, choose
from attacca.bridge.hub_folder import (
    PULL_FOLDER,
    Progress,
    alone,
    need_space,
    part_path,
    prepare,
    settle,
    verified,
    whole,
)
from attacca.bridge.hub_transfer import TIMEOUT_S, Hub, call, disk_error, transfer
from attacca.bridge.licence import licence_line

PUBLIC_ENDPOINT = "https://huggingface.co"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO = re.compile(f"{_PART}/{_PART}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_repo(source: str) -> bool:
    """Whether it is written as the name of a repository is: OWNER/NAME."""
    return _REPO.fullmatch(source) is not None and ".." not in source and "--" not in source


def default_folder(repo: str) -> Path:
    """Where a repository's files are kept if the user names no folder."""
    return platformdirs.user_cache_path("attacca", appauthor=False) / "hub" / repo.replace("/", "--")


def fetch(
    repo: str,
    to: Path | None = None,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    offline: bool = False,
    token: str | None = None,
    kinds: Collection[str] = (),
    show: bool = True,
) -> Path:
    """The folder with the files of `repo` (OWNER/NAME) that a conversion needs, every one verified.

    `revision` is a branch, tag or commit ("main"); `endpoint` a mirror's URL (HF_ENDPOINT, else the public hub);
    `offline` (or HF_HUB_OFFLINE=1) takes what is there; a repository whose `model_type` the hub knows to be none of
    `kinds` (empty: any) is refused before it comes; `show` draws progress and the licence on stderr. HubError in
    the user's words. Ctrl-C or a failure leaves what has come, and the same call goes on. Main thread.
    """
    if not is_repo(repo):
        raise HubError(f"{repo!r} is no name of a repository, allowed: OWNER/NAME, as in facebook/musicgen-small")
    folder = default_folder(repo) if to is None else to.expanduser()
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        with _bars(show=show) as progress:
            record = whole(folder, repo, revision, progress)
    else:
        hub = _hub(repo, revision, endpoint)
        record = _pull(folder, hub, token=_token(token, endpoint), kinds=kinds, show=show)
    if show:
        say(f"{repo} at {record.commit[:12]}: {len(record.files)} files in {folder}")
        if (line := licence_line(record.licence)) is not None:
            say(f"{line} ({record.endpoint}/{repo})")
    return folder


def _hub(repo: str, revision: str | None, endpoint: str | None) -> Hub:
    url = (endpoint or os.environ.get("HF_ENDPOINT") or PUBLIC_ENDPOINT).rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise HubError(f"endpoint is {url!r}, allowed: a URL such as {PUBLIC_ENDPOINT}")
    return Hub(endpoint=url, repo=repo, revision=revision or "main")


def _token(token: str | None, endpoint: str | None) -> str | bool | None:
    """What to log in with. A stored login never goes to a mirror that is named on the command line."""
    if token is not None or endpoint is None or endpoint.rstrip("/") == PUBLIC_ENDPOINT:
        return token  # None: huggingface_hub looks for HF_TOKEN and the stored login
    return os.environ.get("HF_TOKEN") or False


def _pull(folder: Path, hub: Hub, *, token: str | bool | None, kinds: Collection[str], show: bool) -> Record:
    """Bring what is missing; the folder is whole when this returns."""
    need_library("huggingface_hub", "hub")
    from huggingface_hub.utils import build_hf_headers

    record = _look_up(hub, token, kinds)
    headers = build_hf_headers(token=token, library_name="attacca")
    try:
        with alone(folder), _bars(show=show) as progress:
            missing = prepare(folder, record, progress)
            missing = [name for name in missing if not _had(name, record, folder, progress)]
            need_space(folder, record, missing)
            for name in missing:
                _bring(name, record, folder, headers, hub, progress)
            settle(folder, record)
    except KeyboardInterrupt:
        if show:
            say(f"stopped; what has come is in {folder / PULL_FOLDER}: the same command goes on")
        raise
    except OSError as error:
        raise disk_error(error, folder / PULL_FOLDER) from None
    return record


def need_library(name: str, extra: str) -> None:
    """HubError that names the extra, if a library cannot be imported."""
    if find_spec(name) is None:
        raise HubError(f"{name}: not installed; install with: pip install 'attacca[{extra}]'")


def _look_up(hub: Hub, token: str | bool | None, kinds: Collection[str]) -> Record:
    """What the hub says of the repository: its commit, its licence, and the files that are needed."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token=token, library_name="attacca")
    info = call(
        lambda: api.model_info(hub.repo, revision=hub.revision, files_metadata=True, timeout=TIMEOUT_S), hub
    )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if not info.sha:
        raise HubError(f"{hub.endpoint} does not say which commit {hub.revision!r} of {hub.repo} is")
    kind = (info.config or {}).get("model_type")
    if kinds and kind is not None and kind not in kinds:
        raise HubError(f"{hub.repo} is a {kind!r} model; those that can be played: {', '.join(sorted(kinds))}")
    try:
        names = choose(siblings)
    except HubError as error:
        raise HubError(f"{hub.repo} at {hub.endpoint}: {error}") from None
    return Record(
        repo=hub.repo,
        endpoint=hub.endpoint,
        revision=hub.revision,
        commit=info.sha,
        licence=_stated_licence(info),
        files={name: _remote_file(name, siblings[name], hub) for name in names},
    )


def _stated_licence(info: Any) -> str:
    """By the model card's metadata, else by the hub's tags; empty if none is stated."""
    card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data is not None else {}
    stated = card.get("license")
    if stated == "other":
        stated = card.get("license_name", stated)
    if isinstance(stated, list):
        stated = ", ".join(map(str, stated))
    tagged = (tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:"))
    return str(stated) if stated else next(tagged, "")


def _remote_file(name: str, sibling: Any, hub: Hub) -> RemoteFile:
    large = sibling.lfs
    size = sibling.size if large is None else large.size
    digest = str(sibling.blob_id if large is None else large.sha256)
    if not isinstance(size, int) or _DIGEST.fullmatch(digest) is None:
        raise HubError(
            f"{hub.endpoint} does not state size and hash of {name}: it cannot be verified; try a mirror"
        )
    return RemoteFile(bytes=size, git_id=digest) if large is None else RemoteFile(bytes=size, sha256=digest)


def _had(name: str, record: Record, folder: Path, progress: Progress) -> bool:
    """Take a file that other programs have left in huggingface_hub's own cache, if it is whole; whether it was."""
    from huggingface_hub import try_to_load_from_cache

    entry = record.files[name]
    cached = try_to_load_from_cache(record.repo, name, revision=record.commit)
    if not isinstance(cached, str) or not verified(Path(cached), name, entry, progress):
        return False
    part = part_path(folder, name, entry)
    part.unlink(missing_ok=True)
    try:
        os.link(Path(cached).resolve(), part)  # neither side ever writes into a finished file
    except OSError:  # another disk
        shutil.copyfile(cached, part)
    return True


def _bring(name: str, record: Record, folder: Path, headers: dict[str, str], hub: Hub, progress: Progress) -> None:
    """One file whole and verified in the waiting folder. HubError if it is not what the hub says."""
    from huggingface_hub import hf_hub_url

    entry = record.files[name]
    part = part_path(folder, name, entry)
    progress(name, part.stat().st_size if part.exists() else 0, entry.bytes)
    transfer(
        hf_hub_url(record.repo, name, revision=record.commit, endpoint=record.endpoint),
        part,
        size=entry.bytes,
        headers=headers,
        hub=hub,
        moved=lambda count: progress(name, count, entry.bytes),
    )
    if not verified(part, name, entry, progress):
        part.unlink()
        raise HubError(
            f"{name} came with other bytes than {hub.endpoint} states and was thrown away; run the same command "
            "again, and if that does not help, use another mirror"
        )


def say(line: str) -> None:
    """A line on stderr."""
    from attacca.bridge.tables import console

    console(stderr=True).print(line, markup=False, soft_wrap=True)


@contextmanager
def _bars(*, show: bool) -> Iterator[Progress]:
    """Bars on stderr, one a file; gives the function to call with what is done, bytes gained and bytes in all."""
    from rich import progress as rich

    from attacca.bridge.tables import console

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=30),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console(stderr=True), disable=not show) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def tell(what: str, gained: int, total: int) -> None:
            if what in tasks:
                bars.advance(tasks[what], gained)
            else:
                tasks[what] = bars.add_task(what, total=total, completed=gained)

        yield tell
