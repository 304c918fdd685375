"""Training of the decoder on tokens and labels; the last step before export.

Reads DATA/tokens/{train,heldout}/NNNNN.npy and the labels beside the songs; writes RUN/decoder.pt (all that is
needed to go on, averaged weights under "ema") and RUN/log.jsonl. The learning rate follows a cosine over --minutes
of training time, summed over resumed runs, so the recipe fits any machine. On a CPU, processes of one core each
share the batches (training/helpers.py).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout, layout_of_width
from attacca.training.codewords import SharingDecoder, codewords_of, fold
from attacca.training.decoder_data import Dropout, TokenSongs, drop
from attacca.training.decoder_model import Decoder, DecoderConfig, LayoutTensors, sized
from attacca.training.helpers import Helper
from attacca.training.layout import build_layout
from attacca.training.optimizer import Optimizer

CHECKPOINT = "decoder.pt"
_UNLEARNED = -1


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe."""

    minutes: float = 60.0
    updates: int = 0  # train for so many in place of minutes; 0: for minutes
    batch: int = 8
    crop_frames: int = 224
    prefixes: tuple[int, ...] = (0, 32, 64, 96, 128, 160)  # one is drawn per batch
    at_switches: float = 0.5  # of crops: players come or go in them, at the prefix's end
    from_rollouts: float = 0.4  # of crops: a model's own take is heard, the song learned (training/rollouts.py)
    without_bos: float = 0.5  # where there is a prefix: as in a take whose beginning has left the window
    learning_rate: float = 2.5e-3
    final_rate: float = 0.02  # of the peak
    warm_up: float = 0.02  # of all training time
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema: float = 0.995
    muon: bool = True
    codebook_weights: tuple[float, ...] = (1.3, 1.1, 0.9, 0.7)  # of the loss, coarse to fine; repeated if too few
    seed: int = 0
    report_every_s: float = 20.0
    evaluate_every_s: float = 300.0
    save_every_s: float = 180.0
    evaluation_crops: int = 24
    workers: int = 1  # processes that compute a share of the batch each

    def __post_init__(self) -> None:
        if not 0.0 < self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}, must be above 0")
        if self.updates < 0:
            raise ValueError(f"updates is {self.updates}, must be 0 (train for minutes) or more")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0, up to 1")
        if not 1 <= self.workers <= self.batch or self.batch % self.workers:
            raise ValueError(f"workers is {self.workers}, must divide batch = {self.batch}")
        if self.batch < 1 or not self.prefixes or max(self.prefixes) >= self.crop_frames or min(self.prefixes) < 0:
            raise ValueError(
                f"prefixes {self.prefixes} must be 0..crop_frames - 1 = {self.crop_frames - 1}, batch >= 1"
            )

    def rate(self, progress: float) -> float:
        """Learning rate at a share 0..1 of the training time."""
        if progress < self.warm_up:
            return self.learning_rate * (progress / self.warm_up * 0.95 + 0.05)
        fall = (min(progress, 1.0) - self.warm_up) / (1.0 - self.warm_up)
        low = self.final_rate
        return self.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * fall)))


class Layouts:
    """Layout tensors by prefix length and BOS, built once."""

    def __init__(self, config: DecoderConfig, frames: int, device: torch.device, dtype: torch.dtype) -> None:
        self.config, self.frames, self.device, self.dtype = config, frames, device, dtype
        self._built: dict[tuple[int, bool], LayoutTensors] = {}

    def get(self, prefix: int, fresh: bool) -> LayoutTensors:
        key = (prefix, fresh)
        if key not in self._built:
            pattern = self.config.make_pattern()
            layout = build_layout(pattern, self.frames, prefix, self.config.window_frames, fresh=fresh)
            self._built[key] = LayoutTensors(layout, self.device, self.dtype)
        return self._built[key]


def codebook_losses(model: Decoder, codes: Tensor, cond: Tensor, layout: LayoutTensors) -> list[Tensor]:
    """Mean cross entropy in nats of each codebook over the layout's targets; codes ~c are heard and not learned."""
    outputs = model.forward_layout(torch.where(codes < 0, ~codes, codes), cond, layout)
    targets = codes.clamp(min=_UNLEARNED)
    losses = []
    for k, (rows, times) in enumerate(zip(layout.target_rows, layout.target_timesteps, strict=True)):
        logits = model.logits(outputs[:, rows], k)
        wanted = targets[:, times, k].flatten()
        losses.append(F.cross_entropy(logits.float().flatten(0, 1), wanted, ignore_index=_UNLEARNED))
    return losses


