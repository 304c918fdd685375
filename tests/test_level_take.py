"""Takes held to the level of what was played, through a whole session; and when they are not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

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
    frame_of,
    request,
)

from attacca.bridge.config import Settings
from attacca.bridge.loading import load_model, sampling_flags
from attacca.engine import anew
from attacca.engine import take as take_module
from attacca.engine.bundle import find_bundle
from attacca.engine.events import ChunkEvent, Event, Measures
from attacca.engine.hold import Hold, hold_of
from attacca.engine.leveller import LevelConfig
from attacca.engine.manifest import HoldSection, read_manifest
from attacca.engine.offline import SteadyController, continue_offline
from attacca.engine.rehearsal import SLICE_FRAMES
from attacca.engine.take import Take

RATE = MODEL_RATE
PLAYED_S = 6


def played(positions: np.ndarray) -> np.ndarray:
    """White noise at -14 dBFS, the same at the same position; a pause in the last second."""
    rng = np.random.default_rng(int(positions[0]))
    return 0.2 * rng.standard_normal(len(positions)) * (positions < (PLAYED_S - 1) * RATE)


class DriftDecoder(IndexDecoder):
    """Noise by its frame's number, louder by 0.6 dB each second after `PLAYED_S` of frames, up to 12 dB."""

    def push(self, codes: np.ndarray) -> np.ndarray:
        frames = frame_of(codes)
        louder = np.clip((frames * HOP / MODEL_RATE - PLAYED_S) * 0.6, 0.0, 12.0)
        noise = [np.random.default_rng(int(frame)).standard_normal(HOP) for frame in frames]
        return (0.2 * 10.0 ** (louder / 20.0)[:, None] * np.array(noise)).reshape(-1).astype(np.float32)


@dataclass
class DriftModel(IndexModel):
    """Its takes drift; `hold` says what is done about it."""

    delay_samples: int = 0
    hold: Hold = Hold(level=LevelConfig(lost_db=20.0))  # noqa: RUF009

    def decoder(self) -> DriftDecoder:
        return DriftDecoder(0)


