"""Exact arithmetic between host stream positions, model samples and frames; used wherever audio is placed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

MAX_POSITION = 2**62


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Model sample `anchor_sample` sounds at host position `anchor_position`; frame t begins at t * hop."""

    anchor_position: int
    anchor_sample: int = 0
    host_rate: int
    model_rate: int
    hop_samples: int

    def __post_init__(self) -> None:
        if not -MAX_POSITION <= self.anchor_position <= MAX_POSITION:
            raise ValueError(f"Timeline.anchor_position {self.anchor_position} is outside -2**62..2**62")
        for name in ("host_rate", "model_rate", "hop_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"Timeline.{name} {getattr(self, name)} is below 1")

    def moved(self, samples: int) -> Timeline:
        """The same, so many host samples later."""
        return replace(self, anchor_position=self.anchor_position + samples)

    def sample_at(self, position: int | float | Fraction) -> Fraction:
        """Model time, in model samples, of a host position."""
        offset = Fraction(position) - self.anchor_position
        return self.anchor_sample + offset * self.model_rate / self.host_rate

    def frame_at(self, position: int | float | Fraction) -> int:
        """The frame that holds a host position."""
        return int(self.sample_at(position) // self.hop_samples)

    def nearest_frame(self, position: int | float | Fraction) -> int:
        """The frame whose first sample is nearest to a host position."""
        return int((self.sample_at(position) / self.hop_samples + Fraction(1, 2)) // 1)

    def position_of_frame(self, frame: int) -> Fraction:
        """Host position of a frame's first sample."""
        samples = frame * self.hop_samples - self.anchor_sample
        return self.anchor_position + Fraction(samples * self.host_rate, self.model_rate)

    def positions(self, first_frame: int, count: int) -> npt.NDArray[np.float64]:
        """Host positions of the first samples of frames [first_frame, first_frame + count), float64 [count]."""
        first = (first_frame * self.hop_samples - self.anchor_sample) * self.host_rate
        whole, rest = divmod(first, self.model_rate)
        # Only the offset within the call is int64; the start is a Python int of any size.
        steps = rest + np.arange(count, dtype=np.int64) * (self.hop_samples * self.host_rate)
        base = float(self.anchor_position + whole)
        return base + steps / self.model_rate
