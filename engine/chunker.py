"""From codes to placed audio: a take's codec decoder and resampler, kept in step with host positions.

The last stage of the engine: what leaves here knows the one host position where it belongs. Between decoder and
resampler a take is held to the level and the beat of what was played, where its model does not do so by itself;
frames then lie where the beat lock has put them. Sound is cut to the sample where a take starts and ends; fading
there, over at most 10 ms, is the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from .beat_lock import BeatLock, BeatReport
from .events import CodecDecoder, Pcm
from .generator import Codes
from .heard_bars import HeardBars
from .leveller import Leveller
from .resample import Resampler
from .timeline import Timeline


class Chunker:
    """Decodes consecutive frames of one take. Decode thread."""

    def __init__(
        self,
        decoder: CodecDecoder,
        timeline: Timeline,
        *,
        channels: int = 1,
        leveller: Leveller | None = None,
        heard: HeardBars | None = None,
    ) -> None:
        """`channels`: of the decoder's samples, [n] where it is 1, else [n, channels]."""
        self._leveller = leveller
        self._heard_bars = heard
        self._lock: BeatLock | None = None
        self._lock_start = 0  # model sample of the lock's first
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
    def level_lost(self) -> bool:
        """Whether the take has grown so loud that it is better begun anew."""
        return self._leveller is not None and self._leveller.lost

    def renew_level(self) -> None:
        """What follows is as loud as what was played."""
        if self._leveller is not None:
            self._leveller.renew()

    @property
    def beat(self) -> BeatReport | None:
        """How the take keeps to the beat as of the last frame; None where it is not held to it."""
        return None if self._lock is None else self._lock.report

    @property
    def timeline(self) -> Timeline:
        """Where frames to come lie, as far as is known: the beat lock moves them."""
        moved = 0 if self._lock is None else self._lock.stretch.offset
        return replace(self._timeline, anchor_sample=self._timeline.anchor_sample + moved)

    @property
    def base(self) -> Timeline:
        """Where frames would lie had the beat lock moved nothing since `begin`: the clock it works by."""
        return self._timeline

    @property
    def position(self) -> int:
        """Host position of the next sample that comes out."""
        return self._timeline.anchor_position + self._resampler.next_output

    def first_frame_for(self, position: int) -> int:
        """The earliest frame that the sample at a host position is computed from, apart from codec memory."""
        sample = self._heard(self._timeline.sample_at(position) - self._resampler.latency_samples)
        return max(0, int(sample // self._timeline.hop_samples))

    def last_frame_for(self, position: int) -> int:
        """The frame that must have been pushed for the sample at a host position to come out."""
        sample = self._heard(self._timeline.sample_at(position) + self._resampler.latency_samples)
        held_back = 0 if self._lock is None else self._lock.stretch.delay_samples
        return max(0, int((sample + self._decoder.delay_samples + held_back) // self._timeline.hop_samples))

    def frame_at(self, position: int) -> int:
        """The frame that is heard at a host position."""
        return int(self._heard(self._timeline.sample_at(position)) // self._timeline.hop_samples)

    def position_of_frame(self, frame: int) -> Fraction:
        """Host position at which a frame's first sample is heard."""
        return self._timeline.position_of_frame(frame) - Fraction(
            self._moved(frame) * self._timeline.host_rate, self._timeline.model_rate
        )

    def first_sample_of(self, frame: int) -> Fraction:
        """Host position of the first sample to come that a frame not pushed yet has a part in.

        Codec and resampler hold samples back for it, so that is before its own first. RuntimeError if not running.
        """
        ahead = self.position_of_frame(frame) - self.position_of_frame(self.next_frame)
        return self.position + max(ahead, Fraction(0))

    def begin(self, frame: int, position: int) -> None:
        """Start with this frame from a cold codec; no sample before the host position comes out."""
        self._decoder.reset()
        line = self._timeline
        self._timeline = line = replace(line, anchor_sample=line.anchor_sample + self._moved(frame))
        sample = frame * line.hop_samples - self._decoder.delay_samples
        self._resampler.reset(sample - line.anchor_sample)
        self._next_frame = frame
        if self._heard_bars is not None and self._heard_bars.locks:
            self._lock = self._heard_bars.lock(line, sample - line.anchor_sample)
            self._lock_start = sample
        if self._leveller is not None:
            self._leveller.begin(frame)
        self.mute_until(position)

    def stop(self) -> None:
        """Forget everything; `begin` is next."""
        self._next_frame = None

    def move(self, timeline: Timeline) -> None:
        """Frames lie elsewhere from now on; `begin` is next."""
        self._timeline = timeline
        self._lock = None
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
        if self._lock is not None:
            pcm = self._lock.push(pcm.reshape(len(pcm), -1)).reshape(self._shape)
        position = self.position
        return position, self._resampler.push(pcm)

    def snapshot(self) -> tuple[Any, ...]:
        """The whole state, for `restore` to continue from bit-exactly."""
        level = None if self._leveller is None else self._leveller.snapshot()
        lock = None if self._lock is None else self._lock.snapshot()
        held = (level, lock, self._lock_start, self._timeline)
        return self._next_frame, self._decoder.snapshot(), self._resampler.snapshot(), held

    def restore(self, state: tuple[Any, ...]) -> None:
        """Continue bit-exactly from a snapshot."""
        self._next_frame, decoder, resampler, (level, lock, self._lock_start, self._timeline) = state
        self._decoder.restore(decoder)
        self._resampler.restore(resampler)
        if self._leveller is not None:
            self._leveller.restore(level)
        self._lock = None
        if lock is not None and self._heard_bars is not None:
            self._lock = self._heard_bars.lock(self._timeline, self._lock_start - self._timeline.anchor_sample)
            self._lock.restore(lock)

    def _heard(self, sample: Fraction) -> Fraction:
        """Model sample that is heard where the timeline has another one."""
        if self._lock is None:
            return sample
        output = int(sample // 1) - self._lock_start
        return sample + self._lock.stretch.input_of(output) - output

    def _moved(self, frame: int) -> int:
        """By how many model samples a frame's first is heard sooner than the timeline has it."""
        if self._lock is None:
            return 0
        sample = frame * self._timeline.hop_samples - self._lock_start
        return sample - self._lock.stretch.output_of(sample)
