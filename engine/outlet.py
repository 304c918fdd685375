"""What a take says: that it sounds, its chunks, planned and committed, numbered in order, and its end.

Between a take, which decides what is sent, and the events that leave the engine. Sound is cut where the take ends
and spread over the client's channels here; where nothing is left to be said, an empty chunk carries the end.
"""

from __future__ import annotations

from dataclasses import replace

from .channels import spread
from .events import ChunkEvent, Event, Pcm, TakeEnded, TakeRequest, TakeStarted
from .planner import Chunk, Planner
from .take_state import TakeState


class Outlet:
    """Decode thread; one per take, whose state is given with each call."""

    def __init__(self, *, session: int, request: TakeRequest, planner: Planner, channels: int) -> None:
        self._session = session
        self._request = request
        self._planner = planner
        self._channels = channels

    def started(self, state: TakeState, position: int) -> list[Event]:
        """What is to be said before the first committed chunk, which begins at `position`; once."""
        if state.announced:
            return []
        state.announced = True
        started = TakeStarted(
            session=self._session,
            take=self._request.take,
            epoch=state.epoch,
            start_position=position,
            requested_position=self._request.start_position,
            context_frames=self._planner.context_end,
            seed=state.sampling.seed,
        )
        return [started]

    def chunk(self, state: TakeState, chunk: Chunk, position: int, pcm: Pcm, *, committed: bool) -> ChunkEvent:
        """The next in number: of a chunk what is to be heard, from a host position on."""
        last = state.end is not None and position + len(pcm) >= state.end
        if state.end is not None and last:
            pcm = pcm[: max(0, state.end - position)]
        state.seq += 1
        return ChunkEvent(
            session=self._session,
            take=self._request.take,
            epoch=state.epoch,
            seq=state.seq - 1,
            position=position,
            pcm=spread(pcm, self._channels),
            codes=chunk.codes,
            first_frame=chunk.first_frame,
            start_position_of_first_frame=float(chunk.begins),
            committed=committed,
            last=last,
        )

    def end(self, state: TakeState, reason: str) -> TakeEnded:
        """The take has ended where its sound does."""
        at = state.end if state.announced and reason == "end" else state.committed_end
        return self._ended(state, reason, at)

    def finish(self, state: TakeState) -> list[Event]:
        """It ends where it was to end; an empty last chunk says so to who has heard it."""
        if not state.announced or state.end is None:
            return [self.end(state, "end")]
        return [self._empty(state, state.end), self.end(state, "end")]

    def stop(self, state: TakeState, reason: str, head: int) -> list[Event]:
        """It ends at once: an empty last chunk where the sound ends, then TakeEnded.

        That is the play head; what was committed is sound also if the model failed, and is played then.
        """
        at = state.committed_end
        if at is not None and state.end is not None:
            at = min(at, state.end)
        if at is not None and not reason.startswith("error"):
            at = min(at, head)
        empty = self._empty(state, head if at is None else at)
        return [replace(empty, last=True), self._ended(state, reason, at)]

    def _empty(self, state: TakeState, position: int) -> ChunkEvent:
        planner, chunker = self._planner, self._planner.chunker
        frame = chunker.next_frame if chunker.running else planner.frontier
        chunk = Chunk(
            position=position,
            pcm=planner.no_pcm,
            codes=planner.no_codes,
            first_frame=frame,
            begins=chunker.position_of_frame(frame),
            before=None,
        )
        return self.chunk(state, chunk, position, chunk.pcm, committed=True)

    def _ended(self, state: TakeState, reason: str, position: int | None) -> TakeEnded:
        state.ended = True
        return TakeEnded(session=self._session, take=self._request.take, reason=reason, position=position)
