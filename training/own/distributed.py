"""Several processes that train one model, as torchrun starts them: who we are, gradients averaged, one clock.

Beside training/own/finetune.py. Every process draws the same batch and computes its share of it, so that N of them
do what one would do, and a run may go on with another number of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(hours=12)  # the first process analyses the audio alone, and that takes as long as it takes


@dataclass(frozen=True, kw_only=True)
class World:
    """Processes of one training; a single one outside torchrun."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether we are the one that analyses, logs, saves and exports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Our part of `count` crops; `count` is a multiple of size."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: list[Tensor]) -> None:
        """Each tensor becomes its mean over the processes; one message for all."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def average_gradients(self, model: nn.Module) -> None:
        """Gradients of all processes' shares become that of the batch; a weight without one counts as zero."""
        if self.size == 1:
            return
        for weight in model.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.average([weight.grad for weight in model.parameters() if weight.grad is not None])

    def clock(self) -> float:
        """Seconds of the first process's clock: all must agree on when training ends. Called by all or none."""
        if self.size == 1:
            return time.monotonic()
        now = torch.tensor([time.monotonic()], dtype=torch.float64, device=self.device)
        distributed.broadcast(now, src=0)
        return float(now)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """The processes that torchrun started us with (variables RANK, WORLD_SIZE, LOCAL_RANK); else us alone."""
    cuda = torch.cuda.is_available() and device in (None, "cuda")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device or ("cuda" if cuda else "cpu"))
        return
    place = "cpu"
    if cuda:
        place = f"cuda:{int(os.environ['LOCAL_RANK'])}"
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield World(rank=distributed.get_rank(), size=size, device=place)
    finally:
        distributed.destroy_process_group()
