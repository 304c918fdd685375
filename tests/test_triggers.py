"""Triggers: exact action lists for notes, messages and changes of transport."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacca.bridge.actions import Action, Ask, Cancel, Drop, End, Move, Replan, Start
from attacca.bridge.keyboard import Keyboard
from attacca.bridge.midi import parse
from attacca.bridge.params import PARAMETERS, QUANTA, QUANTUM_VALUES, Parameter, Values
from attacca.bridge.protocol import ENGINE_TAKES_FROM, Late, Mode
from attacca.bridge.transport import Change, Snapshot, Timeline
from attacca.bridge.triggers import Takes, TriggerError

BAR = 96000  # 4/4 at 120, 48 kHz
FIRST = ENGINE_TAKES_FROM


def snapshot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "epoch": 1, "position": 0, "ppq": Fraction(0), "bpm": Fraction(120), "meter_num": 4, "meter_den": 4,
        "bar_ppq": Fraction(0), "playing": True,
    }  # fmt: skip
    return Snapshot(**(fields | changes))


def takes(**changes: Any) -> Takes:
    timeline = Timeline(48000)
    timeline.feed(snapshot(**changes))
    return Takes(timeline=timeline)


def feed(found: Takes, **changes: Any) -> list[Action]:
    new = snapshot(**changes)
    before = found.timeline.ppq_at(new.position) if found.timeline.segments else Fraction(0)
    return found.transport(found.timeline.feed(new), new.position, before)


def keyboard(**values: float) -> Keyboard:
    return Keyboard(takes=takes(), values=Values(values))


def note(number: int, velocity: int = 100, channel: int = 0) -> Any:
    return parse(bytes([0x90 | channel, number, velocity]))


def control(number: int, value: int) -> Any:
    return parse(bytes([0xB0, number, value]))


def places(actions: list[Action]) -> list[tuple[int, int, int | None]]:
    return [(a.ask.take, a.start_position, a.end_position) for a in actions if isinstance(a, Start)]


@pytest.mark.parametrize(
    ("mode", "start", "end"),
    [
        (Mode.CONTINUE, BAR, None),
        (Mode.VAMP, BAR, None),
        (Mode.FILL, BAR, 3 * BAR),
        (Mode.ANSWER, 3 * BAR, 5 * BAR),
    ],
)
def test_modes(mode: Mode, start: int, end: int | None) -> None:
    found = takes()
    assert places(found.trigger(Ask(take=1, position=10, mode=mode, bars=2))) == [(1, start, end)]


@pytest.mark.parametrize("choice", range(len(QUANTA)))
def test_every_quantum_of_the_parameter(choice: int) -> None:
    keys = keyboard(quantum=choice)
    (start,) = keys.handle(10, note(0))
    assert isinstance(start, Start)
    bars, quarters = QUANTUM_VALUES[choice]
    step = (bars or 0) * BAR + quarters * BAR / 4
    assert start.start_position == (step or 10)


def test_release_on_the_grid_at_once_and_too_early() -> None:
    found = takes()
    for take in (1, 2, 3, 4):
        found.trigger(Ask(take=take, position=10))
    assert found.release(1, BAR + 5) == [End(take=1, position=BAR + 5)]
    assert found.release(2, BAR + 5, quantized=True) == [End(take=2, position=2 * BAR)]
    assert found.release(3, BAR) == [Cancel(take=3)]  # it would have no sample
    assert found.release(4, 500, quantized=True) == [Cancel(take=4)]
    with pytest.raises(TriggerError, match="take 3 is not there"):
        found.release(3, 0)
    with pytest.raises(TriggerError, match="already there"):
        found.trigger(Ask(take=1, position=0))
    for take in range(10, 12):
        found.trigger(Ask(take=take, position=0))
    with pytest.raises(TriggerError, match="4 takes"):
        found.trigger(Ask(take=12, position=0))


def test_stop_cancels_everything() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10))
    assert feed(found, epoch=2, position=200000, playing=False, ppq=Fraction(8)) == [Cancel(take=None)]
    assert len(found) == 0
    assert feed(found, epoch=3, position=300000, ppq=Fraction(8)) == []


def test_armed_until_the_host_plays() -> None:
    found = takes(playing=False)
    assert found.trigger(Ask(take=1, position=10)) == []
    assert found.describe(0) == ("armed until the host plays", 1)
    (start,) = feed(found, epoch=2, position=5000, ppq=Fraction(7, 2))
    assert isinstance(start, Start)
    assert start.start_position == 5000 + 12000
    assert start.ask.position == 5000


def test_immediate_needs_no_transport_at_all() -> None:
    found = Takes(timeline=Timeline(48000))
    assert places(found.trigger(Ask(take=1, position=77, bars_quantum=Fraction(0)))) == [(1, 77, None)]
    assert found.trigger(Ask(take=2, position=77)) == []
    assert found.release(2, 100) == [Drop(take=2)]  # never given to the engine
    assert found.release(1, 100) == [End(take=1, position=100)]


def test_tempo_change_moves_what_has_not_begun_and_the_ends_of_fills() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10, mode=Mode.FILL, bars=2))  # BAR .. 3 BAR
    found.started(1, BAR)
    found.trigger(Ask(take=2, position=BAR + 10))  # 2 BAR
    at = BAR + 48000  # ppq 6; take 1 has 6 quarters left, take 2 waits for ppq 8
    actions = feed(found, epoch=2, position=at, ppq=Fraction(6), bar_ppq=Fraction(4), bpm=Fraction(60))
    assert actions == [
        Replan(position=at),
        End(take=1, position=at + 6 * 48000),
        Move(take=2, start_position=at + 2 * 48000, end_position=None),
    ]


def test_seek_places_what_has_not_begun_anew() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10, bars_quantum=Fraction(2), mode=Mode.FILL, bars=1))
    assert found.launch_of(1).position == 2 * BAR  # type: ignore[union-attr]
    actions = feed(found, epoch=2, position=1000, ppq=Fraction(31), bar_ppq=Fraction(28))
    start = 1000 + 24000
    assert actions == [Replan(position=1000), Move(take=1, start_position=start, end_position=start + BAR)]


def test_what_sounds_ahead_of_the_play_head_is_still_moved() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10))
    found.started(1, BAR)  # committed ahead, not heard yet
    assert found.describe(BAR - 1) == ("armed for bar 2", 1)
    actions = feed(found, epoch=2, position=48000, ppq=Fraction(2), bpm=Fraction(240))
    assert actions[1:] == [Move(take=1, start_position=72000, end_position=None)]
    found.started(1, 72000)
    assert found.describe(72000) == ("playing take 1", 1)


def test_a_wait_moves_its_end_too() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10, mode=Mode.FILL, bars=1, late=Late.WAIT))
    found.trigger(Ask(take=2, position=10, mode=Mode.FILL, bars=1, late=Late.JOIN))
    found.started(1, 2 * BAR)
    found.started(2, BAR + 500)
    at = 2 * BAR + 24000
    actions = feed(found, epoch=2, position=at, ppq=Fraction(9), bar_ppq=Fraction(8), bpm=Fraction(60))
    assert actions == [Replan(position=at), End(take=1, position=at + 3 * 48000)]


def test_held_and_stale_snapshots_do_nothing() -> None:
    found = takes()
    found.trigger(Ask(take=1, position=10))
    assert found.transport(Change.HELD, 100, Fraction(0)) == []
    assert found.transport(Change.STALE, 100, Fraction(0)) == []


@given(st.integers(0, 127), st.integers(0, 127), st.integers(0, 127))
def test_the_trigger_zone(low: int, high: int, number: int) -> None:
    keys = keyboard(trigger_low=low, trigger_high=high)
    assert keys.is_trigger(number) == (low <= number <= high)
    assert replace(keys, values=Values({"trigger_low": 1, "trigger_high": 0, "trigger_note": 64})).is_trigger(64)


def test_chord_notes_are_held_not_triggered() -> None:
    keys = keyboard()
    assert keys.handle(0, note(60)) == []
    assert keys.handle(0, note(64)) == []
    assert keys.chord == {60, 64}
    assert keys.handle(1, note(60, velocity=0)) == []
    assert keys.chord == {64}


def test_a_new_key_takes_over_at_its_launch() -> None:
    keys = keyboard(quantum=QUANTA.index("1 bar"))
    keys.handle(10, note(0))
    actions = keys.handle(BAR + 10, note(1))
    assert actions[0] == End(take=FIRST, position=2 * BAR)
    assert places(actions) == [(FIRST + 1, 2 * BAR, None)]
    assert keys.handle(BAR + 20, note(0, velocity=0)) == []  # the old key holds nothing any more
    assert keys.handle(3 * BAR, note(1, velocity=0)) == [End(take=FIRST + 1, position=3 * BAR)]


def test_a_key_struck_again_restarts_its_take() -> None:
    keys = keyboard()
    keys.handle(10, note(5))
    actions = keys.handle(20, note(5))  # before the first one sounds
    assert actions[0] == Cancel(take=FIRST)
    assert places(actions) == [(FIRST + 1, BAR, None)]


def test_sustain_holds_takes_and_chords() -> None:
    keys = keyboard()
    keys.handle(0, note(0))
    keys.handle(0, note(60))
    keys.handle(BAR, control(64, 127))
    assert keys.handle(BAR + 1, note(0, velocity=0)) == []
    assert keys.handle(BAR + 1, note(60, velocity=0)) == []
    assert keys.chord == {60}
    assert keys.handle(BAR + 50, control(64, 0)) == [End(take=FIRST, position=BAR + 50)]
    assert keys.chord == set()


@pytest.mark.parametrize(
    ("number", "expected"), [(123, End(take=FIRST, position=BAR + 9)), (120, Cancel(take=None))]
)
def test_all_off(number: int, expected: Action) -> None:
    keys = keyboard()
    keys.handle(0, note(0))
    keys.handle(0, note(60))
    assert keys.handle(BAR + 9, control(number, 0)) == [expected]
    assert keys.chord == set()


def test_fills_ignore_note_off() -> None:
    keys = keyboard(mode=1, bars=2)
    assert places(keys.handle(0, note(0))) == [(FIRST, 0, 2 * BAR)]
    assert keys.handle(100, note(0, velocity=0)) == []
    assert FIRST in keys.takes


def test_release_on_the_grid_by_parameter() -> None:
    keys = keyboard(release_quantized=1)
    keys.handle(0, note(0))
    assert keys.handle(100, note(0, velocity=0)) == [End(take=FIRST, position=BAR)]


def test_channel_filter() -> None:
    keys = keyboard(midi_channel=3)
    assert keys.handle(0, note(0, channel=1)) == []
    assert places(keys.handle(0, note(0, channel=2))) == [(FIRST, 0, None)]


def test_velocity_sets_what_it_is_told_to() -> None:
    for target, name, expected in ((0, "variation", None), (1, "variation", 1.0), (2, "temperature", 2.0)):
        ask = keyboard(velocity_to=target).ask(0, velocity=127)
        assert getattr(ask, name) == expected


def test_parameters_of_a_trigger() -> None:
    keys = keyboard(seed=42, late=1, bars=3, mode=2)
    ask = keys.ask(5)
    assert (ask.seed, ask.late, ask.bars, ask.mode) == (42, Late.WAIT, 3, Mode.VAMP)
    assert keyboard().ask(0).seed is None


def test_controllers_move_parameters_over_their_whole_range() -> None:
    values = Values()
    assert values.set_cc(25, 127) is not None
    assert values["temperature"] == 2.0
    assert values.set_cc(25, 0) is not None
    assert values["temperature"] == 0.0
    assert values.set_cc(25, 0) is None  # no change
    assert values.set_cc(3, 64) is None  # no parameter


@given(st.sampled_from(PARAMETERS), st.floats())
def test_values_are_clamped_or_refused_never_wrong(row: Parameter, value: float) -> None:
    values = Values()
    try:
        values.set(row.name, value)
    except ValueError:
        assert values.refused == 1
        assert not math.isfinite(value)
    assert row.minimum <= values[row.name] <= row.maximum
    assert not row.integer or values[row.name] == int(values[row.name])
    assert values.clamped == (not row.minimum <= value <= row.maximum) - values.refused


def test_the_table_is_sound() -> None:
    for key in (lambda r: r.name, lambda r: r.osc_address):
        assert len({key(row) for row in PARAMETERS}) == len(PARAMETERS)
    controllers = [row.midi_cc for row in PARAMETERS if row.midi_cc is not None]
    assert len(set(controllers)) == len(controllers)
    assert not {0, 32, 64, 120, 121, 123} & set(controllers)
    with pytest.raises(ValueError, match="outside"):
        Parameter(name="x", label="x", description="x", default=2, minimum=0, maximum=1)
