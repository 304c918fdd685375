"""Tokens of the rendered songs by the frozen codec: OUT/{train,heldout}/NAME.npy, uint16 [T, K].

Between the codec's training (encoder and quantiser finished: stage `fit`) and the token model's. A song whose
tokens are there is skipped; --again writes all of them anew. With --levels N each training song's tokens are there
N times more, as NAME.levelI.npy, of the song at another level: a musician plays at any, and a model that knows one
level of each song moves towards it.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track

from attacca.engine.spectral import analyse
from attacca.training.codec_data import load_audio
from attacca.training.codec_train import State
from attacca.training.music.catalogue import list_songs

LEVELS_DB = (-18.0, 3.0)  # against the song's own
_FULL_SCALE = 0.99


@torch.no_grad()
def tokens_of(audio: np.ndarray, state: State) -> np.ndarray:
    """Codes uint16 [T, K] of audio [T * hop] or [.., 2]. Raises ValueError without a quantiser."""
    if state.quantizer is None:
        raise ValueError("the codec has no quantiser yet: run its training up to stage `fit` first")
    frames = torch.from_numpy(analyse(audio, state.net.config.spectral))[None]
    return state.quantizer.encode(state.net.encode(frames))[0].numpy().astype(np.uint16)


def at_level(audio: np.ndarray, name: str) -> np.ndarray:
    """The audio at a level drawn from LEVELS_DB by name, not beyond full scale."""
    gain = 10.0 ** (np.random.default_rng(zlib.crc32(name.encode())).uniform(*LEVELS_DB) / 20.0)
    peak = float(np.abs(audio).max(initial=1e-9))
    return (audio * np.float32(min(gain, max(1.0, _FULL_SCALE / peak)))).astype(np.float32)


def tokenise_folder(
    songs: Path, out: Path, state: State, *, levels: int = 0, again: bool = False, threads: int = 2
) -> int:
    """Write the missing token files of one folder; how many were written."""
    out.mkdir(parents=True, exist_ok=True)
    names = ["", *(f".level{number}" for number in range(1, levels + 1))]
    targets = [(path, out / f"{path.stem}{name}.npy") for path in list_songs(songs) for name in names]
    targets = [(path, target) for path, target in targets if again or not target.is_file()]

    def write(path: Path, target: Path) -> None:
        partial = target.with_suffix(f".{os.getpid()}.partial")
        audio = load_audio(path, state.net.config)
        if target.stem != path.stem:
            audio = at_level(audio, target.stem)
        with partial.open("wb") as file:
            np.save(file, tokens_of(audio, state))
        partial.replace(target)

    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(write, *pair) for pair in targets]
        for job in track(jobs, description=f"tokens of {songs.name}"):
            job.result()
    return len(targets)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with train/ and heldout/")],
    codec: Annotated[Path, typer.Option(help="codec run folder")],
    out: Annotated[Path | None, typer.Option(help="token folder; DATA/tokens if not given")] = None,
    levels: Annotated[int, typer.Option(min=0, help="times more, each training song at another level")] = 0,
    again: Annotated[bool, typer.Option(help="write tokens that are there anew")] = False,
    threads: Annotated[int, typer.Option(help="songs at a time, one CPU thread each")] = 2,
) -> None:
    """Write the tokens of every song."""
    torch.set_num_threads(1)
    state = State.load(codec / "codec.pt")
    for part, times in (("heldout", 0), ("train", levels)):
        target = (out or data / "tokens") / part
        tokenise_folder(data / part, target, state, levels=times, again=again, threads=threads)


if __name__ == "__main__":
    typer.run(main)