def take_of(model: IndexModel, seconds: int, *, epoch_at_s: float | None = None) -> tuple[Host, np.ndarray]:
    host = Host(RATE, model=model, block=RATE // 4, chunk_frames=32)
    host.play(PLAYED_S * RATE, played)
    start = host.head + RATE // 2
    host.engine.start(1, request(start, position=host.head))
    epoch = 1
    for second in range(seconds + 1):
        host.play(RATE)
        if epoch_at_s is not None and second == epoch_at_s:
            host.engine.replan(1, host.head, epoch=(epoch := epoch + 1))
    sound = np.zeros(0)
    for chunk in host.chunks():
        at = chunk.position - start
        assert 0 <= at <= len(sound)
        sound = np.concatenate([sound[:at], chunk.pcm[:, 0]])
    return host, sound[: seconds * RATE]


def levels(sound: np.ndarray, every_s: float = 1.0) -> np.ndarray:
    parts = sound[: len(sound) // round(every_s * RATE) * round(every_s * RATE)].reshape(-1, round(every_s * RATE))
    return 10.0 * np.log10(np.mean(parts.astype(np.float64) ** 2, axis=1))


def test_a_drifting_take_stays_where_the_phrase_was() -> None:
    host, held = take_of(DriftModel(), 24)
    _, bare = take_of(DriftModel(hold=Hold()), 24)
    assert levels(bare)[-1] == pytest.approx(-2.0, abs=0.3)
    assert levels(held).max() < -9.6
    assert levels(held)[-1] == pytest.approx(-10.9, abs=0.3)
    within = int(np.argmax(levels(bare) > -11.5))
    assert np.array_equal(held[: within * RATE], bare[: within * RATE])
    measures = [event for event in host.events if isinstance(event, Measures) and event.take == 1]
    assert measures[0].level_gain_db == 0.0
    assert measures[-1].level_gain_db == pytest.approx(-8.9, abs=0.4)


def test_chunks_of_any_size_and_a_new_epoch_leave_no_jump() -> None:
    _, held = take_of(DriftModel(), 14)
    _, again = take_of(DriftModel(), 14, epoch_at_s=11)
    assert len(again) == len(held)
    assert np.array_equal(again, held)


class RunawayDecoder(IndexDecoder):
    """Noise by its frame's number, louder by 3 dB for each second that the player made itself, up to 40 dB."""

    def push(self, codes: np.ndarray) -> np.ndarray:
        louder = np.clip(codes[:, 2].astype(float) * HOP / MODEL_RATE * 3.0, 0.0, 40.0)
        noise = [np.random.default_rng(int(frame)).standard_normal(HOP) for frame in frame_of(codes)]
        return (0.02 * 10.0 ** (louder / 20.0)[:, None] * np.array(noise)).reshape(-1).astype(np.float32)


@dataclass
class RunawayModel(DriftModel):
    def generator(self) -> LoosePlayer:
        return LoosePlayer()

    def decoder(self) -> RunawayDecoder:
        return RunawayDecoder(0)


def test_a_take_that_runs_away_begins_anew_at_a_bar_line() -> None:
    heard = (0.02 * np.random.default_rng(1).standard_normal(8 * RATE)).astype(np.float32)

    def made(hold: Hold) -> np.ndarray:
        model = RunawayModel(hold=hold)
        pcm = continue_offline(
            model, heard, RATE, seconds=60, controller=SteadyController(sample_rate=RATE, bpm=120.0)
        ).pcm
        return levels(pcm.reshape(len(pcm), -1)[:, 0], 0.5)

    free, held = made(Hold()), made(Hold(level=LevelConfig()))
    assert len(free) == len(held) == 120
    assert free[-1] == pytest.approx(-34.0 + 40.0, abs=0.5)
    begun = np.flatnonzero(np.diff(held) < -6.0) + 1
    assert len(begun) >= 3 and (begun % 4 == 0).all()  # bars of two seconds
    assert held.max() < -34.0 + 16.0
    for start in begun:
        assert held[start] == pytest.approx(-34.0, abs=3.0)


Slices = list[tuple[int, bool]]  # frames of the phrase heard in each, and whether ahead of the bar line


def runaway(monkeypatch: pytest.MonkeyPatch, *, told_every_s: float = 0.0) -> tuple[Host, np.ndarray, Slices]:
    """A take that runs away, for 16 s; its sound, and the slices in which it heard the phrase once more."""
    forced, slices = [0], []
    force, work = LoosePlayer.force, Take.work

    def counted(self: LoosePlayer, codes: np.ndarray, source: object) -> None:
        forced[0] += len(codes)
        force(self, codes, source)

    def sliced(self: Take, head: int) -> list[Event]:
        before, bar, end = forced[0], self._state.anew_at, self.committed_end
        events = work(self, head)
        if forced[0] > before:
            assert bar is not None and end is not None
            slices.append((forced[0] - before, end < bar))
        return events

    with monkeypatch.context() as patch:
        patch.setattr(LoosePlayer, "force", counted)
        patch.setattr(Take, "work", sliced)
        controller = SteadyController(sample_rate=RATE, bpm=120.0)
        host = Host(RATE, model=RunawayModel(hold=Hold(level=LevelConfig())), block=1600, controller=controller)
        host.play(8 * RATE, lambda at: 0.02 * np.random.default_rng(int(at[0])).standard_normal(len(at)))
        start = host.head + RATE // 2
        host.engine.start(1, request(start, position=host.head))
        for turn in range(320):
            host.play(RATE // 20)
            if told_every_s and turn % round(20 * told_every_s) == 0:
                host.engine.replan(1, host.head if turn % 2 else None)
            if told_every_s and turn % 45 == 44:
                host.engine.replan(1, host.head, epoch=turn)
    sound = np.zeros(0)
    for chunk in host.chunks():
        sound = np.concatenate([sound[: chunk.position - start], chunk.pcm[:, 0]])
    return host, sound, slices


def test_the_phrase_is_heard_in_short_slices_before_the_bar_line(monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, slices = runaway(monkeypatch)
    measured = host.engine.measures(1, 1)
    assert measured is not None and measured.new_beginnings >= 2
    assert max(frames for frames, _ in slices) == SLICE_FRAMES
    assert all(ahead for _, ahead in slices)
    phrase = sum(frames for frames, _ in slices) / measured.new_beginnings
    assert phrase == 4.0 * MODEL_RATE / HOP  # each time all of it, none of it twice


def test_what_is_heard_ahead_of_the_bar_line_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ahead, slices = runaway(monkeypatch, told_every_s=0.25)
    assert any(early for _, early in slices)
    monkeypatch.setattr(anew, "may_rehearse", lambda state, planner: False)
    monkeypatch.setattr(take_module, "may_rehearse", lambda state, planner: False)
    _, late, slices = runaway(monkeypatch, told_every_s=0.25)
    assert slices and not any(early for _, early in slices)
    assert len(ahead) > 15 * RATE and np.array_equal(ahead, late)


def test_the_manifest_and_the_user_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold_of(IndexModel()) == Hold()
    model = load_model(Settings())
    assert hold_of(model).level == LevelConfig()
    assert hold_of(load_model(Settings(hold_level=False))).level is None
    stated = msgspec.structs.replace(read_manifest(find_bundle("ostinato")), hold=HoldSection(level=False))
    assert hold_of(replace(model, manifest=stated)).level is None
    assert sampling_flags(Settings()) == ()
    assert sampling_flags(Settings(hold_level=False, guidance=2.0)) == ("--guidance", "2.0", "--no-hold-level")


def test_a_take_is_replayed_bit_exactly_from_a_snapshot() -> None:
    host, _ = take_of(DriftModel(), 16)
    session = host.engine._sessions[1]
    take, head = session.takes[1], host.head
    saved = take.snapshot()

    def on() -> list[np.ndarray]:
        events = list(itertools.chain.from_iterable(take.work(head + i * HOP) for i in range(200)))
        return [event.pcm for event in events if isinstance(event, ChunkEvent) and event.committed]

    first = on()
    take.restore(saved)
    second = on()
    assert len(first) == len(second) > 2
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
