"""The rendered dataset on disk: one FLAC and one .npz of labels a song; between the renderer and the trainers.

Layout: OUT/train/NNNNN.{flac,npz} from seeds 0.., OUT/heldout/NNNNN.{flac,npz} from seeds 1000000... A song counts
as finished once its .npz is there, which is written last. The labels are the fields of `Controls`, plain arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from attacca.engine.conditioning import Controls
from attacca.training.compose import compose
from attacca.training.music.catalogue import HELDOUT_SEED as HELDOUT_SEED  # noqa: PLC0414
from attacca.training.music.catalogue import heldout_seeds, list_songs, train_seeds
from attacca.training.render import SAMPLE_RATE, Audio, augment, draw_room, render

HOP_SAMPLES = 640
_FRAMES_PER_SECOND = SAMPLE_RATE // HOP_SAMPLES


def make_song(seed: int, seconds: float) -> tuple[Audio, Controls, dict[str, str | int | float]]:
    """Compose, render and roughen one song: float32 [N * 640], its N frames of labels, and what it is."""
    num_frames = round(seconds * _FRAMES_PER_SECOND)
    song = compose(seed, min_seconds=seconds + 1.0)
    rng = np.random.default_rng([seed, 100])
    audio = augment(render(song, num_frames * HOP_SAMPLES, room=draw_room(rng)), rng)
    about: dict[str, str | int | float] = {
        "seed": seed,
        "style": song.style_name,
        "bpm": song.bpm,
        "meter": f"{song.meter[0]}/{song.meter[1]}",
    }
    return audio, song.controls(num_frames, HOP_SAMPLES, SAMPLE_RATE), about


def write_song(path: Path, seed: int, seconds: float) -> None:
    """Write PATH.flac, then PATH.npz, each whole or not at all. `path` has no suffix."""
    audio, controls, about = make_song(seed, seconds)
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        soundfile.write(partial, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        partial.replace(path.with_suffix(".flac"))
        arrays = {f.name: getattr(controls, f.name) for f in fields(controls)}
        with partial.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
        partial.replace(path.with_suffix(".npz"))
    finally:
        partial.unlink(missing_ok=True)


def load_song(path: Path) -> tuple[Audio, Controls]:
    """One song by its .npz or .flac path: float32 [N * 640] and N frames. Raises ValueError where they disagree."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        controls = Controls(**{f.name: arrays[f.name] for f in fields(Controls)})
    audio, rate = soundfile.read(path.with_suffix(".flac"), dtype="float32")
    if rate != SAMPLE_RATE or audio.shape != (len(controls) * HOP_SAMPLES,):
        raise ValueError(
            f"{path.with_suffix('.flac')} is {audio.shape} at {rate} Hz, its labels ask for "
            f"{len(controls) * HOP_SAMPLES} samples at {SAMPLE_RATE} Hz"
        )
    return audio, controls


def build_dataset(
    out_dir: Path, seeds: Sequence[int], *, workers: int = 2, seconds: float = 44.0, label: str = "songs"
) -> int:
    """Write the songs that are not there yet, file NNNNN for the seed at index NNNNN; how many were written."""
    out_dir.mkdir(parents=True, exist_ok=True)
    missing = [(out_dir / f"{i:05d}", seed) for i, seed in enumerate(seeds)]
    missing = [
        (path, seed) for path, seed in missing if path not in {p.with_suffix("") for p in list_songs(out_dir)}
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProcessPoolExecutor(max_workers=workers) as pool, Progress(*columns) as progress:
        task = progress.add_task(label, total=len(seeds), completed=len(seeds) - len(missing))
        for done in as_completed([pool.submit(write_song, path, seed, seconds) for path, seed in missing]):
            done.result()
            progress.advance(task)
    return len(missing)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    songs: Annotated[int, typer.Option(min=0)] = 320,
    heldout: Annotated[int, typer.Option(min=0)] = 24,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of a song.")] = 44.0,
) -> None:
    """Compose and render the dataset; run again to resume."""
    build_dataset(out / "heldout", heldout_seeds(heldout), workers=workers, seconds=seconds, label="heldout")
    build_dataset(out / "train", train_seeds(songs), workers=workers, seconds=seconds, label="train")


if __name__ == "__main__":
    typer.run(main)
