"""A take after the machine stood still: it goes on from now, whole bars later, and starves nobody on the way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import HOP, MODEL_RATE, FixedController, Host, IndexModel, request, stream_config

from attacca.engine.events import ChunkEvent, LatePolicy, Measures, TakeEnded, TakeMode, TakeStarted
from attacca.engine.lookahead import LookAhead
from attacca.engine.service import Engine


def stalled(rate: int, bar: Fraction | None, stall: int, **changes: object) -> tuple[Host, list[ChunkEvent], int]:
    """A sounding take, then a stall of so many samples; (host, its chunks before, head after)."""
    host = Host(rate, block=rate // 50)
    host.engine.set_realtime(1, True)
    host.play(2 * rate)
    grid = None if bar is None else (lambda position, bars: Fraction(position) + bars * bar)
    host.engine.start(1, request(2 * rate + 999, position=2 * rate, bar_position=grid, **changes))
    host.play(4 * rate)
    before = host.chunks()
    host.events.clear()
    host.head += stall
    host.engine.advance(1, host.head)
    return host, before, host.head


def end_of(chunks: list[ChunkEvent]) -> int:
    return chunks[-1].position + chunks[-1].samples


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([32000, 44100, 48000]),
    st.fractions(Fraction(1, 2), Fraction(5, 2), max_denominator=97),
    st.integers(1500, 5000),
)
def test_goes_on_at_once_and_whole_bars_later(rate: int, bar_s: Fraction, stall_ms: int) -> None:
    bar = bar_s * rate
    host, before, head = stalled(rate, bar, stall_ms * rate // 1000)
    host.drain()
    host.play(rate)
    position, pcm = host.heard()
    assert head <= position <= head + rate // 30  # no catching up: the next sample that can be in time
    moved = host.model_index(position, len(pcm)) - pcm  # by which model time lies behind stream time
    assert np.abs(moved - moved[0]).max() < 0.5
    bars = float(moved[0]) / float(bar_s * MODEL_RATE)
    assert round(bars) >= 1
    # A bar line rounds to a sample, what is moved by it as well.
    assert abs(bars - round(bars)) * float(bar_s) * rate <= 1.0 + rate / MODEL_RATE
    assert (
        position - float(moved[0]) * rate / MODEL_RATE <= end_of(before) + rate // 4
    )  # nothing was left out but bars
    assert not [event for event in host.events if isinstance(event, TakeStarted)]


def test_what_is_given_up_is_counted_as_late() -> None:
    host, before, head = stalled(48000, Fraction(96000), 3 * 48000)
    host.drain()
    measures = [event for event in host.events if isinstance(event, Measures)][-1]
    chunk = 8 * HOP * 48000 // MODEL_RATE
    assert measures.late_chunks == -(-(head + 960 + 240 - end_of(before)) // chunk)


def test_a_short_stall_is_caught_up() -> None:
    host, before, _ = stalled(48000, Fraction(96000), 48000)
    host.drain()
    host.play(24000)
    position, pcm = host.heard()
    assert position == end_of(before)
    assert np.abs(pcm - host.model_index(position, len(pcm))).max() < 0.5


def test_without_bars_it_goes_on_from_now() -> None:
    host, _, head = stalled(32000, None, 96000)
    host.drain()
    position, pcm = host.heard()
    assert head <= position <= head + 32000 // 30
    assert 96000 - 32 * HOP <= position - pcm[0] <= 96000  # about as much later as it stood still


@pytest.mark.parametrize("late", list(LatePolicy))
def test_the_end_stays_where_it_was(late: LatePolicy) -> None:
    policy = {"late": late, "next_launch": lambda position: position}
    host, before, head = stalled(48000, Fraction(96000), 120_000, end_position=555_555, **policy)
    host.drain()
    host.play(200_000)
    moved = before[0].position - (2 * 48000 + 999)
    end = 555_555 + (moved if late is LatePolicy.WAIT else 0)  # a launch that had to wait took the end with it
    assert host.chunks()[-1].last
    assert end_of(host.chunks()) == end
    assert host.chunks()[0].position < head + 1600
    assert [e for e in host.events if isinstance(e, TakeEnded)] == [
        TakeEnded(session=1, take=1, reason="end", position=end)
    ]


def test_an_end_inside_the_stall_is_told() -> None:
    host, _, _ = stalled(48000, Fraction(96000), 120_000, end_position=350_000)
    host.drain()
    (chunk,) = host.chunks()
    assert (chunk.samples, chunk.last) == (0, True)
    told = [event for event in host.events if isinstance(event, ChunkEvent | TakeEnded)]
    assert isinstance(told[-1], TakeEnded) and told.count(told[-1]) == 1


def test_a_vamp_keeps_its_phrase() -> None:
    bar = 24000
    host, _, _ = stalled(48000, Fraction(bar), 120_000, mode=TakeMode.VAMP, bars=1, variation=0.0)
    host.drain()
    host.play(96_000)
    _, pcm = host.heard()
    assert np.abs(pcm[2 * bar : 3 * bar] - pcm[bar : 2 * bar]).max() < HOP  # pass after pass the same frames


def test_offline_nothing_is_given_up() -> None:
    host, before, _ = stalled(48000, Fraction(96000), 0)
    host.engine.set_realtime(1, False)
    host.head += 240_000
    host.engine.advance(1, host.head)
    host.drain()
    assert host.chunks()[0].position == end_of(before)


def test_a_late_take_leaves_time_to_those_that_can_be_in_time() -> None:
    """Compute for one take only: the healthy one never falls behind, the late ones share the rest in turn."""
    engine = Engine(IndexModel(), clock=lambda: 0.0, config=stream_config(max_lag_s=60.0, max_slice_frames=1))
    for number in (1, 2, 3):
        engine.open(number, sample_rate=MODEL_RATE, channels=1, controller=FixedController())
        engine.advance(number, 0)
        engine.start(number, request(0, position=0))
    heads = {1: 0, 2: 0, 3: 0}
    ends = {1: 0, 2: 0, 3: 0}
    for turn in range(3000):
        for event in engine.work():
            if isinstance(event, ChunkEvent) and event.committed:
                ends[event.session] = event.position + event.samples
        if turn == 200:
            heads[1], heads[2] = 400_000, 400_000
        for number, head in heads.items():
            heads[number] = head + HOP // 4
            engine.advance(number, heads[number])
        if turn > 200:
            assert ends[3] >= heads[3]
    assert min(ends[1], ends[2]) > HOP * 200
    assert abs(ends[1] - ends[2]) <= 2 * 8 * HOP


def test_a_stream_told_again_is_no_stride_of_the_host() -> None:
    look_ahead = LookAhead(48000)
    for position in (0, 24000, 48000, 72000):
        look_ahead.head_at(position)
    assert look_ahead.step_samples == 24000
    look_ahead.head_at(0)
    look_ahead.head_at(60000)
    look_ahead.head_at(60480)
    assert look_ahead.step_samples == 480
