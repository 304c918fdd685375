"""Which files of a model repository are needed, and the record of those that were pulled.

Between the hub's listing (bridge/hub.py) and the folder that a converter reads: `attacca-source.json` beside the
files says whence they are, under which licence, and what each must hash to. A folder that has it is whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from attacca.bridge.cli_group import UserError
from attacca.bridge.licence import licence_of_card

RECORD_FILE = "attacca-source.json"
_READ_BYTES = 1 << 20
_TEXT_FILES = frozenset(
    (
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "spiece.model",
        "README.md",
        "LICENSE",
        "LICENSE.md",
        "LICENSE.txt",
    )
)
_AUDIOCRAFT = ("state_dict.bin", "compression_state_dict.bin")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<kind>safetensors|bin)")


class HubError(UserError):
    """A model that cannot be pulled; the message says why and what helps."""


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file as the hub states it: its size, and SHA-256 (large files) or git's object id (the others)."""

    bytes: int
    sha256: str = ""
    git_id: str = ""

    @property
    def digest(self) -> str:
        """What the content must hash to, in hex."""
        return self.sha256 or self.git_id


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Whence a folder's files are. `revision` was asked for, `commit` is what it meant then."""

    format_version: int = 1
    repo: str
    endpoint: str
    revision: str
    commit: str
    licence: str
    files: dict[str, RemoteFile]


def choose(names: Iterable[str]) -> list[str]:
    """Those of a repository's files that a conversion needs, sorted; nothing in sub-folders.

    Weights in one form only: safetensors before PyTorch's before audiocraft's. HubError if there are none, or a
    part of them is missing.
    """
    here = {name for name in names if "/" not in name and "\\" not in name}
    for kind in ("model.safetensors", "pytorch_model.bin"):
        if kind in here:
            return sorted((here & _TEXT_FILES) | {kind})
        shards = _shards(here, kind)
        if shards:
            return sorted((here & _TEXT_FILES) | shards)
    if here & set(_AUDIOCRAFT):
        _need(set(_AUDIOCRAFT), here)
        return sorted((here & _TEXT_FILES) | set(_AUDIOCRAFT))
    wanted = "model.safetensors, pytorch_model.bin (or their parts), " + " with ".join(_AUDIOCRAFT)
    raise HubError(f"no weights among its {len(here)} files; looked for {wanted}")


def _shards(here: set[str], kind: str) -> set[str]:
    stem, _, suffix = kind.rpartition(".")
    counts = {
        int(match["count"])
        for match in map(_SHARD.fullmatch, here)
        if match is not None and (match["stem"], match["kind"]) == (stem, suffix)
    }
    index = f"{kind}.index.json"
    if not counts:
        return set()
    if len(counts) > 1:
        sets = " and ".join(map(str, sorted(counts)))
        raise HubError(f"there are sets of {sets} parts of {kind}: which is meant is unknown")
    (count,) = counts
    wanted = {f"{stem}-{number:05d}-of-{count:05d}.{suffix}" for number in range(1, count + 1)} | {index}
    _need(wanted, here)
    return wanted


def _need(wanted: set[str], here: set[str]) -> None:
    if missing := sorted(wanted - here):
        raise HubError(f"the repository is not complete: {', '.join(missing)} missing")


def problem_of(path: Path, entry: RemoteFile) -> str | None:
    """What is wrong with a file that should be `entry`, in words; None if every byte is as it should be."""
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{path.name} has {size} bytes, the hub says {entry.bytes}"
        found = _hash(path, entry)
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    if found != entry.digest:
        return f"{path.name} has the hash {found}, the hub says {entry.digest}"
    return None


def _hash(path: Path, entry: RemoteFile) -> str:
    if entry.sha256:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % entry.bytes, usedforsecurity=False)  # git's id of a blob
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def write_record(path: Path, record: Record) -> None:
    """Write it so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2) + b"\n")
    os.replace(temporary, path)


def read_record(path: Path) -> Record | None:
    """The record in a file, None if there is none. HubError if it is not understood."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HubError(f"{path} is not understood ({error}); delete it and pull again") from None
    if any(set(name) & set("/\\:\0") or name in ("", ".", "..") for name in record.files):
        raise HubError(f"{path} names files outside its folder; delete it and pull again")
    return record


def source_of(folder: Path) -> Mapping[str, str]:
    """Whence a checkpoint's files are, for a manifest: licence, and repo, commit, endpoint where they were pulled.

    A folder that was not pulled may state its licence in a model card (README.md); empty if unknown.
    """
    record = read_record(folder / RECORD_FILE)
    if record is not None:
        names = ("licence", "repo", "commit", "endpoint")
        return {name: getattr(record, name) for name in names}
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return {"licence": licence_of_card(text)}
