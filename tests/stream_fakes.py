"""A model without weights for tests of streams: audio is its own model-time sample index, codes their frame's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout, Controls
from attacca.engine.events import ChunkEvent, Event, TakeRequest, Worked
from attacca.engine.generator import Sampling
from attacca.engine.lookahead import LookAheadConfig
from attacca.engine.service import Engine
from attacca.engine.stream import StreamConfig

MODEL_RATE = 32000
HOP = 640
FRAME_S = HOP / MODEL_RATE


def frame_codes(frame: int, mark: int = 0, chain: int = 0) -> np.ndarray:
    return np.array([frame % 1024, frame // 1024, mark, chain], np.uint16)


def frame_of(codes: np.ndarray) -> np.ndarray:
    return codes[:, 0].astype(np.int64) + 1024 * codes[:, 1].astype(np.int64)


@dataclass
class IndexGenerator:
    """Frame t says t; its third code is a mark of what commanded it, its fourth a hash of the frame before it."""

    lag_steps: int = 3  # steps after a restart before the first frame is complete
    window: int = 600
    history: list[np.ndarray] = field(default_factory=list)
    first: int = 0
    warm: int = 0
    fail_at: int | None = None
    steps: int = 0

    @property
    def frontier(self) -> int:
        return self.first + len(self.history)

    def _append(self, codes: np.ndarray) -> None:
        self.history.append(codes)
        if len(self.history) > 2 * self.window:
            del self.history[: self.window]
            self.first += self.window

    def listen(self, codes: np.ndarray, conditions: np.ndarray) -> None:
        assert len(codes) == len(conditions)
        for row in codes:
            self._append(row)
        self.warm = 0

    def plan(self, until_frame: int, source: Any, sampling: Sampling, *, max_steps: int | None = None) -> int:
        ran, first = 0, self.frontier
        count = until_frame - first if max_steps is None else min(until_frame - first, max_steps)
        rows = source.rows(first, max(count, 0))
        while self.frontier < until_frame and (max_steps is None or ran < max_steps):
            ran += 1
            self.steps += 1
            if self.warm < self.lag_steps:
                self.warm += 1
                continue
            if self.frontier == self.fail_at:
                raise FloatingPointError("made to fail")
            mark = int(abs(float(rows[self.frontier - first].sum())) * 1000) % 1024
            last = int(self.history[-1][3]) if self.history else 0
            temperature = int(sampling.temperature * 100)
            chain = (last * 31 + mark * 7 + sampling.seed * 13 + temperature + self.frontier) % 1021
            self._append(frame_codes(self.frontier, mark, chain))
        return ran

    def force(self, codes: np.ndarray, source: Any) -> None:
        for row in codes:
            self._append(row)
        self.warm = 0

    def read(self, start_frame: int, stop_frame: int) -> np.ndarray:
        if not self.first <= start_frame <= stop_frame <= self.frontier:
            raise ValueError(f"{start_frame}..{stop_frame} is outside {self.first}..{self.frontier}")
        rows = self.history[start_frame - self.first : stop_frame - self.first]
        return np.stack(rows) if rows else np.zeros((0, 4), np.uint16)

    def rollback(self, to_frame: int) -> None:
        if not self.first <= to_frame <= self.frontier:
            raise ValueError(f"{to_frame} is outside {self.first}..{self.frontier}")
        del self.history[to_frame - self.first :]
        self.warm = 0

    def fork(self) -> IndexGenerator:
        return replace(self, history=list(self.history))

    def reset(self) -> None:
        self.history, self.first, self.warm = [], 0, 0

    def snapshot(self) -> Any:
        return list(self.history), self.first, self.warm

    def restore(self, state: Any) -> None:
        history, self.first, self.warm = state
        self.history = list(history)


class LoosePlayer(IndexGenerator):
    """Frames count on from what was heard; the third code counts those it made itself since."""

    def plan(self, until_frame: int, source: Any, sampling: Any, *, max_steps: int | None = None) -> int:
        ran = 0
        while self.frontier < until_frame and (max_steps is None or ran < max_steps):
            ran += 1
            last = self.history[-1]
            self._append(frame_codes(int(frame_of(last[None])[0]) + 1, int(last[2]) + 1))
        return ran


class IndexEncoder:
    """Frame t of what was pushed: its index, and the first sample's value as the third code."""

    def __init__(self, look_ahead_samples: int) -> None:
        self.look_ahead_samples = look_ahead_samples
        self.reset()

    def reset(self) -> None:
        self.rest, self.frame = np.zeros(0, np.float32), 0

    def push(self, pcm: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self.rest, pcm])
        count = max(0, len(joined) - self.look_ahead_samples) // HOP
        self.rest = joined[count * HOP :]
        out = [frame_codes(self.frame + i, int(abs(joined[i * HOP]) * 1000 + 0.5) % 1024) for i in range(count)]
        self.frame += count
        return np.stack(out) if out else np.zeros((0, 4), np.uint16)

    def snapshot(self) -> Any:
        return self.rest, self.frame

    def restore(self, state: Any) -> None:
        self.rest, self.frame = state


class IndexDecoder:
    """Output sample i is the index of the model sample it belongs to, if the frame's codes are right."""

    def __init__(self, delay_samples: int) -> None:
        self.delay_samples = delay_samples
        self.reset()

    def reset(self) -> None:
        self.tail = np.zeros(self.delay_samples, np.float32)

    def push(self, codes: np.ndarray) -> np.ndarray:
        fresh = (frame_of(codes)[:, None] * HOP + np.arange(HOP)).reshape(-1).astype(np.float32)
        joined = np.concatenate([self.tail, fresh])
        self.tail = joined[len(fresh) :]
        return joined[: len(fresh)]

    def snapshot(self) -> Any:
        return self.tail

    def restore(self, state: Any) -> None:
        self.tail = state


