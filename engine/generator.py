"""What a stream asks of a generator, whatever model is behind it: listen, plan, commit, roll back, snapshot.

Sits between the stream (which knows host positions, chunks and deadlines) and a model (which knows timesteps).
Pattern decoders are the first kind; masked models and latent diffusion fit behind the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint16]  # [frames, num_codebooks], raw codebook indices
Conditions = npt.NDArray[np.float32]  # [frames, conditioning width], see conditioning.encode


class ConditionSource(Protocol):
    """Supplies the conditioning vectors of frames, on demand; called from the decode thread."""

    def rows(self, first_frame: int, count: int) -> Conditions:
        """Vectors of frames [first_frame, first_frame + count), float32 [count, width]. Never raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. Changing it affects only timesteps not yet complete."""

    seed: int = 0
    temperature: float = 1.0  # 0 is greedy
    top_k: int = 0  # 0 keeps all
    guidance: float = 1.0  # classifier-free guidance scale; 1 is none

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"Sampling.seed {self.seed} is outside 0..2**63-1")
        if not 0.0 <= self.temperature <= 4.0:
            raise ValueError(f"Sampling.temperature {self.temperature} is outside 0..4")
        if self.top_k < 0:
            raise ValueError(f"Sampling.top_k {self.top_k} is negative")
        if not 0.0 <= self.guidance <= 10.0:
            raise ValueError(f"Sampling.guidance {self.guidance} is outside 0..10")


class Generator(Protocol):
    """One stream's model state. Not thread-safe: every call from the one decode thread.

    Timesteps count frames from the start of listening. `context_end <= committed <= frontier`: below `committed`
    nothing changes any more (unless rolled back on purpose), below `frontier` everything has all its codebooks.
    """

    @property
    def frontier(self) -> int:
        """Every timestep below it is known: listened or planned."""
        ...

    def listen(self, codes: Codes, conditions: Conditions) -> None:
        """Append known frames [n, K] at the frontier (prefill). Discards any plan beyond the commit."""
        ...

    def plan(
        self, until_frame: int, source: ConditionSource, sampling: Sampling, *, max_steps: int | None = None
    ) -> int:
        """Run steps until `frontier >= until_frame` or `max_steps` were run; returns the steps run."""
        ...

    def force(self, codes: Codes, source: ConditionSource) -> None:
        """Take known frames at the frontier as if they had been planned (vamp passes that repeat a phrase)."""
        ...

    def read(self, start_frame: int, stop_frame: int) -> Codes:
        """Known codes of [start_frame, stop_frame); ValueError outside the kept window or past the frontier."""
        ...

    def rollback(self, to_frame: int) -> None:
        """Forget every timestep at or after `to_frame`; equals never having known them.

        ValueError if `to_frame` is past the frontier or older than the kept window.
        """
        ...

    def fork(self) -> Self:
        """An independent copy with the same state: a take starts as a fork of what is listening."""
        ...

    def reset(self) -> None:
        """Forget everything; timestep 0 is next."""
        ...

    def snapshot(self) -> object:
        """The whole state; `restore` of it continues bit-exactly."""
        ...

    def restore(self, state: object) -> None: ...
