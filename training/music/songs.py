"""Songs of composer v1 on disk: `python -m attacca.training.music.songs --out DATA`; what the v1 trainers read.

Layout: OUT/train/NNNNN.* from seeds 0.., OUT/heldout/NNNNN.* from seeds 1000000.. in the same styles, and
OUT/heldout_styles/NNNNN.* from seeds 2000000.. in styles that training never meets; with --switching also
OUT/train/switching-NNNNN.* from seeds 3000000.., in which players come and go all the time. Each song is NNNNN.flac
(48 kHz stereo unless told otherwise), NNNNN.npz (the fields of `Controls` at 50 frames a second, `sounding`,
`about`) and with --stems NNNNN.stems.flac (the four instruments' stereo stems in one file, in order). The .npz
comes last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soundfile
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.training.music.catalogue import HELDOUT_SEED, heldout_seeds, list_songs, train_seeds
from attacca.training.music.composer import compose
from attacca.training.music.mixing import render
from attacca.training.music.song import Song

FRAMES_PER_SECOND = 50
HELDOUT_STYLE_SEED = 2_000_000
SWITCHING_SEED = 3_000_000
STEM_GAIN = 0.5  # of stems in their file: before the master they may pass full scale
Audio = npt.NDArray[np.float32]  # [samples, channels]
About = dict[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """How songs are rendered."""

    seconds: float = 44.0
    rate: int = 48000
    channels: int = 2
    stems: bool = False
    heldout_styles: bool = False
    tempo: str | None = None  # a tempo plan for all songs ("steady"), or as each seed draws it
    switching: bool = False  # players come and go all the time

    def __post_init__(self) -> None:
        if self.rate % FRAMES_PER_SECOND:
            raise ValueError(f"rate is {self.rate}, must be a multiple of {FRAMES_PER_SECOND}")
        if self.channels not in (1, 2):
            raise ValueError(f"channels is {self.channels}, allowed 1 or 2")

    @property
    def hop_samples(self) -> int:
        """Samples per frame of the labels."""
        return self.rate // FRAMES_PER_SECOND


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A song as sound and truth, frame by frame."""

    audio: Audio  # [frames * hop, channels]
    controls: Controls
    sounding: npt.NDArray[np.bool_]  # [frames, 4] a note of the instrument is held in the frame
    stems: Audio | None  # [frames * hop, 8]: left and right of each of INSTRUMENTS, before the master
    about: About


def make_song(seed: int, sheet: Sheet, *, style: str | None = None) -> Rendered:
    """Compose and render one song. A pure function of its arguments, the soundfont and FluidSynth's version."""
    frames = round(sheet.seconds * FRAMES_PER_SECOND)
    song = compose(
        seed,
        style=style,
        min_seconds=sheet.seconds + 1.0,
        heldout_styles=sheet.heldout_styles,
        tempo=sheet.tempo,
        switching=sheet.switching,
    )
    stereo, parts = render(song, frames * sheet.hop_samples, rate=sheet.rate, stems=sheet.stems)
    return Rendered(
        audio=(stereo.T if sheet.channels == 2 else stereo.mean(axis=0)[:, None]).astype(np.float32),
        controls=song.controls(frames, sheet.hop_samples, sheet.rate),
        sounding=sounding(song, frames),
        stems=np.concatenate([parts[name] for name in INSTRUMENTS]).T if sheet.stems else None,
        about={
            "composer": "v1",
            "seed": seed,
            "style": song.style_name,
            "bpm": song.bpm,
            "meter": f"{song.meter[0]}/{song.meter[1]}",
            "steady": len(song.tempo.ticks) == 1,
            "rate": sheet.rate,
        },
    )


