"""Takes of a model over its training songs, for the next model to hear: DATA/tokens/rollouts/NAME.npz.

Between one decoder and the training that goes on from it (training/decoder_data.py). What a decoder hears of itself
is never quite what songs are, and small faults add up over a take; a decoder that has heard such takes, and has
learned how the song goes on after them, comes back (Ross et al. 2011, "A reduction of imitation learning to
no-regret online learning": the learner's states, the expert's answers). A song whose file is there is skipped.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.conditioning import encode
from attacca.engine.generator import Codes, Conditions, Sampling
from attacca.engine.manifest import ManifestError
from attacca.training.decoder_data import ROLLOUTS, labels_of

CONTEXT_FRAMES = 200  # heard of the song before the take, at most
FRAMES = 700  # of a take, at most
_FEWEST_FRAMES = 100
_PIECE_FRAMES = 16
_AT_SWITCHES = 0.5  # of takes begin where players come or go, if they do
_GUIDANCE = (1.5, 4.0)  # drawn evenly: what players set
_TEMPERATURE = 0.9
_HELD = 0.5  # of takes are held to the level of what was heard, as the engine does


class _Given:
    """Condition rows [T, C] of the frames from 0 on, the last held."""

    def __init__(self, rows: Conditions) -> None:
        self._rows = rows

    def rows(self, first_frame: int, count: int) -> Conditions:
        frames = np.minimum(np.arange(first_frame, first_frame + count), len(self._rows) - 1)
        return np.asarray(self._rows[frames], np.float32)


def roll_out(model: Model, codes: Codes, conditions: Conditions, first: int, sampling: Sampling) -> Codes:
    """The model's own frames [n, K] from frame `first` of a song on, under the song's conditions [T, C]."""
    start = max(0, first - CONTEXT_FRAMES)
    generator, given = model.generator(), _Given(conditions[start:])
    generator.listen(codes[start:first], given.rows(0, first - start))
    stop = min(len(codes), first + FRAMES)
    pieces = []
    for begin in range(first, stop, _PIECE_FRAMES):  # a generator keeps its last window only
        end = min(begin + _PIECE_FRAMES, stop)
        generator.plan(end - start, given, sampling)
        pieces.append(generator.read(begin - start, end - start))
    return np.concatenate(pieces)


def beginning(rng: np.random.Generator, frames: int, switches: np.ndarray) -> int:
    """Where a take of a song of so many frames begins: at a switch of players, or anywhere."""
    last = frames - _FEWEST_FRAMES
    within = switches[(switches > 0) & (switches <= last)]
    if len(within) and rng.random() < _AT_SWITCHES:
        return int(rng.choice(within))
    return int(rng.integers(min(_FEWEST_FRAMES, last), last + 1))


_LOADED: dict[str, Model] = {}


def _write(bundle: Path, data: Path, tokens: Path, target: Path) -> None:
    """One song's take."""
    if str(bundle) not in _LOADED:
        _LOADED[str(bundle)] = load_bundle(bundle)
    model = _LOADED[str(bundle)]
    rng = np.random.default_rng(zlib.crc32(target.stem.encode()))
    codes = np.load(tokens)
    controls = labels_of(data / "train" / f"{tokens.stem.partition('.')[0]}.npz")
    frames = min(len(codes), len(controls))
    players = controls.instruments[:frames]
    first = beginning(rng, frames, np.flatnonzero((players[1:] != players[:-1]).any(1)) + 1)
    guidance, held = float(rng.uniform(*_GUIDANCE)), bool(rng.random() < _HELD)
    sampling = Sampling(seed=int(rng.integers(2**31)), temperature=_TEMPERATURE, guidance=guidance)
    player = model if held else replace(model, levels=None)
    take = roll_out(player, codes[:frames], encode(controls, model.conditioning)[:frames], first, sampling)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, codes=take, first=first)
    partial.replace(target)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with tokens/ and labels")],
    bundle: Annotated[str, typer.Option(help="bundle that plays: a name or a folder")],
    songs: Annotated[int, typer.Option(min=1, help="so many of the training songs, spread over all")] = 480,
    processes: Annotated[int, typer.Option(min=1, help="takes at a time, one CPU thread each")] = 2,
) -> None:
    """Write the model's takes."""
    paths = sorted((data / "tokens" / "train").glob("*.npy"))
    if not paths:
        raise typer.BadParameter(f"no tokens in {data / 'tokens' / 'train'}", param_hint="--data")
    try:
        folder = find_bundle(bundle)
    except ManifestError as error:
        raise typer.BadParameter(str(error), param_hint="--bundle") from None
    out = data / "tokens" / ROLLOUTS
    out.mkdir(exist_ok=True)
    chosen = np.random.default_rng(0).permutation(len(paths))[:songs]
    pairs = [(paths[i], out / f"{paths[i].stem}.npz") for i in chosen]
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(_write, folder, data, *pair) for pair in pairs if not pair[1].is_file()]
        for job in track(jobs, description="takes"):
            job.result()


if __name__ == "__main__":
    typer.run(main)
