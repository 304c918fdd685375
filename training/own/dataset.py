"""A folder of a user's audio as a dataset: tokens and estimated labels in the layout of training/decoder_data.py.

Between the user's files and fine-tuning. Tokens come from the codec inside the bundle. A file's results are kept
under a name that changes with the file and the codec, so a second run only looks at what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from attacca.engine.codec import Codec
from attacca.engine.conditioning import Controls
from attacca.engine.manifest import DECODER_ROLE, Manifest, read_manifest
from attacca.training.own.analysis import Estimate, estimate
from attacca.training.own.sound import SoundFile, UnusableSound, find_sounds, read_sound

SPLITS = ("train", "heldout")
_SPLIT_FILE = "split.json"
_KEPT = "songs"
_VERSION = 1  # of the estimates: raise it when they change

Progress = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found out about one file. With a `problem` it was skipped and the rest is 0."""

    name: str
    key: str = ""
    problem: str = ""
    seconds: float = 0.0
    bpm: float = 0.0
    beat_confidence: float = 0.0
    bar_confidence: float = 0.0
    chord_confidence: float = 0.0
    beat_known: float = 0.0  # share of frames
    chord_known: float = 0.0

    @classmethod
    def of(cls, name: str, key: str, found: Estimate) -> Row:
        figures = ("seconds", "bpm", "beat_confidence", "bar_confidence", "chord_confidence")
        values = {figure: float(getattr(found, figure)) for figure in (*figures, "beat_known", "chord_known")}
        return cls(name=name, key=key, **values)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file to look at. `keep` is the folder for its results; None: only look."""

    file: SoundFile
    bundle: Path
    shortest_s: float
    keep: Path | None


def survey(
    folder: Path, bundle: Path, *, keep: Path | None, shortest_s: float, workers: int, progress: Progress
) -> list[Row]:
    """A row for each file under `folder`, by name. `keep` is where tokens and labels go, None for a look alone."""
    files = find_sounds(folder)
    if not files:
        raise ValueError(f"{folder} has no audio files (wav, flac, ogg, mp3, aiff)")
    jobs = [Job(file=file, bundle=bundle, shortest_s=shortest_s, keep=keep) for file in files]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in _each(jobs, min(workers, len(jobs))):
        rows.append(row)
        progress(len(rows) / len(jobs))
    return rows


def _each(jobs: list[Job], workers: int) -> Iterator[Row]:
    if workers <= 1:
        yield from map(look, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(look, jobs)


def look(job: Job) -> Row:
    """Read, estimate and tokenise one file, or take what is kept of it."""
    manifest = read_manifest(job.bundle)
    try:
        key = _key(job, manifest)
        kept = None if job.keep is None else _kept_row(job.keep / key, job.file.name)
        if kept is not None:
            return kept
        codec = load_codec(job.bundle)
        pcm = read_sound(
            job.file.path,
            sample_rate=codec.sample_rate,
            audio_channels=codec.audio_channels,
            shortest_s=job.shortest_s,
        )
    except UnusableSound as error:
        return Row(name=job.file.name, problem=str(error))
    except OSError as error:
        return Row(name=job.file.name, problem=f"cannot be read: {error.strerror}")
    found = estimate(pcm, sample_rate=codec.sample_rate, hop_samples=codec.hop_samples)
    row = Row.of(job.file.name, key, found)
    if job.keep is not None:
        _write(job.keep / key, codec.encoder().push(pcm), found.controls, row)
    return row


@lru_cache(maxsize=1)
def load_codec(bundle: Path) -> Codec:
    """The codec of a bundle, without its decoder."""
    manifest = read_manifest(bundle)
    files = {role: bundle / entry.path for role, entry in manifest.files.items() if role != DECODER_ROLE}
    return Codec.load(files, manifest.codec)


def _key(job: Job, manifest: Manifest) -> str:
    encoder = manifest.files["codec_encoder"].sha256
    told = json.dumps([_VERSION, encoder, job.shortest_s, *job.file.stamp])
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def _kept_row(stem: Path, name: str) -> Row | None:
    if not (stem.with_suffix(".npz").is_file() and stem.with_suffix(".npy").is_file()):
        return None
    with np.load(stem.with_suffix(".npz"), allow_pickle=False) as arrays:
        return Row(**{**json.loads(str(arrays["about"])), "name": name})


def _write(stem: Path, codes: np.ndarray, controls: Controls, row: Row) -> None:
    """Tokens, then labels, each whole or not at all."""
    partial = stem.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, codes.astype(np.uint16))
    partial.replace(stem.with_suffix(".npy"))
    arrays: dict[str, Any] = {f.name: getattr(controls, f.name) for f in fields(controls)}
    with partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(asdict(row))), **arrays)
    partial.replace(stem.with_suffix(".npz"))


def load_labels(path: Path) -> Controls:
    """The labels of one .npz."""
    with np.load(path, allow_pickle=False) as arrays:
        return Controls(**{f.name: arrays[f.name] for f in fields(Controls)})


def split(rows: list[Row], data: Path, *, share: float, seed: int) -> dict[str, str]:
    """Which file is in which split, by name; the splits' folders under `data` are written anew.

    Drawn by file, from the names and the seed. What was once decided stays, so that no file that has been trained
    on is ever held out; new files are trained on. ValueError with fewer than two usable files.
    """
    usable = [row for row in rows if not row.problem]
    if len(usable) < 2:
        raise ValueError(
            f"{len(usable)} of {len(rows)} files can be used, needed: 2 (one to train on, one to test)"
        )
    path = data / _SPLIT_FILE
    decided: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not decided:
        drawn = sorted(usable, key=lambda row: hashlib.sha256(f"{seed}/{row.name}".encode()).hexdigest())
        held = max(1, min(len(usable) - 1, round(share * len(usable))))
        decided = {row.name: "heldout" for row in drawn[:held]}
    decided = {row.name: decided.get(row.name, "train") for row in usable} | decided
    present = {row.name: decided[row.name] for row in usable}
    if set(present.values()) != set(SPLITS):
        raise ValueError("every held-out or every other file is gone since training began; begin anew with --run")
    path.write_text(json.dumps(decided, indent=1), encoding="utf-8")
    for part in SPLITS:
        for folder in (data / part, data / "tokens" / part):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
    for row in usable:
        shutil.copyfile(data / _KEPT / f"{row.key}.npz", data / present[row.name] / f"{row.key}.npz")
        shutil.copyfile(data / _KEPT / f"{row.key}.npy", data / "tokens" / present[row.name] / f"{row.key}.npy")
    return present


def kept_folder(data: Path) -> Path:
    """Where `survey` keeps results for `split`."""
    return data / _KEPT
