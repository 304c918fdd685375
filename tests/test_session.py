"""A session played by a bouncing host: exact starts and ends, epochs, late policies."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import HOP, MODEL_RATE, Host, IndexModel, exact, frame_of, request

from attacca.engine.events import (
    ChunkEvent,
    LatePolicy,
    Measures,
    TakeEnded,
    TakeStarted,
    Worked,
)

RATES = [22050, 32000, 44100, 48000, 96000]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATES),
    st.sampled_from([1, 3, 64, 441, 512, 4096]),
    st.integers(-(10**9), 10**9),
    st.integers(0, 70000),
    st.integers(0, 30000),
    st.integers(0, 3000),
)
def test_start_error_is_zero(rate: int, block: int, origin: int, listened: int, ahead: int, delay: int) -> None:
    host = Host(rate, block=max(block, 64), origin=origin, model=IndexModel(delay_samples=delay))
    host.play(listened // (20 if block < 64 else 1))
    host.block = block if block >= 64 else 500
    start = host.head + ahead
    end = start + rate // 3
    host.engine.start(1, request(start, position=host.head, end_position=end))
    host.drain()
    host.play(ahead + rate)
    assert exact(host) == (start, end)
    started = [event for event in host.events if isinstance(event, TakeStarted)]
    assert [event.start_position for event in started] == [start]
    assert host.events[-1] == Worked(session=1, take=None, seconds=0.0)
    assert [e for e in host.events if isinstance(e, TakeEnded)] == [
        TakeEnded(session=1, take=1, reason="end", position=end)
    ]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(RATES), st.integers(0, 70000), st.integers(0, 30000), st.integers(0, 5000))
def test_an_encoder_that_looks_ahead_moves_no_start(rate: int, listened: int, ahead: int, look_ahead: int) -> None:
    host = Host(rate, block=441, model=IndexModel(look_ahead_samples=look_ahead))
    host.play(listened)
    start = host.head + ahead
    host.engine.start(1, request(start, position=host.head, end_position=start + rate // 3))
    host.drain()
    host.play(ahead + rate)
    assert exact(host) == (start, start + rate // 3)
    [started] = [event for event in host.events if isinstance(event, TakeStarted)]
    known = host.engine._sessions[1].listener.generator.frontier
    heard = host.head * MODEL_RATE // rate
    assert known * HOP <= max(0, heard - look_ahead)
    assert started.context_frames * HOP <= max(0, listened * MODEL_RATE / rate - look_ahead)


@pytest.mark.parametrize("block", [1, 3])
def test_tiny_blocks(block: int) -> None:
    host = Host(32000, block=block)
    host.play(2000)
    host.engine.start(1, request(2777, position=2000, end_position=4001))
    host.play(2100)
    assert exact(host) == (2777, 4001)


def test_committed_no_further_than_play_head_and_target() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000))
    for _ in range(200):
        host.play(480)
        for measures in (e for e in host.events[-40:] if isinstance(e, Measures)):
            assert measures.look_ahead_samples <= measures.target_samples + 8 * HOP * 3 // 2
            assert measures.target_samples == 8 * HOP * 3 // 2 + 480
            assert measures.late_chunks == 0
    assert exact(host)[1] >= host.head + 8 * HOP * 3 // 2


def test_nothing_heard_before_still_starts_exactly() -> None:
    host = Host(48000, origin=5000)
    host.engine.start(1, request(9000, position=5000, end_position=20000))
    host.drain()
    for head in range(5000, 30000, 480):
        host.engine.advance(1, head)
        host.drain()
    assert exact(host) == (9000, 20000)  # model time 0 is the trigger


def test_trigger_long_after_the_audio_ended_goes_on_from_now() -> None:
    host = Host(32000)
    host.play(64000)
    host.engine.advance(1, 640_000)
    host.head = 640_000
    host.engine.start(1, request(648_000, position=640_000, end_position=656_000))
    host.drain()
    for head in range(640_000, 660_000, 480):
        host.engine.advance(1, head)
        host.drain()
    position, pcm = host.heard()
    assert position == 648_000
    assert pcm[0] == 64000 + 8000  # the context's end lies at the trigger
    assert len(pcm) == 8000


def test_release_cuts_at_the_sample() -> None:
    host = Host(44100)
    host.play(44100)
    host.engine.start(1, request(50000, position=44100))
    host.play(20000)
    end = host.heard()[0] + len(host.heard()[1]) + 777
    host.engine.release(1, 1, end)
    host.play(30000)
    assert exact(host) == (50000, end)
    assert host.chunks()[-1].last


def test_release_inside_what_was_committed_sends_an_empty_last_chunk() -> None:
    host = Host(44100)
    host.play(44100)
    host.engine.start(1, request(50000, position=44100))
    host.play(20000)
    host.engine.release(1, 1, host.head + 10)
    fresh = host.drain()
    assert [type(event) for event in fresh] == [ChunkEvent, Measures, TakeEnded]
    chunk = fresh[0]
    assert (chunk.position, chunk.samples, chunk.last, chunk.committed) == (host.head + 10, 0, True, True)
    assert chunk.pcm.shape == (0, 1)
    assert fresh[2].reason == "end"
    assert host.play(5000) == []


def test_release_before_the_start_makes_no_sound() -> None:
    host = Host(44100)
    host.play(44100)
    host.engine.start(1, request(80000, position=44100))
    host.play(1000)
    host.engine.release(1, 1, 79999)
    assert host.drain() == [TakeEnded(session=1, take=1, reason="end", position=None)]


def late_host(**changes: object) -> Host:
    """Real time: the host stands at 48000, its blocks are 480, and the trigger wants sound at 48100."""
    host = Host(48000)
    host.engine.set_realtime(1, True)
    host.play(48000)
    host.engine.start(1, request(48100, position=48000, **changes))
    return host


def test_join_enters_in_phase_at_the_first_possible_sample() -> None:
    host = late_host(end_position=60000)
    host.drain()
    host.play(20000)
    margin = 480 + 240  # a block and 5 ms
    assert exact(host) == (48000 + margin, 60000)


def test_join_after_a_stall_skips_what_cannot_be_there() -> None:
    host = late_host()
    slices = 0
    while not any(isinstance(event, ChunkEvent) for event in host.engine.work()):
        slices += 1
        host.engine.advance(1, 48000 + 480 * slices)
    head = 48000 + 480 * slices
    host.drain()
    host.head = head
    host.play(5000)
    first = host.chunks()[0]
    assert first.position >= head - 480
    exact(host)


def test_wait_moves_start_and_end_to_the_next_quantum() -> None:
    host = late_host(late=LatePolicy.WAIT, next_launch=lambda p: -(-p // 12000) * 12000, end_position=58100)
    host.play(40000)
    assert exact(host) == (60000, 70000)
    started = next(event for event in host.events if isinstance(event, TakeStarted))
    assert (started.start_position, started.requested_position) == (60000, 48100)


def test_wait_counts_bars_from_the_new_start() -> None:
    host = late_host(
        late=LatePolicy.WAIT,
        next_launch=lambda p: -(-p // 12000) * 12000,
        end_position=58100,
        bars=2,
        bar_position=lambda start, bars: start + Fraction(bars * 12345, 2),
    )
    host.play(40000)
    assert exact(host) == (60000, 72345)


def test_wait_that_can_be_met_is_not_moved() -> None:
    host = late_host()
    host.engine.cancel(1)
    host.engine.start(
        1,
        replace(
            request(60000, position=48000, end_position=61000),
            late=LatePolicy.WAIT,
            next_launch=lambda p: -(-p // 12000) * 12000,
        ),
    )
    host.play(20000)
    assert exact(host) == (60000, 61000)


def tempo_host(rate: int = 48000) -> Host:
    host = Host(rate)
    host.play(rate)
    host.engine.start(1, request(rate + 10000, position=rate))
    host.play(rate)
    return host


def marks(chunks: list[ChunkEvent]) -> dict[int, int]:
    """What commanded each frame."""
    found: dict[int, int] = {}
    for chunk in chunks:
        found.update(zip(frame_of(chunk.codes).tolist(), chunk.codes[:, 2].tolist(), strict=True))
    return found


def test_replan_keeps_what_is_committed_and_changes_what_follows() -> None:
    host = tempo_host()
    committed = host.chunks()
    before = marks(committed)
    host.controller.bpm = lambda positions: np.full(len(positions), 60.0)
    host.engine.replan(1, None)
    host.play(30000)
    after = marks(host.chunks())
    (old_mark,) = set(before.values())
    assert {frame: after[frame] for frame in before} == before
    assert old_mark not in {mark for frame, mark in after.items() if frame not in before}
    exact(host)
    latency = [e for e in host.events if isinstance(e, Measures)][-1].control_latency_samples
    assert 0 < latency <= 0.5 * 48000


def test_replan_at_a_later_position_keeps_the_plan_before_it() -> None:
    host = tempo_host()
    change = host.head + 48000
    before = host.engine._sessions[1].takes[1]._planner._generator.steps
    host.engine.replan(1, change)
    assert host.drain() == []  # nothing beyond the change was planned, so nothing is to do
    assert host.engine._sessions[1].takes[1]._planner._generator.steps == before


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([32000, 44100, 48000]), st.integers(-2000, 25000), st.integers(0, 5000))
def test_new_epoch_begins_exactly_where_it_is_said(rate: int, offset: int, later: int) -> None:
    host = tempo_host(rate)
    host.play(later)
    kept = host.heard()
    where = host.head + offset
    host.controller.bpm = lambda positions: np.where(positions < where, 120.0, 90.0)
    host.engine.replan(1, where, 2)
    host.play(rate)
    new = [chunk for chunk in host.chunks() if chunk.epoch == 2]
    assert new[0].position == min(where, kept[0] + len(kept[1])) if offset >= 0 else new[0].position >= where
    position = new[0].position
    pcm = np.concatenate([chunk.pcm[:, 0] for chunk in new])
    assert np.abs(pcm - host.model_index(position, len(pcm))).max() < 0.5
    assert [c.position for c in new[1:]] == [c.position + c.samples for c in new[:-1]]
    changed = -(-(where * MODEL_RATE) // (rate * HOP))  # the first frame read at or after the change
    by_frame = marks(new)
    assert len({mark for frame, mark in by_frame.items() if frame >= changed}) == 1
    old_mark = next(iter(marks([c for c in host.chunks() if c.epoch == 1]).values()))
    assert {mark for frame, mark in by_frame.items() if frame < changed} <= {old_mark}


def test_new_epoch_before_the_start_arms_again() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(52000, position=48000))
    host.play(480)
    assert host.chunks()  # committed already, not yet played
    host.engine.replan(1, 49000, 2)
    host.play(20000)
    new = [chunk for chunk in host.chunks() if chunk.epoch == 2]
    assert new[0].position == 52000
    assert [e.epoch for e in host.events if isinstance(e, TakeStarted)] == [1, 2]


@pytest.mark.parametrize(("step_s", "remade"), [(0.001, True), (0.05, False)])
def test_a_change_just_before_the_start_does_not_make_it_late(step_s: float, remade: bool) -> None:
    host = Host(48000)
    host.engine.set_realtime(1, True)
    host.play(48000)
    start = 48000 + 24000
    host.engine.start(1, request(start, position=48000))
    host.drain()
    host.play(4000)
    host.engine._costs.step_s = step_s
    host.controller.bpm = lambda positions: np.full(len(positions), 60.0)
    host.engine.replan(1, None)
    fresh = host.drain()
    assert any(isinstance(event, ChunkEvent) for event in fresh) == remade
    host.play(40000)
    first = exact(host)[0]
    assert first == start
    (mark,) = set(marks(host.chunks()[-1:]).values())
    assert (set(marks(host.chunks()[:1]).values()) == {mark}) == remade


def test_rearm_moves_a_start_that_does_not_sound() -> None:
    host = Host(48000)
    host.play(48000)
    host.engine.start(1, request(90000, position=48000, end_position=100000))
    host.play(4800)
    assert host.engine.rearm(1, 1, 91234, 95000)
    host.play(60000)
    assert exact(host) == (91234, 95000)
    assert not host.engine.rearm(1, 1, 99999)
    with pytest.raises(ValueError, match="end_position"):
        host.engine.rearm(1, 1, 10, 10)


def test_start_inside_what_was_heard_plays_from_there() -> None:
    host = Host(32000, block=4096)
    host.play(40960)
    host.engine.start(1, request(39000, position=38000, end_position=60000))
    host.engine.advance(1, 36864)  # the host is still in the block before
    host.head = 40960
    host.drain()
    host.play(40960)
    assert exact(host) == (39000, 60000)


@pytest.mark.parametrize(("step_s", "remade"), [(0.0, True), (0.03, False)])
def test_a_replan_counts_the_steps_of_a_restart_and_what_has_entered_the_pattern(
    step_s: float, remade: bool
) -> None:
    """Twelve steps of 30 ms are more than what is committed ahead: the plan, and what it holds open, is kept."""
    host = tempo_host()
    host.engine.set_realtime(1, True)
    host.drain()
    take = host.engine._sessions[1].takes[1]
    host.engine._costs.step_s = step_s
    generator = take._planner._generator
    frontier = generator.frontier
    host.engine.replan(1, None)
    assert (generator.frontier < frontier) == remade
    first = take.meters.control_latency_samples + host.head
    assert (first >= take._planner.timeline.position_of_frame(frontier + 13)) == (not remade)
