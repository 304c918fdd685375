"""Takes longer than a model sees: `python -m benchmarks.rolling`, ways to go on compared on the same tokens.

A small model in MusicGen's layout is trained on crops of as many frames as it is to see, on tokens made up here,
then told, frame by frame, songs several times as long, through the runtime that plays (engine/rolling.py and the
decoders under it). Told by bits per frame, by rows that one frame costs at most, and by time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from attacca.engine.generator import Codes, Sampling
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.rolling import RollingDecoder
from attacca.engine.scoring import Forcing, Silent, bits_of
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.shapes import musicgen_manifest
from attacca.training.decoder_model import LayoutTensors
from attacca.training.layout import build_layout
from attacca.training.musicgen_model import MusicgenModel, codebook_bits

BOOKS, CODES = 4, 16
PATTERN = make_pattern("delay", BOOKS)
_RATE = 4e-3
_LIKING = 0.3  # concentration of a song's codes: the smaller, the fewer they are


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the trial. `horizon`: frames that the model is trained to see."""

    horizon: int = 96
    songs: int = 4
    frames: int = 480
    layers: int = 2
    dim: int = 128
    updates: int = 600
    batch: int = 8
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a way of going on did."""

    name: str
    bits_per_frame: float  # beyond the horizon
    after: list[float]  # bits per frame by horizon of the song
    most_rows: int  # that one frame cost
    mean_rows: float
    median_ms: float
    most_ms: float


def song(rng: np.random.Generator, frames: int) -> Codes:
    """Tokens [frames, BOOKS]: a song likes some codes more than others, and all its frames tell which."""
    shares = rng.dirichlet(np.full(CODES, _LIKING), BOOKS)
    return np.stack([rng.choice(CODES, frames, p=share) for share in shares], axis=1).astype(np.uint16)


def shape_of(sizes: Sizes) -> MusicgenShape:
    """Heads of 64 as published, everything else small."""
    return MusicgenShape(
        layers=sizes.layers,
        dim=sizes.dim,
        heads=sizes.dim // 64,
        hidden=2 * sizes.dim,
        num_codebooks=BOOKS,
        codebook_size=CODES,
        audio_channels=1,
        text_dim=sizes.dim,
    )


def train(sizes: Sizes, frames: int, say: Callable[[str], None]) -> MusicgenModel:
    """A model that has seen crops of so many frames, each from position 0 on."""
    torch.manual_seed(sizes.seed)
    rng = np.random.default_rng(sizes.seed)
    model = MusicgenModel(shape_of(sizes), PATTERN, window_frames=frames + PATTERN.lag_steps + 1)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:  # tokens as loud as positions
            torch.nn.init.normal_(weight, std=0.5 if "embed" in name else 0.5 * weight.shape[1] ** -0.5)
    with torch.no_grad():  # a code that was seen is likelier from the beginning
        for table, head in zip(model.embed_tokens, model.lm_heads, strict=True):
            head.weight.copy_(0.1 * table.weight[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    layout = LayoutTensors(
        build_layout(PATTERN, frames, 0, model.window_frames), torch.device("cpu"), torch.float32
    )
    batch = max(1, sizes.batch * sizes.horizon // frames)
    nothing = torch.zeros(batch, 1, sizes.dim), torch.zeros(batch, 1)
    for update in range(sizes.updates):
        songs = np.stack([song(rng, frames) for _ in range(batch)]).astype(np.int64)
        bits = codebook_bits(model, torch.from_numpy(songs), *nothing, layout, until=frames)
        bits.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (update + 1) / 30) * (1.0 - update / sizes.updates)
        optimizer.step()
        optimizer.zero_grad()
        if (update + 1) % 100 == 0:
            say(f"crops of {frames}: {update + 1} updates, {float(bits.detach().sum()):.2f} bits per frame")
    return model.eval()


def runtime_of(model: MusicgenModel, window_frames: int) -> PromptedRuntime:
    """The exported step, with an attention window of so many frames."""
    shape = model.shape
    graph = build_step(model.weights(), shape, MusicgenExport(window_frames=window_frames))
    return PromptedRuntime(graph.SerializeToString(), musicgen_manifest(shape, window=window_frames))


class _Counted:
    """A decoder whose rows are counted."""

    def __init__(self, runtime: PromptedRuntime, forcing: Forcing | None, rows: list[int]) -> None:
        self.decoder = MusicgenDecoder(runtime, PATTERN, PromptBox(Prompt.silent(runtime.shape)))
        self.decoder.choose = forcing
        lane = self.decoder._lane  # the only place where every call passes
        run = lane.run

        def counted(*given: Any, **named: Any) -> None:
            rows[0] += len(given[1])
            run(*given, **named)

        lane.run = counted  # type: ignore[method-assign]


def force(make: Callable[[Forcing, list[int]], Any], codes: Codes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bits per frame [T], rows [T] and seconds of CPU [T] of each frame of codes [T, BOOKS]."""
    found, rows = Forcing(codes, CODES), [0]
    decoder = make(found, rows)
    costs, seconds = np.zeros(len(codes), int), np.zeros(len(codes))
    for t in range(len(codes)):
        rows[0], began = 0, time.process_time()
        decoder.plan(t + 1, Silent(0), Sampling(temperature=0.0))
        seconds[t], costs[t] = time.process_time() - began, rows[0]
    return bits_of(found.logits, codes).sum(axis=1), costs, seconds


