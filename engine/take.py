"""One take: from the fork of what was heard to its last sample, in slices that the decode thread schedules.

Stands between the session and a generator with its codec. It plans tokens, decodes them once into the next chunk
(the plan: sent early as the client's backup), and commits that chunk when the play head comes near enough. Every
chunk's state before it was decoded is kept until the play head is past, so that changed controls or a new epoch
take the stream back to any sample not yet played.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from .chunker import Chunker
from .conditioning import encode
from .events import (
    ChunkEvent,
    Codec,
    Controller,
    Event,
    LatePolicy,
    Pcm,
    TakeEnded,
    TakeMode,
    TakeRequest,
    TakeStarted,
)
from .generator import Codes, Conditions, Generator, Sampling
from .lookahead import LookAhead
from .stream import Costs, StreamConfig
from .timeline import Timeline
from .vamp import Vamp


class ConditionRows:
    """Condition rows of frames, asked of the controller at the frames' host positions."""

    def __init__(self, controller: Controller, timeline: Timeline) -> None:
        self._controller = controller
        self._timeline = timeline

    def rows(self, first_frame: int, count: int) -> Conditions:
        """Float32 [count, conditioning width]."""
        return encode(self._controller.controls(self._timeline.positions(first_frame, count)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chunk:
    """Decoded samples of consecutive frames, and what the chunker was before."""

    position: int
    pcm: Pcm  # mono [samples]
    codes: Codes
    first_frame: int
    before: Any
    before_frame: int  # the chunker's next frame before
    sent: bool = False  # as a plan

    @property
    def end(self) -> int:
        return self.position + len(self.pcm)


@dataclass(kw_only=True)
class _State:
    """All that changes in a take apart from generator, chunker and vamp."""

    epoch: int
    start: int  # as armed
    end: int | None
    sampling: Sampling
    released: bool = False  # the end was set by hand, so that it does not move with the start
    seq: int = 0
    committed_end: int | None = None  # None: nothing sounds yet
    short_next: bool = True  # the next chunk is to be there soon
    planned: _Chunk | None = None
    history: tuple[_Chunk, ...] = ()  # committed chunks that may still be taken back; without samples
    ended: bool = False


@dataclass(kw_only=True)
class TakeMeters:
    """What a take has cost so far. Not part of a snapshot."""

    decoder_s: float = 0.0
    codec_s: float = 0.0
    decoded_frames: int = 0
    generated_frames: int = 0
    late_chunks: int = 0
    control_latency_samples: int = 0
    begun_s: float | None = field(default=None)  # when work on the next chunk began


class Take:
    """Decode thread. Positions are host stream positions; `head` is the play head as last reported."""

    def __init__(
        self,
        *,
        session: int,
        request: TakeRequest,
        generator: Generator,
        codec: Codec,
        timeline: Timeline,
        controller: Controller,
        look_ahead: LookAhead,
        config: StreamConfig,
        costs: Costs,
        channels: int,
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.request = request
        self.context_end = generator.frontier
        self.meters = TakeMeters()
        self._generator = generator
        self._timeline = timeline
        self._source = ConditionRows(controller, timeline)
        self._chunker = Chunker(codec.decoder(), timeline)
        self._no_codes = np.zeros((0, codec.num_codebooks), np.uint16)
        self._look_ahead = look_ahead
        self._config = config
        self._costs = costs
        self._channels = channels
        self._clock = clock
        self._state = _State(
            epoch=request.epoch, start=request.start_position, end=request.end_position, sampling=request.sampling
        )
        self._vamp: Vamp | None = None
        if request.mode is TakeMode.VAMP and request.bar_position is not None and request.bars is not None:
            self._vamp = Vamp(
                timeline=timeline,
                bar_position=request.bar_position,
                start_position=request.start_position,
                bars=request.bars,
                beats_per_bar=request.beats_per_bar,
                variation=request.variation,
            )

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        return self._state.ended

    @property
    def sampling(self) -> Sampling:
        """As of now."""
        return self._state.sampling

    @property
    def committed_end(self) -> int | None:
        """Host position after the last committed sample; None while nothing sounds yet."""
        return self._state.committed_end

    @property
    def chunk_samples(self) -> int:
        """Host samples of a full chunk, rounded up."""
        return ceil(self._config.chunk_frames * self._costs.frame_s * self._timeline.host_rate)

    def slack_s(self, head: int) -> float:
        """Seconds until the next sample is due, less what is still to be generated before it."""
        state, rate = self._state, self._timeline.host_rate
        if state.committed_end is not None:
            return (state.committed_end - head) / rate
        missing = max(0, self._chunker.last_frame_for(state.start) - self._generator.frontier)
        return (state.start - head) / rate - missing * self._costs.step_s

    def has_work(self, head: int) -> bool:
        """Whether `work` would do something."""
        state = self._state
        if state.ended:
            return False
        if self._is_over(head):
            return True
        if state.planned is not None:
            unsent = self._config.emit_planned and not state.planned.sent
            return unsent or self._may_commit(state.planned, head)
        ahead = self._config.armed_ahead_s * self._timeline.host_rate
        return state.committed_end is not None or state.start - head <= ahead

    def work(self, head: int) -> list[Event]:
        """One slice: some tokens, or a chunk's audio, or a commit. Raises what the model raises."""
        state = self._state
        if self._is_over(head):
            return self._finish()
        if state.committed_end is None and self.request.late is LatePolicy.WAIT:
            self._relaunch(head)
        if state.planned is None:
            if self.meters.begun_s is None:
                self.meters.begun_s = self._clock()
            if not self._plan_tokens(head) or not self._plan_audio(head):
                return []
        chunk = state.planned
        if chunk is not None and self._may_commit(chunk, head):
            return self._commit(chunk, head)
        if chunk is None or chunk.sent or not self._config.emit_planned:
            return []
        state.planned = replace(chunk, sent=True)
        return [self._event(chunk, chunk.position, chunk.pcm, committed=False)]

    # --- commands -----------------------------------------------------------------------------------------------

    def release(self, end_position: int) -> None:
        """Sound ends just before this position, also where more was committed: then an empty last chunk says so."""
        self._state.end, self._state.released = end_position, True

    def set_sampling(self, sampling: Sampling, head: int) -> None:
        """Holds for everything not committed."""
        self._state.sampling = sampling
        self.replan(None, None, head)

    def rearm(self, start_position: int, end_position: int | None, head: int) -> bool:
        """Move the start of a take that does not sound yet (the tempo changed); False if it does."""
        state = self._state
        if state.committed_end is not None:
            return False
        state.start, state.end = start_position, end_position
        if self._vamp is not None:
            self._vamp.start_at(start_position)
        self._rearm_tokens(self._timeline.frame_at(head))
        return True

    def replan(self, from_position: int | None, epoch: int | None, head: int) -> None:
        """Controls changed from a position on (None: as soon as possible): forget what was not committed after it.

        With a new epoch, committed audio at or after the position is forgotten as well: the next chunk begins
        there and carries the new epoch. A take that the position leaves without sound is armed again.
        """
        state = self._state
        if epoch is not None:
            state.epoch = epoch
        changed = self._timeline.frame_at(head if from_position is None else from_position)
        if epoch is not None and from_position is not None and state.committed_end is not None:
            if from_position <= state.start:
                state.committed_end, state.history = None, ()
            elif from_position < state.committed_end:
                self._rewind(from_position)
        if state.committed_end is None:
            self._rearm_tokens(changed)
        else:
            if state.planned is not None:
                if epoch is not None:
                    state.planned = replace(state.planned, sent=False)
                if self._chunker.next_frame > changed:
                    self._drop_plan()
            self._rollback(max(changed, self._chunker.next_frame))
        keep = max(changed, self._chunker.next_frame) if state.committed_end is not None else changed
        self.meters.control_latency_samples = max(0, ceil(self._timeline.position_of_frame(keep)) - head)

    def snapshot(self) -> object:
        """Everything that decides tokens and audio, for `restore` to continue from bit-exactly."""
        vamp = None if self._vamp is None else self._vamp.snapshot()
        return replace(self._state), self._generator.snapshot(), self._chunker.snapshot(), vamp

    def restore(self, snapshot: Any) -> None:
        """Continue from a snapshot of this take."""
        state, generator, chunker, vamp = snapshot
        self._state = replace(state)
        self._generator.restore(generator)
        self._chunker.restore(chunker)
        if self._vamp is not None:
            self._vamp.restore(vamp)

    # --- tokens -------------------------------------------------------------------------------------------------

    def _entry(self, head: int) -> int:
        """Where the first sample would be heard if it were ready now."""
        if self.request.late is LatePolicy.WAIT:
            return self._state.start
        return max(self._state.start, head + self._look_ahead.margin_samples)

    def _target_frame(self, head: int) -> int:
        """The frames below this are what the next chunk needs."""
        if not self._state.short_next:
            return self._chunker.next_frame + self._config.chunk_frames
        position = self._entry(head)
        if self._chunker.running:
            resumed = self._state.committed_end is not None
            position = self._chunker.position if resumed else max(position, self._chunker.position)
        needed = self._chunker.last_frame_for(position) + self._config.first_chunk_frames
        return max(needed, self._chunker.next_frame + 1) if self._chunker.running else needed

    def _plan_tokens(self, head: int) -> bool:
        """Run steps towards the next chunk; True if it has all its frames and there is time left to decode."""
        target, before = self._target_frame(head), self._generator.frontier
        if before >= target:
            return True
        began, steps = self._clock(), self._costs.steps_per_slice()
        if self._vamp is None:
            ran = self._generator.plan(target, self._source, self._state.sampling, max_steps=steps)
        else:
            ran = self._vamp.plan(self._generator, target, self._source, self._state.sampling, steps)
        seconds = self._clock() - began
        if ran < 1 and self._generator.frontier <= before:
            raise RuntimeError(f"generator made no step towards frame {target} from {before}")
        self._costs.stepped(seconds, ran)
        self.meters.decoder_s += seconds
        self.meters.generated_frames += self._generator.frontier - before
        return self._generator.frontier >= target and seconds < self._config.slice_s / 2

    def _rollback(self, to_frame: int) -> None:
        frame = max(to_frame, self.context_end)
        if frame < self._generator.frontier:
            self._generator.rollback(frame)
            if self._vamp is not None:
                self._vamp.rollback(frame)

    def _rearm_tokens(self, changed_frame: int) -> None:
        self._chunker.stop()
        self._state.planned = None
        self._state.short_next = True
        self._rollback(changed_frame)

    # --- audio --------------------------------------------------------------------------------------------------

    def _plan_audio(self, head: int) -> bool:
        """Decode the next chunk; False if the codec is still being warmed, or all of it is muted."""
        state, chunker, began = self._state, self._chunker, self._clock()
        if not chunker.running:
            entry = self._entry(head)
            chunker.begin(max(0, chunker.first_frame_for(entry) - self._config.warm_frames), entry)
        warm_end = chunker.first_frame_for(chunker.position) if state.committed_end is None else chunker.next_frame
        if chunker.next_frame < warm_end:
            stop = min(warm_end, chunker.next_frame + self._config.chunk_frames)
            chunker.push(self._generator.read(chunker.next_frame, stop))
            self._decoded(began, 0)
            return False
        first, before = chunker.next_frame, chunker.snapshot()
        codes = self._generator.read(first, self._target_frame(head))
        position, pcm = chunker.push(codes)
        self._decoded(began, len(codes))
        if len(pcm) == 0:
            return False
        state.planned = _Chunk(
            position=position, pcm=pcm, codes=codes, first_frame=first, before=before, before_frame=first
        )
        if not state.short_next and self.meters.begun_s is not None:
            self._look_ahead.chunk_took(self._clock() - self.meters.begun_s)
        self.meters.begun_s = None
        return True

    def _decoded(self, began: float, frames: int) -> None:
        self.meters.codec_s += self._clock() - began
        self.meters.decoded_frames += frames

    def _drop_plan(self) -> None:
        if self._state.planned is not None:
            self._chunker.restore(self._state.planned.before)
            self._state.planned = None

    def _rewind(self, position: int) -> None:
        """Back to before the last committed chunk that used no frame at or after the one holding `position`."""
        state, frame = self._state, self._timeline.frame_at(position)
        index = max((i for i, chunk in enumerate(state.history) if chunk.before_frame <= frame), default=0)
        chunk = state.history[index]
        state.planned, state.history = None, state.history[:index]
        self._chunker.restore(chunk.before)
        self._chunker.mute_until(position)
        state.committed_end = self._chunker.position
        state.short_next = True

    # --- commit -------------------------------------------------------------------------------------------------

    def _may_commit(self, chunk: _Chunk, head: int) -> bool:
        return chunk.position - head < self._look_ahead.target_samples(self.chunk_samples)

    def _relaunch(self, head: int) -> None:
        """A start that cannot be met any more moves to the next launch position (late=wait)."""
        state, request = self._state, self.request
        earliest = head + self._look_ahead.margin_samples
        if state.start >= earliest or request.next_launch is None:
            return
        start = request.next_launch(earliest)
        if start < earliest:
            raise ValueError(f"next_launch({earliest}) gave {start}, which is before it")
        if state.end is not None and not state.released:
            if request.bars is not None and request.bar_position is not None:
                state.end = ceil(request.bar_position(start, request.bars))
            else:
                state.end += start - state.start
        state.start = start
        if self._vamp is not None:
            self._vamp.start_at(start)
        self._rearm_tokens(self._generator.frontier)

    def _commit(self, chunk: _Chunk, head: int) -> list[Event]:
        state, position, pcm = self._state, chunk.position, chunk.pcm
        events: list[Event] = []
        if state.committed_end is None:
            skip = max(0, self._entry(head) - position)
            if skip >= len(pcm):  # all of it would come too late: go on from where the head is now
                state.planned = None
                self._chunker.mute_until(position + skip)
                return events
            position, pcm = position + skip, pcm[skip:]
            events.append(
                TakeStarted(
                    session=self.session,
                    take=self.request.take,
                    epoch=state.epoch,
                    start_position=position,
                    requested_position=self.request.start_position,
                    context_frames=self.context_end,
                    seed=state.sampling.seed,
                )
            )
        elif position < head:
            self.meters.late_chunks += 1
        last = state.end is not None and position + len(pcm) >= state.end
        events.append(self._event(chunk, position, pcm, committed=True))
        state.planned = None
        state.short_next = False
        state.committed_end = position + len(pcm)
        self._remember(chunk, head)
        if last:
            events.append(self._end("end"))
        return events

    def _remember(self, chunk: _Chunk, head: int) -> None:
        """Keep what a new epoch could still take back: nothing that was played."""
        frame = self._timeline.frame_at(head)
        history = (*self._state.history, replace(chunk, pcm=chunk.pcm[:0], codes=chunk.codes[:0]))
        first = max((i for i, kept in enumerate(history) if kept.before_frame <= frame), default=0)
        self._state.history = history[first:]

    def _event(self, chunk: _Chunk, position: int, pcm: Pcm, *, committed: bool) -> ChunkEvent:
        state = self._state
        last = state.end is not None and position + len(pcm) >= state.end
        if state.end is not None and last:
            pcm = pcm[: max(0, state.end - position)]
        state.seq += 1
        return ChunkEvent(
            session=self.session,
            take=self.request.take,
            epoch=state.epoch,
            seq=state.seq - 1,
            position=position,
            pcm=np.repeat(pcm[:, None], self._channels, axis=1),
            codes=chunk.codes,
            first_frame=chunk.first_frame,
            start_position_of_first_frame=float(self._timeline.position_of_frame(chunk.first_frame)),
            committed=committed,
            last=last,
        )

    # --- end ----------------------------------------------------------------------------------------------------

    def _is_over(self, head: int) -> bool:
        """The end lies behind what was committed, or before anything could sound."""
        state = self._state
        begin = self._entry(head) if state.committed_end is None else state.committed_end
        return state.end is not None and state.end <= begin

    def _finish(self) -> list[Event]:
        state = self._state
        if state.committed_end is None or state.end is None:
            return [self._end("end")]
        empty = np.zeros(0, np.float32)
        frame = self._chunker.next_frame
        chunk = _Chunk(
            position=state.end, pcm=empty, codes=self._no_codes, first_frame=frame, before=None, before_frame=frame
        )
        event = self._event(chunk, state.end, empty, committed=True)
        return [event, self._end("end")]

    def _end(self, reason: str) -> TakeEnded:
        self._state.ended = True
        heard = self._state.committed_end is not None
        return TakeEnded(
            session=self.session,
            take=self.request.take,
            reason=reason,
            position=self._state.end if heard and reason == "end" else self._state.committed_end,
        )
