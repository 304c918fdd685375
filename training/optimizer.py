"""The decoder's optimiser: Muon for the matrices inside the layers, AdamW for everything else.

Used by training/decoder_train.py. Muon (Jordan et al. 2024): the momentum of a matrix is replaced by its nearest
semi-orthogonal matrix, found by five Newton-Schulz steps. Updates are scaled to the root mean square that AdamW's
typically have (Liu et al. 2025, "Muon is scalable for LLM training"), so that one learning rate serves both. Fused
matrices are orthogonalised by their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_RMS_OF_ADAMW = 0.2


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Float [m, n] -> bfloat16 [m, n] with singular values of about 1."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """For 2-D weights; a group's `parts` is how many matrices are fused along the first axis."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "parts": 1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["velocity"] = torch.zeros_like(weight)
                state["velocity"].lerp_(weight.grad, 1.0 - momentum)
                ahead = weight.grad.lerp(state["velocity"], momentum)
                weight.mul_(1.0 - lr * group["weight_decay"])
                for part, goal in zip(ahead.chunk(group["parts"]), weight.chunk(group["parts"]), strict=True):
                    goal.add_(orthogonalise(part), alpha=-lr * _RMS_OF_ADAMW * max(part.shape) ** 0.5)


class Optimizer:
    """Both at one learning rate; state round-trips through `state_dict`."""

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float, muon: bool = True) -> None:
        matrices: dict[int, list[nn.Parameter]] = {1: [], 2: [], 3: []}
        rest: list[nn.Parameter] = []
        for name, weight in model.named_parameters():
            if muon and name.startswith("layers.") and weight.dim() == 2:
                matrices[{"qkv": 3, "ffn_in": 2}.get(name.split(".")[2], 1)].append(weight)
            else:
                rest.append(weight)
        adamw = torch.optim.AdamW(
            [
                {"params": [w for w in rest if w.dim() > 1], "weight_decay": weight_decay},
                {"params": [w for w in rest if w.dim() == 1], "weight_decay": 0.0},
            ],
            lr=lr,
            betas=(0.9, 0.98),
        )
        self.parts: list[torch.optim.Optimizer] = [adamw]
        if muon:
            groups = [{"params": weights, "parts": parts} for parts, weights in matrices.items() if weights]
            self.parts.append(Muon(groups, lr=lr, weight_decay=weight_decay))

    def step(self, lr: float) -> None:
        """One update at learning rate lr; gradients are cleared."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
