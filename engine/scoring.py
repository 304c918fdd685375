"""What a decoder says of given codes, and how far one model is from another that plays the same.

Beside the path, for `attacca models score`: codes are forced through the step loop that plays (engine/decoder.py),
window, prompt and cache included, so what is compared is what is heard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bundle import Model
from .decoder import PatternDecoder
from .generator import Codes, Conditions, Sampling
from .rolling import RollingDecoder

Logits = npt.NDArray[np.float32]  # [frames, codebooks, codes]
Bits = npt.NDArray[np.float64]
_LN2 = float(np.log(2.0))


class Silent:
    """No commands. Implements ConditionSource."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        """Zeros float32 [count, width]."""
        return np.zeros((count, self._width), np.float32)


class Forcing:
    """Gives a step loop the tokens of codes [T, K] in place of those it would draw, and notes its logits."""

    def __init__(self, codes: Codes, codebook_size: int) -> None:
        self._codes = codes.astype(np.int64)
        self.logits: Logits = np.full((*codes.shape, codebook_size), np.nan, np.float32)

    def __call__(self, frames: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """As engine/decoder.py's Choose. Frames that a pattern begins past the end get the last frame's tokens."""
        books = np.arange(len(frames))
        inside = (frames >= 0) & (frames < len(self._codes))
        self.logits[frames[inside], books[inside]] = logits[inside]
        return self._codes[np.clip(frames, 0, len(self._codes) - 1), books]


def forced_logits(model: Model, codes: Codes, *, guidance: float = 1.0) -> Logits:
    """Logits of every (frame, codebook) of codes [T, K], each after the codes before it, from the beginning.

    Without commands; under the prompt that the model was told. Logits of guidance 1 are those of the model itself.
    """
    decoder = model.decoder()
    found = Forcing(codes, model.manifest.codebook_size)
    decoder.choose = found
    return run_forced(decoder, found, len(codes), model.conditioning.width, guidance)


def run_forced(
    decoder: PatternDecoder | RollingDecoder, found: Forcing, frames: int, width: int, guidance: float = 1.0
) -> Logits:
    """The logits of `found` after as many frames, by a decoder that was told to choose by it."""
    decoder.end_at(frames)
    decoder.plan(frames, Silent(width), Sampling(temperature=0.0, guidance=guidance))
    return found.logits


def bits_of(logits: Logits, codes: Codes) -> Bits:
    """Bits [T, K] that each code costs under the logits."""
    chosen = np.take_along_axis(_log_shares(logits), codes.astype(np.int64)[:, :, None], axis=2)[:, :, 0]
    return np.asarray(-chosen / _LN2)


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Logits of one model against another's, over every (frame, codebook)."""

    max: float
    rms: float
    rms_share: float  # of the other's standard deviation over the codes of a distribution
    kl_bits: list[float]  # by codebook: mean divergence from the other's distribution
    top_1: float  # share of equal likeliest codes


def distance(found: list[Logits], expected: list[Logits]) -> Distance:
    """How far `found` is from `expected`, pieces of the same codes each."""
    squares, spread, cells, most, same = 0.0, 0.0, 0, 0.0, 0
    divergence: list[Bits] = []
    for near, far in zip(found, expected, strict=True):
        apart = near.astype(np.float64) - far
        squares += float(np.sum(apart**2))
        spread += float(np.sum(far.astype(np.float64).var(axis=2))) * far.shape[2]
        cells += apart.size
        most = max(most, float(np.abs(apart).max()))
        same += int(np.count_nonzero(near.argmax(axis=2) == far.argmax(axis=2)))
        log_p, log_q = _log_shares(far), _log_shares(near)
        divergence.append(np.sum(np.exp(log_p) * (log_p - log_q), axis=2) / _LN2)
    rms = float(np.sqrt(squares / cells))
    total = sum(part.size for part in divergence)
    return Distance(
        max=most,
        rms=rms,
        rms_share=rms / max(float(np.sqrt(spread / cells)), 1e-12),
        kl_bits=[max(0.0, float(value)) for value in np.concatenate(divergence).mean(axis=0)],
        top_1=same / total,
    )


def _log_shares(logits: Logits) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))
