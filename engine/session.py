"""One client: its ear, its takes, its play head. The decode thread asks it what is most urgent and has it done.

Stands between the service, which serves all clients, and listener and takes. What goes wrong inside a take ends
that take, what goes wrong in listening restarts listening; neither goes further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
from .forking import Forker
from .generator import Sampling
from .listener import Listener
from .lookahead import LookAhead
from .prompt_track import Told
from .prompted import Prompt
from .stream import Costs, StreamConfig
from .take import Take
from .waiting import WaitingTakes

_LISTEN_SLACK_S = 0.3  # audio should be heard this long after it came
_LATE_SLACK_S = 0.15  # what is late counts like what is due so soon: below what a healthy take keeps
_GROUPS_BESIDE_A_TAKE = 2  # of frames heard at once: a fifth less work, and the next trigger is far
LISTENING = -1  # the job that is no take


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
        self._waiting = WaitingTakes(self.listener, answer_lead_samples=int(config.answer_lead_s * sample_rate))
        self._forker = Forker(
            model,
            session=session,
            sample_rate=sample_rate,
            channels=channels,
            controller=controller,
            listener=self.listener,
            look_ahead=self.look_ahead,
            config=config,
            costs=costs,
            clock=clock,
        )
        self._late_chunks = 0
        self._control_latency = 0
        self._sample_rate = sample_rate
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
        self._waiting.put(request)

    def release(self, take: int, end_position: int) -> list[Event]:
        """End a take just before a position."""
        if take in self._waiting:
            if end_position <= self._waiting[take].start_position:
                return self.cancel(take, "end")
            self._waiting.change(take, lambda request: replace(request, end_position=end_position))
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
            for number in self._waiting:
                self._waiting.change(number, lambda request: replace(request, epoch=epoch))
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
            self._waiting.change(number, lambda request: replace(request, sampling=change(request.sampling)))
        for number in [n for n in self.takes if take in (None, n)]:
            found = self.takes[number]
            sampling = change(found.sampling)  # outside the try: refused values must not end the take
            try:
                if sampling != found.sampling:
                    found.set_sampling(sampling, self._head(found.request))
                    self._control_latency = found.meters.control_latency_samples
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
        if take in self._waiting:
            self._waiting.move(take, start_position, end_position)
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
            starts = min(request.start_position - self._head(request) for request in self._waiting.requests)
            if self.listener.pending_samples or self._waiting.ready(self._head):
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
            frames, reason = self.listener.work(self._costs.listen_frames_per_slice(), self._waiting.stops())
        except Exception as error:
            self.errors += 1
            self.listener.restart()
            frames, reason = 0, f"error: {type(error).__name__}: {error}"
        if frames:
            self._costs.listened(self._clock() - began, frames)
        if reason is not None:
            events.append(self._restarted(reason))
        for request in self._waiting.ready(self._head):
            self._waiting.drop(request.take)
            try:
                self.takes[request.take] = self._forker.fork(request, self._now(request))
            except Exception as error:
                events += self._failed(request.take, error)
        return events

    def _restarted(self, reason: str) -> ListeningRestarted:
        return ListeningRestarted(session=self.session, position=self.listener.end_position, reason=reason)

    # --- takes --------------------------------------------------------------------------------------------------

    def _head(self, request: TakeRequest) -> int:
        return request.position if self.head is None else self.head

    def _now(self, request: TakeRequest) -> int:
        """What a take is to go on from: its trigger, or where an answer has stopped listening."""
        if request.mode is TakeMode.ANSWER:
            return max(request.position, self._head(request))
        return request.position

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
        self._waiting.drop(number)
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
