"""Codec training: autoencoder unquantised, quantiser fitted to its latents, decoder fine-tuned on the quantised.

Between the rendered dataset and the token model. Stages, each resumable from RUN/codec.pt: `auto` (no quantiser:
learning pitch comes first; noise on the latents late, so that little rests on their small components), `fit`
(k-means; encoder and quantiser are frozen from here on, so tokens stay valid) and `decoder`. Learning through the
quantiser was tried and lost (docs/LOG.md, "Codec").
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from attacca.training.codec_data import Songs
from attacca.training.codec_model import CodecConfig, CodecNet, band_weights, tiny_config, v1_config
from attacca.training.quantizer import Quantizer, fit_quantizer

STAGES = ("auto", "fit", "decoder")
GEOMETRIES = {"v0": CodecConfig, "v1": v1_config}
_PAN_LOSS, _FAR_NATS = 0.15, 3.0
_FIT_WARM_UP_FRAMES = 32  # the encoder's memory, dropped from each stretch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe. Times are of training alone, summed over resumed runs."""

    auto_minutes: float = 16.0
    decoder_minutes: float = 12.0
    batch: int = 12
    crop_frames: int = 96
    learning_rate: float = 1.5e-3
    decoder_learning_rate: float = 5e-4
    weight_decay: float = 0.01
    noise: float = 0.3  # final noise on the latents, relative to their rms
    noise_from: float = 0.4  # share of the stage after which noise rises from 0
    whitening: float = -0.5  # see fit_quantizer
    fit_frames: int = 150_000
    save_every_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("auto_minutes", "decoder_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: above 0")
        for name in ("learning_rate", "decoder_learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: above 0, up to 1")
        for name in ("batch", "crop_frames", "fit_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: 1 and up")
        for name, low in (("noise", 0), ("noise_from", 0), ("whitening", -1)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed {low}..1")


@dataclass(kw_only=True)
class State:
    """All that a run is: what codec.pt holds."""

    net: CodecNet
    stage: str = "auto"
    quantizer: Quantizer | None = None
    elapsed_s: float = 0.0  # in this stage
    updates: int = 0
    optimizer: dict[str, Any] | None = None
    history: list[dict[str, float | str]] = field(default_factory=list)

    def record(self, heldout_l1: float) -> None:
        """Add a line to the history."""
        now = {"stage": self.stage, "elapsed_s": self.elapsed_s, "updates": self.updates}
        self.history.append({**now, "heldout_l1": heldout_l1})

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        values = {
            "config": self.net.config.to_dict(),
            "net": self.net.state_dict(),
            "quantizer": self.quantizer.state() if self.quantizer else None,
            **{name: getattr(self, name) for name in ("stage", "elapsed_s", "updates", "optimizer", "history")},
        }
        partial = path.with_suffix(f".{os.getpid()}.partial")
        torch.save(values, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> State:
        """Read a checkpoint. Raises OSError or ValueError."""
        values = torch.load(path, map_location="cpu", weights_only=True)
        net = CodecNet(CodecConfig.from_dict(values["config"]))
        net.load_state_dict(values["net"])
        quantizer = Quantizer(**values["quantizer"]) if values["quantizer"] else None
        rest = {name: values[name] for name in ("stage", "elapsed_s", "updates", "optimizer", "history")}
        return cls(net=net, quantizer=quantizer, **rest)


def spectral_loss(guess: Tensor, truth: Tensor, weights: Tensor, level_width: int) -> tuple[Tensor, Tensor]:
    """L1 of log amplitudes (nats), of compressed amplitudes (the loud counts more) and of pans; the first alone."""
    apart = (guess - truth).abs()
    level, guess, truth = weights[:level_width], guess[..., :level_width], truth[..., :level_width]
    log_l1 = (apart[..., :level_width] * level).mean()
    loud_l1 = ((torch.exp(0.4 * guess.clamp(max=3.0)) - torch.exp(0.4 * truth)).abs() * level).mean()
    loss = log_l1 + 4.0 * loud_l1
    if apart.shape[-1] > level_width:  # what stands far to one side has an uncertain pan: it counts only so much
        loss = loss + _PAN_LOSS * apart[..., level_width:].clamp(max=_FAR_NATS).mean()
    return loss, log_l1


def _forward(state: State, batch: Tensor, noise: float) -> Tensor:
    """Reconstruction of a batch; where there is a quantiser, through it and without gradient to the encoder."""
    if state.quantizer is not None:
        with torch.no_grad():
            latents = state.quantizer.decode(state.quantizer.encode(state.net.encode(batch)))
        return state.net.decode(latents)
    latents = state.net.encode(batch)
    if noise > 0:
        rms = latents.detach().float().square().mean().sqrt()
        latents = latents + noise * rms * torch.randn_like(latents)
    return state.net.decode(latents)


@torch.no_grad()
def evaluate(state: State, songs: Songs, *, limit_frames: int = 1000) -> float:
    """Mean weighted log-amplitude L1 (nats) over the start of each song, through the quantiser where fitted."""
    weights = torch.from_numpy(band_weights(state.net.config))
    losses = []
    for frames in songs.frames:
        truth = torch.from_numpy(frames[:limit_frames].astype(np.float32))[None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guess = _forward(state, truth, 0.0)
        losses.append(float(spectral_loss(guess, truth, weights, state.net.config.spectral.level_width)[1]))
    return float(np.mean(losses))


def _columns() -> tuple[Any, ...]:
    return (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))


def run_stage(state: State, recipe: TrainConfig, train: Songs, heldout: Songs, checkpoint: Path) -> None:
    """Train the current stage (not `fit`) until its minutes are spent, saving as it goes."""
    auto = state.stage == "auto"
    budget_s = 60.0 * (recipe.auto_minutes if auto else recipe.decoder_minutes)
    peak = recipe.learning_rate if auto else recipe.decoder_learning_rate
    parameters = list(state.net.parameters() if auto else state.net.decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    weights = torch.from_numpy(band_weights(state.net.config))
    batches = train.crops(recipe.batch, recipe.crop_frames, np.random.default_rng([recipe.seed, state.updates]))
    torch.manual_seed(recipe.seed + state.updates)
    saved = last = time.monotonic()
    with Progress(*_columns(), refresh_per_second=1) as progress:
        task = progress.add_task(state.stage, total=budget_s, completed=state.elapsed_s, note="")
        while state.elapsed_s < budget_s:
            done = state.elapsed_s / budget_s
            warm = min(1.0, (state.updates + 1) / 100)
            for group in optimizer.param_groups:
                group["lr"] = peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            noise = recipe.noise * max(0.0, done - recipe.noise_from) / max(1e-9, 1 - recipe.noise_from)
            batch = next(batches)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                guess = _forward(state, batch, noise)
            loss, log_l1 = spectral_loss(guess, batch, weights, state.net.config.spectral.level_width)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            now = time.monotonic()
            state.elapsed_s, last = state.elapsed_s + now - last, now
            state.updates += 1
            progress.update(task, completed=state.elapsed_s, note=f"{state.updates} L1 {log_l1.item():.3f}")
            if now - saved >= recipe.save_every_s or state.elapsed_s >= budget_s:
                state.optimizer = optimizer.state_dict()
                score = evaluate(state, heldout)
                state.record(score)
                progress.console.print(f"{state.stage} {state.elapsed_s:.0f} s: held-out L1 {score:.4f}")
                state.save(checkpoint)
                saved = last = time.monotonic()


@torch.no_grad()
def fit_stage(state: State, recipe: TrainConfig, train: Songs) -> None:
    """Encode a stretch of every training song and fit the quantiser to the latents."""
    rng = np.random.default_rng(recipe.seed)
    each = -(-recipe.fit_frames // len(train.frames))
    latents = []
    for frames in train.frames:
        start = int(rng.integers(max(1, len(frames) - each - _FIT_WARM_UP_FRAMES)))
        stretch = torch.from_numpy(frames[start : start + each + _FIT_WARM_UP_FRAMES].astype(np.float32))
        latents.append(state.net.encode(stretch[None])[0, _FIT_WARM_UP_FRAMES:].numpy())
    points = np.concatenate(latents)
    config = state.net.config
    state.quantizer = fit_quantizer(
        points,
        num_codebooks=config.num_codebooks,
        codebook_size=config.codebook_size,
        whitening=recipe.whitening,
        seed=recipe.seed,
    )


@torch.no_grad()
def freeze(state: State) -> None:
    """Round the encoder to half precision, in which it is exported: tokens of today are those of the runtime."""
    for parameter in state.net.encoder.parameters():
        parameter.copy_(parameter.half().float())


def train_codec(
    data: Path,
    run: Path,
    config: CodecConfig,
    recipe: TrainConfig,
    *,
    until: str = "decoder",
    limit: int | None = None,
    also: Path | None = None,
) -> State:
    """Run or resume the recipe up to and including stage `until`; RUN/codec.pt is the result.

    also: a folder of further sounds to train on (training/music/sounds.py).
    """
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "codec.pt"
    folders = [data / "train"] if also is None else [data / "train", also]
    train, heldout = Songs(*folders, config=config, limit=limit), Songs(data / "heldout", config=config, limit=8)
    if checkpoint.is_file():
        state = State.load(checkpoint)
    else:
        torch.manual_seed(recipe.seed)
        state = State(net=CodecNet(config))
        state.net.start_from_pca(train.sample(20_000, np.random.default_rng(recipe.seed)))
    for stage in STAGES[STAGES.index(state.stage) : STAGES.index(until) + 1]:
        if stage != state.stage:
            state.stage, state.elapsed_s, state.updates, state.optimizer = stage, 0.0, 0, None
        if stage == "fit":
            if state.quantizer is not None:
                continue  # tokens may hang on it already
            freeze(state)
            fit_stage(state, recipe, train)
            state.record(evaluate(state, heldout))
            print(
                f"fit: held-out L1 {state.history[-1]['heldout_l1']:.4f} through {config.num_codebooks} codebooks"
            )
        else:
            run_stage(state, recipe, train, heldout, checkpoint)
        state.save(checkpoint)
    return state


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with train/ and heldout/")],
    run: Annotated[Path, typer.Option(help="run folder; a run that exists is resumed")],
    also: Annotated[Path | None, typer.Option(help="folder of further sounds to train on")] = None,
    minutes: Annotated[float, typer.Option(help="minutes of the unquantised stage")] = 16.0,
    decoder_minutes: Annotated[float, typer.Option(help="minutes of the decoder stage")] = 12.0,
    until: Annotated[str, typer.Option(help="last stage to run: auto, fit or decoder")] = "decoder",
    limit: Annotated[int | None, typer.Option(help="songs of each folder at most, to save memory")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
    geometry: Annotated[str, typer.Option(help="v0 (32 kHz mono), v1 (48 kHz stereo)")] = "v0",
    tiny: Annotated[bool, typer.Option(help="tiny networks, for tests")] = False,
) -> None:
    """Train or resume the codec."""
    if until not in STAGES:
        raise typer.BadParameter(f"until is {until}, allowed: {', '.join(STAGES)}")
    if geometry not in GEOMETRIES:
        raise typer.BadParameter(f"geometry is {geometry}, allowed: {', '.join(GEOMETRIES)}")
    torch.set_num_threads(threads)
    recipe = TrainConfig(auto_minutes=minutes, decoder_minutes=decoder_minutes)
    config = tiny_config() if tiny else GEOMETRIES[geometry]()
    train_codec(data, run, config, recipe, until=until, limit=limit, also=also)


if __name__ == "__main__":
    typer.run(main)
