"""All that changes in a take apart from its planner; a value that `Take` snapshots, restores and moves on."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from .events import Pcm, TakeRequest
from .generator import Sampling
from .planner import Chunk


@dataclass(kw_only=True)
class TakeState:
    """All that changes in a take apart from its planner."""

    epoch: int
    start: int  # as armed
    end: int | None
    sampling: Sampling
    released: bool = False  # the end was set by hand, so that it does not move with the start
    seq: int = 0
    committed_end: int | None = None  # None: nothing sounds yet
    short_next: bool = True  # the next chunk is to be there soon
    planned: Chunk | None = None
    history: tuple[Chunk, ...] = ()  # committed chunks that may still be taken back; without samples
    announced: bool = False  # TakeStarted was said; with nothing committed, it is to sound again after a skip
    ended: bool = False
    anew_at: int | None = None  # bar line at which the take is to begin anew (engine/anew.py)
    joint: tuple[int, Pcm] | None = None  # the last such, and what sounded before it, newest first

    def index_at(self, position: int) -> int:
        """Of `history`, the last chunk that uses no frame heard after a host position; 0 if none does not."""
        return max((i for i, chunk in enumerate(self.history) if chunk.begins <= position), default=0)

    def remember(self, chunk: Chunk, head: int) -> None:
        """A committed chunk, without samples: kept while a new epoch could still take it back."""
        self.history = (*self.history, chunk)
        self.history = self.history[self.index_at(head) :]

    def relaunch(self, request: TakeRequest, earliest: int) -> bool:
        """Start at the next launch position from `earliest` on if the present one lies before; whether it moved.

        ValueError if the launch position asked for does, too.
        """
        if self.start >= earliest or request.next_launch is None:
            return False
        start = request.next_launch(earliest)
        if start < earliest:
            raise ValueError(f"next_launch({earliest}) gave {start}, which is before it")
        if self.end is not None and not self.released:
            if request.bars is not None and request.bar_position is not None:
                self.end = ceil(request.bar_position(start, request.bars))
            else:
                self.end += start - self.start
        self.start = start
        return True
