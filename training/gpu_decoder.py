"""Decoder training on GPUs: large batches in micro-batches, several processes, and an end in time.

`python -m attacca.training.gpu_decoder --data DATA --codec CODEC --to RUN --size 16x1024`, or the same by torchrun,
in place of training/decoder_train.py's command where there is a GPU; the checkpoint is the same. Every process
draws the same batch and computes its share (training/own/distributed.py), in micro-batches that fit its memory
(training/gpu_memory.py), in bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout
from attacca.training.codewords import codewords_of
from attacca.training.decoder_data import TokenSongs
from attacca.training.decoder_model import Decoder, DecoderConfig, sized
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer, layout_in, train
from attacca.training.gpu_memory import training_bytes
from attacca.training.gpu_stop import EXIT_UNFINISHED, Deadline, Stopped
from attacca.training.own.distributed import World, world

_RATE, _RATE_BATCH, _RATE_WIDTH = 2.5e-3, 8, 256  # what the CPU recipe found


def scaled_rate(batch: int, width: int) -> float:
    """Peak rate: by the root of the batch (Malladi et al. 2022) and the inverse of the width (Yang et al. 2022).

    From 2.5e-3 at 8 crops and width 256, which a CPU run found; not tried at other sizes.
    """
    if batch < 1 or width < 1:
        raise ValueError(f"batch is {batch}, width {width}, allowed: 1 and up")
    return min(0.01, float(_RATE * (batch / _RATE_BATCH) ** 0.5 * _RATE_WIDTH / width))


class SharedTrainer(Trainer):
    """A Trainer whose batch is shared among processes and computed in micro-batches."""

    def __init__(
        self,
        model_config: DecoderConfig,
        config: TrainConfig,
        run: Path,
        *,
        layout: ConditioningLayout,
        codewords: Tensor | None = None,
        world: World | None = None,
        micro_batch: int = 0,
        stop_after_s: float | None = None,
        compiled: str = "",
    ) -> None:
        """micro_batch: crops computed at once by a process, a divisor of its share; 0: all. compiled: backend."""
        self.world, self.run = world or World(), run
        share = config.batch // self.world.size
        self.micro_batch = micro_batch or share
        if config.batch % self.world.size or share % self.micro_batch:
            raise ValueError(
                f"batch is {config.batch}, must be a multiple of {self.world.size} processes times "
                f"{self.micro_batch} crops at once"
            )
        if config.workers != 1:
            raise ValueError(f"workers is {config.workers}, allowed: 1, the processes are torchrun's")
        super().__init__(model_config, config, layout=layout, codewords=codewords, device=self.world.device)
        self.deadline = Deadline(stop_after_s, clock=self.world.clock)
        if compiled:
            for layer in self.model.layers:
                layer.compile(dynamic=True, backend=compiled)

    def gradients(self, model: Decoder, codes: np.ndarray, cond: np.ndarray, prefix: int, fresh: bool) -> Tensor:
        """As the Trainer's, of our share in micro-batches, then averaged over the processes."""
        ours = self.world.share(len(codes))
        parts = (ours.stop - ours.start) // self.micro_batch
        pairs = zip(np.split(codes[ours], parts), np.split(cond[ours], parts), strict=True)
        losses = torch.stack([super(SharedTrainer, self).gradients(model, *pair, prefix, fresh) for pair in pairs])
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.div_(parts)
        mean = losses.mean(0)
        self.world.average_gradients(model)
        self.world.average([mean])
        return mean

    def update(self, songs: TokenSongs) -> list[float]:
        """One update. Stopped, with all saved, when the time is over."""
        bits = super().update(songs)
        if self.deadline.passed:
            self.save(self.run / CHECKPOINT)
            raise Stopped
        return bits

    def save(self, path: Path) -> None:
        """As the Trainer's, by the first process alone."""
        if self.world.first:
            super().save(path)


def _silent(text: str) -> None:
    del text


def main(
    data: Annotated[Path, typer.Option(help="dataset folder with tokens/ and labels")],
    run: Annotated[
        Path,
        typer.Option("--run", "--to", help="run folder, one that exists is resumed; torchrun wants --to"),
    ],
    codec: Annotated[Path | None, typer.Option(help="codec run whose codewords tie the tokens together")] = None,
    size: Annotated[str, typer.Option(help="layers x width, width a multiple of 64")] = "16x1024",
    codebook_size: Annotated[int, typer.Option(help="codes per codebook")] = 1024,
    p: Annotated[int, typer.Option(help="permutation of stack-delay")] = 1,
    minutes: Annotated[float, typer.Option(help="training time, summed over resumed runs")] = 60.0,
    updates: Annotated[int, typer.Option(help="train for so many updates in place of minutes")] = 0,
    batch: Annotated[int, typer.Option(help="crops per update, of all processes")] = 64,
    micro_batch: Annotated[int, typer.Option(help="crops computed at once; 0: all of a process's")] = 0,
    crop_frames: Annotated[
        int, typer.Option(help="frames per crop, and the window: 448 are 9 s, 640 12.8 s")
    ] = 448,
    learning_rate: Annotated[float, typer.Option(help="peak; 0: by batch and width")] = 0.0,
    compiled: Annotated[
        str, typer.Option("--compile", help='torch.compile backend, as "inductor"; else none')
    ] = "",
    seed: Annotated[int, typer.Option()] = 0,
    stop_after_s: Annotated[
        float | None, typer.Option(help=f"save and exit with {EXIT_UNFINISHED} if it takes longer")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="say how much memory it takes, and train nothing")
    ] = False,
) -> None:
    """Train a decoder on one GPU or, under torchrun, several; on a CPU too, slowly."""
    checkpoint = run / CHECKPOINT
    layout = layout_in(checkpoint) if checkpoint.is_file() else DEFAULT_LAYOUT
    shape: dict[str, Any] = {"codebook_size": codebook_size, "pattern": "stack-delay", "p": p}
    songs, heldout = (TokenSongs(data, split, layout=layout) for split in ("train", "heldout"))
    config = sized(
        size, num_codebooks=songs.num_codebooks, cond_width=layout.width, window_frames=crop_frames, **shape
    )
    if memory:
        typer.echo(f"{training_bytes(config, crop_frames, micro_batch or batch) / 2**30:.1f} GiB")
        return
    recipe = TrainConfig(
        minutes=minutes,
        updates=updates,
        batch=batch,
        crop_frames=crop_frames,
        prefixes=tuple(crop_frames * part // 7 for part in range(6)),
        learning_rate=learning_rate or scaled_rate(batch, config.dim),
        ema=0.999 if batch >= 32 else 0.995,
        seed=seed,
        evaluate_every_s=120.0,
        save_every_s=120.0,
    )
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with world() as us:
            trainer = SharedTrainer(
                config,
                recipe,
                run,
                layout=songs.layout,
                codewords=codewords_of(codec) if codec is not None else None,
                world=us,
                micro_batch=micro_batch,
                stop_after_s=stop_after_s,
                compiled=compiled,
            )
            if checkpoint.is_file():
                trainer.load(checkpoint)
            us.wait()  # nobody writes a checkpoint before all have read it
            logs = run if us.first else run / f"process-{us.rank}"
            train(trainer, songs, heldout, logs, clock=us.clock, say=print if us.first else _silent)
    except Stopped:
        raise typer.Exit(EXIT_UNFINISHED) from None


if __name__ == "__main__":
    typer.run(main)
