"""Modes of a take: vamp and answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from stream_fakes import (
    FRAME_S,
    HOP,
    MODEL_RATE,
    FixedController,
    Host,
    IndexGenerator,
    IndexModel,
    exact,
    frame_of,
    request,
)

from attacca.engine.condition_rows import ConditionRows
from attacca.engine.conditioning import DEFAULT_LAYOUT
from attacca.engine.events import TakeEnded, TakeMode, TakeStarted
from attacca.engine.generator import Sampling
from attacca.engine.timeline import Timeline
from attacca.engine.vamp import Vamp

BAR = 16160  # at 32 kHz: 25.25 frames, so that passes differ by a frame


def vamp_codes(variation: float, bars: int = 2) -> dict[int, list[int]]:
    """First code pair's frame is forced too: returns content per frame as the codes' own frame numbers."""
    host = Host(32000, model=IndexModel(delay_samples=0))
    host.play(32000)
    vamp = request(
        32000 + BAR,
        position=32000,
        mode=TakeMode.VAMP,
        bars=bars,
        variation=variation,
        bar_position=lambda start, count: Fraction(start + count * BAR),
    )
    host.engine.start(1, vamp)
    host.play(32000 + 10 * BAR)
    found: dict[int, list[int]] = {}
    for chunk in host.chunks():
        for i, row in enumerate(frame_of(chunk.codes).tolist()):
            found.setdefault(chunk.first_frame + i, []).append(row)
    assert all(len(rows) == 1 for rows in found.values())
    return {frame: rows[0] for frame, rows in found.items()}


def beat_frame(beat: int) -> int:
    return int(Fraction(32000 + BAR + Fraction(beat * BAR, 4), HOP) + Fraction(1, 2))


def test_vamp_without_variation_repeats_frame_by_frame() -> None:
    content = vamp_codes(0.0)
    for beat in range(8, 30):
        source = beat_frame(beat % 8)
        for i, frame in enumerate(range(beat_frame(beat), beat_frame(beat + 1))):
            if source + i < beat_frame(8):
                assert content[frame] == source + i, (beat, frame)


def test_vamp_with_full_variation_repeats_nothing() -> None:
    content = vamp_codes(1.0)
    assert content == {frame: frame for frame in content}


def test_vamp_between_mixes_whole_beats() -> None:
    content = vamp_codes(0.5)
    repeated = []
    for beat in range(8, 30):
        frames = range(beat_frame(beat), beat_frame(beat + 1) - 1)
        same = {content[frame] == frame for frame in frames}
        assert len(same) == 1
        repeated.append(not same.pop())
    assert 4 < sum(repeated) < 18


@pytest.mark.parametrize("variation", [0.0, 1.0])
def test_vamp_goes_on_where_the_transport_stands(variation: float) -> None:
    host = Host(32000)
    host.play(32000)
    bar_samples = [BAR]
    host.engine.start(
        1,
        request(
            40000,
            position=32000,
            mode=TakeMode.VAMP,
            bars=1,
            variation=variation,
            bar_position=lambda start, count: Fraction(start + count * bar_samples[0]),
        ),
    )
    host.play(3 * BAR)
    bar_samples[0] = 0
    host.engine.replan(1, host.head, 2)
    host.play(64000)
    assert not [event for event in host.events if isinstance(event, TakeEnded)]
    new = [chunk for chunk in host.chunks() if chunk.epoch == 2]
    assert sum(chunk.samples for chunk in new) > 64000


def test_a_rollback_late_in_a_vamp_costs_no_walk_from_its_first_beat() -> None:
    asked: list[int] = []

    def bar_position(start: int, bars: int) -> Fraction:
        asked.append(bars)
        return Fraction(start + bars * BAR)

    line = Timeline(anchor_position=0, host_rate=MODEL_RATE, model_rate=MODEL_RATE, hop_samples=HOP)
    vamp = Vamp(timeline=line, bar_position=bar_position, start_position=0, bars=1, beats_per_bar=4, variation=1.0)
    generator, source = IndexGenerator(), ConditionRows(FixedController(), line, DEFAULT_LAYOUT)
    while generator.frontier < 2000:
        vamp.plan(generator, 2000, source, Sampling(), 16)
    generator.rollback(1990)
    vamp.rollback(1990)
    asked.clear()
    vamp.plan(generator, 2000, source, Sampling(), 16)
    assert 0 < len(asked) < 30
    assert min(bars for bars in asked if bars > 1) > 70


def test_a_vamp_records_its_phrase_anew_from_the_first_bar_line_of_a_new_epoch() -> None:
    grid = [0, BAR]  # origin, length

    def bar_line(position: int) -> int:
        return grid[0] + -(-(position - grid[0]) // grid[1]) * grid[1]

    host = Host(32000, model=IndexModel(delay_samples=0))
    host.play(32000)
    vamp = request(
        2 * BAR,
        position=32000,
        mode=TakeMode.VAMP,
        bars=1,
        variation=0.0,
        bar_position=lambda start, count: Fraction(start + count * grid[1]),
        bar_line=bar_line,
    )
    host.engine.start(1, vamp)
    host.play(2 * BAR + 5000)
    grid[:] = [host.head, 12800]  # bars of 20 frames from here on
    changed = host.head
    host.engine.replan(1, changed, 2)
    host.play(6 * 12800)
    content = {
        chunk.first_frame + i: row
        for chunk in host.chunks()
        if chunk.epoch == 2
        for i, row in enumerate(frame_of(chunk.codes).tolist())
    }
    first = int(Fraction(changed, HOP) + Fraction(1, 2))
    for frame in range(first, first + 100):
        assert content[frame] == first + (frame - first) % 20


def test_answer_listens_nearly_until_it_starts() -> None:
    host = Host(32000)
    host.play(32000)
    ask = request(96000, position=32000, end_position=128000, mode=TakeMode.ANSWER)
    host.engine.start(1, ask)
    host.play(120000)
    started = next(event for event in host.events if isinstance(event, TakeStarted))
    heard_s = started.context_frames * FRAME_S
    assert 3.0 - 0.4 - FRAME_S <= heard_s <= 3.0 - 0.4 + 2 * FRAME_S
    assert exact(host) == (96000, 128000)
