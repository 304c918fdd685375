"""Trains the ears of the scorecards: `python -m benchmarks.embedding --data STEMS [--mixes DATA] [--minutes M]`.

A small network that names style, players and chord notes of two seconds of sound; its last layer but one is the
embedding of the Fréchet distance, for pretrained ones (VGGish, CLAP) cannot be shipped. Who plays is learned from
random subsets of songs' stems, so that it is judged by what sounds and not by what usually plays together; songs
without stems (`--mixes`) teach the styles. What it can tell on held-out songs (`skill`) is kept with it: ears that
cannot tell the styles apart would measure nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music.songs import FRAMES_PER_SECOND, Rendered, load_song
from attacca.training.music.styles import STYLE_NAMES
from benchmarks.ears import EARS_FILE, MEL_CENTRE, MEL_SCALE, NORM_EPS, NORM_GROUPS, Ears
from benchmarks.frechet import STEP_S, WINDOW_S, mel_windows
from benchmarks.spectra import Audio, analysed, rms

WIDTH = 32
_CHANNELS = (16, 32, 64, 64)
_NOTES = 12
_PART_S = 5.0  # of a song, with one subset of its stems
_GAIN_DB = 6.0  # each stem up or down by as much
_FAINTEST_DB = -30.0  # of a stem against the sum: below it nobody hears it
_LEAST_SHARE = 0.1  # of a window with a key down: less is a pause
_SUBSET_STYLE = 0.3  # weight of the style of a subset
_MEL_NOISE, _MEL_TILT = 0.15, 0.15  # log10: what a codec does to a sound is neither style nor player


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Windows of songs with what is true in them."""

    mels: Tensor  # float16 [N, frames, 80]
    style: Tensor  # int64 [N]
    players: Tensor  # float [N, P], 1 where one is heard
    notes: Tensor  # float [N, 12], share of the window in which the chord holds each pitch class
    style_weight: Tensor  # float [N]
    notes_weight: Tensor  # float [N], 0 where nobody plays notes

    def __len__(self) -> int:
        return len(self.style)

    def chosen(self, index: Tensor) -> Examples:
        """Some of them."""
        return Examples(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def _examples(
    song: Rendered, sound: Audio, first_s: float, heard: npt.NDArray[np.bool_], style_weight: float, every: int
) -> Examples:
    """Every so many windows of `sound`, which begins at `first_s` of the song; `heard` [windows, P] is by whom."""
    mels = mel_windows(sound)[::every]
    span = round(WINDOW_S * FRAMES_PER_SECOND)
    starts = ((first_s + np.arange(len(mels)) * every * STEP_S) * FRAMES_PER_SECOND).astype(int)
    notes = np.stack([song.controls.pitch_classes[s : s + span].mean(axis=0) for s in starts])
    players = heard[::every][: len(mels)]
    trained = song.controls.style_known[starts]
    return Examples(
        mels=torch.from_numpy(mels.astype(np.float16)),
        style=torch.from_numpy(song.controls.style[starts].astype(np.int64)),
        players=torch.from_numpy(players).float(),
        notes=torch.from_numpy(notes).float(),
        style_weight=torch.from_numpy(style_weight * trained).float(),
        notes_weight=torch.from_numpy(players[:, 1:].any(axis=1)).float(),
    )


def _playing(song: Rendered, first_s: float, windows: int) -> npt.NDArray[np.bool_]:
    """[windows, P] whose keys are down for at least _LEAST_SHARE of each window from `first_s` on."""
    span = round(WINDOW_S * FRAMES_PER_SECOND)
    starts = ((first_s + np.arange(windows) * STEP_S) * FRAMES_PER_SECOND).astype(int)
    return np.stack([song.sounding[s : s + span].mean(axis=0) >= _LEAST_SHARE for s in starts])


def _windows(seconds: float) -> int:
    return int((seconds - WINDOW_S) / STEP_S + 1e-6) + 1


def mix_examples(song: Rendered, *, every: int = 2) -> Examples:
    """A song as it was mixed."""
    sound = analysed(song.audio, int(song.about["rate"]))
    playing = _playing(song, 0.0, _windows(len(song.controls) / FRAMES_PER_SECOND))
    return _examples(song, sound, 0.0, playing, 1.0, every)


def subset_examples(song: Rendered, rng: np.random.Generator, *, every: int = 2) -> Iterator[Examples]:
    """A song's stems, a random subset in each part of 5 s, each stem up or down by up to 6 dB."""
    rate = int(song.about["rate"])
    assert song.stems is not None
    sides = song.stems.reshape(len(song.stems), len(INSTRUMENTS), -1)
    stems = np.stack([analysed(sides[:, i], rate) for i in range(len(INSTRUMENTS))])
    hz = round(len(stems[0]) / (len(song.controls) / FRAMES_PER_SECOND))
    count, windows = round(_PART_S * hz), _windows(_PART_S)
    for first in range(0, stems.shape[1] - count + 1, count):
        chosen = rng.random(len(INSTRUMENTS)) < 0.5
        gains = 10.0 ** (rng.uniform(-_GAIN_DB, _GAIN_DB, len(INSTRUMENTS)) / 20.0) * chosen
        parts = stems[:, first : first + count] * gains[:, None]
        mix = parts.sum(axis=0)
        if rms(mix) < 1e-4:
            continue
        heard = _playing(song, first / hz, windows) & _audible(parts, mix, hz, windows)
        weight = _SUBSET_STYLE * (chosen.sum() > 1)
        yield _examples(song, mix, first / hz, heard, weight, every)


def _audible(parts: Audio, mix: Audio, hz: int, windows: int) -> npt.NDArray[np.bool_]:
    """[windows, P] which parts are no more than _FAINTEST_DB below the mix in each window."""
    least = 10.0 ** (_FAINTEST_DB / 20.0)
    cuts = [slice(round(w * STEP_S * hz), round((w * STEP_S + WINDOW_S) * hz)) for w in range(windows)]
    return np.array([[rms(part[cut]) > max(1e-5, least * rms(mix[cut])) for part in parts] for cut in cuts])


def song_paths(folder: Path, limit: int) -> list[Path]:
    """The first songs of a dataset's folder, by their .npz. ValueError where there are none."""
    found = sorted(p for p in folder.glob("*.npz") if p.with_suffix(".flac").is_file())[:limit]
    if not found:
        raise ValueError(f"no songs in {folder}")
    return found


def load_subsets(folder: Path, limit: int, *, times: int, seed: int = 0) -> Iterator[Examples]:
    """Subsets of the stems of songs, so many draws a song. ValueError where songs have no stems."""
    rng = np.random.default_rng(seed)
    for path in song_paths(folder, limit):
        if not path.with_suffix(".stems.flac").is_file():
            raise ValueError(f"{path} has no stems; render songs with --stems")
        song = load_song(path, stems=True)
        for _ in range(times):
            yield from subset_examples(song, rng)


def load_mixes(folder: Path, limit: int) -> Iterator[Examples]:
    """Songs as they were mixed."""
    for path in song_paths(folder, limit):
        yield mix_examples(load_song(path))


def joined(parts: list[Examples]) -> Examples:
    """All windows in one."""
    return Examples(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Examples)})


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
        style = F.cross_entropy(self.heads["style"](vector), part.style, reduction="none")
        notes = F.binary_cross_entropy_with_logits(self.heads["notes"](vector), part.notes, reduction="none")
        players = F.binary_cross_entropy_with_logits(self.heads["players"](vector), part.players)
        weighed = (style * part.style_weight).mean() + (notes.mean(dim=1) * part.notes_weight).mean()
        return weighed + 2.0 * players

    @torch.no_grad()
    def skill(self, part: Examples) -> dict[str, float]:
        """Shares of right answers: style, player heard or not, chord note in or out; where each can be known."""
        vectors = F.gelu(torch.cat([self(mels) for mels in part.mels.split(64)]))
        found = {}
        known = part.style_weight > 0
        if known.any():
            right = self.heads["style"](vectors).argmax(1) == part.style
            found["style"] = float(right[known].float().mean())
        found["players"] = float(((self.heads["players"](vectors) > 0) == (part.players > 0.5)).float().mean())
        notes = ((self.heads["notes"](vectors) > 0) == (part.notes > 0.5)).float().mean(dim=1)
        found["notes"] = float(notes[part.notes_weight > 0].mean())
        return found

    @torch.no_grad()
    def player_skill(self, part: Examples) -> dict[str, float]:
        """By player: the mean of the shares of right answers where heard and where not."""
        vectors = F.gelu(torch.cat([self(mels) for mels in part.mels.split(64)]))
        guessed, true = self.heads["players"](vectors) > 0, part.players > 0.5
        return {
            name: float((guessed[true[:, i], i].float().mean() + (~guessed[~true[:, i], i]).float().mean()) / 2)
            for i, name in enumerate(INSTRUMENTS)
        }

    def begin_as(self, ears: Ears) -> None:
        """Take over the weights of other ears, all but those of another size (the head of other styles)."""
        own = self.state_dict()
        taken = {name: torch.from_numpy(values).float() for name, values in ears.weights.items()}
        self.load_state_dict(own | {n: v for n, v in taken.items() if n in own and v.shape == own[n].shape})

    def ears(self, skill: dict[str, float]) -> Ears:
        """For scoring, without torch."""
        weights = {name: values.detach().double().numpy() for name, values in self.state_dict().items()}
        return Ears(weights=weights, skill=skill)


