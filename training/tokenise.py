"""Tokens of the rendered songs by the frozen codec: OUT/{train,heldout}/NNNNN.npy, uint16 [T, K].

Between the codec's training (encoder and quantiser finished: stage `fit`) and the token model's. A song whose
tokens are there is skipped; --again writes all of them anew.
"""

from __future__ import annotations

import os
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


@torch.no_grad()
def tokens_of(audio: np.ndarray, state: State) -> np.ndarray:
    """Codes uint16 [T, K] of audio [T * hop] or [.., 2]. Raises ValueError without a quantiser."""
    if state.quantizer is None:
        raise ValueError("the codec has no quantiser yet: run its training up to stage `fit` first")
    frames = torch.from_numpy(analyse(audio, state.net.config.spectral))[None]
    return state.quantizer.encode(state.net.encode(frames))[0].numpy().astype(np.uint16)


def tokenise_folder(songs: Path, out: Path, state: State, *, again: bool = False, threads: int = 2) -> int:
    """Write the missing token files of one folder; how many were written."""
    out.mkdir(parents=True, exist_ok=True)
    targets = [(path, out / f"{path.stem}.npy") for path in list_songs(songs)]
    targets = [(path, target) for path, target in targets if again or not target.is_file()]

    def write(path: Path, target: Path) -> None:
        partial = target.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, tokens_of(load_audio(path, state.net.config), state))
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
    again: Annotated[bool, typer.Option(help="write tokens that are there anew")] = False,
    threads: Annotated[int, typer.Option(help="songs at a time, one CPU thread each")] = 2,
) -> None:
    """Write the tokens of every song."""
    torch.set_num_threads(1)
    state = State.load(codec / "codec.pt")
    for part in ("heldout", "train"):
        tokenise_folder(data / part, (out or data / "tokens") / part, state, again=again, threads=threads)


if __name__ == "__main__":
    typer.run(main)
