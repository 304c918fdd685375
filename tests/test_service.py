"""The engine's face: exact event lists, limits, errors that stay inside, deadlines over sessions, long takes."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from stream_fakes import FixedController, Host, IndexGenerator, IndexModel, request, stream_config

from attacca.engine.events import ChunkEvent, ListeningRestarted, Measures, TakeEnded, TakeStarted, Worked
from attacca.engine.generator import Sampling
from attacca.engine.service import Engine, EngineFull


def kinds(events: list[Any]) -> list[str]:
    """Events in short: planned and committed chunks with positions, the rest by name."""
    names = []
    for event in events:
        if isinstance(event, ChunkEvent):
            word = "commit" if event.committed else "plan"
            names.append(f"{word} {event.position}+{event.samples}{' last' if event.last else ''}")
        elif not isinstance(event, Worked | Measures):
            names.append(type(event).__name__)
    return names


def test_exact_event_list_of_a_take() -> None:
    host = Host(32000, block=1600)
    host.play(32000)
    host.engine.start(1, request(42000, position=32000, end_position=57000))
    host.play(30000)
    assert kinds(host.events) == [
        "plan 42000+2320",
        "TakeStarted",
        "commit 42000+2320",
        "plan 44320+5120",
        "commit 44320+5120",
        "plan 49440+5120",
        "commit 49440+5120",
        "plan 54560+2440 last",
        "commit 54560+2440 last",
        "TakeEnded",
    ]


def test_idle_means_an_empty_list_and_busy_never_does() -> None:
    host = Host(48000)
    assert host.engine.work() == []
    host.engine.listen(1, 0, np.zeros(4800, np.float32))
    busy = host.engine.work()
    assert busy == [Worked(session=1, take=None, seconds=0.0)]
    host.drain()
    assert host.engine.work() == []


def test_limits_refuse_and_name_themselves() -> None:
    engine = Engine(IndexModel(), max_sessions=2, max_takes=2, clock=lambda: 0.0, config=stream_config())
    for number in (1, 2):
        engine.open(number, sample_rate=48000, channels=2, controller=FixedController())
    with pytest.raises(EngineFull, match="2 sessions"):
        engine.open(3, sample_rate=48000, channels=2, controller=FixedController())
    with pytest.raises(ValueError, match="open already"):
        engine.open(1, sample_rate=48000, channels=2, controller=FixedController())
    engine.start(1, request(10**6, take=1, position=0))
    engine.start(1, request(10**6, take=1, position=0))
    engine.start(2, request(10**6, take=7, position=0))
    engine.start(2, request(10**6, take=8, position=0))
    engine.start(9, request(10**6, take=1, position=0))
    ended = [event for event in engine.work() if isinstance(event, TakeEnded)]
    assert [(event.session, event.take) for event in ended] == [(1, 1), (2, 8), (9, 1)]
    assert all(event.reason.startswith("refused: ") for event in ended)
    engine.close(1)
    engine.open(3, sample_rate=48000, channels=2, controller=FixedController())


@pytest.mark.parametrize(("rate", "channels"), [(7000, 1), (400_000, 1), (48000, 0), (48000, 65)])
def test_bad_sessions_are_refused(rate: int, channels: int) -> None:
    engine = Engine(IndexModel())
    with pytest.raises(ValueError, match="outside"):
        engine.open(1, sample_rate=rate, channels=channels, controller=FixedController())
    assert engine.sessions == ()


def test_close_ends_takes_once_and_frees_everything() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(24000)
    host.engine.start(1, request(900_000, position=72000, take=2))
    host.engine.close(1)
    host.engine.close(1)
    stop, *ended = host.engine.work()
    assert isinstance(stop, ChunkEvent)
    assert (stop.take, stop.samples, stop.committed, stop.last) == (1, 0, True, True)
    assert ended == [
        TakeEnded(session=1, take=1, reason="closed", position=host.head),
        TakeEnded(session=1, take=2, reason="closed", position=None),
    ]
    assert host.engine.work() == []
    assert host.engine.measures(1) is None


def test_commands_to_what_is_not_there_do_nothing() -> None:
    engine = Engine(IndexModel())
    engine.listen(5, 0, np.zeros(100, np.float32))
    engine.release(5, 1, 100)
    engine.cancel(5)
    engine.replan(5, None, 3)
    engine.advance(5, 100)
    engine.round_trip(5, 0.1)
    engine.set_realtime(5, False)
    engine.set_look_ahead(5, None)
    engine.set_sampling(5, temperature=0.5)
    assert not engine.rearm(5, 1, 0)
    engine.close(5)
    host = Host(48000)
    host.engine.release(1, 77, 100)
    host.engine.cancel(1, 77)
    host.engine.replan(1, 10, 2)
    assert engine.work() == host.engine.work() == []


def test_an_error_in_a_take_ends_that_take_only() -> None:
    host = Host(48000, model=IndexModel(fail_at=90))
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(60000)
    ended = [event for event in host.events if isinstance(event, TakeEnded)]
    assert [event.reason for event in ended] == ["error: FloatingPointError: made to fail"]
    assert ended[0].position == host.heard()[0] + len(host.heard()[1])
    measures = host.engine.measures(1)
    assert measures is not None
    assert measures.errors == 1
    host.engine.start(1, request(120_000, position=108_000, take=2, end_position=130_000))
    host.play(48000)
    assert host.heard(2)[0] == 120_000


def test_an_error_in_listening_restarts_it_only() -> None:
    class Deaf(IndexGenerator):
        def listen(self, codes: np.ndarray, conditions: np.ndarray) -> None:
            if self.frontier > 20:
                raise MemoryError("made to fail")
            super().listen(codes, conditions)

    class DeafModel(IndexModel):
        def generator(self) -> IndexGenerator:
            return Deaf()

    host = Host(32000, model=DeafModel())
    fresh = host.play(64000)
    assert {type(event) for event in fresh} == {ListeningRestarted}
    assert fresh[0].reason == "error: MemoryError: made to fail"
    host.engine.start(1, request(70000, position=64000, end_position=75000))
    host.play(16000)
    assert host.heard()[0] == 70000
    assert len(host.heard()[1]) == 5000


def test_a_controller_that_raises_ends_the_take() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(9600)

    def broken(positions: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("tempo")

    host.controller.bpm = broken
    host.play(48000)
    assert "error: ZeroDivisionError: tempo" in [e.reason for e in host.events if isinstance(e, TakeEnded)]


def test_cancel_says_where_the_sound_ends() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(24000)
    seq = max(event.seq for event in host.events if isinstance(event, ChunkEvent))
    host.engine.replan(1, host.head, 2)
    host.engine.cancel(1, 1)
    stop, ended = host.drain()
    assert isinstance(stop, ChunkEvent)
    assert (stop.position, stop.samples, stop.seq, stop.epoch) == (host.head, 0, seq + 1, 2)
    assert stop.committed and stop.last
    assert ended == TakeEnded(session=1, take=1, reason="cancelled", position=host.head)
    assert host.play(48000) == []


def test_sampling_changes_what_is_not_committed() -> None:
    def codes(temperature: float | None) -> np.ndarray:
        host = Host(48000)
        host.play(48000)
        host.engine.start(1, request(60000, position=48000, sampling=Sampling(seed=5), end_position=200_000))
        host.play(24000)
        codes.split = sum(chunk.frames for chunk in host.chunks())  # type: ignore[attr-defined]
        if temperature is not None:
            host.engine.set_sampling(1, temperature=temperature)
        host.play(150_000)
        return np.concatenate([chunk.codes for chunk in host.chunks()])

    plain, same, other = codes(None), codes(1.0), codes(0.3)
    split = codes.split  # type: ignore[attr-defined]
    assert np.array_equal(plain, same)
    assert np.array_equal(plain[:split], other[:split])
    assert not np.array_equal(plain[split : split + 1], other[split : split + 1])


@pytest.mark.parametrize("changes", [{"temperature": 9.0}, {"guidance": -1.0}, {"top_k": -1}])
def test_bad_sampling_is_refused_and_ends_nothing(changes: dict[str, Any]) -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(24000)
    with pytest.raises(ValueError, match=next(iter(changes))):
        host.engine.set_sampling(1, **changes)
    host.play(24000)
    assert not [event for event in host.events if isinstance(event, TakeEnded)]


def test_a_failed_take_ends_after_what_was_committed() -> None:
    host = Host(32000, model=IndexModel(fail_at=150))
    host.play(32000)
    host.engine.start(1, request(40000, position=32000, end_position=10**6))
    host.play(64000)
    *_, before, stop = host.chunks()
    assert (stop.position, stop.samples, stop.last) == (before.position + before.samples, 0, True)
    ended = next(event for event in host.events if isinstance(event, TakeEnded))
    assert ended.reason.startswith("error")
    assert ended.position == stop.position


def test_look_ahead_override_is_the_least_under_the_cap() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(24000)
    host.engine.set_look_ahead(1, 14400)
    host.play(480)
    measures = [event for event in host.events if isinstance(event, Measures)][-1]
    assert measures.target_samples == 14400
    assert 14400 <= host.heard()[0] + len(host.heard()[1]) - host.head < 14400 + 8 * 960
    with pytest.raises(ValueError, match="look-ahead"):
        host.engine.set_look_ahead(1, -1)


@dataclass
class Clock:
    """Every look at it takes a while."""

    now: float = 0.0
    tick: float = 0.001
    looks: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_earliest_deadline_goes_first() -> None:
    engine = Engine(IndexModel(), clock=lambda: 0.0, config=stream_config())
    for number in (1, 2, 3):
        engine.open(number, sample_rate=48000, channels=1, controller=FixedController())
        engine.set_realtime(number, False)
        engine.advance(number, 0)
    engine.start(1, request(30000, position=0))
    engine.start(2, request(10000, position=0))
    engine.start(3, request(20000, position=0))
    first_plan = []
    while len(first_plan) < 3:
        for event in engine.work():
            if isinstance(event, ChunkEvent) and event.session not in first_plan:
                first_plan.append(event.session)
    assert first_plan == [2, 3, 1]


def test_a_busy_take_does_not_starve_listening() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(50000, position=48000))
    host.drain()
    for i in range(40):
        host.engine.listen(1, 48000 + i * 960, np.zeros(960, np.float32))
    host.engine.advance(1, 48000 + 200_000)  # the take is hopelessly late
    for _ in range(200):
        host.engine.work()
    assert host.engine._sessions[1].listener.pending_samples < 0.4 * 48000


def test_measures_are_ratios_of_compute_to_sound() -> None:
    clock = Clock()
    engine = Engine(IndexModel(), clock=clock, config=stream_config())
    engine.open(1, sample_rate=48000, channels=1, controller=FixedController())
    engine.set_realtime(1, False)
    engine.start(1, request(1000, position=0))
    events: list[Any] = []
    engine._costs.listened(0.002, 1)  # nothing is heard here: 2 ms a frame of 20 ms
    for head in range(0, 48000, 480):
        engine.advance(1, head)
        while batch := engine.work():
            events += batch
    measures = [event for event in events if isinstance(event, Measures)][-1]
    chunks = [event for event in events if isinstance(event, ChunkEvent) and not event.committed]
    slices = -(-(chunks[-1].first_frame + chunks[-1].frames) // 16)
    assert measures.rtf_total == pytest.approx(measures.rtf_decoder + measures.rtf_codec + 0.1)
    assert 0.0 < measures.rtf_codec < 0.1
    assert 0.0 < measures.rtf_decoder < 0.1
    assert slices >= 1
    assert all(event.seconds > 0 for event in events if isinstance(event, Worked))


def test_late_chunks_are_counted_and_stay_in_phase() -> None:
    host = Host(48000)
    host.engine.set_realtime(1, True)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    host.play(24000)
    host.engine.advance(1, host.head + 30000)
    host.head += 30000
    host.drain()
    measures = host.engine.measures(1)
    assert measures is not None
    assert measures.late_chunks > 0
    position, pcm = host.heard()
    assert np.abs(pcm - host.model_index(position, len(pcm))).max() < 0.5


def test_two_takes_of_one_session_and_two_sessions_do_not_mix() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000, end_position=90000))
    host.engine.start(1, request(55000, position=48000, end_position=80000, take=2))
    host.play(60000)
    for take, (start, end) in {1: (60000, 90000), 2: (55000, 80000)}.items():
        position, pcm = host.heard(take)
        assert (position, position + len(pcm)) == (start, end)
        assert np.abs(pcm - host.model_index(position, len(pcm))).max() < 0.5


def test_ten_minutes_flat_out_stay_flat() -> None:
    host = Host(32000, block=6400)
    host.play(32000)
    host.engine.start(1, request(40000, position=32000))
    frames: list[int] = []
    kept = 0
    for minute in range(10):
        if minute == 8:
            tracemalloc.start()
        host.play(60 * 32000)
        host.events.clear()
        take = host.engine._sessions[1].takes[1]
        frames.append(take.meters.generated_frames)
        assert len(take._state.history) <= 8
        if minute == 8:
            kept = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    assert kept < 1_000_000  # of a minute with 8 MB of audio: what replaced older state, and no more
    assert set(np.diff(frames)) <= set(range(2990, 3011))
    end = take.committed_end
    assert end is not None
    assert 5120 + 6400 <= end - host.head < 5120 + 6400 + 5120


def test_a_take_starts_once() -> None:
    host = Host(44100)
    host.play(44100)
    host.engine.start(1, request(50000, position=44100, sampling=Sampling(seed=11)))
    host.play(44100)
    started = [event for event in host.events if isinstance(event, TakeStarted)]
    assert started == [
        TakeStarted(
            session=1, take=1, epoch=1, start_position=50000, requested_position=50000, context_frames=49, seed=11
        )
    ]
