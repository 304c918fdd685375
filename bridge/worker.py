"""Worker: the decode thread. Commands in their order, then one slice of the engine's work, again and again.

Between the endpoints' queues and the engine. What fails in one session's handling opens that session again, without
its takes. What fails elsewhere has the engine made anew and every session opened again. Either is counted and told;
CRASHES of the engine within a minute end the server.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from attacca.engine.service import Engine

from .endpoints import Endpoints
from .params import SEED_BITS
from .protocol import Error, Ping, Pong, Status
from .queues import ALL_SESSIONS, Closed, Command, Inbox, Opened, Outgoing, Outside, Received, RoundTrip, Told
from .session import REPLAN_EVERY_S, Session
from .speaker import with_tally
from .teller import Teller

CRASHES: Final = 5
_PEACE_S: Final = 60.0
_IDLE_S: Final = 0.25
_TRACEBACK_EVERY_S: Final = 10.0  # of sessions that fail; all are counted
_log = logging.getLogger("attacca.worker")


class Worker:
    """`run` is the body of the decode thread; everything but the constructor belongs to it."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        inbox: Inbox,
        endpoints: Endpoints,
        *,
        initial: Mapping[str, float] | None = None,
        teller: Teller | None = None,
        clock: Callable[[], float] = time.monotonic,
        choose_seed: Callable[[], int] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.failure: Exception | None = None
        self._make_engine = make_engine
        self._inbox, self._endpoints, self._clock = inbox, endpoints, clock
        self._choose_seed = choose_seed or (lambda: random.SystemRandom().getrandbits(SEED_BITS))
        self._initial = dict(initial or {})
        self._teller = teller
        self._sessions: dict[int, Session] = {}
        self._engine = make_engine()
        self._crashes_s: list[float] = []
        self._told_s = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Decode thread: until `stop`, or until the engine has crashed too often (`failure`)."""
        busy = False
        while not stop.is_set():
            try:
                busy = self._turn(busy)
            except Exception as error:  # anything at all: the sessions outlive it
                if not self._restart(error):
                    self.failure = error
                    stop.set()
                busy = True
        for number in list(self._sessions):
            self._close(number)

    def _turn(self, busy: bool) -> bool:
        """Commands, then a slice; True if the engine had something to do."""
        for command in self._inbox.take(0.0 if busy else self._patience_s()):
            self._handle(command)
            if isinstance(command, Received) and command.session in self._sessions:
                session = self._sessions[command.session]
                if session.timeline.non_realtime:
                    self._settle(session)
        now = self._clock()
        for session in list(self._sessions.values()):
            self._guard(session, partial(session.flush, now))
        return self._work()

    def _settle(self, session: Session) -> None:
        """Offline, all that a command leads to is done before the next one: a bounce is the same every time."""
        self._guard(session, partial(session.flush, self._clock()))
        while self._work():
            pass

    def _work(self) -> bool:
        """One slice of the engine's work; False if there was nothing to do."""
        events = self._engine.work()
        for event in events:
            if event.session in self._sessions:
                session = self._sessions[event.session]
                self._guard(session, partial(session.event, event))
        return bool(events)

    def _patience_s(self) -> float:
        due = any(session.replan_is_due for session in self._sessions.values())
        return REPLAN_EVERY_S / 2 if due else _IDLE_S

    def _handle(self, command: Command) -> None:
        now = self._clock()
        if isinstance(command, Opened):
            self._open(command, now)
        elif isinstance(command, Closed):
            self._close(command.session)
        elif isinstance(command, Outside):
            number = command.session or max(self._sessions, default=0)
            session = self._sessions.get(number)
            if session is None:
                self.counts["outside without session"] += 1
            else:
                self._guard(session, partial(session.outside, command.name, command.arguments, now))
        elif isinstance(command, Told):
            for session in list(self._sessions.values()):
                if command.session in (ALL_SESSIONS, session.number):
                    self._guard(session, partial(session.told, command))
        elif isinstance(command, Received | RoundTrip):
            session = self._sessions.get(command.session)
            if session is None:
                self.counts["without session"] += 1
            elif isinstance(command, RoundTrip):
                session.round_trip(command.seconds)
            elif isinstance(command.message, Ping):
                self._send(Outgoing(session=session.number, message=Pong(nonce=command.message.nonce)))
            else:
                self._guard(session, partial(session.receive, command.message, command.payload, now))

    def _open(self, command: Opened, now: float) -> None:
        self._close(command.session)
        try:
            self._sessions[command.session] = Session(
                command.session,
                command.hello,
                engine=self._engine,
                send=self._send,
                choose_seed=self._choose_seed,
                initial=self._initial,
                teller=self._teller,
                now=now,
            )
        except (ValueError, RuntimeError) as error:
            self.counts["refused sessions"] += 1
            self._send(Outgoing(session=command.session, message=Error(code="open", text=str(error)[:512])))

    def _close(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is not None:
            session.close()

    def _send(self, outgoing: Outgoing) -> None:
        message: Any = outgoing.message
        if isinstance(message, Status):
            message = with_tally(message, *self._endpoints.tally(outgoing.session))
            outgoing = replace(outgoing, message=message)
        self._endpoints.send(outgoing)

    def _restart(self, error: Exception) -> bool:
        """A new engine for the sessions there are; False if it has come to that too often."""
        now = self._clock()
        self.counts["crashes"] += 1
        _log.error("the decode thread failed: %s: %s", type(error).__name__, error, exc_info=error)
        self._crashes_s = [then for then in self._crashes_s if now - then < _PEACE_S] + [now]
        if len(self._crashes_s) >= CRASHES:
            return False
        self._engine = self._make_engine()
        for session in list(self._sessions.values()):
            self._reopen(session, error)
        return True

    def _guard(self, session: Session, act: Callable[[], None]) -> None:
        """Does something for one session; if that fails, opens it again: others shall not suffer for it."""
        try:
            act()
        except Exception as error:
            self.counts["session failures"] += 1
            self._log_failure(session, error)
            self._engine.close(session.number)
            self._reopen(session, error)

    def _log_failure(self, session: Session, error: Exception) -> None:
        now = self._clock()
        if now - self._told_s < _TRACEBACK_EVERY_S:
            return
        self._told_s = now
        count = self.counts["session failures"]
        _log.error("session %d failed (%d failures so far): %s", session.number, count, error, exc_info=error)

    def _reopen(self, session: Session, error: Exception) -> None:
        try:
            session.attach(self._engine)
        except Exception as again:
            _log.error("session %d could not be opened again: %s", session.number, again)
            del self._sessions[session.number]
            session.error("open", str(again))
        else:
            session.error(
                "engine", f"the engine failed ({type(error).__name__}); takes ended, listening began anew"
            )
