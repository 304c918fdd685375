"""The decoder's key/value cache: linear, one slot per memory row, compacted once in a while.

Sits under the step runtime, which writes into it in place. Slots are counted from the start of the sequence on; of
them the newest `window` and a little slack are live, and some older ones wait in an attic for a rollback. Which
slots are live is a function of the slot being written alone, never of history: so a row's arithmetic, and with it
the tokens, are the same to the bit whether it was planned, prefilled, or reached again after a rollback.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64
Tensors = npt.NDArray[Any]  # [tensors, heads, slots, head_dim], float32 or int8


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Sizes. `tensors` = 2 (key, value) * branches * layers; `block` slots are compacted at once."""

    tensors: int
    heads: int
    head_dim: int
    window: int
    max_rows: int  # rows of one call, all of which are written
    bits: int = 32
    block: int = 64
    attic_blocks: int = 4

    def __post_init__(self) -> None:
        for name in ("tensors", "heads", "head_dim", "window", "max_rows", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"CacheConfig.{name} {getattr(self, name)} is below 1")
        if self.bits not in (8, 32):
            raise ValueError(f"CacheConfig.bits {self.bits} is not 8 or 32")
        if self.attic_blocks < 1:  # a step that rewrites the last slot may need the block just compacted
            raise ValueError(f"CacheConfig.attic_blocks {self.attic_blocks} is below 1")

    @property
    def capacity(self) -> int:
        """Slots of the live buffer."""
        return self.window + self.block + self.max_rows

    def base(self, slot: int) -> int:
        """First live slot while rows are written from `slot` on: a multiple of `block`, `window` or more before."""
        return max(0, (slot - self.window) // self.block * self.block)


@dataclass(frozen=True, eq=False)
class CacheState:
    """A snapshot; never changed after it was taken."""

    live: Tensors
    base: int
    timesteps: tuple[int, ...]
    attic: tuple[Tensors, ...]


class SlotCache:
    """One stream's cache. `live` never moves in memory, so it can be bound once."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        shape = (config.tensors, config.heads, config.capacity, config.head_dim)
        self.live = _aligned_zeros(shape, np.dtype(np.int8 if config.bits == 8 else np.float32))
        self._base = 0
        self._attic: deque[Tensors] = deque(maxlen=config.attic_blocks)
        self._timesteps: deque[int] = deque()  # of every slot that is live or in the attic

    @property
    def count(self) -> int:
        """Slots kept since the start of the sequence."""
        return self._oldest + len(self._timesteps)

    @property
    def nbytes(self) -> int:
        """Memory held, bytes: bounded for a sequence of any length."""
        return int(self.live.nbytes) + sum(int(block.nbytes) for block in self._attic)

    @property
    def _oldest(self) -> int:
        return self._base - len(self._attic) * self.config.block

    def timesteps(self) -> npt.NDArray[np.int64]:
        """Timesteps of the slots that are live or in the attic; the last is that of slot `count` - 1."""
        return np.array(self._timesteps, dtype=np.int64)

    def place(self, slot: int) -> int:
        """Make the buffer ready for rows whose first is written at `slot` (at most `count`); its index in `live`.

        ValueError if that lies further back than the attic reaches.
        """
        base = self.config.base(slot)
        if slot > self.count or base < self._oldest:
            raise ValueError(f"slot {slot} is outside {self._oldest + self.config.window}..{self.count}")
        while self._base < base:
            self._compact()
        while self._base > base:
            self._uncompact()
        return slot - base

    def room(self, slot: int) -> int:
        """How many rows can follow from `slot` on before the live range moves."""
        return self.config.base(slot) + self.config.window + self.config.block - slot

    def oldest_cut(self) -> int:
        """The lowest slot that `truncate` accepts: after it, the slot before can still be written again."""
        return 0 if self._oldest == 0 else self._oldest + self.config.window + 1

    def keep(self, timesteps: list[int]) -> None:
        """Count the rows just written from slot `count` on as kept, with their timesteps."""
        self._timesteps.extend(timesteps)

    def truncate(self, slot: int) -> None:
        """Forget every slot from `slot` on. ValueError if that is further back than the attic reaches."""
        if not self.oldest_cut() <= slot <= self.count:
            raise ValueError(f"slot {slot} is outside {self.oldest_cut()}..{self.count}")
        while self._base > self.config.base(slot):
            self._uncompact()
        while self.count > slot:
            self._timesteps.pop()

    def clear(self) -> None:
        """Forget everything."""
        self._base = 0
        self._attic.clear()
        self._timesteps.clear()

    def snapshot(self) -> CacheState:
        """A copy of what is kept; attic blocks are shared, for they are never written."""
        used = self.count - self._base
        return CacheState(self.live[:, :, :used].copy(), self._base, tuple(self._timesteps), tuple(self._attic))

    def restore(self, state: CacheState) -> None:
        """Go on exactly from a snapshot of a cache of the same configuration."""
        self.live[:, :, : state.live.shape[2]] = state.live
        self._base = state.base
        self._attic = deque(state.attic, maxlen=self.config.attic_blocks)
        self._timesteps = deque(state.timesteps)

    def _compact(self) -> None:
        block, used = self.config.block, self.count - self._base
        if len(self._attic) == self.config.attic_blocks:
            for _ in range(block):
                self._timesteps.popleft()
        self._attic.append(self.live[:, :, :block].copy())
        _, _, slots, size = self.live.shape
        for row in self.live.reshape(-1, slots * size):  # one head's: moved in place, without a copy between
            row[: (used - block) * size] = row[block * size : used * size]
        self._base += block

    def _uncompact(self) -> None:
        block = self.config.block
        used = min(self.count - self._base, self.config.capacity - block)  # what falls off is about to be forgotten
        for tensor in self.live:
            tensor[:, block : block + used] = tensor[:, :used].copy()
        self.live[:, :, :block] = self._attic.pop()
        self._base -= block


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensors:
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