class Trainer:
    """One run: model, averaged weights, optimiser, random state, and time spent."""

    def __init__(
        self,
        model_config: DecoderConfig,
        config: TrainConfig,
        *,
        layout: ConditioningLayout | None = None,
        codewords: Tensor | None = None,
        device: str | None = None,
    ) -> None:
        """`layout` of the songs, to be kept in the checkpoint; None: the full one of the config's width.

        codewords: float [K, V, D], of which tokens share what they have in common (training/codewords.py).
        """
        self.layout = layout or layout_of_width(model_config.cond_width)
        if self.layout.width != model_config.cond_width:
            raise ValueError(f"layout has {self.layout.width} columns, the decoder {model_config.cond_width}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(config.seed)
        self.config, self.model_config = config, model_config
        model = Decoder(model_config) if codewords is None else SharingDecoder(model_config, codewords)
        self.model = model.to(self.device)
        self.ema = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}
        self.optimizer = Optimizer(
            self.model, lr=config.learning_rate, weight_decay=config.weight_decay, muon=config.muon
        )
        self.layouts = Layouts(model_config, config.crop_frames, self.device, torch.bfloat16)
        self.rng = np.random.default_rng(config.seed)
        self.updates = 0
        self.elapsed_s = 0.0
        self.history: list[dict[str, Any]] = []
        weights = config.codebook_weights + config.codebook_weights[-1:] * model_config.num_codebooks
        self.weights = torch.tensor(weights[: model_config.num_codebooks], device=self.device)
        self.weights /= self.weights.sum() / model_config.num_codebooks
        self.helpers: list[Helper] = []
        if config.workers > 1:
            self.model.share_memory()
            self.helpers = [Helper(self.model, self.gradients) for _ in range(1, config.workers)]

    @property
    def progress(self) -> float:
        """Share of the training that is done; 1 or more: all of it."""
        if self.config.updates:
            return self.updates / self.config.updates
        return self.elapsed_s / (60.0 * self.config.minutes)

    def gradients(self, model: Decoder, codes: np.ndarray, cond: np.ndarray, prefix: int, fresh: bool) -> Tensor:
        """Forward and backward of a share of the batch: its losses [K] in nats, gradients left in the model."""
        layout = self.layouts.get(prefix, fresh)
        tensors = (torch.from_numpy(part).to(self.device) for part in (codes, cond))
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = torch.stack(codebook_losses(model, *tensors, layout))
        (losses * self.weights).mean().div(self.config.workers).backward()
        return losses.detach()

    def update(self, songs: TokenSongs) -> list[float]:
        """One update; the codebooks' losses in bits."""
        config = self.config
        prefix = int(self.rng.choice(config.prefixes))
        without_bos = self.rng.random() < config.without_bos  # drawn for every pattern: all see the same crops
        fresh = not (without_bos and prefix and self.model_config.make_pattern().family == "stack")
        shares = {"at_switches": config.at_switches, "from_rollouts": config.from_rollouts}
        codes, cond = songs.batch(self.rng, config.batch, config.crop_frames, prefix=prefix, **shares)
        cond = drop(cond, prefix, Dropout(), self.rng, songs.layout)
        shares = zip(np.split(codes, config.workers), np.split(cond, config.workers), strict=True)
        own, *others = ((*share, prefix, fresh) for share in shares)
        for helper, share in zip(self.helpers, others, strict=True):
            helper.start(*share)
        losses = [self.gradients(self.model, *own)] + [helper.finish() for helper in self.helpers]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step(config.rate(self.progress))
        self.updates += 1
        decay = min(config.ema, (1.0 + self.updates) / (10.0 + self.updates))
        with torch.no_grad():
            for name, weight in self.model.state_dict().items():
                self.ema[name].lerp_(weight, 1.0 - decay)
        return [float(loss) / math.log(2.0) for loss in torch.stack(losses).mean(0)]

    @torch.no_grad()
    def evaluate(self, songs: TokenSongs, prefix: int = 128) -> dict[str, Any]:
        """Bits per codebook and frame on held-out crops with averaged weights: fully, and not, conditioned."""
        kept = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        codes, cond = songs.fixed(self.config.evaluation_crops, self.config.crop_frames)
        layout = self.layouts.get(min(prefix, self.config.crop_frames // 2), True)
        found: dict[str, Any] = {}
        with torch.autocast(self.device.type, torch.bfloat16):
            for name, given in (("bits", cond), ("bits_unconditioned", torch.zeros_like(cond))):
                parts = [
                    torch.stack(codebook_losses(self.model, c.to(self.device), g.to(self.device), layout))
                    for c, g in zip(codes.split(6), given.split(6), strict=True)
                ]
                bits = torch.stack(parts).mean(0) / math.log(2.0)
                found[name] = [round(float(b), 3) for b in bits]
                found[f"{name}_per_frame"] = round(float(bits.sum()), 3)
        self.model.load_state_dict(kept)
        return found

    def save(self, path: Path) -> None:
        """Writes the checkpoint whole or not at all."""
        values = {
            "config": self.model_config.as_dict(),
            "conditioning": asdict(self.layout),
            "recipe": asdict(self.config),
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "random": {"torch": torch.get_rng_state(), "numpy": json.dumps(self.rng.bit_generator.state)},
            "updates": self.updates,
            "elapsed_s": self.elapsed_s,
            "history": self.history,
        }
        partial = path.with_suffix(f".{os.getpid()}.partial")
        torch.save(values, partial)
        partial.replace(path)

    def close(self) -> None:
        """Ends the helpers."""
        for helper in self.helpers:
            helper.close()

    def begin_at(self, path: Path) -> None:
        """Begins at a checkpoint's averaged weights, whatever its pattern. RuntimeError where sizes differ."""
        weights = torch.load(path, map_location=self.device, weights_only=True)["ema"]
        self.model.load_state_dict(weights)
        self.ema = {name: weight.detach().clone() for name, weight in weights.items()}

    def load(self, path: Path) -> None:
        """Continues from a checkpoint of the same sizes. Raises OSError, ValueError or RuntimeError."""
        values = torch.load(path, map_location=self.device, weights_only=True)
        if values["config"] != self.model_config.as_dict():
            raise ValueError(f"{path} holds {values['config']}, asked for {self.model_config.as_dict()}")
        self.model.load_state_dict(values["model"])
        self.ema = values["ema"]
        self.optimizer.load_state_dict(values["optimizer"])
        torch.set_rng_state(values["random"]["torch"].cpu())
        self.rng.bit_generator.state = json.loads(values["random"]["numpy"])
        self.updates, self.elapsed_s, self.history = values["updates"], values["elapsed_s"], values["history"]


def load_decoder(path: Path) -> Decoder:
    """The model of a checkpoint with its averaged weights, as a plain decoder, for export."""
    values = torch.load(path, map_location="cpu", weights_only=True)
    return fold(DecoderConfig(**values["config"]), values["ema"]).eval()


def checkpoint_layout(values: Mapping[str, Any]) -> ConditioningLayout:
    """The columns a checkpoint's decoder reads. Those of old ones are known by their number alone."""
    if "conditioning" not in values:
        return layout_of_width(values["config"]["cond_width"])
    kept = values["conditioning"]
    groups = tuple((str(name), int(width)) for name, width in kept["groups"])
    return ConditioningLayout(groups=groups, styles=tuple(kept["styles"]))


def layout_in(path: Path) -> ConditioningLayout:
    """The columns that the decoder of a checkpoint file reads."""
    return checkpoint_layout(torch.load(path, map_location="cpu", weights_only=True))


def train(
    trainer: Trainer,
    songs: TokenSongs,
    heldout: TokenSongs,
    run: Path,
    *,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> None:
    """Trains for the recipe's minutes or updates; evaluates, logs and saves on the way and at the end."""
    config = trainer.config
    run.mkdir(parents=True, exist_ok=True)
    last = clock()
    saved = evaluated = reported = trainer.elapsed_s
    average: np.ndarray | None = None

    def log(values: dict[str, Any]) -> None:
        line = {"updates": trainer.updates, "elapsed_s": round(trainer.elapsed_s, 1), **values}
        trainer.history.append(line)
        with (run / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        say(json.dumps(line))

    while trainer.progress < 1.0:
        bits = np.array(trainer.update(songs))
        if not np.isfinite(bits).all():
            raise FloatingPointError(f"loss is {bits} after {trainer.updates} updates")
        average = bits if average is None else 0.95 * average + 0.05 * bits
        now = clock()
        trainer.elapsed_s += now - last
        last = now
        if trainer.elapsed_s - reported >= config.report_every_s:
            reported = trainer.elapsed_s
            say(
                f"{trainer.progress:6.1%}, {trainer.elapsed_s / 60:.1f} min, {trainer.updates} updates, "
                f"{average.sum():.2f} bits/frame {np.round(average, 2)}"
            )
        if trainer.elapsed_s - evaluated >= config.evaluate_every_s:
            log(trainer.evaluate(heldout))
            evaluated = trainer.elapsed_s
        if trainer.elapsed_s - saved >= config.save_every_s:
            trainer.save(run / CHECKPOINT)
            saved = trainer.elapsed_s
    log(trainer.evaluate(heldout))
    trainer.save(run / CHECKPOINT)


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with tokens/ and labels")],
    run: Annotated[Path, typer.Option(help="run folder: checkpoint and log")],
    size: Annotated[str, typer.Option(help="layers x width, width a multiple of 64")] = "6x256",
    pattern: Annotated[str, typer.Option(help="codebook pattern")] = "stack-delay",
    p: Annotated[int, typer.Option(help="permutation of stack-delay")] = 1,
    codec: Annotated[
        Path | None, typer.Option(help="codec run whose codewords tie the tokens together; none: plain tables")
    ] = None,
    codebook_size: Annotated[int, typer.Option(help="codes per codebook")] = 1024,
    window_frames: Annotated[
        int, typer.Option(help="attention window in cache slots; crop_frames if not given")
    ] = 0,
    minutes: Annotated[float, typer.Option(help="training time, summed over resumed runs")] = 60.0,
    updates: Annotated[int, typer.Option(help="train for so many updates in place of minutes")] = 0,
    batch: Annotated[int, typer.Option(help="crops per update")] = 8,
    crop_frames: Annotated[int, typer.Option(help="frames per crop")] = 224,
    learning_rate: Annotated[float, typer.Option(help="peak")] = 2.5e-3,
    muon: Annotated[bool, typer.Option(help="Muon for the layers' matrices")] = True,
    init: Annotated[
        Path | None, typer.Option(help="run whose averaged weights to begin at; its pattern may be another")
    ] = None,
    resume: Annotated[bool, typer.Option(help="go on from the run's checkpoint if there is one")] = True,
    workers: Annotated[int, typer.Option(help="processes that share a batch, one core each; a GPU takes one")] = 2,
    seed: Annotated[int, typer.Option()] = 0,
    tiny: Annotated[bool, typer.Option(help="toy sizes, a quarter of a minute")] = False,
) -> None:
    """Train the decoder."""
    workers = 1 if torch.cuda.is_available() else workers
    recipe = TrainConfig(
        minutes=minutes,
        updates=updates,
        batch=batch,
        crop_frames=crop_frames,
        prefixes=tuple(crop_frames * part // 7 for part in range(6)),
        learning_rate=learning_rate,
        muon=muon,
        seed=seed,
        workers=workers,
    )
    if tiny:
        size = "2x64"
        recipe = replace(recipe, minutes=0.25, batch=4, crop_frames=48, prefixes=(0, 8, 16), evaluation_crops=4)
    checkpoint = run / CHECKPOINT
    resumes = resume and checkpoint.is_file()
    layout = layout_in(checkpoint) if resumes else DEFAULT_LAYOUT
    songs, heldout = (TokenSongs(data, split, layout=layout) for split in ("train", "heldout"))
    config = sized(
        size,
        num_codebooks=songs.num_codebooks,
        codebook_size=codebook_size,
        cond_width=layout.width,
        pattern=pattern,
        p=p if pattern == "stack-delay" else 1,
        window_frames=window_frames or recipe.crop_frames,
    )
    torch.set_num_threads(1 if workers > 1 else os.cpu_count() or 1)
    codewords = codewords_of(codec) if codec is not None else None
    trainer = Trainer(config, recipe, layout=songs.layout, codewords=codewords)
    if resumes:
        trainer.load(checkpoint)
    elif init is not None:
        trainer.begin_at(init / CHECKPOINT)
    console = Console()
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    console.print(f"{parameters / 1e6:.1f} M parameters, {songs.total_frames} frames, {trainer.device}")
    try:
        train(trainer, songs, heldout, run, say=lambda text: console.print(text, highlight=False, markup=False))
    finally:
        trainer.close()


if __name__ == "__main__":
    typer.run(main)