def sounding(song: Song, frames: int) -> npt.NDArray[np.bool_]:
    """Bool [frames, 4]: whether a key of the instrument is down during any of the frame."""
    out = np.zeros((frames, len(INSTRUMENTS)), dtype=np.bool_)
    for note in song.notes:
        first = song.tempo.sample(note.start_ticks, FRAMES_PER_SECOND * 1000) // 1000
        last = song.tempo.sample(note.start_ticks + note.duration_ticks, FRAMES_PER_SECOND * 1000) // 1000
        out[first : last + 1, INSTRUMENTS.index(note.instrument)] = True
    return out


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write to that becomes `target` when all is written, or nothing."""
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_song(path: Path, seed: int, sheet: Sheet) -> None:
    """PATH.flac, PATH.stems.flac if wanted, then PATH.npz, each whole or not at all. `path` has no suffix."""
    song = make_song(seed, sheet)
    with whole_file(path.with_suffix(".flac")) as partial:
        soundfile.write(partial, song.audio, sheet.rate, format="FLAC", subtype="PCM_16")
    if song.stems is not None:
        with whole_file(path.with_suffix(".stems.flac")) as partial:
            quiet = np.clip(STEM_GAIN * song.stems, -1.0, 1.0)
            soundfile.write(partial, quiet, sheet.rate, format="FLAC", subtype="PCM_16")
    arrays = {f.name: getattr(song.controls, f.name) for f in fields(song.controls)}
    with whole_file(path.with_suffix(".npz")) as partial, partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(song.about)), sounding=song.sounding, **arrays)


def load_song(path: Path, *, stems: bool = False) -> Rendered:
    """A song by the path of its .npz. Raises ValueError where sound and labels disagree in length."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        controls = Controls(**{f.name: arrays[f.name] for f in fields(Controls)})
        about, keys_down = json.loads(str(arrays["about"])), arrays["sounding"]
    audio, rate = soundfile.read(path.with_suffix(".flac"), dtype="float32", always_2d=True)
    parts = None
    if stems:
        parts = soundfile.read(path.with_suffix(".stems.flac"), dtype="float32")[0] / np.float32(STEM_GAIN)
    wanted = len(controls) * rate // FRAMES_PER_SECOND
    if len(audio) != wanted or rate != about["rate"]:
        raise ValueError(f"{path} holds {len(audio)} samples at {rate} Hz, its labels ask for {wanted}")
    return Rendered(audio=audio, controls=controls, sounding=keys_down, stems=parts, about=about)


def build(out: Path, seeds: Sequence[int], sheet: Sheet, *, workers: int, label: str, prefix: str = "") -> int:
    """Write the songs not there yet, PREFIXnnnnn for the seed at index nnnnn; how many were written."""
    out.mkdir(parents=True, exist_ok=True)
    there = {p.with_suffix("") for p in list_songs(out)}
    named = [(out / f"{prefix}{i:05d}", seed) for i, seed in enumerate(seeds)]
    missing = [(path, seed) for path, seed in named if path not in there]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProcessPoolExecutor(max_workers=workers) as pool, Progress(*columns) as progress:
        task = progress.add_task(label, total=len(seeds), completed=len(seeds) - len(missing))
        for done in as_completed([pool.submit(write_song, path, seed, sheet) for path, seed in missing]):
            done.result()
            progress.advance(task)
    return len(missing)


def heldout_style_seeds(songs: int) -> range:
    """Seeds of the songs in held-out styles."""
    return range(HELDOUT_STYLE_SEED, HELDOUT_STYLE_SEED + songs)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the dataset.")],
    songs: Annotated[int, typer.Option(min=0, max=HELDOUT_SEED)] = 320,
    heldout: Annotated[int, typer.Option(min=0)] = 24,
    switching: Annotated[int, typer.Option(min=0, help="More songs, whose players come and go all the time.")] = 0,
    heldout_styles: Annotated[int, typer.Option(min=0, help="Songs in styles never trained on.")] = 8,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of a song.")] = 44.0,
    rate: Annotated[int, typer.Option(help="Hz; 50 frames a second must be whole.")] = 48000,
    channels: Annotated[int, typer.Option(min=1, max=2)] = 2,
    stems: Annotated[bool, typer.Option("--stems", help="Also the four instruments' stems.")] = False,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Compose and render the dataset of composer v1; run again to resume."""
    sheet = Sheet(seconds=seconds, rate=rate, channels=channels, stems=stems)
    apart, restless = replace(sheet, heldout_styles=True), replace(sheet, switching=True)
    build(
        out / "heldout_styles", heldout_style_seeds(heldout_styles), apart, workers=workers, label="held-out styles"
    )
    build(out / "heldout", heldout_seeds(heldout), sheet, workers=workers, label="heldout")
    build(out / "train", train_seeds(songs), sheet, workers=workers, label="train")
    seeds = range(SWITCHING_SEED, SWITCHING_SEED + switching)
    build(out / "train", seeds, restless, workers=workers, label="switching", prefix="switching-")


if __name__ == "__main__":
    typer.run(main)
