"""MusicGen weights trained on into another pattern: the loop between songs (musicgen_data.py) and a new bundle.

Leaves RUN/musicgen.pt, with which the same command goes on, RUN/best.pt, the averaged weights that were best on the
held-out songs, and RUN/log.jsonl.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacca.engine.pattern import Pattern, make_pattern
from attacca.training.decoder_model import LayoutTensors
from attacca.training.layout import build_layout
from attacca.training.musicgen_model import MusicgenModel, codebook_bits
from attacca.training.musicgen_weights import Start
from attacca.training.own.musicgen_data import Batch, Songs

CHECKPOINT, BEST, LOG = "musicgen.pt", "best.pt", "log.jsonl"
LEARNING_RATE = 1e-4
_PREFIX_SHARES = (0, 1, 2, 3, 4, 5)  # sevenths of a crop that are known


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. Of minutes and updates, updates count if above 0."""

    minutes: float = 60.0
    updates: int = 0
    batch: int = 8
    crop_frames: int = 500
    learning_rate: float = LEARNING_RATE
    warm_up: float = 0.05  # of all training
    final_rate: float = 0.02  # of the peak
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average: float = 0.99
    drop_text: float = 0.2  # for guidance: the model must know what it does without
    evaluations: int = 8
    evaluation_crops: int = 8
    save_every_s: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 16 <= self.crop_frames <= 4096:
            raise ValueError(f"crop_frames is {self.crop_frames}, allowed: 16..4096")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}, allowed: 1 or more")

    def rate(self, progress: float) -> float:
        """Learning rate at a share 0..1 of the training: a short rise, then a cosine."""
        if progress < self.warm_up:
            return self.learning_rate * (0.05 + 0.95 * progress / self.warm_up)
        fall = (min(progress, 1.0) - self.warm_up) / (1.0 - self.warm_up)
        return self.learning_rate * (
            self.final_rate + (1.0 - self.final_rate) * 0.5 * (1.0 + math.cos(math.pi * fall))
        )


class Bits:
    """Bits by codebook of held-out crops, over the same cells whatever the pattern."""

    def __init__(self, songs: Songs, recipe: Recipe, patterns: list[Pattern], device: torch.device) -> None:
        self._batch = songs.fixed(recipe.evaluation_crops, recipe.crop_frames)
        self._frames, self._device = recipe.crop_frames, device
        self._prefix = recipe.crop_frames // 4
        # Frames that a pattern would finish beyond the crop have no target in it.
        self._until = recipe.crop_frames - max(pattern.lag_steps for pattern in patterns) - 1

    @torch.no_grad()
    def of(self, model: MusicgenModel) -> dict[str, Any]:
        """{"bits": [K], "bits_per_frame"}, each from what is known from the crop's beginning on."""
        layout = build_layout(model.pattern, self._frames, self._prefix, model.window_frames)
        tensors = LayoutTensors(layout, self._device, torch.float32)
        training, total = model.training, torch.zeros(model.shape.num_codebooks, device=self._device)
        model.eval()
        rows = range(len(self._batch.codes))
        for row in rows:
            codes, states, mask = (part[row : row + 1] for part in on_device(self._batch, self._device))
            with _halves(self._device):
                total += codebook_bits(model, codes, states, mask, tensors, until=self._until) / len(rows)
        model.train(training)
        bits = [round(float(value), 4) for value in total]
        return {"bits": bits, "bits_per_frame": round(float(total.sum()), 4)}


