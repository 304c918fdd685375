"""All that changes in a take apart from its planner; a value that `Take` snapshots, restores and moves on."""

from __future__ import annotations

from dataclasses import dataclass

from .events import Event, Pcm, TakeRequest, TakeStarted
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

    def announce(self, session: int, request: TakeRequest, position: int, context_frames: int) -> list[Event]:
        """What is to be said before the first committed chunk, which begins at `position`; once."""
        if self.announced:
            return []
        self.announced = True
        started = TakeStarted(
            session=session,
            take=request.take,
            epoch=self.epoch,
            start_position=position,
            requested_position=request.start_position,
            context_frames=context_frames,
            seed=self.sampling.seed,
        )
        return [started]
