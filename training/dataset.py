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
from attacca.training.compose import STYLE_NAMES, compose
from attacca.training.compose.song import TICKS_PER_QUARTER
from attacca.training.render import SAMPLE_RATE, Audio, augment, draw_room, render

HOP_SAMPLES = 640
HELDOUT_SEED = 1_000_000
RIFF_SEED = 1_000_100
RIFF_STYLE = "synthpop"
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


def list_songs(folder: Path) -> list[Path]:
    """The .npz paths of a folder's finished songs, in order."""
    return sorted(p for p in folder.glob("*.npz") if p.with_suffix(".flac").is_file())


def train_seeds(songs: int) -> range:
    """Seeds of the training songs. Raises ValueError where they would reach the held-out ones."""
    if not 0 <= songs <= HELDOUT_SEED:
        raise ValueError(f"songs is {songs}, allowed 0..{HELDOUT_SEED}")
    return range(songs)


def heldout_seeds(songs: int) -> range:
    """Seeds of the held-out songs; the demo's riff is the hundredth of them."""
    return range(HELDOUT_SEED, HELDOUT_SEED + songs)


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


def write_riff(out: Path, *, seed: int = RIFF_SEED, style: str = RIFF_STYLE, bars: int = 8) -> None:
    """The demo's riff: `bars` bars of 4/4 at 120 BPM, 32 kHz mono (WAV or FLAC by suffix), and a .json."""
    players = ("drums", "bass", "chords")
    num_samples = bars * 2 * SAMPLE_RATE
    song = compose(seed, style=style, bpm=120.0, meter=(4, 4), players=players, min_seconds=bars * 2.0)
    audio = render(song, num_samples)
    audio *= 0.7 / float(np.abs(audio).max())
    audio = np.round(audio * 8192) / 8192  # 14 bits: FLAC drops the empty two, which keeps the shipped file small
    soundfile.write(out, audio, SAMPLE_RATE, subtype="PCM_16")
    about = {
        "bpm": song.bpm,
        "meter": "4/4",
        "bars": bars,
        "seed": seed,
        "style": song.style_name,
        "style_index": STYLE_NAMES.index(style),
        "players": list(players),
        "chords": [
            {"ppq": c.start_ticks / TICKS_PER_QUARTER, "pitch_classes": list(c.pitch_classes)} for c in song.chords
        ],
        "licence": "Composed and rendered by attacca.training (Apache-2.0) with FluidR3 GM (MIT, Frank Wen).",
    }
    out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def main(
    out: Annotated[Path, typer.Option(help="Folder for the dataset, or the riff's file with --riff.")],
    songs: Annotated[int, typer.Option(min=0)] = 320,
    heldout: Annotated[int, typer.Option(min=0)] = 24,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of a song.")] = 44.0,
    riff: Annotated[bool, typer.Option("--riff", help="Write only the demo's riff.")] = False,
) -> None:
    """Compose and render the dataset; run again to resume."""
    if riff:
        write_riff(out)
        return
    build_dataset(out / "heldout", heldout_seeds(heldout), workers=workers, seconds=seconds, label="heldout")
    build_dataset(out / "train", train_seeds(songs), workers=workers, seconds=seconds, label="train")


if __name__ == "__main__":
    typer.run(main)