class Tuner:
    """One run: model, averaged weights, optimiser, random state, time spent. Not thread-safe."""

    def __init__(self, start: Start, pattern: Pattern, window_frames: int, recipe: Recipe, songs: Songs,
                 heldout: Songs, run: Path, *, device: str) -> None:  # fmt: skip
        torch.manual_seed(recipe.seed)
        self.recipe, self.run, self.device = recipe, run, torch.device(device)
        self.songs = songs
        self.model = MusicgenModel(start.shape, pattern, window_frames=window_frames)
        self.model.start(start.weights)
        self.model.to(self.device).train()
        self.model.recompute = self.device.type == "cuda"  # rows are many: a layer's attention alone is large
        original = make_pattern("delay", start.shape.num_codebooks, channels=start.shape.audio_channels)
        self.bits = Bits(heldout, recipe, [original, pattern], self.device)
        self.average = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}
        weights = list(self.model.parameters())
        groups = [
            {"params": [w for w in weights if w.dim() > 1], "weight_decay": recipe.weight_decay},
            {"params": [w for w in weights if w.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
        self.rng = np.random.default_rng(recipe.seed)
        self.updates, self.elapsed_s = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.stopping = False
        self._layouts: dict[int, LayoutTensors] = {}

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        if self.recipe.updates:
            return self.updates / self.recipe.updates
        return self.elapsed_s / (60.0 * self.recipe.minutes)

    def layout(self, prefix: int) -> LayoutTensors:
        """Rows of a crop of which `prefix` frames are known."""
        if prefix not in self._layouts:
            found = build_layout(self.model.pattern, self.recipe.crop_frames, prefix, self.model.window_frames)
            self._layouts[prefix] = LayoutTensors(found, self.device, torch.float32)
        return self._layouts[prefix]

    def update(self) -> float:
        """One update; bits per frame of its batch. FloatingPointError if they are not finite."""
        recipe = self.recipe
        prefix = recipe.crop_frames * int(self.rng.choice(_PREFIX_SHARES)) // 7
        batch = self.songs.batch(self.rng, recipe.batch, recipe.crop_frames, recipe.drop_text)
        total = torch.zeros(self.model.shape.num_codebooks, device=self.device)
        parts = list(zip(*(part.split(1) for part in on_device(batch, self.device)), strict=True))
        for codes, states, mask in parts:  # a crop at a time: its rows are a multiple of its frames
            with _halves(self.device):
                bits = codebook_bits(self.model, codes, states, mask, self.layout(prefix), until=recipe.crop_frames)
            (bits.mean() / len(parts)).backward()
            total += bits.detach() / len(parts)
        if not torch.isfinite(total).all():
            raise FloatingPointError(f"bits are {total.tolist()} after {self.updates} updates")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        share = 1.0 - min(recipe.average, (1.0 + self.updates) / (10.0 + self.updates))
        with torch.no_grad():
            for name, weight in self.model.state_dict().items():
                self.average[name].lerp_(weight, share)
        return float(total.sum())

    def evaluate(self) -> dict[str, Any]:
        """Bits of the averaged weights, noted; the best since the beginning are written to RUN/best.pt."""
        kept = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        line = {"updates": self.updates, "elapsed_s": round(self.elapsed_s, 1), **self.bits.of(self.model)}
        self.model.load_state_dict(kept)
        earlier = [past["bits_per_frame"] for past in self.history if past["updates"] > 0]
        if self.updates and line["bits_per_frame"] < min(earlier, default=math.inf):
            _write(self.run / BEST, {"average": self.average, "updates": self.updates})
        self.history.append(line)
        with (self.run / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return line

    def train(
        self, on_update: Callable[[float, float], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Until the recipe is done. KeyboardInterrupt, with everything saved, once `stopping` is set."""
        if not self.history:
            self.evaluate()
        last = saved = clock()
        due = self._due()
        while self.progress < 1.0:
            bits = self.update()
            now = clock()
            self.elapsed_s += now - last
            last = now
            if self.progress >= due:
                self.evaluate()
                due = self._due()
            on_update(self.progress, bits)
            if self.stopping or now - saved > self.recipe.save_every_s:
                self.save()
                saved = now
            if self.stopping:
                raise KeyboardInterrupt
        if self.history[-1]["updates"] != self.updates:
            self.evaluate()
        self.save()

    def _due(self) -> float:
        """Progress at which the next evaluation is."""
        return (math.floor(self.progress * self.recipe.evaluations) + 1) / self.recipe.evaluations

    def save(self) -> None:
        """Everything needed to go on, whole or not at all."""
        values = {
            "kind": self._kind(),
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "random": json.dumps(self.rng.bit_generator.state),
            "updates": self.updates,
            "elapsed_s": self.elapsed_s,
            "history": self.history,
        }
        _write(self.run / CHECKPOINT, values)

    def load(self) -> bool:
        """Go on where RUN/musicgen.pt is; False if there is none. ValueError if it is of something else."""
        path = self.run / CHECKPOINT
        if not path.is_file():
            return False
        values = torch.load(path, map_location=self.device, weights_only=True)
        if values["kind"] != self._kind():
            raise ValueError(f"{path} holds {values['kind']}, asked for {self._kind()}")
        self.model.load_state_dict(values["model"])
        self.average = values["average"]
        self.optimizer.load_state_dict(values["optimizer"])
        self.rng.bit_generator.state = json.loads(values["random"])
        self.updates, self.elapsed_s, self.history = values["updates"], values["elapsed_s"], values["history"]
        return True

    def _kind(self) -> dict[str, Any]:
        pattern = self.model.pattern
        return {"shape": asdict(self.model.shape), "pattern": pattern.name, "p": pattern.p}


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, states and mask as tensors."""
    codes, states, mask = (torch.from_numpy(part).to(device) for part in (batch.codes, batch.states, batch.mask))
    return codes, states, mask


def _halves(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU; on a CPU float32, which is no slower there at small sizes and exact."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    torch.save(values, partial)
    partial.replace(path)
