"""Codec training: autoencoder unquantised, quantiser fitted to its latents, decoder fine-tuned on the quantised.

Between the rendered dataset and the token model. Stages, each resumable from RUN/codec.pt: `auto` (no quantiser:
learning pitch comes first; noise on the latents late, so that little rests on their small components), `fit`
(k-means; encoder and quantiser are frozen from here on, so tokens stay valid), `decoder`, and where it is asked for
`adversarial`: the decoder again, against discriminators (training/adversarial.py). Learning through the quantiser
was tried and lost (docs/LOG.md, "Codec").
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

from attacca.training.adversarial import AdversarialConfig, Opponent
from attacca.training.codec_data import Songs
from attacca.training.codec_loss import ENERGY_LOSS, Energy, spectral_loss
from attacca.training.codec_model import CodecConfig, CodecNet, band_weights, tiny_config, v1_config
from attacca.training.gpu_crops import DeviceCrops
from attacca.training.gpu_stop import EXIT_UNFINISHED, Deadline, Stopped
from attacca.training.quantizer import Quantizer, fit_quantizer

STAGES = ("auto", "fit", "decoder", "adversarial")
GEOMETRIES = {"v0": CodecConfig, "v1": v1_config}
_FIT_WARM_UP_FRAMES = 32  # the encoder's memory, dropped from each stretch
_NOTE_EVERY = {"cpu": 1}  # updates; elsewhere 20: to show a figure is to wait for it


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe. Times are of training alone, summed over resumed runs."""

    auto_minutes: float = 16.0
    decoder_minutes: float = 12.0
    adversarial_minutes: float = 0.0
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
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
        if not 0 <= self.adversarial_minutes < math.inf:
            raise ValueError(f"adversarial_minutes is {self.adversarial_minutes}, allowed: 0 and up")
        for name in ("learning_rate", "decoder_learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: above 0, up to 1")
        for name in ("batch", "crop_frames", "fit_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed: 1 and up")
        for name, low in (("noise", 0), ("noise_from", 0), ("whitening", -1)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed {low}..1")

    def minutes(self, stage: str) -> float:
        """Minutes of a stage that is trained."""
        return float(getattr(self, f"{stage}_minutes"))

    def peak(self, stage: str) -> float:
        """Highest learning rate of a stage."""
        peaks = {"decoder": self.decoder_learning_rate, "adversarial": self.adversarial.decoder_learning_rate}
        return peaks.get(stage, self.learning_rate)


_PLAIN = ("stage", "elapsed_s", "updates", "optimizer", "history")


@dataclass(kw_only=True)
class State:
    """All that a run is: what codec.pt holds."""

    net: CodecNet
    stage: str = "auto"
    quantizer: Quantizer | None = None
    elapsed_s: float = 0.0  # in this stage
    updates: int = 0
    optimizer: dict[str, Any] | None = None
    opponent: dict[str, Any] | None = None  # of the adversarial stage
    history: list[dict[str, float | str]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.net.mean.device

    def to(self, device: torch.device) -> None:
        """Move networks and quantiser."""
        self.net.to(device)
        if self.quantizer is not None:
            self.quantizer = Quantizer(**{name: part.to(device) for name, part in self.quantizer.state().items()})

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
            **{name: getattr(self, name) for name in _PLAIN},
            "opponent": self.opponent,
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
        rest = {name: values[name] for name in _PLAIN}
        return cls(net=net, quantizer=quantizer, opponent=values.get("opponent"), **rest)


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
    weights = torch.from_numpy(band_weights(state.net.config)).to(state.device)
    losses = []
    for frames in songs.frames:
        truth = torch.from_numpy(frames[:limit_frames].astype(np.float32))[None].to(state.device)
        with torch.autocast(state.device.type, dtype=torch.bfloat16):
            guess = _forward(state, truth, 0.0)
        losses.append(float(spectral_loss(guess, truth, weights, state.net.config.spectral.level_width)[1]))
    return float(np.mean(losses))


def _columns() -> tuple[Any, ...]:
    return (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))


def _opponent(state: State, recipe: TrainConfig) -> Opponent | None:
    """The discriminators of the adversarial stage, as they were; None in other stages."""
    if state.stage != "adversarial":
        return None
    net = state.net
    opponent = Opponent(recipe.adversarial, net.config, net.mean, net.deviation, state.device)
    if state.opponent is not None:
        opponent.restore(state.opponent)
    return opponent


def run_stage(
    state: State,
    recipe: TrainConfig,
    train: Songs | DeviceCrops,
    heldout: Songs,
    checkpoint: Path,
    deadline: Deadline,
) -> None:
    """Train the current stage (not `fit`) until its minutes are spent, saving as it goes. Stopped: out of time."""
    device, level_width = state.device, state.net.config.spectral.level_width
    auto = state.stage == "auto"
    budget_s, peak = 60.0 * recipe.minutes(state.stage), recipe.peak(state.stage)
    parameters = list(state.net.parameters() if auto else state.net.decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    weights = torch.from_numpy(band_weights(state.net.config)).to(device)
    batches = train.crops(recipe.batch, recipe.crop_frames, np.random.default_rng([recipe.seed, state.updates]))
    torch.manual_seed(recipe.seed + state.updates)
    opponent, score = _opponent(state, recipe), None
    energy = Energy(state.net.config, device) if state.quantizer is not None else None  # what quantising costs
    note_every = _NOTE_EVERY.get(device.type, 20)
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
            with torch.autocast(device.type, dtype=torch.bfloat16):
                guess = _forward(state, batch, noise)
            loss, log_l1 = spectral_loss(guess, batch, weights, level_width)
            if energy is not None:
                loss = loss + ENERGY_LOSS * energy(guess, batch)
            if opponent is not None:
                opponent.learn(batch, guess)
                added, score = opponent.against(batch, guess)
                loss = loss + added
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            now = time.monotonic()
            state.elapsed_s, last = state.elapsed_s + now - last, now
            state.updates += 1
            if state.updates % note_every == 0:
                fooled = f" adversarial {score.item():.2f}" if score is not None else ""
                note = f"{state.updates} L1 {log_l1.item():.3f}{fooled}"
                progress.update(task, completed=state.elapsed_s, note=note)
            over = deadline.passed
            if now - saved >= recipe.save_every_s or state.elapsed_s >= budget_s or over:
                state.optimizer = optimizer.state_dict()
                state.opponent = opponent.state() if opponent is not None else None
                state.record(evaluate(state, heldout))
                score_l1 = state.history[-1]["heldout_l1"]
                progress.console.print(f"{state.stage} {state.elapsed_s:.0f} s: held-out L1 {score_l1:.4f}")
                state.save(checkpoint)
                saved = last = time.monotonic()
            if over and state.elapsed_s < budget_s:
                raise Stopped


@torch.no_grad()
def fit_stage(state: State, recipe: TrainConfig, train: Songs) -> None:
    """Encode a stretch of every training song and fit the quantiser to the latents."""
    rng = np.random.default_rng(recipe.seed)
    each = -(-recipe.fit_frames // len(train.frames))
    latents = []
    for frames in train.frames:
        start = int(rng.integers(max(1, len(frames) - each - _FIT_WARM_UP_FRAMES)))
        stretch = torch.from_numpy(frames[start : start + each + _FIT_WARM_UP_FRAMES].astype(np.float32))
        latents.append(state.net.encode(stretch[None].to(state.device))[0, _FIT_WARM_UP_FRAMES:].cpu().numpy())
    points = np.concatenate(latents)
    config = state.net.config
    state.quantizer = fit_quantizer(
        points,
        num_codebooks=config.num_codebooks,
        codebook_size=config.codebook_size,
        whitening=recipe.whitening,
        seed=recipe.seed,
    )
    state.to(state.device)


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
    device: str = "cpu",
    stop_after_s: float | None = None,
    workers: int = 2,
) -> State:
    """Run or resume the recipe up to and including stage `until`; RUN/codec.pt is the result.

    also: a folder of further sounds to train on (training/music/sounds.py). workers: songs analysed at a time.
    stop_after_s: save and raise Stopped if it takes longer; the same call goes on.
    """
    deadline = Deadline(stop_after_s)
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "codec.pt"
    folders = [data / "train"] if also is None else [data / "train", also]
    train = Songs(*folders, config=config, limit=limit, workers=workers)
    heldout = Songs(data / "heldout", config=config, limit=8)
    if checkpoint.is_file():
        state = State.load(checkpoint)
    else:
        torch.manual_seed(recipe.seed)
        state = State(net=CodecNet(config))
        state.net.start_from_pca(train.sample(20_000, np.random.default_rng(recipe.seed)))
    state.to(torch.device(device))
    source = train if state.device.type == "cpu" else DeviceCrops(train, state.device)
    for stage in STAGES[STAGES.index(state.stage) : STAGES.index(until) + 1]:
        if stage != state.stage:
            state.stage, state.elapsed_s, state.updates = stage, 0.0, 0
            state.optimizer = state.opponent = None
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
            run_stage(state, recipe, source, heldout, checkpoint, deadline)
        state.save(checkpoint)
    return state


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with train/ and heldout/")],
    run: Annotated[Path, typer.Option(help="run folder; a run that exists is resumed")],
    also: Annotated[Path | None, typer.Option(help="folder of further sounds to train on")] = None,
    minutes: Annotated[float, typer.Option(help="minutes of the unquantised stage")] = 16.0,
    decoder_minutes: Annotated[float, typer.Option(help="minutes of the decoder stage")] = 12.0,
    adversarial_minutes: Annotated[
        float, typer.Option(help="minutes of the decoder against discriminators, which want a GPU; 0: none")
    ] = 0.0,
    until: Annotated[
        str | None, typer.Option(help="last stage to run: auto, fit, decoder, adversarial; all if not given")
    ] = None,
    batch: Annotated[int, typer.Option(help="crops per update")] = 12,
    crop_frames: Annotated[int, typer.Option(help="frames per crop")] = 96,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N; the GPU if there is one")] = "",
    stop_after_s: Annotated[
        float | None, typer.Option(help=f"save and exit with {EXIT_UNFINISHED} if it takes longer")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="songs of each folder at most, to save memory")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
    geometry: Annotated[str, typer.Option(help="v0 (32 kHz mono), v1 (48 kHz stereo)")] = "v0",
    tiny: Annotated[bool, typer.Option(help="tiny networks, for tests")] = False,
) -> None:
    """Train or resume the codec."""
    last = until or ("adversarial" if adversarial_minutes else "decoder")
    if last not in STAGES:
        raise typer.BadParameter(f"until is {until}, allowed: {', '.join(STAGES)}")
    if geometry not in GEOMETRIES:
        raise typer.BadParameter(f"geometry is {geometry}, allowed: {', '.join(GEOMETRIES)}")
    torch.set_num_threads(threads)
    recipe = TrainConfig(
        auto_minutes=minutes,
        decoder_minutes=decoder_minutes,
        adversarial_minutes=adversarial_minutes,
        batch=batch,
        crop_frames=crop_frames,
    )
    config = tiny_config() if tiny else GEOMETRIES[geometry]()
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        train_codec(
            data,
            run,
            config,
            recipe,
            until=last,
            limit=limit,
            also=also,
            device=place,
            stop_after_s=stop_after_s,
            workers=max(2, threads),
        )
    except Stopped:
        raise typer.Exit(EXIT_UNFINISHED) from None


if __name__ == "__main__":
    typer.run(main)
