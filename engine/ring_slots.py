"""Bookkeeping of a decoder's cache on a device: a ring of slots under an explicit mask, so nothing ever moves.

Beside engine/cache.py, whose rules it keeps: slots are counted from the start of the sequence on, and where a slot
lies is a function of its number alone, so a row's arithmetic is the same to the bit however it was reached. The
buffer ends with room for the rows of one call that follow the ring's last slot; no row that stays is written there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RingConfig:
    """Sizes: slots that a row sees, rows of a call, slots of the buffer (fixed by the graph)."""

    window: int
    rows: int
    capacity: int

    def __post_init__(self) -> None:
        for name in ("window", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"RingConfig.{name} is {getattr(self, name)}, allowed: 1 or more")
        least = self.window + 2 * self.rows
        if self.capacity < least:
            raise ValueError(f"RingConfig.capacity is {self.capacity}, allowed: {least} or more")

    @property
    def period(self) -> int:
        """Slots of the ring. So many rows fit in after it: a seat whose take does not step writes there."""
        return self.capacity - self.rows

    # What a frame store is sized by beside `capacity`; here the ring holds it all.
    attic_blocks = 0
    block = 1


@dataclass(frozen=True, eq=False)
class RingState:
    """A snapshot of the bookkeeping; never changed after it was taken."""

    count: int
    written: int
    timesteps: tuple[int, ...]


class RingSlots:
    """One take's slots. Where SlotCache holds the cache itself, here it lies on the device."""

    def __init__(self, config: RingConfig) -> None:
        self.config = config
        self._timesteps: deque[int] = deque(maxlen=config.period)
        self._count = 0
        self._written = 0  # one past the furthest slot ever written: what lies a period before it is lost

    @property
    def count(self) -> int:
        """Slots kept since the start of the sequence."""
        return self._count

    def timesteps(self) -> npt.NDArray[np.int64]:
        """Timesteps of the newest slots; the last is that of slot `count` - 1."""
        return np.array(self._timesteps, dtype=np.int64)

    def room(self, slot: int) -> int:
        """How many rows that stay can follow from `slot` on in one call."""
        return min(self.config.rows, self.config.period - slot % self.config.period)

    def oldest_cut(self) -> int:
        """The lowest slot that `truncate` accepts: after it, the slot before can still be written again."""
        lost = self._written - self.config.period
        return 0 if lost <= 0 else lost + self.config.window + 1

    def place(self, slot: int) -> int:
        """Index in the buffer of the first row, to be written at `slot` (at most `count`); too old: ValueError."""
        if not 0 <= slot <= self._count or (slot < self.oldest_cut() - 1):
            raise ValueError(f"slot {slot} is outside {max(0, self.oldest_cut() - 1)}..{self._count}")
        index = slot % self.config.period
        on_ring = min(self.config.rows, self.config.period - index)
        self._written = max(self._written, slot + on_ring)
        return index

    def mask(self, slot: int, out: Bools) -> None:
        """What the rows written from `slot` on see, into bool [rows, capacity]: the window, and themselves."""
        config = self.config
        period, index = config.period, slot % config.period
        places = np.arange(config.capacity)
        held = slot - 1 - (slot - 1 - places) % period  # the newest slot before these that lies in each place
        held[period:] = -1
        held[index : index + config.rows] = slot + np.arange(config.rows)
        row = slot + np.arange(config.rows)[:, None]
        np.logical_and(held >= np.maximum(0, row - config.window + 1), held <= row, out=out)

    def keep(self, timesteps: list[int]) -> None:
        """Count the rows just written from slot `count` on as kept, with their timesteps."""
        self._timesteps.extend(timesteps)
        self._count += len(timesteps)

    def truncate(self, slot: int) -> None:
        """Forget every slot from `slot` on. ValueError if that is further back than the ring reaches."""
        if not self.oldest_cut() <= slot <= self._count:
            raise ValueError(f"slot {slot} is outside {self.oldest_cut()}..{self._count}")
        for _ in range(self._count - slot):
            self._timesteps.pop()
        self._count = slot

    def clear(self) -> None:
        """Forget everything."""
        self._timesteps.clear()
        self._count = self._written = 0

    def snapshot(self) -> RingState:
        """The bookkeeping, independent of what happens later."""
        return RingState(self._count, self._written, tuple(self._timesteps))

    def restore(self, state: RingState) -> None:
        """Back to a snapshot of a ring of the same sizes."""
        self._count, self._written = state.count, state.written
        self._timesteps = deque(state.timesteps, maxlen=self.config.period)
