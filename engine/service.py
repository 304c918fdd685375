"""The engine as the bridge sees it: sessions come and go, audio and commands come in, events go out of `work`.

Every method is called from the one decode thread, which calls `work` in a loop between the commands that reach
it. Each call of `work` does one slice, a few tens of milliseconds at most, of whatever is most urgent over all
sessions: earliest deadline first, equal ones in turn. No wall clock decides anything: the play heads that hosts
report do, so that a host bouncing faster than time, or slower, is served alike; the clock only measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .company import Company, company_of
from .conditioning import ConditioningLayout
from .events import Controller, Event, Measures, Model, Pcm, TakeEnded, TakeRequest
from .generator import Sampling
from .prompted import Prompt
from .session import Session
from .stream import Costs, StreamConfig

MAX_LOOK_AHEAD_S = 10.0
_REMEMBERED_TURNS = 64  # beyond that it does not matter who was served last


class EngineFull(RuntimeError):
    """No more sessions fit."""


class Engine:
    """All sessions of one model. Decode thread only."""

    def __init__(
        self,
        model: Model,
        *,
        clock: Callable[[], float] = time.perf_counter,
        max_sessions: int = 8,
        max_takes: int = 16,
        config: StreamConfig | None = None,
    ) -> None:
        if max_sessions < 1 or max_takes < 1:
            raise ValueError(f"Engine max_sessions {max_sessions} and max_takes {max_takes} must be at least 1")
        self._model = model
        self._clock = clock
        self._max_sessions = max_sessions
        self._max_takes = max_takes
        self._config = config or StreamConfig()
        frame_s = model.codec.hop_samples / model.codec.sample_rate
        self._company = company_of(model, clock)
        self._costs = Costs(frame_s, self._config, self._company, getattr(model, "pattern", None))
        self._sessions: dict[int, Session] = {}
        self._outbox: list[Event] = []
        self._turn = 0
        self._served: dict[tuple[int, int], int] = {}  # (session, job) -> turn of its last slice

    @property
    def sessions(self) -> tuple[int, ...]:
        """Open sessions. Decode thread."""
        return tuple(self._sessions)

    @property
    def conditioning(self) -> ConditioningLayout:
        """What the model can be told. Any thread."""
        return self._model.conditioning

    def open(self, session: int, *, sample_rate: int, channels: int, controller: Controller) -> None:
        """Begin a session. Decode thread. EngineFull beyond max_sessions; ValueError if open or out of range."""
        if session in self._sessions:
            raise ValueError(f"session {session} is open already")
        if len(self._sessions) >= self._max_sessions:
            raise EngineFull(f"{self._max_sessions} sessions are open, no more are allowed")
        self._sessions[session] = Session(
            self._model,
            session=session,
            sample_rate=sample_rate,
            channels=channels,
            controller=controller,
            config=self._config,
            costs=self._costs,
            clock=self._clock,
        )

    def close(self, session: int) -> None:
        """End a session and all it holds; its takes end with reason "closed". Idempotent. Decode thread."""
        found = self._sessions.pop(session, None)
        if found is not None:
            self._outbox += found.cancel(None, "closed")

    def listen(self, session: int, position: int, pcm: Pcm) -> None:
        """Input audio float32 [n] or [n, channels] whose first sample is at `position`; heard in `work`.

        Holes up to max_gap_s are filled with silence, overlaps dropped, NaN and infinity become 0, all counted;
        anything worse restarts listening. Decode thread.
        """
        found = self._sessions.get(session)
        if found is not None:
            self._outbox += found.listen(position, pcm)

    def start(self, session: int, request: TakeRequest) -> None:
        """Arm a take. What is refused ends with TakeEnded(reason="refused: ..."). Decode thread."""
        found = self._sessions.get(session)
        refusal = None
        if found is None:
            refusal = f"session {session} is not open"
        elif found.has_take(request.take):
            refusal = f"take {request.take} is under way"
        elif sum(entry.take_count for entry in self._sessions.values()) >= self._max_takes:
            refusal = f"{self._max_takes} takes are under way, no more are allowed"
        if refusal is not None:
            self._outbox.append(TakeEnded(session=session, take=request.take, reason=f"refused: {refusal}"))
        elif found is not None:
            found.start(request)

    def release(self, session: int, take: int, end_position: int) -> None:
        """A take ends just before `end_position`; also moves an end set before. Unknown takes: nothing.

        If more was committed already, an empty last chunk at `end_position` tells the client to stop there.
        Decode thread.
        """
        if session in self._sessions:
            self._outbox += self._sessions[session].release(take, end_position)

    def cancel(self, session: int, take: int | None = None) -> None:
        """A take (None: all of the session) ends at once, whatever was sent. Decode thread."""
        if session in self._sessions:
            self._outbox += self._sessions[session].cancel(take, "cancelled")

    def replan(
        self, session: int, from_position: int | None, epoch: int | None = None, *, bent: bool = False
    ) -> None:
        """Controls changed from `from_position` on (None: now). Decode thread.

        What is committed stays, everything after it (or after the position, if that is later) is generated again.
        With a new epoch, committed audio at or after the position is forgotten too: the next chunk begins exactly
        there and carries the new epoch. The client fades at that cut, over at most 10 ms. `bent`: bars lie a little
        elsewhere in the same epoch: nothing is made again, what is still to be made follows them.
        """
        if session in self._sessions:
            self._outbox += self._sessions[session].replan(from_position, epoch, bent=bent)

    def rearm(self, session: int, take: int, start_position: int, end_position: int | None = None) -> bool:
        """Move start and end of a take that does not sound yet, as after a tempo change (`replan` it first, if what
        was made for the old beat is to be made again); False if it does.

        ValueError if the end is not after the start. Decode thread.
        """
        if end_position is not None and end_position <= start_position:
            raise ValueError(f"rearm end_position {end_position} is not after start_position {start_position}")
        found = self._sessions.get(session)
        return found is not None and found.rearm(take, start_position, end_position)

    def advance(self, session: int, position: int) -> None:
        """Play head as last reported by the host. Decode thread."""
        if session in self._sessions:
            self._sessions[session].advance(position)

    def round_trip(self, session: int, seconds: float) -> None:
        """A measured round trip to the client (ping), for the look-ahead. Decode thread."""
        if session in self._sessions:
            self._sessions[session].look_ahead.round_trip_took(seconds)

    def set_realtime(self, session: int, realtime: bool) -> None:
        """False: the host waits for audio (offline render), so no sample can come too late. Decode thread."""
        if session in self._sessions:
            self._sessions[session].look_ahead.realtime = realtime

    def set_look_ahead(self, session: int, samples: int | None) -> None:
        """Override the measured look-ahead, host samples; None: measure again. ValueError out of range.

        Decode thread.
        """
        if samples is not None and not 0 <= samples <= MAX_LOOK_AHEAD_S * 384000:
            raise ValueError(f"look-ahead {samples} samples is outside 0..{int(MAX_LOOK_AHEAD_S * 384000)}")
        if session in self._sessions:
            self._sessions[session].look_ahead.override_samples = samples

    def set_sampling(
        self,
        session: int,
        take: int | None = None,
        *,
        temperature: float | None = None,
        guidance: float | None = None,
        top_k: int | None = None,
    ) -> None:
        """Change how a take (None: all of the session) draws, from the committed frontier on. Decode thread.

        ValueError names what is out of range.
        """

        def change(old: Sampling) -> Sampling:
            return Sampling(
                seed=old.seed,
                temperature=old.temperature if temperature is None else temperature,
                top_k=old.top_k if top_k is None else top_k,
                guidance=old.guidance if guidance is None else guidance,
            )

        change(Sampling())  # refuses what is out of range, takes or not
        if session in self._sessions:
            self._outbox += self._sessions[session].set_sampling(take, change)

    def tell(self, session: int, prompt: Prompt) -> None:
        """What a session plays from now on, takes that are under way too, from their committed frontier on.

        For a model that reads no prompts, nothing. Decode thread.
        """
        if session in self._sessions:
            self._outbox += self._sessions[session].tell(prompt)

    def measures(self, session: int, take: int | None = None) -> Measures | None:
        """How a session does now; None if it is not open. Decode thread."""
        found = self._sessions.get(session)
        return None if found is None else found.measures(take)

    def work(self) -> list[Event]:
        """One slice of the most urgent job, and what commands left to say. [] means idle. Decode thread.

        A slice that did something ends with `Worked`, so that only an idle engine returns nothing. Never raises
        what a model raises: that ends the take, or restarts the listening, that met it.
        """
        events, self._outbox = self._outbox, []
        jobs = [
            (slack, self._served.get((number, job), 0), number, job)
            for number, session in self._sessions.items()
            for slack, job in session.jobs()
        ]
        if jobs:
            _, _, number, job = min(jobs)
            self._turn += 1
            self._served = {
                key: turn for key, turn in self._served.items() if self._turn - turn < _REMEMBERED_TURNS
            }
            self._served[number, job] = self._turn
            if self._company is not None:
                self._gather(self._company, jobs, number, job)
            events += self._sessions[number].work(job)
        return events

    def _gather(self, company: Company, jobs: list[tuple[float, int, int, int]], number: int, job: int) -> None:
        """Tell the take whose turn it is how much time it has and which others wait. One unheard yet goes alone."""
        takes = {(n, j): take for _, _, n, j in jobs if (take := self._sessions[n].takes.get(j)) is not None}
        lead, slack = takes.get((number, job)), min(jobs)[0]
        waiting = [takes[n, j] for _, _, n, j in sorted(jobs) if (n, j) in takes]
        urgent = lead is None or lead.committed_end is None
        company.turn(0.0 if urgent else slack, [(take.generator, take.sampling) for take in waiting])
