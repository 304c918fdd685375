"""Processes that compute gradients of their share of a batch, each on one core, over shared weights.

Used by training/decoder_train.py on a CPU. They meet the trainer once per update, where threads inside each
operation would meet hundreds of times: on a machine that has other work to do, most of that is waiting.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Compute = Callable[..., Tensor]  # (model, *arguments) -> losses; leaves gradients in the model's parameters


class Helper:
    """One forked process. `model` must be in shared memory and only ever be changed in place."""

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        self._weights = list(model.parameters())
        self._gradients = [torch.zeros_like(weight).share_memory_() for weight in self._weights]
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._pipe, model, self._gradients, compute), daemon=True
        )
        self._process.start()
        theirs.close()

    def start(self, *arguments: Any) -> None:
        """Begins a share; arguments must pickle (numpy arrays, numbers)."""
        self._pipe.send(arguments)

    def finish(self) -> Tensor:
        """Waits, adds the share's gradients to the model's, gives its losses. EOFError if the process died."""
        losses = self._pipe.recv()
        if isinstance(losses, str):
            raise RuntimeError(f"gradient helper failed: {losses}")
        for weight, gradient in zip(self._weights, self._gradients, strict=True):
            if weight.grad is None:
                weight.grad = gradient.clone()
            else:
                weight.grad.add_(gradient)
        return torch.from_numpy(losses)

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(timeout=5.0)
        if self._process.is_alive():
            self._process.terminate()


def _serve(
    pipe: Connection, other_end: Connection, model: nn.Module, gradients: list[Tensor], compute: Compute
) -> None:
    other_end.close()
    torch.set_num_threads(1)
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            model.zero_grad(set_to_none=True)
            losses: np.ndarray | str = compute(model, *arguments).numpy()
            for weight, gradient in zip(model.parameters(), gradients, strict=True):
                gradient.copy_(weight.grad if weight.grad is not None else torch.zeros_like(gradient))
        except Exception as error:
            losses = f"{type(error).__name__}: {error}"
        try:
            pipe.send(losses)
        except OSError:  # the trainer is gone
            return
