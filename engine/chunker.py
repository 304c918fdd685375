"""From codes to placed audio: a take's codec decoder and resampler, kept in step with host positions.

The last stage of the engine: what leaves here knows the one host position where it belongs. Sound is cut to the
sample where a take starts and ends; fading there, over at most 10 ms, is the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .events import CodecDecoder, Pcm
from .generator import Codes
from .leveller import Leveller
from .resample import Resampler
from .timeline import Timeline


class Chunker:
    """Decodes consecutive frames of one take. Decode thread."""

    def __init__(
        self, decoder: CodecDecoder, timeline: Timeline, *, channels: int = 1, leveller: Leveller | None = None
    ) -> None:
        """`channels`: of the decoder's samples, [n] where it is 1, else [n, channels]."""
        self._leveller = leveller
        self._decoder = decoder
        self._timeline = timeline
        self._shape = (-1,) if channels == 1 else (-1, channels)
        self._resampler = Resampler(timeline.model_rate, timeline.host_rate, channels=channels)
        self._next_frame: int | None = None

    @property
    def running(self) -> bool:
        """Whether `begin` was called since the last `stop`."""
        return self._next_frame is not None

    @property
    def next_frame(self) -> int:
        """The frame to push next. RuntimeError if not running."""
        if self._next_frame is None:
            raise RuntimeError("Chunker.next_frame asked before begin()")
        return self._next_frame

    @property
    def gain_db(self) -> float:
        """By how much the take is made louder as of the last frame, to hold it to what was played."""
        return 0.0 if self._leveller is None else self._leveller.gain_db

    @property
    def position(self) -> int:
        """Host position of the next sample that comes out."""
        return self._timeline.anchor_position + self._resampler.next_output

    def first_frame_for(self, position: int) -> int:
        """The earliest frame that the sample at a host position is computed from, apart from codec memory."""
        sample = self._timeline.sample_at(position) - self._resampler.latency_samples
        return max(0, int(sample // self._timeline.hop_samples))

    def last_frame_for(self, position: int) -> int:
        """The frame that must have been pushed for the sample at a host position to come out."""
        sample = self._timeline.sample_at(position) + self._resampler.latency_samples + self._decoder.delay_samples
        return max(0, int(sample // self._timeline.hop_samples))

    def begin(self, frame: int, position: int) -> None:
        """Start with this frame from a cold codec; no sample before the host position comes out."""
        self._decoder.reset()
        sample = frame * self._timeline.hop_samples - self._decoder.delay_samples
        self._resampler.reset(sample - self._timeline.anchor_sample)
        self._next_frame = frame
        if self._leveller is not None:
            self._leveller.begin(frame)
        self.mute_until(position)

    def stop(self) -> None:
        """Forget everything; `begin` is next."""
        self._next_frame = None

    def move(self, timeline: Timeline) -> None:
        """Frames lie elsewhere from now on; `begin` is next."""
        self._timeline = timeline
        self.stop()

    def mute_until(self, position: int) -> None:
        """Leave out the samples before a host position."""
        self._resampler.skip_to(position - self._timeline.anchor_position)

    def push(self, codes: Codes, players: Sequence[int] | None = None) -> tuple[int, Pcm]:
        """Codes [n, K] of the next frames -> (host position of the first sample, float32 [m] or [m, channels]).

        `players`: how many are commanded to play in each frame, 0 where that is not commanded, as by default.
        ArithmeticError if the codec gives NaN or infinity: nothing sensible can follow.
        """
        first = self.next_frame
        self._next_frame = first + len(codes)
        pcm = np.asarray(self._decoder.push(codes), dtype=np.float32).reshape(self._shape)
        if not np.isfinite(pcm).all():
            raise ArithmeticError("codec decoder gave samples that are not finite")
        if self._leveller is not None:
            pcm = self._leveller.push(first, pcm, [0] * len(codes) if players is None else players)
        position = self.position
        return position, self._resampler.push(pcm)

    def position_of_frame(self, frame: int) -> Fraction:
        """Host position of a frame's first sample."""
        return self._timeline.position_of_frame(frame)

    def snapshot(self) -> tuple[Any, ...]:
        """The whole state, for `restore` to continue from bit-exactly."""
        level = None if self._leveller is None else self._leveller.snapshot()
        return self._next_frame, self._decoder.snapshot(), self._resampler.snapshot(), level

    def restore(self, state: tuple[Any, ...]) -> None:
        """Continue bit-exactly from a snapshot."""
        self._next_frame, decoder, resampler, level = state
        self._decoder.restore(decoder)
        self._resampler.restore(resampler)
        if self._leveller is not None:
            self._leveller.restore(level)
