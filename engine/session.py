"""One client: its ear, its takes, its play head. The decode thread asks it what is most urgent and has it done.

Stands between the service, which serves all clients, and listener and takes. What goes wrong inside a take ends
that take, what goes wrong in listening restarts listening; neither goes further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .events import (
    Controller,
    Event,
    ListeningRestarted,
    Measures,
    Model,
    Pcm,
    TakeEnded,
    TakeMode,
    TakeRequest,
    Worked,
)
from .generator import Generator, Sampling
from .heard_bars import HeardBars
from .hold import hold_of
from .listener import Listener
from .lookahead import LookAhead
from .prompt_track import Told
from .prompted import Prompt
from .stream import Costs, StreamConfig
from .take import Take
from .timeline import Timeline

_LISTEN_SLACK_S = 0.3  # audio should be heard this long after it came
_LATE_SLACK_S = 0.15  # what is late counts like what is due so soon: below what a healthy take keeps
_GROUPS_BESIDE_A_TAKE = 2  # of frames heard at once: a fifth less work, and the next trigger is far
LISTENING = -1  # the job that is no take


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A take that still listens: it forks once the audio sent before it is heard, an answer when it is time."""

    request: TakeRequest
    mark: int  # the listener's enqueued samples at the trigger
    fork_position: int | None


