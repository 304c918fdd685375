"""The slot cache against an endless list: the same slots, whatever was compacted, cut, copied or restored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.cache import CacheConfig, SlotCache

WINDOW, BLOCK, ATTIC, ROWS = 10, 4, 3, 5
CONFIG = CacheConfig(tensors=2, heads=1, head_dim=2, window=WINDOW, max_rows=ROWS, block=BLOCK, attic_blocks=ATTIC)


def write(cache: SlotCache, model: list[int], count: int, mark: int) -> None:
    """Rows as a step writes them: `count` kept, the rest of the call scratch, every value its own."""
    slot = cache.count
    count = min(count, cache.room(slot))
    place = cache.place(slot)
    cache.live[:, :, place : place + ROWS] = -1.0
    for i in range(count):
        cache.live[:, :, place + i] = mark + i
    cache.keep([mark + i for i in range(count)])
    model += [mark + i for i in range(count)]


def check(cache: SlotCache, model: list[int]) -> None:
    assert cache.count == len(model)
    timesteps = cache.timesteps()
    assert timesteps.tolist() == model[len(model) - len(timesteps) :]
    place = cache.place(len(model))
    seen = min(place, WINDOW - 1) if len(model) else 0
    expected = np.array(model[len(model) - seen :], np.float32)
    found = cache.live[:, :, place - seen : place]
    np.testing.assert_array_equal(found, np.broadcast_to(expected[None, None, :, None], found.shape))
    assert place == len(model) or place >= WINDOW


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["write", "rewrite", "cut", "save", "load"]), st.integers(0, 14)), max_size=80
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_cache_equals_a_list(actions: list[tuple[str, int]]) -> None:
    cache, model = SlotCache(CONFIG), []
    saved = (cache.snapshot(), list(model))
    mark = 0
    for action, amount in actions:
        if action == "write":
            write(cache, model, 1 + amount % ROWS, mark)
            mark += 100
        elif action == "rewrite" and model:
            place = cache.place(cache.count - 1)
            cache.live[:, :, place] = model[-1]
            cache.live[:, :, place + 1 : place + ROWS] = -1.0
        elif action == "cut":
            slot = max(len(model) - amount, cache.oldest_cut())
            cache.truncate(slot)
            del model[slot:]
        elif action == "save":
            saved = (cache.snapshot(), list(model))
        elif action == "load":
            cache = SlotCache(CONFIG)
            cache.restore(saved[0])
            model = list(saved[1])
        check(cache, model)


def test_live_range_depends_on_the_slot_alone() -> None:
    forward, back = SlotCache(CONFIG), SlotCache(CONFIG)
    for slot in range(60):
        write(forward, [], 1, slot)
        write(back, [], 1, slot)
    for slot in range(60, 66):
        write(back, [], 1, slot + 1000)
    back.truncate(60)
    assert forward.place(60) == back.place(60)
    np.testing.assert_array_equal(forward.live[:, :, : forward.place(60)], back.live[:, :, : back.place(60)])


def test_cut_reaches_as_far_back_as_the_attic() -> None:
    cache = SlotCache(CONFIG)
    for slot in range(100):
        write(cache, [], 1, slot)
    oldest = cache.oldest_cut()
    assert 100 - oldest >= (ATTIC - 1) * BLOCK
    with pytest.raises(ValueError, match=f"slot {oldest - 1} is outside {oldest}..100"):
        cache.truncate(oldest - 1)
    cache.truncate(oldest)
    assert cache.place(oldest - 1) >= WINDOW


def test_memory_is_bounded() -> None:
    cache = SlotCache(CONFIG)
    sizes = set()
    for slot in range(500):
        write(cache, [], 1, slot)
        if slot >= 100:
            sizes.add((cache.nbytes, len(cache.timesteps()) // BLOCK))
    assert len({nbytes for nbytes, _ in sizes}) == 1
    assert max(kept for _, kept in sizes) * BLOCK <= CONFIG.capacity + ATTIC * BLOCK


def test_snapshot_is_independent() -> None:
    cache = SlotCache(CONFIG)
    for slot in range(30):
        write(cache, [], 1, slot)
    state = cache.snapshot()
    before = state.live.copy()
    for slot in range(30, 60):
        write(cache, [], 1, slot)
    np.testing.assert_array_equal(state.live, before)
    other = SlotCache(CONFIG)
    other.restore(state)
    write(other, [], 1, 999)
    np.testing.assert_array_equal(state.live, before)


@pytest.mark.parametrize("field", ["tensors", "window", "max_rows", "block", "attic_blocks"])
def test_configuration_is_checked(field: str) -> None:
    values = {"tensors": 2, "heads": 1, "head_dim": 2, "window": WINDOW, "max_rows": ROWS} | {field: 0}
    with pytest.raises(ValueError, match=f"CacheConfig.{field} 0 is below 1"):
        CacheConfig(**values)