def train_embedding(
    songs: Examples,
    heldout: Examples,
    *,
    styles: int,
    minutes: float,
    seed: int = 0,
    batch: int = 32,
    start: Ears | None = None,
) -> tuple[Embedding, dict[str, float]]:
    """The network after so many minutes of the processor, and its skill on held-out songs."""
    torch.manual_seed(seed)
    model = Embedding(styles=styles, players=songs.players.shape[1])
    if start is not None:
        model.begin_as(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    began, spent = time.process_time(), 0.0
    while spent < 60.0 * minutes:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1.0 - 0.97 * spent / (60.0 * minutes))
        part = songs.chosen(torch.randint(len(songs), (batch,)))
        shift = 0.1 * torch.randn(batch, 1, 1)  # level is no style
        tilt = _MEL_TILT * torch.randn(batch, 1, 1) * torch.linspace(-1.0, 1.0, part.mels.shape[2])
        noise = _MEL_NOISE * torch.rand(batch, 1, 1) * torch.randn(part.mels.shape)
        loss = model.loss(replace(part, mels=part.mels.float() + shift + tilt + noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent = time.process_time() - began
    model.eval()
    return model, model.skill(heldout)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with train/ and heldout/ songs and their stems")],
    mixes: Annotated[Path | None, typer.Option(help="dataset folder with more songs, without stems")] = None,
    out: Annotated[Path, typer.Option(help="file to write")] = EARS_FILE,
    songs: Annotated[int, typer.Option(help="training songs of either kind, at most")] = 140,
    draws: Annotated[int, typer.Option(help="of subsets for each part of a song with stems")] = 4,
    minutes: Annotated[float, typer.Option(help="training time of one processor")] = 8.0,
    start: Annotated[Path | None, typer.Option(help="ears to begin as, in place of random ones")] = None,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train the ears and say what they can tell."""
    torch.set_num_threads(threads)
    console = Console()
    whole = mixes or data
    first = None if start is None else Ears.load(start)
    train = joined([*load_subsets(data / "train", songs, times=draws), *load_mixes(whole / "train", songs)])
    subsets = joined(list(load_subsets(data / "heldout", songs, times=2, seed=1)))
    heldout = joined(list(load_mixes(whole / "heldout", songs)))
    console.print(f"training on {len(train)} windows, {minutes:g} min", markup=False)
    model, skill = train_embedding(train, heldout, styles=len(STYLE_NAMES), minutes=minutes, start=first)
    alone = model.skill(subsets)
    skill |= {"players_of_subsets": alone["players"], "notes_of_subsets": alone["notes"]}
    skill |= {f"subsets_{name}": share for name, share in model.player_skill(subsets).items()}
    model.ears({name: round(share, 4) for name, share in skill.items()}).save(out)
    console.print(f"{out}: right on held-out songs: {skill}", markup=False)


if __name__ == "__main__":
    typer.run(main)