class Session:
    """Decode thread. All positions are host stream positions."""

    def __init__(
        self,
        model: Model,
        *,
        session: int,
        sample_rate: int,
        channels: int,
        controller: Controller,
        config: StreamConfig,
        costs: Costs,
        clock: Callable[[], float],
    ) -> None:
        if not 1 <= channels <= 64:
            raise ValueError(f"Session channels {channels} is outside 1..64")
        self.session = session
        self.look_ahead = LookAhead(sample_rate, config.look_ahead)
        self.listener = Listener(model, controller, sample_rate, config)
        self.takes: dict[int, Take] = {}
        self.head: int | None = None  # None until the host reported it
        self.errors = 0
        self._waiting: dict[int, _Waiting] = {}
        self._late_chunks = 0
        self._control_latency = 0
        self._codec = model.codec
        self._layout = model.conditioning
        hold = hold_of(model)
        self._hold_beat, self._hold_level = hold.beat, hold.level is not None
        self._sample_rate = sample_rate
        self._channels = channels
        self._controller = controller
        self._config = config
        self._costs = costs
        self._clock = clock

    @property
    def take_count(self) -> int:
        """Takes that play, are armed or wait."""
        return len(self.takes) + len(self._waiting)

    def has_take(self, take: int) -> bool:
        """Whether a take of this number is under way."""
        return take in self.takes or take in self._waiting

    def listen(self, position: int, pcm: Pcm) -> list[Event]:
        """Store audio for `work`."""
        reason = self.listener.enqueue(position, pcm)
        return [] if reason is None else [self._restarted(reason)]

    def start(self, request: TakeRequest) -> None:
        """Arm a take; it forks from what was heard once the audio sent so far is."""
        self._wait(request, self.listener.enqueued_samples)

    def release(self, take: int, end_position: int) -> list[Event]:
        """End a take just before a position."""
        waiting = self._waiting.get(take)
        if waiting is not None:
            if end_position <= waiting.request.start_position:
                return self.cancel(take, "end")
            self._waiting[take] = replace(waiting, request=replace(waiting.request, end_position=end_position))
        elif take in self.takes:
            self.takes[take].release(end_position)
        return []

    def cancel(self, take: int | None, reason: str) -> list[Event]:
        """End a take (None: all) at once."""
        chosen = [*self.takes, *self._waiting] if take is None else [take] if self.has_take(take) else []
        events: list[Event] = []
        for number in chosen:
            events += self._stop(number, reason)
        return events

    def replan(self, from_position: int | None, epoch: int | None, *, bent: bool = False) -> list[Event]:
        """Controls changed; see Take.replan."""
        events: list[Event] = []
        if epoch is not None:
            for number, waiting in self._waiting.items():
                self._waiting[number] = replace(waiting, request=replace(waiting.request, epoch=epoch))
        for number, take in list(self.takes.items()):
            try:
                take.replan(from_position, epoch, self._head(take.request), bent=bent)
            except Exception as error:
                events += self._failed(number, error)
            else:
                self._control_latency = take.meters.control_latency_samples
        return events

    def set_sampling(self, take: int | None, change: Callable[[Sampling], Sampling]) -> list[Event]:
        """Change how a take (None: all) draws, from the committed frontier on. Raises what `change` raises."""
        events: list[Event] = []
        for number in [n for n in self._waiting if take in (None, n)]:
            waiting = self._waiting[number]
            request = replace(waiting.request, sampling=change(waiting.request.sampling))
            self._waiting[number] = replace(waiting, request=request)
        for number in [n for n in self.takes if take in (None, n)]:
            found = self.takes[number]
            sampling = change(found.sampling)  # outside the try: refused values must not end the take
            try:
                if sampling != found.sampling:
                    found.set_sampling(sampling, self._head(found.request))
            except Exception as error:
                events += self._failed(number, error)
        return events

    def tell(self, prompt: Prompt) -> list[Event]:
        """What is played from now on: listening goes on under it, what was not committed is made again.

        A take that sounds fades over `text_fade_steps`. For a model that reads no prompts, nothing.
        """
        events: list[Event] = []
        if not isinstance(self.listener.generator, Told):
            return events
        self.listener.generator.tell(prompt)
        for number, take in list(self.takes.items()):
            fade = 0 if take.committed_end is None else self._config.text_fade_steps
            try:
                take.replan(None, None, self._head(take.request))
                if isinstance(take.generator, Told):
                    take.generator.tell(prompt, fade)
            except Exception as error:
                events += self._failed(number, error)
        return events

    def rearm(self, take: int, start_position: int, end_position: int | None) -> bool:
        """Move the start of a take that does not sound yet; False if it does, or is not there."""
        waiting = self._waiting.get(take)
        if waiting is not None:
            request = replace(waiting.request, start_position=start_position, end_position=end_position)
            self._wait(request, waiting.mark)
            return True
        if take not in self.takes:
            return False
        return self.takes[take].rearm(start_position, end_position)

    def advance(self, position: int) -> None:
        """The play head as the host last reported it."""
        self.head = position
        self.look_ahead.head_at(position)

    def jobs(self) -> list[tuple[float, int]]:
        """What could be done now: (slack in seconds, take number or LISTENING).

        What is late already gives way to what can still be in time.
        """
        jobs = [
            (_given_up(take.slack_s(self._head(take.request))), number)
            for number, take in self.takes.items()
            if take.has_work(self._head(take.request))
        ]
        if self._waiting:
            starts = min(
                entry.request.start_position - self._head(entry.request) for entry in self._waiting.values()
            )
            if self.listener.pending_samples or any(self._may_fork(entry) for entry in self._waiting.values()):
                jobs.append((min(_given_up(starts / self._sample_rate), self._listen_slack_s()), LISTENING))
        elif self.listener.has_frames(_GROUPS_BESIDE_A_TAKE if self.takes else 1):
            jobs.append((self._listen_slack_s(), LISTENING))
        return jobs

    def work(self, job: int) -> list[Event]:
        """One slice of a job from `jobs`."""
        began = self._clock()
        events = self._work_listening() if job == LISTENING else self._work_take(job)
        take = None if job == LISTENING else job
        return [*events, Worked(session=self.session, take=take, seconds=self._clock() - began)]

    def measures(self, take: int | None = None) -> Measures:
        """As of now; of one take, or of the session alone."""
        counters = self.listener.counters
        late = self._late_chunks + sum(t.meters.late_chunks for t in self.takes.values())
        measures = Measures(
            session=self.session,
            control_latency_samples=self._control_latency,
            late_chunks=late,
            gap_samples=counters.gap_samples,
            overlap_samples=counters.overlap_samples,
            bad_samples=counters.bad_samples,
            errors=self.errors,
        )
        if take is None or take not in self.takes:
            return measures
        found = self.takes[take]
        meters, end = found.meters, found.committed_end
        decoder = meters.decoder_s / max(self._costs.frame_s, meters.generated_frames * self._costs.frame_s)
        codec = meters.codec_s / max(self._costs.frame_s, meters.decoded_frames * self._costs.frame_s)
        return replace(
            measures,
            take=take,
            rtf_decoder=decoder,
            rtf_codec=codec,
            rtf_total=decoder + codec + self._costs.listen_frame_s / self._costs.frame_s,
            look_ahead_samples=0 if end is None else max(0, end - self._head(found.request)),
            target_samples=self.look_ahead.target_samples(found.chunk_samples),
            level_gain_db=meters.level_gain_db,
            drift_ms=meters.drift_ms,
            beat_error_ms=meters.beat_error_ms,
            new_beginnings=meters.new_beginnings,
        )

    # --- listening ----------------------------------------------------------------------------------------------

    def _listen_slack_s(self) -> float:
        return max(_LISTEN_SLACK_S - self.listener.pending_samples / self._sample_rate, _LATE_SLACK_S)

    def _work_listening(self) -> list[Event]:
        events: list[Event] = []
        began = self._clock()
        try:
            frames, reason = self.listener.work(self._costs.listen_frames_per_slice(), self._stops())
        except Exception as error:
            self.errors += 1
            self.listener.restart()
            frames, reason = 0, f"error: {type(error).__name__}: {error}"
        if frames:
            self._costs.listened(self._clock() - began, frames)
        if reason is not None:
            events.append(self._restarted(reason))
        for entry in [entry for entry in self._waiting.values() if self._may_fork(entry)]:
            del self._waiting[entry.request.take]
            try:
                self.takes[entry.request.take] = self._fork(entry.request)
            except Exception as error:
                events += self._failed(entry.request.take, error)
        return events

    def _stops(self) -> list[int]:
        """Where listening must not run past before a take has forked, in done samples."""
        end, done = self.listener.end_position, self.listener.done_samples
        stops = []
        for entry in self._waiting.values():
            stops.append(entry.mark)
            if entry.fork_position is not None and end is not None:
                stops.append(done + entry.fork_position - end)
        return stops

    def _restarted(self, reason: str) -> ListeningRestarted:
        return ListeningRestarted(session=self.session, position=self.listener.end_position, reason=reason)

    def _wait(self, request: TakeRequest, mark: int) -> None:
        fork = None
        if request.mode is TakeMode.ANSWER:
            fork = request.start_position - int(self._config.answer_lead_s * self._sample_rate)
        self._waiting[request.take] = _Waiting(request=request, mark=mark, fork_position=fork)

    def _may_fork(self, entry: _Waiting) -> bool:
        listener = self.listener
        if listener.done_samples < entry.mark:
            return False
        if entry.fork_position is None:
            return True
        heard = listener.end_position
        if heard is not None and heard >= entry.fork_position:
            return True
        return listener.pending_samples == 0 and self._head(entry.request) >= entry.fork_position

    def _fork(self, request: TakeRequest) -> Take:
        timeline, generator = self._context(request)
        return Take(
            session=self.session,
            request=request,
            generator=generator,
            codec=self._codec,
            timeline=timeline,
            controller=self._controller,
            layout=self._layout,
            look_ahead=self.look_ahead,
            config=self._config,
            costs=self._costs,
            channels=self._channels,
            clock=self._clock,
            leveller=self.listener.leveller(generator.frontier),
            heard=self._heard_bars(timeline, generator),
        )

    def _heard_bars(self, timeline: Timeline, generator: Generator) -> HeardBars | None:
        if self._hold_beat is None and not self._hold_level:
            return None
        channels = self._codec.audio_channels
        return HeardBars(
            self._hold_beat, controller=self._controller, timeline=timeline, generator=generator, channels=channels
        )

    def _context(self, request: TakeRequest) -> tuple[Timeline, Generator]:
        """What a take goes on from, and where it lies."""
        timeline, codec = self.listener.timeline, self._codec
        now = request.position
        if request.mode is TakeMode.ANSWER:
            now = max(now, self._head(request))
        if timeline is None:
            anchor, generator = now, self.listener.fork()
        else:
            anchor, generator = timeline.anchor_position, self.listener.fork()
            behind = timeline.frame_at(now) - generator.frontier
            # Audio that ended long ago is continued from now: generating the silence between helps no one.
            if behind * self._costs.frame_s <= self._config.max_catch_up_s:
                start = max(0, timeline.frame_at(request.start_position))
                if start < generator.frontier:  # sound begins inside what was heard
                    generator.rollback(start)
                return timeline, generator
            anchor = now
        moved = Timeline(
            anchor_position=anchor,
            anchor_sample=generator.frontier * codec.hop_samples,
            host_rate=self._sample_rate,
            model_rate=codec.sample_rate,
            hop_samples=codec.hop_samples,
        )
        return moved, generator

    # --- takes --------------------------------------------------------------------------------------------------

    def _head(self, request: TakeRequest) -> int:
        return request.position if self.head is None else self.head

    def _work_take(self, number: int) -> list[Event]:
        take = self.takes[number]
        try:
            events = take.work(self._head(take.request))
        except Exception as error:
            return self._failed(number, error)
        committed = any(getattr(event, "committed", False) for event in events)
        if committed:
            events.insert(len(events) - take.ended, self.measures(number))  # TakeEnded stays the last
        if take.ended:
            self._drop(number)
        return events

    def _failed(self, number: int, error: Exception) -> list[Event]:
        self.errors += 1
        return self._stop(number, f"error: {type(error).__name__}: {error}"[:400])

    def _stop(self, number: int, reason: str) -> list[Event]:
        """Ends a take that has not come to its end; one that never forked has nothing to stop."""
        self._waiting.pop(number, None)
        take = self._drop(number)
        if take is None:
            return [TakeEnded(session=self.session, take=number, reason=reason)]
        return take.stop(reason, self._head(take.request))

    def _drop(self, number: int) -> Take | None:
        take = self.takes.pop(number, None)
        if take is not None:
            self._late_chunks += take.meters.late_chunks
        return take


def _given_up(slack_s: float) -> float:
    return slack_s if slack_s >= 0.0 else _LATE_SLACK_S
