"""Continuing a recording as fast as possible: the live path's session and take, with a play head that never waits.

Used by `attacca continue` and by quality measures. What comes out is what a host would have heard that played the
recording and triggered at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from .conditioning import INSTRUMENTS, Controls
from .events import ChunkEvent, Controller, Measures, Model, Pcm, TakeEnded, TakeRequest
from .generator import Codes, Sampling
from .service import Engine
from .stream import StreamConfig

MAX_SECONDS = 3600.0
_SESSION = 0
_TAKE = 0


@dataclass(frozen=True, kw_only=True)
class SteadyController:
    """One tempo, meter and style throughout, bar 0 at position 0; nothing else commanded. Implements Controller.

    A tempo of None leaves beat and tempo uncommanded too, a style of None the style.
    """

    sample_rate: int
    bpm: float | None = None  # quarter notes per minute
    meter_num: int = 4
    meter_den: int = 4
    style: int | None = None

    def __post_init__(self) -> None:
        if self.bpm is not None and not 20.0 <= self.bpm <= 400.0:
            raise ValueError(f"SteadyController.bpm {self.bpm} is outside 20..400")
        for name in ("meter_num", "meter_den"):
            if not 1 <= getattr(self, name) <= 64:
                raise ValueError(f"SteadyController.{name} {getattr(self, name)} is outside 1..64")

    def controls(self, positions: npt.NDArray[np.float64]) -> Controls:
        """Commands at stream positions [n]. Any thread."""
        n = len(positions)
        bpm = 120.0 if self.bpm is None else self.bpm
        ppq = positions / self.sample_rate * bpm / 60.0
        bar_ppq = self.meter_num * 4.0 / self.meter_den
        return Controls(
            ppq=ppq,
            bar_start_ppq=np.floor(ppq / bar_ppq) * bar_ppq,
            bpm=np.full(n, bpm),
            meter_num=np.full(n, self.meter_num, np.int16),
            meter_den=np.full(n, self.meter_den, np.int16),
            pitch_classes=np.zeros((n, 12), np.bool_),
            instruments=np.zeros((n, len(INSTRUMENTS)), np.bool_),
            style=np.full(n, self.style or 0, np.int16),
            beat_known=np.full(n, self.bpm is not None),
            chord_known=np.zeros(n, np.bool_),
            instruments_known=np.zeros(n, np.bool_),
            style_known=np.full(n, self.style is not None),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuation:
    """What followed a recording."""

    pcm: Pcm  # [samples, channels] at the recording's rate; its first sample follows the recording's last
    codes: Codes  # [frames, K] behind it
    measures: Measures
    seconds: float  # compute, listening included


def continue_offline(
    model: Model,
    audio: Pcm,
    sample_rate: int,
    *,
    seconds: float,
    controller: Controller | None = None,
    sampling: Sampling | None = None,
    context_s: float = 30.0,
    config: StreamConfig | None = None,
    progress: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Continuation:
    """Continue `audio`, float32 [n] or [n, channels], by `seconds`.

    Position 0, where the controller's bar 0 is, is the first sample; the last `context_s` are heard. `progress` is
    told the share done, 0..1. ValueError for what is out of range, RuntimeError if the model fails. Any thread;
    it returns when all is done.
    """
    if not 0.0 < seconds <= MAX_SECONDS:
        raise ValueError(f"seconds {seconds} is outside 0..{MAX_SECONDS}")
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio has shape {audio.shape}, allowed: [samples] or [samples, channels]")
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    began, start = clock(), len(audio)
    end = start + ceil(seconds * sample_rate)
    engine = Engine(model, max_sessions=1, max_takes=1, config=config, clock=clock)
    if controller is None:
        controller = SteadyController(sample_rate=sample_rate)
    engine.open(_SESSION, sample_rate=sample_rate, channels=channels, controller=controller)
    engine.set_realtime(_SESSION, False)
    for position in range(max(0, start - ceil(context_s * sample_rate)), start, sample_rate):
        engine.advance(_SESSION, position)
        engine.listen(_SESSION, position, audio[position : min(position + sample_rate, start)])
        while engine.work():
            pass
    engine.advance(_SESSION, start)
    request = TakeRequest(
        take=_TAKE,
        epoch=0,
        position=start,
        start_position=start,
        end_position=end,
        sampling=sampling or Sampling(),
    )
    engine.start(_SESSION, request)
    chunks, measures = _play(engine, start, end, progress)
    return Continuation(
        pcm=np.concatenate([chunk.pcm for chunk in chunks]),
        codes=np.concatenate([chunk.codes for chunk in chunks]),
        measures=measures,
        seconds=clock() - began,
    )


def _play(
    engine: Engine, start: int, end: int, progress: Callable[[float], None] | None
) -> tuple[list[ChunkEvent], Measures]:
    """Work until the take has ended, the play head always at the end of what is committed."""
    chunks: list[ChunkEvent] = []
    measures = Measures(session=_SESSION)
    while events := engine.work():
        for event in events:
            if isinstance(event, ChunkEvent) and event.committed:
                chunks.append(event)
                engine.advance(_SESSION, event.position + event.samples)
                if progress is not None:
                    progress((event.position + event.samples - start) / (end - start))
            elif isinstance(event, Measures):
                measures = event
            elif isinstance(event, TakeEnded):
                if event.reason != "end":
                    raise RuntimeError(f"the continuation ended: {event.reason}")
                return chunks, measures
    raise RuntimeError("the continuation ended without a last chunk")
