"""Fine-tuning itself: training/decoder_train.py's Trainer, begun at a bundle's weights, in one process or many.

Between the dataset and the new bundle. Leaves RUN/decoder.pt, with which the same command goes on, and RUN/best.pt,
the averaged weights that were best on the held-out songs: a small folder is soon learned by heart.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attacca.engine.conditioning import ConditioningLayout
from attacca.training.decoder_data import TokenSongs
from attacca.training.decoder_model import Decoder
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer, train
from attacca.training.own.distributed import World

BEST = "best.pt"
LEARNING_RATE = 1e-4  # peak; a 25th of what training from nothing takes
_PREFIX_SHARES = (0, 1, 2, 3, 4, 5)  # sevenths of a crop that are known
_EVALUATIONS = 8  # at even times over all training, and besides
_FIRST_EVALUATION, _EVALUATION_GROWTH = 10, 1.5  # after 10 updates, then half as many more each time
_PATIENCE = (50, 6)  # given up at so many updates, and times as many as the best weights took

OnUpdate = Callable[[float, float], None]  # share done 0..1, bits per frame of the batch


def recipe(
    *,
    window_frames: int,
    minutes: float,
    updates: int = 0,
    batch: int,
    learning_rate: float = LEARNING_RATE,
    seed: int,
    workers: int,
) -> TrainConfig:
    """How to fine-tune a decoder with such a window, which crops fill. ValueError names what is wrong."""
    return TrainConfig(
        minutes=minutes,
        updates=updates,
        batch=batch,
        crop_frames=window_frames,
        prefixes=tuple(window_frames * share // 7 for share in _PREFIX_SHARES),
        learning_rate=learning_rate,
        warm_up=0.05,
        weight_decay=0.01,
        ema=0.99,
        seed=seed,
        evaluate_every_s=math.inf if updates else 60.0 * minutes / _EVALUATIONS,
        save_every_s=60.0,
        workers=workers,
    )


class FineTuner(Trainer):
    """A Trainer that begins at given weights, shares batches with other processes, keeps the best weights, and
    gives up when the held-out songs have long got no better."""

    def __init__(
        self,
        base: Decoder,
        config: TrainConfig,
        world: World,
        run: Path,
        heldout: TokenSongs,
        *,
        on_update: OnUpdate | None = None,
    ) -> None:
        if config.batch % world.size:
            raise ValueError(f"batch is {config.batch}, must be a multiple of the {world.size} processes")
        self.world, self.run, self.on_update = world, run, on_update  # before the helpers fork
        self.heldout, self.stopping = heldout, False
        super().__init__(base.config, config, layout=heldout.layout, device=world.device)
        self.model.load_state_dict(base.state_dict())
        self.ema = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}

    @property
    def progress(self) -> float:
        """As the Trainer's; 1 too where more training would only learn the songs by heart."""
        evaluations = [line for line in self.history if line["updates"] > 0]
        if evaluations:
            best = min(evaluations, key=lambda line: line["bits_per_frame"])
            if evaluations[-1]["updates"] > _PATIENCE[0] + _PATIENCE[1] * best["updates"]:
                return 1.0
        return super().progress

    def gradients(self, model: Decoder, codes: np.ndarray, cond: np.ndarray, prefix: int, fresh: bool) -> Tensor:
        """As the Trainer's, of our share of the batch, then averaged over the processes."""
        ours = self.world.share(len(codes))
        losses = super().gradients(model, codes[ours], cond[ours], prefix, fresh)
        self.world.average_gradients(model)
        self.world.average([losses])
        return losses

    def update(self, songs: TokenSongs) -> list[float]:
        """One update. KeyboardInterrupt, with all saved, after a signal to stop."""
        bits = super().update(songs)
        if self.updates in _evaluated_after(self.updates):
            self.note({"updates": self.updates, "elapsed_s": self.elapsed_s, **self.evaluate(self.heldout)})
        if self.on_update is not None:
            self.on_update(self.progress, sum(bits))
        if self.stopping:
            self.save(self.run / CHECKPOINT)
            raise KeyboardInterrupt
        return bits

    def evaluate(self, songs: TokenSongs, prefix: int = 128) -> dict[str, Any]:
        """As the Trainer's; weights that are the best so far, the first ones aside, are written to RUN/best.pt."""
        found = super().evaluate(songs, prefix)
        figures = torch.tensor([found["bits_per_frame"]], device=self.device, dtype=torch.float64)
        self.world.average([figures])  # the same to the last bit everywhere: training ends by it
        bits = found["bits_per_frame"] = float(figures)
        earlier = [line["bits_per_frame"] for line in self.history if line["updates"] > 0]
        if self.world.first and self.updates > 0 and bits < min(earlier, default=np.inf):
            path = self.run / BEST
            partial = path.with_suffix(f".{os.getpid()}.partial")
            values = {"config": self.model_config.as_dict(), "ema": self.ema, "updates": self.updates, **found}
            torch.save(values, partial)
            partial.replace(path)
        return found

    def note(self, line: dict[str, Any]) -> None:
        """Adds an evaluation to the history and to RUN/log.jsonl."""
        self.history.append(line)
        if self.world.first:
            with (self.run / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def save(self, path: Path) -> None:
        """As the Trainer's, by the first process alone."""
        if self.world.first:
            super().save(path)


def fine_tune(
    base: Decoder,
    layout: ConditioningLayout,
    data: Path,
    run: Path,
    config: TrainConfig,
    world: World,
    *,
    on_update: OnUpdate | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Train `base`, which reads `layout`, until the recipe is done, going on from RUN/decoder.pt; the evaluations,
    the first before training.

    KeyboardInterrupt after SIGINT or SIGTERM, with everything saved. All processes of the world call this together.
    """
    run.mkdir(parents=True, exist_ok=True)
    songs, heldout = (TokenSongs(data, split, layout=layout) for split in ("train", "heldout"))
    trainer = FineTuner(base, config, world, run, heldout, on_update=on_update)
    try:
        if (run / CHECKPOINT).is_file():
            trainer.load(run / CHECKPOINT)
        else:
            trainer.note({"updates": 0, "elapsed_s": 0.0, **trainer.evaluate(heldout)})
        world.wait()  # nobody writes a checkpoint before all have read it
        if trainer.progress < 1.0:
            with stopping(trainer, alone=world.size == 1):
                logs = run if world.first else run / f"process-{world.rank}"
                train(trainer, songs, heldout, logs, clock=world.clock, say=say if world.first else _silent)
        world.wait()
        return trainer.history
    finally:
        trainer.close()


def _evaluated_after(updates: int) -> list[int]:
    """Numbers of updates up to `updates` after which there is an evaluation: a small folder is soon learned."""
    found, due = [], float(_FIRST_EVALUATION)
    while due <= updates:
        found.append(int(due))
        due *= _EVALUATION_GROWTH
    return found


def _silent(text: str) -> None:
    del text


class Stoppable(Protocol):
    """What trains until `stopping` is set."""

    stopping: bool


@contextmanager
def stopping(trainer: Stoppable, *, alone: bool = True) -> Iterator[None]:
    """Signals stop the trainer between updates. Among several processes torchrun ends them, at the last save."""
    if not alone or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
