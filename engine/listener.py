"""Listening: audio as the host sends it becomes context, encoded and prefilled as it arrives.

The first stage of the engine. Positions are checked against the one expected: holes are filled with silence,
what was heard before is dropped, and what cannot be repaired so starts listening anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np

from .channels import fold
from .condition_rows import ConditionRows
from .events import Controller, Model, Pcm
from .generator import Codes, Generator
from .hold import hold_of
from .leveller import Leveller, LevelMeter, Loudness
from .resample import Resampler
from .stream import StreamConfig
from .timeline import Timeline


@dataclass(kw_only=True)
class ListenCounters:
    """What had to be repaired, in host samples."""

    gap_samples: int = 0
    overlap_samples: int = 0
    bad_samples: int = 0
    restarts: int = 0


class Listener:
    """One session's ear. Decode thread. `enqueue` only stores; `work` computes."""

    def __init__(self, model: Model, controller: Controller, host_rate: int, config: StreamConfig) -> None:
        self.counters = ListenCounters()
        self.generator: Generator = model.generator()
        self.timeline: Timeline | None = None  # None until audio was heard
        self._codec = model.codec
        self._encoder = model.codec.encoder()
        self._channels = model.codec.audio_channels
        self._loudness: Loudness | None = None
        level = hold_of(model).level
        if level is not None:
            self._meter = LevelMeter(level, model.codec.sample_rate / model.codec.hop_samples)
            self._loudness = Loudness(self._meter, model.codec.hop_samples, channels=self._channels)
        self._resampler = Resampler(host_rate, model.codec.sample_rate, channels=self._channels)
        self._controller = controller
        self._layout = model.conditioning
        self._host_rate = host_rate
        self._listen_frames = config.listen_frames
        self._max_gap = ceil(config.max_gap_s * host_rate)
        self._max_pending = ceil(config.max_pending_s * host_rate)
        self._frame_samples = ceil(model.codec.hop_samples * host_rate / model.codec.sample_rate)
        self._look_ahead = ceil(self._encoder.look_ahead_samples * host_rate / model.codec.sample_rate)
        self._items: deque[tuple[int, Pcm]] = deque()
        self._expected = 0  # position of the next sample to be heard
        self._held: Codes = np.zeros((0, model.codec.num_codebooks), np.uint16)  # encoded, not yet prefilled
        self.enqueued_samples = 0
        self.done_samples = 0  # of those, heard or dropped

    @property
    def pending_samples(self) -> int:
        """Host samples enqueued and not yet heard."""
        return self.enqueued_samples - self.done_samples

    def has_frames(self, groups: int = 1) -> bool:
        """Whether what waits may complete as many frames as are heard at a time, so many times over."""
        if self.timeline is None or self.pending_samples == 0:
            return self.pending_samples > 0
        due = self.timeline.position_of_frame(self.generator.frontier + groups * self._listen_frames)
        return self._expected + self.pending_samples >= due + self._resampler.latency_samples + self._look_ahead

    @property
    def end_position(self) -> int | None:
        """Host position up to which was heard; None before anything was."""
        return None if self.timeline is None else self._expected

    def fork(self) -> Generator:
        """A generator that has heard everything encoded so far."""
        generator = self.generator.fork()
        if len(self._held) and self.timeline is not None:
            rows = ConditionRows(self._controller, self.timeline, self._layout)
            generator.listen(self._held, rows.rows(generator.frontier, len(self._held)))
        return generator

    def leveller(self, first_frame: int) -> Leveller | None:
        """Holds a take whose own frames begin so to the level of what was heard; None if it is not to be held."""
        if self._loudness is None:
            return None
        return Leveller(self._meter, reference=self._loudness.energy, first_frame=first_frame)

    def enqueue(self, position: int, pcm: Pcm) -> str | None:
        """Audio [n] or [n, channels] whose first sample is at `position`; a reason if it made listening restart."""
        samples = np.asarray(pcm, dtype=np.float32)
        if samples.ndim == 1:
            samples = samples[:, None]
        if samples.ndim != 2 or samples.size == 0:
            return None
        finite = np.isfinite(samples)
        if not finite.all():
            self.counters.bad_samples += int((~finite).any(axis=1).sum())
            samples = np.where(finite, samples, np.float32(0))
        heard = fold(np.clip(samples, -1e3, 1e3), self._channels)
        reason = None
        if self.pending_samples + len(heard) > self._max_pending:
            self.restart()
            heard = heard[-self._max_pending :]
            position += samples.shape[0] - len(heard)
            reason = f"more than {self._max_pending} samples were waiting"
        self._items.append((position, heard))
        self.enqueued_samples += len(heard)
        return reason

    def restart(self) -> None:
        """Forget all that was heard and all that waits; the next audio is the beginning."""
        self._forget()
        self._items.clear()
        self.done_samples = self.enqueued_samples

    def work(self, max_frames: int, stops: Iterable[int] = ()) -> tuple[int, str | None]:
        """Hear up to so many frames' worth; returns (frames prefilled, reason if listening restarted).

        It goes no further than the next of `stops`, counts of done samples, so that a take forks at the same
        sample however the audio came.
        """
        parts: list[Pcm] = []
        room, reason = max_frames * self._frame_samples, None
        stop = min((count for count in stops if count > self.done_samples), default=self.enqueued_samples)
        while self._items and room > 0 and self.done_samples < stop:
            position, pcm = self._items[0]
            gap = 0 if self.timeline is None else position - self._expected
            if abs(gap) > self._max_gap:
                reason = f"audio at {position} where {self._expected} was expected"
                parts.clear()
                self._forget()
            if self.timeline is None:
                self._begin(position)
                gap = 0
            if gap > 0:
                part = np.zeros((min(gap, room), *self._items[0][1].shape[1:]), np.float32)
                self.counters.gap_samples += len(part)
            else:
                part = self._take(position, pcm[: stop - self.done_samples], -gap, room)
            parts.append(part)
            room -= len(part)
            self._expected += len(part)
        return self._hear(np.concatenate(parts)) if parts else 0, reason

    def _take(self, position: int, pcm: Pcm, overlap: int, room: int) -> Pcm:
        """Take up to `room` samples off the first item, without those heard before."""
        drop = min(overlap, len(pcm))
        part = pcm[drop : drop + room]
        used = drop + len(part)
        self.counters.overlap_samples += drop
        self.done_samples += used
        rest = self._items[0][1][used:]
        if len(rest):
            self._items[0] = (position + used, rest)
        else:
            self._items.popleft()
        return part

    def _begin(self, position: int) -> None:
        self._expected = position
        self.timeline = Timeline(
            anchor_position=position,
            host_rate=self._host_rate,
            model_rate=self._codec.sample_rate,
            hop_samples=self._codec.hop_samples,
        )

    def _hear(self, pcm: Pcm) -> int:
        """Encode; prefill in whole groups of one size, counted from the first frame.

        A prefill's arithmetic may depend on its number of rows where they are few or odd, so rows cut by what time
        allowed could give other tokens in every run. The rest of a group waits; a fork takes it along.
        """
        resampled = self._resampler.push(pcm)
        if self._loudness is not None:
            self._loudness.push(resampled)
        codes = self._encoder.push(resampled)
        if self.timeline is None:
            return 0
        self._held = np.concatenate([self._held, codes])
        count = len(self._held) // self._listen_frames * self._listen_frames
        if count:
            rows = ConditionRows(self._controller, self.timeline, self._layout)
            self.generator.listen(self._held[:count], rows.rows(self.generator.frontier, count))
            self._held = self._held[count:]
        return len(codes)

    def _forget(self) -> None:
        self.counters.restarts += self.timeline is not None
        self.timeline = None
        self._held = self._held[:0]
        self.generator.reset()
        self._encoder.reset()
        self._resampler.reset()
        if self._loudness is not None:
            self._loudness.reset()