@dataclass
class IndexModel:
    """The model and its own codec in one."""

    delay_samples: int = 480
    look_ahead_samples: int = 0
    lag_steps: int = 3
    fail_at: int | None = None
    sample_rate: int = MODEL_RATE
    hop_samples: int = HOP
    num_codebooks: int = 4
    audio_channels: int = 1
    conditioning: ConditioningLayout = DEFAULT_LAYOUT

    @property
    def codec(self) -> IndexModel:
        return self

    def encoder(self) -> IndexEncoder:
        return IndexEncoder(self.look_ahead_samples)

    def decoder(self) -> IndexDecoder:
        return IndexDecoder(self.delay_samples)

    def generator(self) -> IndexGenerator:
        return IndexGenerator(lag_steps=self.lag_steps, fail_at=self.fail_at)


@dataclass
class FixedController:
    """Constant commands but for the tempo, which a test may change from a position on."""

    bpm: Callable[[np.ndarray], np.ndarray] = lambda positions: np.full(len(positions), 120.0)

    def controls(self, positions: np.ndarray) -> Controls:
        n = len(positions)
        return Controls(
            ppq=np.zeros(n),
            bar_start_ppq=np.zeros(n),
            bpm=self.bpm(positions),
            meter_num=np.full(n, 4, np.int16),
            meter_den=np.full(n, 4, np.int16),
            pitch_classes=np.zeros((n, 12), np.bool_),
            instruments=np.zeros((n, 4), np.bool_),
            style=np.zeros(n, np.int16),
            beat_known=np.ones(n, np.bool_),
            chord_known=np.zeros(n, np.bool_),
            instruments_known=np.zeros(n, np.bool_),
            style_known=np.zeros(n, np.bool_),
        )


def stream_config(**changes: Any) -> StreamConfig:
    """Look-ahead is one chunk and what the host takes, as compute costs nothing; each frame is heard at once."""
    changes.setdefault("look_ahead", LookAheadConfig(initial_chunk_ms=0.0, min_ms=0.0))
    changes.setdefault("listen_frames", 1)
    return StreamConfig(**changes)


class Host:
    """A host that bounces: it advances block by block and lets the engine run dry in between."""

    def __init__(
        self,
        rate: int,
        *,
        model: Any = None,
        block: int = 480,
        origin: int = 0,
        channels: int = 1,
        controller: Any = None,
        **config: Any,
    ) -> None:
        self.rate, self.block, self.head, self.origin = rate, block, origin, origin
        self.controller = controller or FixedController()
        self.engine = Engine(model or IndexModel(), clock=lambda: 0.0, config=stream_config(**config))
        self.engine.open(1, sample_rate=rate, channels=channels, controller=self.controller)
        self.engine.set_realtime(1, False)
        self.engine.advance(1, origin)
        self.channels = channels
        self.events: list[Event] = []
        self.sound: dict[int, ChunkEvent] = {}

    def drain(self) -> list[Event]:
        """Let the engine work until it is idle."""
        fresh: list[Event] = []
        while batch := self.engine.work():
            fresh += batch
        self.events += fresh
        return [event for event in fresh if not isinstance(event, Worked)]

    def play(self, samples: int, audio: Callable[[np.ndarray], np.ndarray] | None = None) -> list[Event]:
        """Blocks until the head has moved by so many samples; silence is sent unless told otherwise."""
        stop, fresh = self.head + samples, []
        while self.head < stop:
            n = min(self.block, stop - self.head)
            positions = np.arange(self.head, self.head + n)
            pcm = np.zeros(n, np.float32) if audio is None else audio(positions).astype(np.float32)
            self.engine.listen(1, self.head, np.repeat(pcm[:, None], self.channels, axis=1))
            self.head += n
            self.engine.advance(1, self.head)
            fresh += self.drain()
        return fresh

    def chunks(self, take: int = 1, *, committed: bool = True) -> list[ChunkEvent]:
        found = [event for event in self.events if isinstance(event, ChunkEvent)]
        return [chunk for chunk in found if chunk.take == take and chunk.committed == committed]

    def heard(self, take: int = 1) -> tuple[int, np.ndarray]:
        """Committed sound of a take as (position, mono); a gap between chunks is an error."""
        chunks = self.chunks(take)
        for before, after in itertools.pairwise(chunks):
            assert after.position == before.position + before.samples
        return chunks[0].position, np.concatenate([chunk.pcm[:, 0] for chunk in chunks])

    def model_index(self, position: int, count: int) -> np.ndarray:
        """What the samples at host positions must be: their model-time index."""
        return (np.arange(count) + (position - self.origin)) * (MODEL_RATE / self.rate)


def request(start: int, **changes: Any) -> TakeRequest:
    """A take, number 1, in epoch 1, triggered half a second before its start unless told otherwise."""
    given = {"take": 1, "epoch": 1, "position": start, "start_position": start} | changes
    return TakeRequest(**given)


def exact(host: Host, take: int = 1) -> tuple[int, int]:
    """Checks that every committed sample is the one of its position; returns (first position, end)."""
    position, pcm = host.heard(take)
    wanted = host.model_index(position, len(pcm))
    if host.rate == MODEL_RATE:
        assert np.array_equal(pcm, wanted)
    assert np.abs(pcm - wanted).max() < 0.5
    return position, position + len(pcm)
