"""Logits that two runtimes of a model are compared by: the same codes heard, the same codes forced.

Under what decides whether a backend plays: engine/device_trial.py for GPUs, engine/native_trial.py for our kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .decoder import PatternDecoder
from .generator import Conditions, Sampling
from .manifest import Manifest

LISTENED, FORCED = 8, 16  # frames
TOLERANCE = 0.05  # RMS of the difference of logits over their RMS; int8 weights against halves lie near 0.01
_GUIDANCE = 2.0
_FEWEST = 4  # steps, whatever they take


@dataclass(frozen=True, kw_only=True)
class Forced:
    """Guided logits [steps, K, V], zeros for codebooks without a frame, and seconds of each step."""

    logits: npt.NDArray[np.float32]
    steps_s: list[float]


def forced(
    decoder: PatternDecoder,
    manifest: Manifest,
    *,
    steps: int | None = None,
    limit_s: float = np.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Forced:
    """Some frames heard, random codes forced: FORCED frames, or so many `steps`, or fewer after `limit_s`."""
    books, size = manifest.num_codebooks, manifest.codebook_size
    codes = np.random.default_rng(0).integers(0, size, (LISTENED + 4 * FORCED, books))
    source, logits = Nothing(manifest.conditioning.width), []
    decoder.listen(codes[:LISTENED].astype(np.uint16), source.rows(0, LISTENED))

    def force(frames: npt.NDArray[np.int64], found: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        logits.append(np.where(frames[:, None] >= 0, found, 0.0))
        chosen: npt.NDArray[np.int64] = codes[np.clip(frames, 0, len(codes) - 1), np.arange(books)]
        return chosen

    decoder.choose = force
    sampling = Sampling(seed=1, guidance=_GUIDANCE)
    steps_s: list[float] = []
    while decoder.frontier < LISTENED + FORCED and len(steps_s) < (steps or 8 * FORCED):
        if len(steps_s) >= _FEWEST and sum(steps_s) > limit_s:
            break
        began = clock()
        PatternDecoder.plan(decoder, LISTENED + FORCED, source, sampling, max_steps=1)
        steps_s.append(clock() - began)
    return Forced(logits=np.stack(logits).astype(np.float32), steps_s=steps_s)


def apart(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """How far logits lie from others: RMS of the difference over the others' RMS."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


class Nothing:
    """A condition source that commands nothing."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        """See ConditionSource."""
        return np.zeros((count, self._width), np.float32)
