"""Trains the ears of the scorecards: `python -m benchmarks.embedding --data DATA [--minutes M]`.

A small network that names style, players and chord notes of two seconds of sound; its last layer but one is the
embedding of the Fréchet distance, for pretrained ones (VGGish, CLAP) cannot be shipped. What it can tell on
held-out songs (`skill`) is kept with it: an embedding that cannot tell the styles apart would measure nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.training.compose import STYLE_NAMES
from attacca.training.dataset import HOP_SAMPLES, list_songs, load_song
from benchmarks.ears import EARS_FILE, MEL_CENTRE, MEL_SCALE, NORM_EPS, NORM_GROUPS, Ears
from benchmarks.frechet import STEP_S, WINDOW_S, mel_windows
from benchmarks.spectra import SAMPLE_RATE, Audio

WIDTH = 32
_CHANNELS = (16, 32, 64, 64)
_NOTES = 12
_FRAMES_PER_SECOND = SAMPLE_RATE / HOP_SAMPLES


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Windows of songs with what is true in them."""

    mels: Tensor  # float16 [N, frames, 80]
    style: Tensor  # int64 [N]
    players: Tensor  # float [N, P], share of the window in which each plays
    notes: Tensor  # float [N, 12], share of the window in which the chord holds each pitch class

    def __len__(self) -> int:
        return len(self.style)


def examples_of(audio: Audio, controls: Controls) -> Examples:
    """All windows of one song."""
    mels = mel_windows(audio)
    starts = (np.arange(len(mels)) * STEP_S * _FRAMES_PER_SECOND).astype(int)
    span = round(WINDOW_S * _FRAMES_PER_SECOND)
    players = np.stack([controls.instruments[s : s + span].mean(axis=0) for s in starts])
    notes = np.stack([controls.pitch_classes[s : s + span].mean(axis=0) for s in starts])
    return Examples(
        mels=torch.from_numpy(mels.astype(np.float16)),
        style=torch.from_numpy(controls.style[starts].astype(np.int64)),
        players=torch.from_numpy(players).float(),
        notes=torch.from_numpy(notes).float(),
    )


def load_examples(folder: Path, limit: int) -> Iterator[Examples]:
    """Windows of the first `limit` songs of a dataset's folder. ValueError where there are none."""
    songs = list_songs(folder)[:limit]
    if not songs:
        raise ValueError(f"no songs in {folder}")
    for path in songs:
        yield examples_of(*load_song(path))


def joined(parts: list[Examples]) -> Examples:
    """All windows in one."""
    names = ("mels", "style", "players", "notes")
    return Examples(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


class Embedding(nn.Module):
    """Log-mel windows [N, frames, 80] to vectors [N, 32]; heads name what they were trained on."""

    def __init__(self, *, styles: int, players: int) -> None:
        super().__init__()
        sizes = (1, *_CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5 if a == 1 else 3, stride=2, padding=2 if a == 1 else 1) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(NORM_GROUPS, size, eps=NORM_EPS) for size in _CHANNELS)
        self.out = nn.Linear(_CHANNELS[-1] * 5, WIDTH)
        self.heads = nn.ModuleDict(
            {
                "style": nn.Linear(WIDTH, styles),
                "players": nn.Linear(WIDTH, players),
                "notes": nn.Linear(WIDTH, _NOTES),
            }
        )

    def forward(self, mels: Tensor) -> Tensor:
        x = (mels.float()[:, None] - MEL_CENTRE) / MEL_SCALE
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x)))
        return self.out(x.mean(dim=2).flatten(1))  # over time; five places in frequency stay

    def loss(self, part: Examples) -> Tensor:
        """Sum of the three tasks' cross entropies."""
        vector = F.gelu(self(part.mels))
        style = F.cross_entropy(self.heads["style"](vector), part.style)
        players = F.binary_cross_entropy_with_logits(self.heads["players"](vector), part.players)
        return style + players + F.binary_cross_entropy_with_logits(self.heads["notes"](vector), part.notes)

    @torch.no_grad()
    def skill(self, part: Examples) -> dict[str, float]:
        """Shares of right answers: style, player on or off, chord note in or out."""
        vectors = F.gelu(torch.cat([self(mels) for mels in part.mels.split(64)]))
        style = self.heads["style"](vectors).argmax(1) == part.style
        found = {"style": float(style.float().mean())}
        for name, truth in (("players", part.players), ("notes", part.notes)):
            right = (self.heads[name](vectors) > 0) == (truth > 0.5)
            found[name] = float(right.float().mean())
        return found

    def ears(self, skill: dict[str, float]) -> Ears:
        """For scoring, without torch."""
        weights = {name: values.detach().double().numpy() for name, values in self.state_dict().items()}
        return Ears(weights=weights, skill=skill)


def train_embedding(
    songs: Examples, heldout: Examples, *, styles: int, minutes: float, seed: int = 0, batch: int = 32
) -> tuple[Embedding, dict[str, float]]:
    """The network after so many minutes, and its skill on held-out songs."""
    torch.manual_seed(seed)
    model = Embedding(styles=styles, players=songs.players.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    began, spent = time.monotonic(), 0.0
    while spent < 60.0 * minutes:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1.0 - 0.97 * spent / (60.0 * minutes))
        chosen = torch.randint(len(songs), (batch,))
        shift = 0.1 * torch.randn(batch, 1, 1)  # level is no style
        part = Examples(
            mels=songs.mels[chosen].float() + shift,
            style=songs.style[chosen],
            players=songs.players[chosen],
            notes=songs.notes[chosen],
        )
        loss = model.loss(part)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent = time.monotonic() - began
    model.eval()
    return model, model.skill(heldout)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with train/ and heldout/ songs")],
    out: Annotated[Path, typer.Option(help="file to write")] = EARS_FILE,
    songs: Annotated[int, typer.Option(help="training songs")] = 320,
    minutes: Annotated[float, typer.Option(help="training time")] = 8.0,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train the ears and say what they can tell."""
    torch.set_num_threads(threads)
    console = Console()
    with console.status("listening to songs"):
        train, heldout = (
            joined(list(load_examples(data / "train", songs))),
            joined(list(load_examples(data / "heldout", songs))),
        )
    with console.status(f"training on {len(train)} windows, {minutes:g} min"):
        model, skill = train_embedding(train, heldout, styles=len(STYLE_NAMES), minutes=minutes)
    assert train.players.shape[1] == len(INSTRUMENTS)
    model.ears({name: round(share, 4) for name, share in skill.items()}).save(out)
    console.print(f"{out}: right on held-out songs: {skill}")


if __name__ == "__main__":
    typer.run(main)
