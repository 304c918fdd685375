"""One take: from the fork of what was heard to its last sample, in slices that the decode thread schedules.

Stands between the session and a planner, which makes tokens and audio. The take says what is wanted next, sends
each chunk early as a plan, the client's backup, and commits it when the play head comes near enough. Committed
chunks are remembered until the play head is past, so that changed controls or a new epoch take the stream back to
any sample not yet played.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

from .anew import begin_if_due, joined, may_rehearse, rehearse
from .conditioning import ConditioningLayout
from .events import Codec, Controller, Event, LatePolicy, TakeRequest
from .generator import Generator, Sampling
from .heard_bars import HeardBars
from .leveller import Leveller
from .lookahead import LookAhead
from .outlet import Outlet
from .planner import Chunk, Planner, TakeMeters
from .remake import Remake
from .skip import Skip
from .stream import Costs, StreamConfig
from .take_state import TakeState
from .timeline import Timeline


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
        layout: ConditioningLayout,
        look_ahead: LookAhead,
        config: StreamConfig,
        costs: Costs,
        channels: int,
        clock: Callable[[], float],
        leveller: Leveller | None = None,
        heard: HeardBars | None = None,
    ) -> None:
        self.request, self.generator = request, generator
        self._planner = Planner(
            request=request,
            generator=generator,
            codec=codec,
            timeline=timeline,
            controller=controller,
            layout=layout,
            config=config,
            costs=costs,
            clock=clock,
            leveller=leveller,
            heard=heard,
        )
        self._chunker = self._planner.chunker
        self._look_ahead = look_ahead
        self._config = config
        self._costs = costs
        self._clock = clock
        self._outlet = Outlet(session=session, request=request, planner=self._planner, channels=channels)
        self._remake = Remake(
            planner=self._planner, look_ahead=look_ahead, costs=costs, host_rate=timeline.host_rate
        )
        self._skip = Skip(request=request, config=config, look_ahead=look_ahead)
        self._host_rate = timeline.host_rate
        self._begun_s: float | None = None  # when work on the next chunk began
        self._state = TakeState(
            epoch=request.epoch, start=request.start_position, end=request.end_position, sampling=request.sampling
        )

    @property
    def meters(self) -> TakeMeters:
        """What the take has cost so far."""
        return self._planner.meters

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
        return ceil(self._config.chunk_frames * self._costs.frame_s * self._host_rate)

    def slack_s(self, head: int) -> float:
        """Seconds until the next sample is due, less what is still to be generated before it."""
        state, rate = self._state, self._host_rate
        if state.committed_end is not None:
            return (state.committed_end - head) / rate
        missing = max(0, self._chunker.last_frame_for(state.start) - self._planner.frontier)
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
            return unsent or self._may_commit(state.planned, head) or may_rehearse(state, self._planner)
        ahead = self._config.armed_ahead_s * self._host_rate
        return state.committed_end is not None or state.start - head <= ahead

    def work(self, head: int) -> list[Event]:
        """One slice: some tokens, or a chunk's audio, or a commit. Raises what the model raises."""
        state = self._state
        if self._is_over(head):
            return self._outlet.finish(state)
        if self._waits:
            self._relaunch(head)
        if self._skip.is_due(state, self._planner, head):
            self.meters.late_chunks += self._skip.over(state, self._planner, head, self.chunk_samples)
            self._begun_s = None
        chunk = state.planned or self._make(head)
        if chunk is None:
            return []
        state.planned = chunk
        if self._may_commit(chunk, head):
            return self._commit(chunk, head)
        if chunk.sent or not self._config.emit_planned:
            rehearse(state, self._planner)
            return []
        state.planned = replace(chunk, sent=True)
        return [self._outlet.chunk(state, chunk, chunk.position, chunk.pcm, committed=False)]

    # --- commands -----------------------------------------------------------------------------------------------

    def stop(self, reason: str, head: int) -> list[Event]:
        """End at once: an empty last chunk where the sound ends, then TakeEnded; see Outlet.stop."""
        return self._outlet.stop(self._state, reason, head)

    def release(self, end_position: int) -> None:
        """Sound ends just before this position, also where more was committed: then an empty last chunk says so."""
        self._state.end, self._state.released = end_position, True

    def set_sampling(self, sampling: Sampling, head: int) -> None:
        """Holds for everything not committed."""
        self._state.sampling = sampling
        self.replan(None, None, head)

    def rearm(self, start_position: int, end_position: int | None) -> bool:
        """Move the start of a take that does not sound yet, and keep what was made for it; False if it sounds."""
        state = self._state
        if state.announced:
            return False
        state.start, state.end = start_position, end_position
        self._planner.start_at(start_position)
        self._arm(None)
        return True

    def replan(self, from_position: int | None, epoch: int | None, head: int, *, bent: bool = False) -> None:
        """Controls changed from a position on (None: at once): forget what was not committed after it.

        What could not be made again in time is kept. A new epoch takes back what is committed, too: the next chunk
        begins there, and a take without sound is armed again. `bent`: bars lie a little elsewhere, all is kept.
        Control latency counts from `from_position`, which may lie behind the play head by now.
        """
        state = self._state
        since = changed_at = head if from_position is None else from_position
        if epoch is None:
            changed_at = max(changed_at, head)
        state.epoch = state.epoch if epoch is None else epoch
        if epoch is not None or bent:
            self._planner.new_epoch(head if from_position is None else max(from_position, state.start))
        if bent:
            return
        if epoch is not None and from_position is not None and state.committed_end is not None:
            self._rewind(from_position)
        changed = self._chunker.frame_at(changed_at)
        if state.committed_end is None and (
            epoch is not None
            or self._remake.start_in_time(changed, self._chunker.last_frame_for(state.start), state.start - head)
        ):
            self._arm(changed)
        elif state.committed_end is None:
            changed = max(changed, self._remake.first_free_frame)
        elif epoch is not None or self._remake.in_time(state.committed_end - head):
            if state.planned is not None:
                state.planned = replace(state.planned, sent=state.planned.sent and epoch is None)
                if self._chunker.next_frame > changed:
                    self._chunker.restore(state.planned.before)
                    state.planned = None
            running = self._chunker.running  # not where a take has just begun anew: its codec has yet to
            free = self._chunker.next_frame if running else self._chunker.frame_at(state.committed_end)
            changed = max(changed, free)
            self._planner.rollback(changed)
        else:
            changed = max(changed, self._remake.first_free_frame)
        first = self._chunker.position_of_frame(changed)
        if state.committed_end is not None and self._chunker.running:
            first = self._chunker.first_sample_of(changed)
        self.meters.control_latency_samples = max(0, ceil(first) - since)

    def snapshot(self) -> object:
        """Everything that decides tokens and audio, for `restore` to continue from bit-exactly."""
        return replace(self._state), self._planner.snapshot()

    def restore(self, snapshot: Any) -> None:
        """Continue from a snapshot of this take."""
        state, planner = snapshot
        self._state = replace(state)
        self._planner.restore(planner)

    # --- what comes next ----------------------------------------------------------------------------------------

    @property
    def _waits(self) -> bool:
        """Whether a launch that is missed moves to the next."""
        return self.request.late is LatePolicy.WAIT and not self._state.announced

    def _entry(self, head: int) -> int:
        """Where the first sample would be heard if it were ready now."""
        if self._waits:
            return self._state.start
        return max(self._state.start, head + self._look_ahead.margin_samples)

    def _is_over(self, head: int) -> bool:
        """The end lies behind what was committed, or before anything could sound."""
        state = self._state
        begin = self._entry(head) if state.committed_end is None else state.committed_end
        return state.end is not None and state.end <= begin

    def _make(self, head: int) -> Chunk | None:
        """One slice towards the next chunk; the chunk if that completes it."""
        state, planner = self._state, self._planner
        if self._begun_s is None:
            self._begun_s = self._clock()
        if not begin_if_due(state, planner):
            return None
        entry = self._entry(head) if state.committed_end is None else state.committed_end
        if self._chunker.running:
            entry = max(entry, self._chunker.position)
        left_s = None
        if self._look_ahead.realtime:
            left_s = self.slack_s(head) - self._look_ahead.margin_samples / self._host_rate
        target = planner.target(entry, short=state.short_next, left_s=left_s)
        if not planner.tokens(target, state.sampling):
            return None
        if (state.committed_end is None or not self._chunker.running) and not planner.warm(entry):
            return None
        chunk = planner.audio(target)
        if chunk is not None:
            if not state.short_next:  # the first also makes what is muted
                self._look_ahead.chunk_took(self._clock() - self._begun_s)
            self._begun_s = None
        return None if chunk is None else joined(state, planner, chunk)

    def _arm(self, changed_frame: int | None) -> None:
        """Back to before the first sound; what was generated before a frame (None: at all) is kept."""
        self._chunker.stop()
        self._state.planned = self._state.anew_at = None
        self._state.short_next = True
        if changed_frame is not None:
            self._planner.rollback(changed_frame)

    def _rewind(self, position: int) -> None:
        """Forget committed audio at or after a position.

        Goes back to before the last chunk that used no frame at or after the one holding the position.
        """
        state = self._state
        if position <= state.start:
            state.committed_end, state.history, state.announced = None, (), False
        elif state.committed_end is not None and position < state.committed_end:
            index = state.index_at(position)
            self._chunker.restore(state.history[index].before)
            self._chunker.mute_until(position)
            state.planned, state.anew_at, state.history = None, None, state.history[:index]
            state.committed_end = self._chunker.position
            state.short_next = True

    # --- commit -------------------------------------------------------------------------------------------------

    def _may_commit(self, chunk: Chunk, head: int) -> bool:
        return chunk.position - head < self._look_ahead.target_samples(self.chunk_samples)

    def _relaunch(self, head: int) -> None:
        """A start that cannot be met any more moves to the next launch position (late=wait)."""
        if self._state.relaunch(self.request, head + self._look_ahead.margin_samples):
            self._planner.start_at(self._state.start)
            self._arm(None)

    def _commit(self, chunk: Chunk, head: int) -> list[Event]:
        state, position, pcm = self._state, chunk.position, chunk.pcm
        events: list[Event] = []
        if state.committed_end is None:
            skip = max(0, self._entry(head) - position)
            if skip >= len(pcm):  # all of it would come too late: go on from where the head is now
                state.planned = None
                self._chunker.mute_until(position + skip)
                return events
            position, pcm = position + skip, pcm[skip:]
            events += self._outlet.started(state, position)
        elif position < head:
            self.meters.late_chunks += 1
        last = state.end is not None and position + len(pcm) >= state.end
        events.append(self._outlet.chunk(state, chunk, position, pcm, committed=True))
        state.planned = None
        state.short_next = False
        state.committed_end = position + len(pcm)
        self._planner.go_on()
        state.remember(replace(chunk, pcm=self._planner.no_pcm, codes=self._planner.no_codes), head)
        if last:
            events.append(self._outlet.end(state, "end"))
        return events
