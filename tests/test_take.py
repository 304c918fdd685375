"""A take's own parts: timeline, chunker, vamp, look-ahead, and that all of it can be taken back bit-exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import (
    HOP,
    MODEL_RATE,
    FixedController,
    IndexDecoder,
    IndexGenerator,
    IndexModel,
    frame_codes,
    frame_of,
    request,
)
from stream_fakes import stream_config as config

from attacca.engine.chunker import Chunker
from attacca.engine.conditioning import DEFAULT_LAYOUT
from attacca.engine.events import ChunkEvent, LatePolicy, TakeEnded, TakeMode, TakeRequest, TakeStarted
from attacca.engine.generator import Sampling
from attacca.engine.lookahead import LookAhead, LookAheadConfig, p95
from attacca.engine.stream import Costs, StreamConfig
from attacca.engine.take import Take
from attacca.engine.timeline import Timeline

RATES = st.sampled_from([8000, 22050, 32000, 44100, 48000, 88200, 96000, 192000])


def timeline(rate: int, anchor: int = 0, sample: int = 0) -> Timeline:
    return Timeline(
        anchor_position=anchor, anchor_sample=sample, host_rate=rate, model_rate=MODEL_RATE, hop_samples=HOP
    )


def make_take(start: int, *, rate: int = 48000, context: int = 50, **changes: object) -> Take:
    generator = IndexGenerator()
    generator.listen(np.stack([frame_codes(t, 5, t % 1000) for t in range(context)]), np.zeros((context, 1)))
    look_ahead = LookAhead(rate, config().look_ahead)
    look_ahead.realtime = False
    return Take(
        session=1,
        request=request(start, **changes),
        generator=generator,
        codec=IndexModel(),
        timeline=timeline(rate),
        controller=FixedController(),
        layout=DEFAULT_LAYOUT,
        look_ahead=look_ahead,
        config=config(),
        costs=Costs(HOP / MODEL_RATE, config()),
        channels=1,
        clock=lambda: 0.0,
    )


def run(take: Take, head: int) -> list[object]:
    events: list[object] = []
    while take.has_work(head):
        events += take.work(head)
    return events


def bits(events: list[object]) -> list[object]:
    """Events as comparable values."""
    return [
        (e.epoch, e.seq, e.position, e.pcm.tobytes(), e.codes.tobytes(), e.first_frame, e.committed, e.last)
        if isinstance(e, ChunkEvent)
        else e
        for e in events
    ]


@given(RATES, st.integers(-(2**40), 2**40), st.integers(0, 2 * 3600 * 50), st.integers(0, 2**30))
def test_timeline_is_exact(rate: int, anchor: int, frame: int, sample: int) -> None:
    line = timeline(rate, anchor, sample)
    position = line.position_of_frame(frame)
    assert position == anchor + Fraction((frame * HOP - sample) * rate, MODEL_RATE)
    assert line.sample_at(position) == frame * HOP
    assert line.frame_at(position) == frame == line.nearest_frame(position)
    assert line.frame_at(position - Fraction(1, 10**6)) == frame - 1
    floats = line.positions(frame, 5)
    assert floats.dtype == np.float64
    assert [float(line.position_of_frame(frame + i)) for i in range(5)] == pytest.approx(list(floats), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    RATES, st.integers(0, 40), st.integers(0, 2000), st.integers(0, 1500), st.lists(st.integers(1, 9), min_size=6)
)
def test_chunker_places_every_sample(rate: int, warm: int, delay: int, offset: int, sizes: list[int]) -> None:
    line = timeline(rate, anchor=777)
    chunker = Chunker(IndexDecoder(delay), line)
    start = 777 + 2 * rate + offset
    first = chunker.first_frame_for(start)
    chunker.begin(max(0, first - warm - delay // HOP - 1), start)
    wanted = start
    for size in sizes:
        frames = range(chunker.next_frame, chunker.next_frame + size)
        position, pcm = chunker.push(np.stack([frame_codes(t) for t in frames]))
        assert position == wanted
        index = (np.arange(len(pcm)) + position - 777) * (MODEL_RATE / rate)
        assert np.abs(pcm - index).max(initial=0.0) < 0.5
        if rate == MODEL_RATE:
            assert np.array_equal(pcm, index)
        wanted += len(pcm)
        if frames[-1] >= chunker.last_frame_for(start):
            assert wanted > start
    assert chunker.position == wanted


def test_chunker_refuses_what_is_not_finite() -> None:
    class Broken(IndexDecoder):
        def push(self, codes: np.ndarray) -> np.ndarray:
            return super().push(codes) * np.float32(np.nan)

    chunker = Chunker(Broken(0), timeline(32000))
    chunker.begin(0, 0)
    with pytest.raises(ArithmeticError, match="not finite"):
        chunker.push(frame_codes(0)[None])


def test_events_of_a_short_take() -> None:
    take = make_take(60000, position=48000, end_position=80000)
    events = run(take, 48000)
    end = 60000
    for head in range(48480, 90000, 480):
        events += run(take, head)
    assert isinstance(events[0], ChunkEvent)
    assert not events[0].committed
    assert isinstance(events[1], TakeStarted)
    assert events[1].start_position == events[1].requested_position == 60000
    assert events[1].context_frames == 50
    chunks = [e for e in events if isinstance(e, ChunkEvent)]
    assert [c.seq for c in chunks] == list(range(len(chunks)))
    for chunk in (c for c in chunks if c.committed):
        assert chunk.position == end
        end += chunk.samples
        assert list(frame_of(chunk.codes)) == list(range(chunk.first_frame, chunk.first_frame + chunk.frames))
        assert chunk.start_position_of_first_frame == chunk.first_frame * HOP * 48000 / MODEL_RATE
    assert end == 80000
    assert [c.last for c in chunks if c.committed][-2:] == [False, True]
    assert events[-1] == TakeEnded(session=1, take=1, reason="end", position=80000)
    assert take.ended
    assert not take.has_work(90000)


def test_a_plan_is_what_is_committed_next() -> None:
    take = make_take(60000, position=48000)
    events = [event for head in range(60000, 90000, 500) for event in run(take, head)]
    planned = {c.position: c for c in events if isinstance(c, ChunkEvent) and not c.committed}
    committed = [c for c in events if isinstance(c, ChunkEvent) and c.committed]
    matched = [c for c in committed if c.position in planned]
    assert len(matched) >= 3
    for chunk in matched:
        assert np.array_equal(chunk.pcm, planned[chunk.position].pcm)
        assert np.array_equal(chunk.codes, planned[chunk.position].codes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 60), st.sampled_from([32000, 44100]), st.booleans())
def test_snapshot_continues_bit_exactly(before: int, after: int, rate: int, vamp: bool) -> None:
    mode: dict[str, object] = {}
    if vamp:
        mode = {"mode": TakeMode.VAMP, "bars": 1, "bar_position": lambda start, bars: start + bars * rate // 4}
    take = make_take(rate + 4321, rate=rate, position=rate, **mode)
    head = rate
    for _ in range(before):
        take.work(head)
        head += 300
    state = take.snapshot()
    first, second = [], []
    for out in (first, second):
        take.restore(state)
        now = head
        for _ in range(after):
            out += take.work(now)
            now += 300
        take.replan(None, None, now)
        out += run(take, now + 5000)
    assert bits(first) == bits(second)
    assert any(isinstance(e, ChunkEvent) for e in first)


def test_same_seed_same_take() -> None:
    def codes(seed: int) -> bytes:
        take = make_take(60000, position=48000, sampling=Sampling(seed=seed))
        return b"".join(e.codes.tobytes() for e in run(take, 90000) if isinstance(e, ChunkEvent))

    assert codes(3) == codes(3)
    assert codes(3) != codes(4)


def test_look_ahead_follows_its_law() -> None:
    look_ahead = LookAhead(48000, LookAheadConfig(min_ms=10, initial_chunk_ms=50, control_latency_ms=500))
    assert look_ahead.target_samples(7680) == 2400 + 7680
    for _ in range(100):
        look_ahead.chunk_took(0.1)
        look_ahead.round_trip_took(0.01)
    look_ahead.head_at(0)
    look_ahead.head_at(512)
    assert look_ahead.target_samples(7680) == 4800 + 480 + 7680 + 512
    assert look_ahead.margin_samples == 512 + 480 + 240
    look_ahead.realtime = False
    assert look_ahead.margin_samples == 0
    assert look_ahead.target_samples(7680) == 2400 + 7680 + 512  # offline nothing that was measured counts
    look_ahead.realtime = True
    for _ in range(100):
        look_ahead.chunk_took(2.0)
    assert look_ahead.target_samples(7680) == 24000 - 7680  # control latency holds: target + chunk = 500 ms
    look_ahead.head_at(512 + 40000)
    assert look_ahead.target_samples(7680) == 40000 + 7680  # but a host that takes more than that must be fed
    look_ahead.override_samples = 9000
    assert look_ahead.target_samples(7680) == 40000 + 7680
    calm = LookAhead(48000, LookAheadConfig(min_ms=0, initial_chunk_ms=0, control_latency_ms=500))
    for override, target in ((9000, 9000), (100, 7680), (48000, 24000 - 7680)):  # least, needed, cap
        calm.override_samples = override
        assert calm.target_samples(7680) == target


def test_p95_is_nearest_rank() -> None:
    assert p95([]) == 0.0
    assert p95(range(1, 101)) == 95
    assert p95([4.0]) == 4.0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"end_position": 100}, "end_position"),
        ({"late": LatePolicy.WAIT}, "next_launch"),
        ({"mode": TakeMode.VAMP}, "bar_position"),
        ({"bars": 0}, "bars 0"),
        ({"variation": 1.5}, "variation"),
        ({"beats_per_bar": 0}, "beats_per_bar"),
    ],
)
def test_bad_requests_name_the_field(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TakeRequest(take=1, epoch=1, position=0, start_position=100, **changes)


@pytest.mark.parametrize("changes", [{"chunk_frames": 0}, {"slice_s": -1.0}, {"warm_frames": 1000}])
def test_bad_configuration_names_the_field(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        StreamConfig(**changes)
