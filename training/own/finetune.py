"""Fine-tuning itself: training/decoder_train.py's Trainer, begun at a bundle's weights, in one process or many.

Between the dataset and the new bundle. Leaves RUN/decoder.pt, with which the same command goes on, and RUN/best.pt,
the averaged weights that were best on the held-out songs: a small folder is soon learned by heart.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacca.training.decoder_data import TokenSongs
from attacca.training.decoder_model import Decoder
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer, train
from attacca.training.own.distributed import World

BEST = "best.pt"
LEARNING_RATE = 4e-4  # peak; an order below what training from nothing takes
_PREFIX_SHARES = (0, 1, 2, 3, 4, 5)  # sevenths of a crop that are known
_EVALUATIONS = 8  # over all training time

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
        evaluate_every_s=min(300.0, 60.0 * minutes / _EVALUATIONS),
        save_every_s=60.0,
        workers=workers,
    )


class FineTuner(Trainer):
    """A Trainer that begins at given weights, shares batches with other processes, and keeps the best weights."""

    def __init__(
        self, base: Decoder, config: TrainConfig, world: World, run: Path, *, on_update: OnUpdate | None = None
    ) -> None:
        if config.batch % world.size:
            raise ValueError(f"batch is {config.batch}, must be a multiple of the {world.size} processes")
        self.world, self.run, self.on_update = world, run, on_update  # before the helpers fork
        self.stopping = False
        super().__init__(base.config, config, device=world.device)
        self.model.load_state_dict(base.state_dict())
        self.ema = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}

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
        if self.on_update is not None:
            self.on_update(self.progress, sum(bits))
        if self.stopping:
            self.save(self.run / CHECKPOINT)
            raise KeyboardInterrupt
        return bits

    def evaluate(self, songs: TokenSongs, prefix: int = 128) -> dict[str, Any]:
        """As the Trainer's; weights that are the best so far, the first ones aside, are written to RUN/best.pt."""
        found = super().evaluate(songs, prefix)
        bits = found["bits_per_frame"]
        earlier = [line["bits_per_frame"] for line in self.history if line["updates"] > 0]
        if self.world.first and self.updates > 0 and bits < min(earlier, default=np.inf):
            path = self.run / BEST
            partial = path.with_suffix(f".{os.getpid()}.partial")
            values = {"config": self.model_config.as_dict(), "ema": self.ema, "updates": self.updates, **found}
            torch.save(values, partial)
            partial.replace(path)
        return found

    def save(self, path: Path) -> None:
        """As the Trainer's, by the first process alone."""
        if self.world.first:
            super().save(path)


def fine_tune(
    base: Decoder,
    data: Path,
    run: Path,
    config: TrainConfig,
    world: World,
    *,
    on_update: OnUpdate | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Train until the recipe is done, going on from RUN/decoder.pt; the evaluations, the first before training.

    KeyboardInterrupt after SIGINT or SIGTERM, with everything saved. All processes of the world call this together.
    """
    run.mkdir(parents=True, exist_ok=True)
    songs, heldout = TokenSongs(data, "train"), TokenSongs(data, "heldout")
    trainer = FineTuner(base, config, world, run, on_update=on_update)
    try:
        if (run / CHECKPOINT).is_file():
            trainer.load(run / CHECKPOINT)
        else:
            trainer.history.append({"updates": 0, "elapsed_s": 0.0, **trainer.evaluate(heldout)})
        world.wait()  # nobody writes a checkpoint before all have read it
        if trainer.progress < 1.0:
            with _stopping(trainer):
                logs = run if world.first else run / f"process-{world.rank}"
                train(trainer, songs, heldout, logs, clock=world.clock, say=say if world.first else _silent)
        world.wait()
        return trainer.history
    finally:
        trainer.close()


def _silent(text: str) -> None:
    del text


@contextmanager
def _stopping(trainer: FineTuner) -> Iterator[None]:
    """Signals stop the trainer between updates. Among several processes torchrun ends them, at the last save."""
    if trainer.world.size > 1 or threading.current_thread() is not threading.main_thread():
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