def ways(model: MusicgenModel, sizes: Sizes) -> dict[str, Callable[..., Any]]:
    """By name, what makes a decoder that tells a forcing and a counter."""
    horizon = sizes.horizon
    near = runtime_of(model, horizon + PATTERN.lag_steps + 1)
    far = runtime_of(model, sizes.frames + 16)

    def plain(runtime: PromptedRuntime) -> Callable[..., Any]:
        return lambda forcing, rows: _Counted(runtime, forcing, rows).decoder

    def rolling(keep: int) -> Callable[..., Any]:
        def make(forcing: Forcing, rows: list[int]) -> RollingDecoder:
            return RollingDecoder(
                lambda: _Counted(near, forcing, rows).decoder, horizon=horizon, keep=keep, num_codebooks=BOOKS
            )

        return make

    return {
        "rolling, a third kept (the engine's)": rolling(horizon // 3),
        "rolling, half kept": rolling(horizon // 2),
        "prefilled anew every eighth": rolling(horizon - horizon // 8),
        "prefilled anew every frame": rolling(horizon - 1),
        "window slides, positions go on": plain(near),
        "all of it, positions go on": plain(far),
    }


def compare(sizes: Sizes, say: Callable[[str], None]) -> list[Way]:
    """Train, then tell every way the same songs."""
    model = train(sizes, sizes.horizon, say)
    rng = np.random.default_rng(sizes.seed + 1)
    songs = [song(rng, sizes.frames) for _ in range(sizes.songs)]
    results = []
    for name, make in ways(model, sizes).items():
        told = [force(make, codes) for codes in songs]
        bits = np.mean([part[0] for part in told], axis=0)
        costs = np.stack([part[1] for part in told])
        # The least over the songs, whose frames cost alike: what others do on this machine only ever adds.
        times = np.min([part[2] for part in told], axis=0) * 1e3
        beyond = slice(sizes.horizon, None)
        results.append(
            Way(
                name=name,
                bits_per_frame=float(bits[beyond].mean()),
                after=[
                    float(part.mean()) for part in np.split(bits, range(sizes.horizon, len(bits), sizes.horizon))
                ],
                most_rows=int(costs[:, beyond].max()),
                mean_rows=float(costs[:, beyond].mean()),
                median_ms=float(np.median(times[beyond])),
                most_ms=float(times[beyond].max()),
            )
        )
        say(f"{name}: {results[-1].bits_per_frame:.3f} bits per frame")
    return results


def print_ways(results: list[Way], sizes: Sizes, console: Console) -> None:
    """The table."""
    title = f"{sizes.songs} songs of {sizes.frames} frames; the model sees {sizes.horizon}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("way", "bits/frame beyond", "by horizon", "rows/frame", "most", "CPU ms median", "most"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in results:
        each = " ".join(f"{bits:.2f}" for bits in way.after)
        cells = (f"{way.bits_per_frame:.3f}", each, f"{way.mean_rows:.1f}", f"{way.most_rows}")
        table.add_row(way.name, *cells, f"{way.median_ms:.2f}", f"{way.most_ms:.2f}")
    console.print(table)


def main(
    updates: Annotated[int, typer.Option(help="Of the model.")] = 600,
    songs: Annotated[int, typer.Option(help="Songs that are told.")] = 4,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Writes the figures.")] = None,
) -> None:
    """Compare ways to go on beyond what a model sees."""
    torch.set_num_threads(1)
    sizes, console = Sizes(updates=updates, songs=songs, seed=seed), Console(width=150)
    results = compare(sizes, lambda line: console.print(line, style="dim"))
    print_ways(results, sizes, console)
    if out is not None:
        figures = {"sizes": asdict(sizes), "ways": [asdict(way) for way in results]}
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
