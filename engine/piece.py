"""A whole piece at once, codes and sound: what `attacca generate` makes, without a host, a clock or a stream.

Beside engine/offline.py, which runs the live path. Here the length is known before the first frame, as it was in
training, so a model makes what its authors' own code makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bundle import Model
from .channels import fold
from .events import Pcm
from .generator import Codes, Conditions, Sampling
from .resample import Resampler

MAX_FRAMES = 1 << 20
_SLICE_FRAMES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Codes [frames, K], and their sound: float32 [samples] or [samples, 2] at the model's rate."""

    codes: Codes
    pcm: Pcm


class _Nothing:
    """No commands. Implements ConditionSource."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        return np.zeros((count, self._width), np.float32)


def heard_codes(model: Model, audio: Pcm, sample_rate: int) -> Codes:
    """Codes of a recording, float32 [n] or [n, channels], to its very end.

    ValueError if it is empty or not finite.
    """
    samples = np.asarray(audio, np.float32)
    if samples.ndim not in (1, 2) or len(samples) == 0 or not np.isfinite(samples).all():
        raise ValueError(f"audio has shape {samples.shape}, allowed: finite samples, [n] or [n, channels]")
    codec = model.codec
    folded = fold(samples.reshape(len(samples), -1), codec.audio_channels)
    folded = resampled(folded, sample_rate, codec.sample_rate)
    encoder: Any = codec.encoder()
    codes: Codes = encoder.push(folded)
    return np.concatenate([codes, encoder.flush()]) if hasattr(encoder, "flush") else codes


def resampled(samples: Pcm, rate: int, to: int) -> Pcm:
    """A whole recording [n] or [n, 2] at another rate."""
    if rate == to:
        return samples
    resampler = Resampler(rate, to, channels=1 if samples.ndim == 1 else samples.shape[1])
    return np.concatenate([resampler.push(samples), resampler.flush()])


def make_piece(
    model: Model,
    *,
    frames: int,
    sampling: Sampling,
    known: Codes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Piece:
    """A piece of so many frames, known ones included. ValueError for what is out of range. Any thread."""
    have = 0 if known is None else len(known)
    if not max(1, have) <= frames <= MAX_FRAMES:
        raise ValueError(f"frames {frames} is outside {max(1, have)}..{MAX_FRAMES}")
    width = model.conditioning.width
    generator = model.generator()
    if known is not None and have:
        generator.listen(known, np.zeros((have, width), np.float32))
    generator.end_at(frames)
    parts: list[Codes] = [] if known is None else [known]
    done = have
    while done < frames:
        generator.plan(min(done + _SLICE_FRAMES, frames), _Nothing(width), sampling)
        parts.append(generator.read(done, min(done + _SLICE_FRAMES, frames)))
        done += len(parts[-1])
        if progress is not None:
            progress(done / frames)
    codes = np.concatenate(parts)
    return Piece(codes=codes, pcm=sound_of(model, codes))


def sound_of(model: Model, codes: Codes) -> Pcm:
    """Samples of codes [frames, K], as many as the frames last."""
    decoder: Any = model.codec.decoder()
    pcm: Pcm = decoder.push(codes)
    length, delay = len(codes) * model.codec.hop_samples, decoder.delay_samples
    if hasattr(decoder, "flush"):
        pcm = np.concatenate([pcm, decoder.flush()])
    else:
        beyond = -(-delay // model.codec.hop_samples)
        pcm = np.concatenate([pcm, decoder.push(np.repeat(codes[-1:], beyond, axis=0))])
    return pcm[delay : delay + length]
