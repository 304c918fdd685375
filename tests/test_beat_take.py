"""Takes of a model that drifts from the beat by a known amount, held to the host's grid through a whole session."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import msgspec
import numpy as np
import pytest
from stream_fakes import (
    HOP,
    MODEL_RATE,
    Host,
    IndexDecoder,
    IndexModel,
    LoosePlayer,
    exact,
    frame_of,
)
from stream_fakes import request as request_of

from attacca.bridge.config import Settings
from attacca.bridge.loading import load_model, sampling_flags
from attacca.bridge.protocol import Status
from attacca.bridge.session_status import MEASURED
from attacca.engine.beat_lock import LockConfig
from attacca.engine.events import ChunkEvent, Measures
from attacca.engine.hold import Hold, hold_of
from attacca.engine.manifest import HoldSection
from attacca.engine.offline import Continuation, SteadyController, continue_offline

BEAT = MODEL_RATE // 2  # 120 BPM
PLAYED_S = 8
HELD = Hold(beat=LockConfig())
_RINGS = np.arange(MODEL_RATE // 4)
STROKE = (
    0.5 * np.exp(-_RINGS / (0.02 * MODEL_RATE)) * np.random.default_rng(7).standard_normal(len(_RINGS))
).astype(np.float32)


class Drummer(IndexDecoder):
    """A struck noise on every beat; what the player made itself goes `tempo` times as fast as what was heard."""

    def __init__(self, tempo: float) -> None:
        super().__init__(0)
        self.tempo = tempo

    def reset(self) -> None:
        self.ring = 0  # samples since the last beat

    def snapshot(self) -> Any:
        return self.ring

    def restore(self, state: Any) -> None:
        self.ring = state

    def push(self, codes: np.ndarray) -> np.ndarray:
        made = np.maximum(codes[:, 2].astype(np.int64) - 1, 0)
        heard = frame_of(codes) - made
        inside = np.arange(HOP)
        beats = (heard[:, None] * HOP + (made[:, None] * HOP + inside) * self.tempo) / BEAT
        starts = (np.floor(beats + self.tempo / BEAT) > np.floor(beats)).ravel()
        at = np.arange(len(starts))
        since = at - np.maximum.accumulate(np.where(starts, at, -1 - self.ring))
        self.ring = int(since[-1]) if len(since) else self.ring
        return STROKE[np.minimum(since, len(STROKE) - 1)]


@dataclass
class LooseModel(IndexModel):
    """Starts in time and then goes `tempo` times as fast as the host."""

    tempo: float = 1.01
    delay_samples: int = 0
    hold: Hold = HELD

    def generator(self) -> LoosePlayer:
        return LoosePlayer()

    def decoder(self) -> Drummer:
        return Drummer(self.tempo)


def played_on(rate: int, seconds: int, **model: Any) -> Continuation:
    return continue_offline(
        LooseModel(**model),
        np.zeros(PLAYED_S * rate, np.float32),
        rate,
        seconds=seconds,
        controller=SteadyController(sample_rate=rate, bpm=120.0),
    )


def late_ms(pcm: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """How late each stroke is after the nearest beat, where the first sample is on one; and when it comes, in s."""
    sound = np.abs(pcm.reshape(len(pcm), -1)[:, 0])
    loud = np.flatnonzero(sound > 0.1)
    strokes = loud[np.diff(loud, prepend=-rate) > rate // 50] / rate
    return 1000.0 * (strokes - np.round(strokes * 2.0) / 2.0), strokes


@pytest.mark.parametrize(
    ("rate", "tempo", "seconds"),
    [
        (MODEL_RATE, 1.01, 16),
        pytest.param(48000, 0.985, 60, marks=pytest.mark.slow),
        pytest.param(44100, 1.01, 300, marks=pytest.mark.slow),
    ],
)
def test_a_take_of_a_drifting_model_lies_on_the_grid(rate: int, tempo: float, seconds: int) -> None:
    made = played_on(rate, seconds, tempo=tempo)
    assert len(made.pcm) == seconds * rate
    late, _ = late_ms(made.pcm, rate)
    assert len(late) == 2 * seconds  # none lost, none twice
    assert np.abs(late).max() < 25.0
    assert np.abs(late[10:]).max() < 10.0
    assert made.measures.new_beginnings == 0
    assert abs(made.measures.beat_error_ms) < 10.0
    wanted = -1000.0 * seconds * (tempo - 1.0)
    assert made.measures.drift_ms == pytest.approx(wanted, abs=60.0)


def test_a_take_that_is_not_held_drifts() -> None:
    made = played_on(MODEL_RATE, 16, tempo=1.01, hold=Hold())
    late, _ = late_ms(made.pcm, MODEL_RATE)
    assert late.min() == pytest.approx(-160.0, abs=10.0)
    assert made.measures.drift_ms == 0.0


def test_a_take_in_time_is_not_touched() -> None:
    assert np.array_equal(played_on(48000, 8, tempo=1.0).pcm, played_on(48000, 8, tempo=1.0, hold=Hold()).pcm)


def test_what_stretch_cannot_repair_begins_anew_at_a_bar() -> None:
    made = played_on(MODEL_RATE, 16, tempo=1.035)
    assert len(made.pcm) == 16 * MODEL_RATE
    assert made.measures.new_beginnings >= 2
    late, strokes = late_ms(made.pcm, MODEL_RATE)
    assert np.abs(late).max() < 100.0
    anew = [at for at in range(2, 16, 2) if np.abs(late[np.abs(strokes - at) < 0.01]).min(initial=99.0) < 2.0]
    assert len(anew) == made.measures.new_beginnings


def test_samples_lie_where_they_belong_through_the_lock() -> None:
    model = IndexModel()
    model.hold = HELD  # type: ignore[attr-defined]
    host = Host(44100, model=model, controller=SteadyController(sample_rate=44100, bpm=120.0))
    host.play(2 * 44100)
    host.engine.start(1, request_of(host.head + 22050, position=host.head))
    host.play(3 * 44100)
    position, end = exact(host)
    assert position == 2 * 44100 + 22050
    assert end > 5 * 44100


def drumming(
    seconds: int, *, tempo: float, epoch_at_s: int | None = None, **config: Any
) -> tuple[Host, np.ndarray]:
    rate = MODEL_RATE
    controller = SteadyController(sample_rate=rate, bpm=120.0)
    host = Host(rate, model=LooseModel(tempo=tempo), block=rate // 4, controller=controller, **config)
    host.play(PLAYED_S * rate)
    start = host.head + rate // 2
    host.engine.start(1, request_of(start, position=host.head))
    for second in range(seconds + 1):
        host.play(rate)
        if second == epoch_at_s:
            host.engine.replan(1, host.head - rate // 100, epoch=2)
    sound = np.zeros(0)
    for chunk in host.chunks():
        at = chunk.position - start
        assert 0 <= at <= len(sound)  # no hole
        sound = np.concatenate([sound[:at], chunk.pcm[:, 0]])
    return host, sound[: seconds * rate]


@pytest.mark.parametrize("tempo", [1.015, 1.035])
def test_a_new_epoch_goes_on_as_if_there_had_been_none(tempo: float) -> None:
    _, straight = drumming(8, tempo=tempo)
    _, again = drumming(8, tempo=tempo, epoch_at_s=6)
    assert np.array_equal(straight[: 6 * MODEL_RATE], again[: 6 * MODEL_RATE])
    if tempo < 1.03:  # else the bar at which to begin anew may be another
        assert np.array_equal(straight, again)


def test_chunks_of_any_size_and_frames_where_they_are_heard() -> None:
    host, sound = drumming(5, tempo=1.015)
    _, small = drumming(5, tempo=1.015, chunk_frames=3)
    assert np.array_equal(sound, small)
    chunker = host.engine._sessions[1].takes[1]._planner.chunker
    last = chunker.next_frame
    moved = chunker.position_of_frame(last) - chunker.base.position_of_frame(last)
    assert moved > 0.05 * MODEL_RATE  # 5 s at 1.5 % too fast: 75 ms, less what is yet to come
    for frame in range(last - 250, last):
        position = ceil(chunker.position_of_frame(frame))
        assert chunker.frame_at(position) in (frame, frame + 1)  # the latter where its first samples are left out
        assert chunker.first_frame_for(position) <= frame <= chunker.last_frame_for(position)


@pytest.mark.parametrize("tempo", [1.015, 1.035])
def test_a_held_take_is_replayed_bit_exactly(tempo: float) -> None:
    host, _ = drumming(5, tempo=tempo)
    take, head = host.engine._sessions[1].takes[1], host.head
    saved = take.snapshot()

    def on() -> np.ndarray:
        events = list(itertools.chain.from_iterable(take.work(head + i * HOP) for i in range(250)))
        return np.concatenate([e.pcm for e in events if isinstance(e, ChunkEvent) and e.committed])

    first = on()
    take.restore(saved)
    assert np.array_equal(on(), first)
    assert len(first) > 4 * MODEL_RATE


def test_a_status_says_what_the_measures_say() -> None:
    held = {"level_gain_db", "drift_ms", "beat_error_ms", "new_beginnings"}
    for table in (MEASURED, Measures.__dataclass_fields__, Status.__struct_fields__):
        assert held <= set(table)


def test_ostinato_is_told_the_beat_and_a_manifest_may_ask() -> None:
    model: Any = load_model(Settings())
    assert hold_of(model).beat is None
    asked = msgspec.structs.replace(model.manifest, hold=HoldSection(beat=True))
    assert hold_of(replace(model, manifest=asked)).beat == LockConfig()
    unasked: Any = load_model(Settings(hold_beat=False))
    assert hold_of(unasked).beat is None
    assert unasked.manifest.hold == HoldSection(beat=False)
    assert sampling_flags(Settings(hold_beat=False)) == ("--no-hold-beat",)
    deaf = msgspec.structs.replace(asked, hold=msgspec.UNSET, conditioning=replace_conditioning(asked))
    assert hold_of(replace(model, manifest=deaf)).beat == LockConfig()


def replace_conditioning(manifest: Any) -> Any:
    return msgspec.structs.replace(manifest.conditioning, width=0, groups=())
