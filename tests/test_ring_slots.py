"""The ring's bookkeeping against a slow model that remembers what was written where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.ring_slots import RingConfig, RingSlots

CONFIG = RingConfig(window=6, rows=3, capacity=16)


def seen_slowly(written: dict[int, int], slot: int, index: int) -> np.ndarray:
    """What the rows from `slot` on see: place by place, from what lies there."""
    mask = np.zeros((CONFIG.rows, CONFIG.capacity), np.bool_)
    for row in range(CONFIG.rows):
        for place in range(CONFIG.capacity):
            held = written.get(place)
            if place in range(index, index + CONFIG.rows):
                mask[row, place] = place - index <= row
            elif held is not None and held < slot:
                mask[row, place] = held > slot + row - CONFIG.window
    return mask


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["step", "rewrite", "prefill", "cut"]), st.integers(0, 9)), max_size=60))
def test_every_row_sees_its_window_and_finds_it_intact(actions: list[tuple[str, int]]) -> None:
    ring, written, timestep = RingSlots(CONFIG), {}, 0
    for action, number in actions:
        if action == "cut":
            slot = max(ring.oldest_cut(), ring.count - number)
            if slot <= ring.count:
                ring.truncate(slot)
            continue
        slot = ring.count - int(action == "rewrite" and ring.count > 0)
        kept = min(1 + number % CONFIG.rows, ring.room(slot)) if action == "prefill" else 1
        index = ring.place(slot)
        assert index == slot % CONFIG.period
        assert index + CONFIG.rows <= CONFIG.capacity
        mask = np.zeros((CONFIG.rows, CONFIG.capacity), np.bool_)
        ring.mask(slot, mask)
        np.testing.assert_array_equal(mask, seen_slowly(written, slot, index))
        for row in range(CONFIG.rows):
            visible = {
                written[place] for place in np.flatnonzero(mask[row]) if not 0 <= place - index < CONFIG.rows
            }
            assert visible == set(range(max(0, slot + row - CONFIG.window + 1), slot))  # all of it is still there
            if index + row < CONFIG.period:  # what runs over the ring's end is gone after the call
                written[index + row] = slot + row
        new = slot + kept - ring.count
        ring.keep(list(range(timestep, timestep + new)))
        timestep += new
        assert ring.count == slot + kept


def test_timesteps_are_those_of_the_newest_slots_and_a_snapshot_goes_back() -> None:
    ring = RingSlots(CONFIG)
    for timestep in range(40):
        ring.place(ring.count)
        ring.keep([timestep])
    np.testing.assert_array_equal(ring.timesteps(), np.arange(40 - CONFIG.period, 40))
    state = ring.snapshot()
    ring.truncate(37)
    assert (ring.count, ring.timesteps()[-1]) == (37, 36)
    ring.restore(state)
    assert (ring.count, ring.timesteps()[-1]) == (40, 39)
    ring.clear()
    assert (ring.count, len(ring.timesteps()), ring.oldest_cut()) == (0, 0, 0)


def test_what_the_ring_has_lost_cannot_be_reached() -> None:
    ring = RingSlots(CONFIG)
    for timestep in range(40):
        ring.place(ring.count)
        ring.keep([timestep])
    lowest = ring.oldest_cut()
    assert 40 - CONFIG.period < lowest <= 40
    with pytest.raises(ValueError, match=f"slot {lowest - 1} is outside {lowest}..40"):
        ring.truncate(lowest - 1)
    with pytest.raises(ValueError, match="slot 41 is outside"):
        ring.place(41)
    ring.truncate(lowest)
    ring.place(lowest - 1)  # the row before can be written again


def test_sizes_that_make_no_ring_are_named() -> None:
    with pytest.raises(ValueError, match=r"RingConfig.capacity is 11, allowed: 12 or more"):
        RingConfig(window=6, rows=3, capacity=11)
    with pytest.raises(ValueError, match=r"RingConfig.window is 0"):
        RingConfig(window=0, rows=3, capacity=11)
