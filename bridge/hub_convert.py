"""A checkpoint, pulled from a hub or in a folder, to a bundle that can be named: the end of `attacca models pull`.

After bridge/hub.py. The converter is attacca.export.musicgen_bundle, on which the runtime does not depend: it is
looked up by name when there is something to convert. Licence and origin go into the manifest; a bundle comes whole
or not at all.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from attacca.bridge.hub import fetch, need_library, say
from attacca.bridge.hub_files import HubError, source_of
from attacca.engine.bundle import verify_bundle
from attacca.engine.manifest import (
    KV_BITS,
    MANIFEST_FILE,
    PRECISIONS,
    Manifest,
    ManifestError,
    encode_manifest,
    read_manifest,
)

_CONVERTER = "attacca.export.musicgen_bundle"
WINDOWS = (64, 1536)  # frames; the most is what the published models see
_WINDOW = "window_frames"
KINDS = frozenset(("musicgen", "musicgen_melody"))  # of what it converts, by the model_type of config.json


def pull_repository(
    repo: str,
    to: Path | None = None,
    *,
    checkpoint: Path | None = None,
    precision: str = "int8",
    kv_bits: int = 32,
    window_frames: int | None = None,
    show: bool = True,
    **options: Any,
) -> Path:
    """The folder of the bundle made of a hub's repository OWNER/NAME; `options` as `fetch` takes them.

    `to`: the bundle's folder, else under the repository's name where bundles are found. `checkpoint`: the folder
    of the files that it is made of, else in the user's cache. HubError in the user's words. Main thread.
    """
    _check(precision, kv_bits, window_frames)
    folder = fetch(repo, checkpoint, kinds=KINDS, show=show, **options)
    name = bundle_name(repo.split("/")[1])
    making: dict[str, Any] = {"precision": precision, "kv_bits": kv_bits, "window_frames": window_frames}
    return convert(folder, to or default_bundle(name), name=name, **making, show=show)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a MusicGen checkpoint, of transformers' or of audiocraft's layout."""
    if not folder.is_dir():
        return False
    return _kind(folder).startswith("musicgen") or (folder / "state_dict.bin").is_file()


def bundle_name(text: str) -> str:
    """A bundle's name made of any other."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "musicgen"


def default_bundle(name: str) -> Path:
    """Where bundles of the user are, under their names."""
    return platformdirs.user_data_path("attacca") / "models" / name


def convert(
    folder: Path,
    to: Path,
    *,
    name: str,
    precision: str,
    kv_bits: int = 32,
    window_frames: int | None = None,
    show: bool = True,
) -> Path:
    """Write the bundle of the checkpoint in `folder` into `to`; what is there of the same origin is replaced.

    `window_frames`: that a frame sees, the published models' 30 s if None.
    HubError says why it cannot be, and then `to` is as it was.
    """
    if not is_checkpoint(folder):
        raise HubError(
            f"{folder} is no MusicGen checkpoint ({_kind(folder) or 'no config.json'}): nothing here plays it"
        )
    _check(precision, kv_bits, window_frames)
    to = to.expanduser().absolute()
    origin = {"checkpoint": folder.name} | {key: value for key, value in source_of(folder).items() if value}
    wanted: dict[str, str | int] = {**origin, "precision": precision, "kv_bits": kv_bits}
    if window_frames is not None:
        wanted[_WINDOW] = window_frames
    if _is_there(to, wanted, folder):
        return to
    if show:
        say(f"converting to {precision} weights: {to}")
        if (precision, kv_bits) != ("fp32", 32):
            say("tokens will be near the original's, not the same: only --precision fp32 gives transformers' own")
    partial = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _write(folder, partial, name, wanted)
        _swap(partial, to)
    except OSError as error:
        raise HubError(f"{error.filename or to} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if show:
        say(f"{name} is ready: attacca serve --model {name if to == default_bundle(name) else to}")
    return to


def _check(precision: str, kv_bits: int, window_frames: int | None) -> None:
    need_library("onnx", "musicgen")
    if precision not in PRECISIONS:
        raise HubError(f"precision is {precision!r}, allowed: {', '.join(PRECISIONS)}")
    if kv_bits not in KV_BITS:
        raise HubError(f"kv-bits is {kv_bits}, allowed: {', '.join(map(str, KV_BITS))}")
    if window_frames is not None and not WINDOWS[0] <= window_frames <= WINDOWS[1]:
        raise HubError(f"window-frames is {window_frames}, allowed: {WINDOWS[0]}..{WINDOWS[1]}")


def _kind(folder: Path) -> str:
    """transformers' name of what is in a folder; empty if it does not say."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _is_there(to: Path, wanted: Mapping[str, str | int], folder: Path) -> bool:
    """Whether `to` is this bundle already. HubError if it is anything but an earlier one of the same origin."""
    if not to.exists():
        return False
    try:
        there = read_manifest(to).provenance
    except ManifestError:
        there = {}
    same = all(there.get(key) == wanted.get(key) for key in {*wanted, _WINDOW} - {"endpoint"})
    if same and not verify_bundle(to):
        return True
    key = "repo" if "repo" in wanted else "checkpoint"
    if there.get(key) != wanted[key]:
        raise HubError(
            f"{to} is there and was not made of {wanted.get('repo', folder)}: choose another folder with --to"
        )
    return False


def _write(folder: Path, partial: Path, name: str, wanted: Mapping[str, str | int]) -> None:
    converter = importlib.import_module(_CONVERTER)
    given = {"name": name, "precision": wanted["precision"], "kv_bits": wanted["kv_bits"]}
    given |= {key: wanted[key] for key in ("licence", _WINDOW) if key in wanted}
    try:
        converter.convert_musicgen(folder, partial, converter.ConvertOptions(**given))
    except ValueError as error:
        raise HubError(f"{folder} cannot be converted: {error}") from None
    made: Manifest = read_manifest(partial)
    made = msgspec.structs.replace(made, provenance={**made.provenance, **wanted})
    (partial / MANIFEST_FILE).write_bytes(encode_manifest(made))


def _swap(partial: Path, to: Path) -> None:
    """Put a finished folder in the place of what is there."""
    old = to.with_name(f".{to.name}.{os.getpid()}.old")
    if to.exists():
        os.replace(to, old)
    os.replace(partial, to)
    shutil.rmtree(old, ignore_errors=True)
