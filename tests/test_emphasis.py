"""Players commanded out are insisted on while the window holds frames from before, and nothing else changes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, TINY_LAYOUT, Source, random_codes, tiny_decoder, tiny_runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.conditioning import group_slices
from attacca.engine.decoder import PatternDecoder
from attacca.engine.emphasis import Emphasis
from attacca.engine.manifest import ManifestError, SamplingDefaults, parse_manifest, read_manifest

PLAYERS = group_slices(TINY_LAYOUT)["instruments"]
STRENGTH = 1.5
CONTEXT, SWITCH, END = 60, 70, 150
MANIFEST = read_manifest(TINY)
WINDOW = MANIFEST.window_frames
PLAIN = tiny_runtime()
INSISTING = tiny_runtime(msgspec.structs.replace(MANIFEST, sampling=SamplingDefaults(emphasis=STRENGTH)))


class Commands(Source):
    """Random conditions; players as `before` up to SWITCH and as `after` from it on, None where not commanded."""

    def __init__(self, before: str | None, after: str | None) -> None:
        super().__init__()
        self.states = (before, after)

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        rows = super().rows(first_frame, count)
        for row, frame in zip(rows, range(first_frame, first_frame + count), strict=True):
            row[PLAYERS] = players(self.states[int(frame >= SWITCH)])
        return rows


def players(state: str | None) -> np.ndarray:
    """Columns for "1010", each player in or out; zeros for None."""
    return np.array([0] * 5 if state is None else [*map(int, state), 1], np.float32)


def heard(runtime: object, source: Source) -> PatternDecoder:
    decoder = tiny_decoder(runtime)  # type: ignore[arg-type]
    decoder.listen(random_codes(CONTEXT), source.rows(0, CONTEXT))
    return decoder


def told(decoder: PatternDecoder) -> np.ndarray:
    """What it was told of the players in [CONTEXT, END), flags included."""
    return np.asarray(decoder._frames.conditions(np.arange(CONTEXT, END))[:, PLAYERS])


@pytest.mark.parametrize(
    ("before", "after"), [("1011", "1011"), ("0000", "0000"), ("1001", "1111"), (None, "1111"), ("0101", None)]
)
def test_without_a_player_commanded_out_not_a_bit_changes(before: str | None, after: str | None) -> None:
    source = Commands(before, after)
    plain, insisting = heard(PLAIN, source), heard(INSISTING, source)
    for decoder in (plain, insisting):
        decoder.plan(END, source, SAMPLING)
    np.testing.assert_array_equal(insisting.read(CONTEXT, END), plain.read(CONTEXT, END))
    np.testing.assert_array_equal(insisting._lane.logits, plain._lane.logits)
    np.testing.assert_array_equal(told(insisting), told(plain))


@pytest.mark.parametrize(
    ("before", "after", "insisted"),
    [
        ("1011", "0011", "0"),
        ("1011", "0110", "03"),
        (None, "1101", "2"),
        ("0011", "0110", "3"),
        ("1111", "0000", "0123"),
    ],
)
def test_who_is_commanded_out_is_insisted_on_for_a_window(before: str | None, after: str, insisted: str) -> None:
    """From the command on until all frames of the window are under it; others and other groups are as commanded."""
    source = Commands(before, after)
    decoder = heard(INSISTING, source)
    decoder.plan(END, source, SAMPLING)
    wanted = source.rows(CONTEXT, END - CONTEXT)
    for player in map(int, insisted):
        wanted[SWITCH - CONTEXT : SWITCH - CONTEXT + WINDOW, PLAYERS.start + player] = -STRENGTH
    np.testing.assert_array_equal(decoder._frames.conditions(np.arange(CONTEXT, END)), wanted)
    plain = heard(PLAIN, source)
    plain.plan(END, source, SAMPLING)
    np.testing.assert_array_equal(decoder.read(CONTEXT, SWITCH), plain.read(CONTEXT, SWITCH))
    assert np.mean(decoder.read(SWITCH, END) != plain.read(SWITCH, END)) > 0.1


def test_a_command_before_the_join_is_insisted_on_after_it() -> None:
    """What was heard is remembered as it was commanded then, however loud it was sung against it."""
    source = Commands("1111", "0111")
    decoder = tiny_decoder(INSISTING)
    decoder.listen(random_codes(SWITCH + 10), source.rows(0, SWITCH + 10))
    decoder.plan(END, source, SAMPLING)
    drums = told(decoder)[SWITCH - CONTEXT :, 0]
    np.testing.assert_array_equal(drums[:10], 0.0)
    np.testing.assert_array_equal(drums[10:WINDOW], -STRENGTH)
    np.testing.assert_array_equal(drums[WINDOW:], 0.0)


def test_nothing_was_heard_so_nothing_is_insisted_on() -> None:
    decoder, plain = tiny_decoder(INSISTING), tiny_decoder(PLAIN)
    for each in (decoder, plain):
        each.plan(40, Commands("0000", "0000"), SAMPLING)
    np.testing.assert_array_equal(decoder.read(0, 40), plain.read(0, 40))


SWITCHED = Commands("1111", "0101")


def whole() -> np.ndarray:
    decoder = heard(INSISTING, SWITCHED)
    decoder.plan(END, SWITCHED, SAMPLING)
    return decoder.read(CONTEXT, END)


WHOLE = whole()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(CONTEXT, END), min_size=1, max_size=3), st.integers(CONTEXT, END), st.integers(1, 30))
def test_rolled_back_restored_or_forked_it_is_the_same(goals: list[int], kept: int, steps: int) -> None:
    decoder = heard(INSISTING, SWITCHED)
    for goal in goals:  # under the old command, which then comes as a surprise
        decoder.plan(goal, Commands("1111", "1111"), SAMPLING)
        decoder.rollback(min(goal, SWITCH))
        decoder.plan(END, SWITCHED, SAMPLING, max_steps=steps)
        decoder.rollback(CONTEXT)
    decoder.plan(kept, SWITCHED, SAMPLING)
    decoder.plan(END, SWITCHED, SAMPLING, max_steps=steps)
    fork, state = decoder.fork(), decoder.snapshot()
    decoder.reset()
    decoder.restore(state)
    for each in (fork, decoder):
        each.plan(END, SWITCHED, SAMPLING)
        np.testing.assert_array_equal(each.read(CONTEXT, END), WHOLE)
    decoder.rollback(SWITCH + 5)
    decoder.plan(END, SWITCHED, SAMPLING)
    np.testing.assert_array_equal(told(decoder), told(fork))


def test_forced_frames_are_as_planned_ones() -> None:
    decoder = heard(INSISTING, SWITCHED)
    decoder.force(WHOLE[:40], SWITCHED)
    planned = heard(INSISTING, SWITCHED)
    planned.plan(CONTEXT + 40, SWITCHED, SAMPLING)
    planned.rollback(CONTEXT + 40)
    kept = np.arange(CONTEXT, CONTEXT + 40)
    np.testing.assert_array_equal(decoder._frames.conditions(kept), planned._frames.conditions(kept))


def test_steps_for_a_batch_are_the_same() -> None:
    decoder = heard(INSISTING, SWITCHED)
    fetched: dict[int, np.ndarray] = {}
    while decoder.frontier < END:
        decoder.open_step(SWITCHED, SAMPLING, fetched).execute()
        decoder.close_step()
    np.testing.assert_array_equal(decoder.read(CONTEXT, END), WHOLE)


def test_bundles_say_how_much() -> None:
    """Those that say nothing insist on nothing; nonsense is refused."""
    assert Emphasis.of(MANIFEST) is None
    none = msgspec.structs.replace(MANIFEST, sampling=SamplingDefaults(emphasis=0.0))
    assert Emphasis.of(none) is None
    found = Emphasis.of(INSISTING.manifest)
    assert found == Emphasis(players=PLAYERS, strength=STRENGTH, window=WINDOW)
    raw = msgspec.json.decode((TINY / "manifest.json").read_bytes())
    raw["sampling"]["emphasis"] = -1.0
    with pytest.raises(ManifestError, match=r"sampling\.emphasis is -1\.0"):
        parse_manifest(msgspec.json.encode(raw))
