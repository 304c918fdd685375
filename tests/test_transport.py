"""Transport: exact bar arithmetic against a host that counts in rationals, over tempi, meters, rates and blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.bridge import protocol
from attacca.bridge.beat_grid import grid
from attacca.bridge.controls import SessionControls
from attacca.bridge.epochs import EpochTracker
from attacca.bridge.params import Values
from attacca.bridge.transport import Change, Snapshot, Timeline, decimal, nearest_sample
from attacca.engine.conditioning import DEFAULT_LAYOUT, encode

TEMPI = ("60", "97", "120", "123", "123.45", "179.99")
METERS = ((4, 4), (3, 4), (7, 8), (6, 8), (5, 4), (11, 16))
RATES = (44100, 48000, 96000)
BLOCKS = (1, 3, 64, 441, 512, 4096)


@dataclass
class Host:
    """A host whose play head is an exact rational; it reports floats, as hosts do."""

    rate: int
    bpm: Fraction
    meter: tuple[int, int] = (4, 4)
    ppq: Fraction = Fraction(0)
    playing: bool = True
    loop: tuple[Fraction, Fraction] | None = None
    position: int = 0
    grid_from: Fraction = Fraction(0)  # a bar line; the bars of the present meter count from it
    tracker: EpochTracker = field(init=False)
    receiver: Timeline = field(init=False)

    def __post_init__(self) -> None:
        self.tracker = EpochTracker(self.rate)
        self.receiver = Timeline(self.rate)

    @property
    def bar_quarters(self) -> Fraction:
        return Fraction(4 * self.meter[0], self.meter[1])

    @property
    def bar_start(self) -> Fraction:
        return self.grid_from + math.floor((self.ppq - self.grid_from) / self.bar_quarters) * self.bar_quarters

    def block(self, count: int) -> Change:
        message = self.tracker.block(
            position=self.position,
            ppq=float(self.ppq),
            bpm=float(self.bpm),
            meter_num=self.meter[0],
            meter_den=self.meter[1],
            bar_start_ppq=float(self.bar_start),
            playing=self.playing,
            loop=None if self.loop is None else (float(self.loop[0]), float(self.loop[1])),
        )
        if message is not None:
            received, _ = protocol.decode([bytes(f) for f in protocol.encode(message)])
            self.receiver.feed(Snapshot.of(received))
        assert self.receiver.epoch == self.tracker.epoch
        assert abs(self.receiver.host_ppq_at(self.position) - self.ppq) < Fraction(1, 10**6) or self.at_seam()
        self.position += count
        if self.playing:
            self.ppq += count * self.bpm / (60 * self.rate)
            if self.loop is not None:
                while self.ppq >= self.loop[1]:
                    self.ppq -= self.loop[1] - self.loop[0]
        return self.tracker.change

    def at_seam(self) -> bool:
        if self.loop is None:
            return False
        return min(abs(self.ppq - edge) for edge in self.loop) < Fraction(1, 10**6)


def exact_sample(position: Fraction) -> int:
    return math.floor(position + Fraction(1, 2))


@pytest.mark.parametrize("block", BLOCKS)
@given(
    tempo=st.sampled_from(TEMPI),
    meter=st.sampled_from(METERS),
    rate=st.sampled_from(RATES),
    blocks=st.integers(1, 12),
    start=st.integers(0, 4000),
    bars=st.sampled_from([1, 2, 3, 4, 8]),
)
@settings(max_examples=20, deadline=None)
def test_launches_are_exact_on_the_bar_grid(
    block: int, tempo: str, meter: tuple[int, int], rate: int, blocks: int, start: int, bars: int
) -> None:
    bpm = Fraction(tempo)
    host = Host(rate=rate, bpm=bpm, meter=meter, ppq=Fraction(start, 16))
    for _ in range(blocks):
        host.block(block)
    assert host.tracker.epoch == 1
    trigger = host.position - block // 2
    launch = host.receiver.next_launch(trigger, bars=Fraction(bars))
    quarters = bars * host.bar_quarters
    samples_per_quarter = 60 * rate / bpm

    def position_of(ppq: Fraction) -> Fraction:
        return (ppq - Fraction(start, 16)) * samples_per_quarter

    index = math.floor((Fraction(start, 16) + trigger / samples_per_quarter) / quarters) - 1
    while exact_sample(position_of(index * quarters)) < trigger:
        index += 1
    assert launch.ppq == index * quarters
    assert launch.position == exact_sample(position_of(index * quarters))
    bar = host.receiver.bar_at(launch.position + 1)
    assert (bar.index, bar.ppq) == (index * bars, launch.ppq)
    assert host.receiver.position_of(launch.ppq) == bar.position == position_of(launch.ppq)


@given(
    position=st.integers(0, 10**7),
    quarters=st.sampled_from([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(3, 2)]),
    tempo=st.sampled_from(TEMPI),
)
@settings(deadline=None)
def test_quarter_quanta_count_in_ppq(position: int, quarters: Fraction, tempo: str) -> None:
    timeline = playing(bpm=float(tempo))
    launch = timeline.next_launch(position, bars=None, quarters=quarters)
    assert launch.ppq % quarters == 0
    assert launch.position >= position
    previous = launch.ppq - quarters
    assert exact_sample(timeline.position_of(previous)) < position
    assert timeline.next_launch(launch.position, bars=None, quarters=quarters) == launch  # "at or after"


def snapshot(**changes: object) -> Snapshot:
    fields: dict[str, object] = {
        "epoch": 1,
        "position": 0,
        "ppq": Fraction(0),
        "bpm": Fraction(120),
        "meter_num": 4,
        "meter_den": 4,
        "bar_ppq": Fraction(0),
        "playing": True,
    }
    return Snapshot(**(fields | changes))  # type: ignore[arg-type]


def playing(bpm: float = 120.0, rate: int = 48000, **changes: object) -> Timeline:
    timeline = Timeline(rate)
    assert timeline.feed(snapshot(bpm=decimal(bpm), **changes)) is Change.FIRST
    return timeline


def test_immediate_is_the_position_itself() -> None:
    timeline = playing()
    assert timeline.next_launch(12345, bars=Fraction(0)).position == 12345
    assert timeline.next_launch(12345, bars=None, quarters=Fraction(0)).position == 12345


def test_half_sample_ties_go_up_whatever_the_floats_say() -> None:
    # 120 BPM at 44.1 kHz: a sixteenth is 5512.5 samples.
    for noise in (0.0, 1e-12, -1e-12):
        timeline = playing(rate=44100, ppq=Fraction(noise))
        assert timeline.next_launch(1, bars=None, quarters=Fraction(1, 4)).position == 5513


def test_a_launch_that_is_now_to_float_noise_is_now() -> None:
    timeline = playing(ppq=Fraction(4.0 + 1e-11), bar_ppq=Fraction(4))
    assert timeline.next_launch(0, bars=Fraction(1)).position == 0


def test_tempo_is_the_decimal_that_was_typed() -> None:
    assert decimal(123.45) == Fraction(12345, 100)
    assert decimal(120) == 120
    assert nearest_sample(Fraction(5, 2)) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"position": 48000, "ppq": Fraction(2)}, Change.HELD),
        ({"position": 48000, "ppq": Fraction(2) + Fraction(19, 10**4)}, Change.HELD),  # 0.95 ms
        ({"position": 48000, "ppq": Fraction(2) + Fraction(21, 10**4)}, Change.SEEK),  # 1.05 ms
        ({"position": 48000, "ppq": Fraction(2), "playing": False}, Change.STOP),
        ({"position": 48000, "ppq": Fraction(2), "bpm": Fraction(121)}, Change.BEND),
        ({"position": 48000, "ppq": Fraction(2), "bpm": Fraction(121), "epoch": 2}, Change.TEMPO),
        ({"position": 48000, "ppq": Fraction(2) + Fraction(100, 10**4), "bpm": Fraction(121)}, Change.BEND),
        ({"position": 48000, "ppq": Fraction(2) + Fraction(101, 10**4), "bpm": Fraction(121)}, Change.TEMPO),
        ({"position": 48000, "ppq": Fraction(2), "meter_num": 3}, Change.METER),
        ({"position": 48000, "ppq": Fraction(2), "bar_ppq": Fraction(1)}, Change.SEEK),
        ({"position": 48000, "ppq": Fraction(2), "epoch": 2}, Change.RENUMBERED),
        ({"position": 48000, "ppq": Fraction(9), "epoch": 0}, Change.STALE),
    ],
)
def test_what_ends_an_epoch(change: dict[str, object], expected: Change) -> None:
    timeline = playing()
    assert timeline.feed(snapshot(**change)) is expected
    assert len(timeline.segments) == (2 if expected.ends_epoch or expected is Change.BEND else 1)


def test_start_after_stop() -> None:
    timeline = playing(playing=False)
    assert timeline.feed(snapshot(position=4800)) is Change.START
    with pytest.raises(ValueError, match="no transport"):
        Timeline(48000).ppq_at(0)


def test_standing_still_has_no_positions() -> None:
    timeline = playing(playing=False, ppq=Fraction(3))
    assert timeline.ppq_at(99999) == 3
    for call in (lambda: timeline.position_of(Fraction(4)), lambda: timeline.bar_at(0)):
        with pytest.raises(ValueError, match="stands still"):
            call()
    with pytest.raises(ValueError, match="stands still"):
        timeline.next_launch(0, bars=Fraction(1))


@pytest.mark.parametrize("block", (3, 64, 441, 512, 4096))
@pytest.mark.parametrize("meter", METERS)
def test_a_loop_of_whole_bars_keeps_the_epoch(block: int, meter: tuple[int, int]) -> None:
    host = Host(rate=2000, bpm=Fraction(999), meter=meter)
    host.loop = (host.bar_quarters, 2 * host.bar_quarters)
    blocks = math.ceil(4 * host.bar_quarters * 60 * 2000 / host.bpm / block)
    for _ in range(blocks):
        assert host.block(block) in (Change.HELD, Change.FIRST)
    assert host.tracker.epoch == 1
    assert host.receiver.ppq_at(host.position) > 3 * host.bar_quarters  # linear: it ran on


def test_a_loop_of_odd_length_ends_the_epoch_at_each_wrap() -> None:
    host = Host(rate=8000, bpm=Fraction(120), loop=(Fraction(0), Fraction(7, 2)))
    changes = [host.block(100) for _ in range(160)]  # 2 s: 4 quarters, one wrap
    assert changes.count(Change.SEEK) == 1
    assert host.tracker.epoch == 2


def test_moving_and_ending_a_loop_keeps_the_epoch_and_the_bar_count() -> None:
    host = Host(rate=8000, bpm=Fraction(120), loop=(Fraction(0), Fraction(4)))
    for _ in range(200):
        host.block(100)  # 10 quarters: two wraps
    host.loop = (Fraction(0), Fraction(8))
    for _ in range(200):
        host.block(100)
    host.loop = None
    for _ in range(100):
        assert host.block(100) is Change.HELD
    assert host.tracker.epoch == 1
    assert host.receiver.ppq_at(host.position) == host.position * Fraction(120, 60 * 8000)


@given(
    block=st.sampled_from(BLOCKS[2:]),
    events=st.lists(st.sampled_from(["none", "seek", "tempo", "stop", "start", "loop", "unloop"]), max_size=25),
    tempo=st.sampled_from(TEMPI),
    meter=st.sampled_from(METERS),
)
@settings(deadline=None, max_examples=60)
def test_sender_and_receiver_agree_through_everything(
    block: int, events: list[str], tempo: str, meter: tuple[int, int]
) -> None:
    host = Host(rate=44100, bpm=Fraction(tempo), meter=meter)
    host.block(block)
    for number, event in enumerate(events):
        before, epoch = host.playing, host.tracker.epoch
        if event == "seek":
            host.ppq += Fraction(7 + number, 3)
        elif event == "tempo":
            host.bpm += 1
        elif event in ("stop", "start"):
            host.playing = event == "start"
        elif event == "loop":
            start = host.bar_start
            host.loop = (start, start + 2 * host.bar_quarters)
            host.ppq = min(host.ppq, host.loop[1] - Fraction(1, 100))
        elif event == "unloop":
            host.loop = None
        change = host.block(block)  # asserts that the receiver's epoch and ppq are the host's
        if host.playing != before:
            assert host.tracker.epoch == epoch + 1
        elif event == "tempo":
            assert change in (Change.BEND, Change.TEMPO) if host.playing else change is Change.TEMPO
            assert host.tracker.epoch == epoch + (change is Change.TEMPO)


def test_bars_go_on_counting_through_a_change_of_meter() -> None:
    timeline = playing()
    # Four bars of 4/4, then 7/8 from ppq 16 on; the next block begins 300 samples into it.
    position = 16 * 24000 + 300
    ppq = Fraction(16) + Fraction(300, 24000)
    change = timeline.feed(
        snapshot(epoch=2, position=position, ppq=ppq, meter_num=7, meter_den=8, bar_ppq=Fraction(16))
    )
    assert change is Change.METER
    assert timeline.bar_at(position).index == 4
    assert timeline.bar_at(position + 7 * 12000).index == 5
    launch = timeline.next_launch(position, bars=Fraction(2))
    assert launch.ppq == 16 + 2 * Fraction(7, 2)  # bar 6
    assert launch.position == 16 * 24000 + 7 * 24000


def test_a_bar_that_does_not_hold_the_play_head_gives_only_its_phase() -> None:
    timeline = playing(ppq=Fraction(10), bar_ppq=Fraction(0))
    assert timeline.bar_at(0).ppq == 8
    assert timeline.bar_at(0).index == 2


def test_snapshots_are_sent_on_change_and_ten_times_a_second() -> None:
    host = Host(rate=48000, bpm=Fraction(120))
    sent = []
    for _ in range(100):
        message = host.tracker.block(
            position=host.position,
            ppq=float(Fraction(host.position, 24000)),
            bpm=120.0,
            meter_num=4,
            meter_den=4,
            bar_start_ppq=0.0 if host.position < 96000 else 4.0,
            playing=True,
        )
        if message is not None:
            sent.append(message.position)
        host.position += 480
    assert sent == [4800 * n for n in range(10)]


@given(
    tempo=st.sampled_from(TEMPI),
    meter=st.sampled_from(METERS),
    positions=st.lists(st.floats(0, 1e8), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_the_float_grid_follows_the_exact_one(tempo: str, meter: tuple[int, int], positions: list[float]) -> None:
    timeline = playing(bpm=float(tempo), meter_num=meter[0], meter_den=meter[1])
    at = np.array(positions)
    ppq, bar, bpm, num, den, known = grid(timeline, at)
    length = float(timeline.segment.snapshot.bar_quarters)
    for index, position in enumerate(positions):
        exact = timeline.bar_at(Fraction(position))
        assert abs(ppq[index] - float(timeline.ppq_at(Fraction(position)))) < 1e-6
        off = abs(bar[index] - float(exact.ppq))
        assert min(off, abs(off - length)) < 1e-6  # on a bar line, either side is the same phase
    assert known.all()
    assert (bpm == float(tempo)).all()
    assert (num == meter[0]).all()
    assert (den == meter[1]).all()


def test_the_past_is_read_by_the_epoch_it_was_in() -> None:
    timeline = playing()
    timeline.feed(snapshot(epoch=2, position=48000, ppq=Fraction(100), bar_ppq=Fraction(100), bpm=Fraction(60)))
    timeline.feed(snapshot(epoch=3, position=96000, ppq=Fraction(101), bar_ppq=Fraction(100), playing=False))
    ppq, _, bpm, _, _, known = grid(timeline, np.array([-100.0, 24000.0, 48000.0, 72000.0, 96000.0, 1e6]))
    np.testing.assert_allclose(ppq, [0, 1, 100, 100.5, 101, 101])
    assert bpm.tolist() == [120, 120, 60, 60, 120, 120]
    assert known.tolist() == [False, True, True, True, False, False]


def test_controls_remember_what_was_commanded_when() -> None:
    timeline = Timeline(48000)
    controls = SessionControls(timeline)
    values = Values()
    at = np.array([0.0, 100.0, 200.0, 300.0])
    nothing = controls.controls(at)  # no transport, no notes
    assert not encode(nothing, DEFAULT_LAYOUT).any()
    timeline.feed(snapshot())
    assert controls.hold(100, [60, 64, 67])
    assert not controls.hold(110, [72, 76, 79])  # the same pitch classes
    assert controls.hold(300, [])
    values.set("drums", 0)
    values.set("style", 3)
    assert controls.parameters(200, values)  # earlier than the last command: replaces it from there on
    found = controls.controls(at)
    assert found.chord_known.tolist() == [False, True, False, False]
    assert np.flatnonzero(found.pitch_classes[1]).tolist() == [0, 4, 7]
    assert found.instruments[2].tolist() == [False, True, True, True]
    assert found.instruments_known.tolist() == [False, False, True, True]
    assert found.style[3] == 2
    assert found.beat_known.all()


def test_chords_are_not_followed_when_that_is_off() -> None:
    controls = SessionControls(Timeline(48000))
    values = Values({"chord_follow": 0})
    controls.parameters(0, values)
    assert not controls.hold(10, [60])
    values.set("chord_follow", 1)
    assert controls.parameters(20, values)
    assert controls.controls(np.array([10.0, 20.0])).chord_known.tolist() == [False, True]
