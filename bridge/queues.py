"""Queues between the I/O thread and the decode thread: bounded, ordered, with a stated drop policy.

Inwards, order is kept over all kinds of message. What opens or closes a session takes the place of all that still
waits for it, and at most INBOX_OPENINGS are taken until the decode thread has had its turn. Each session may have
INBOX_MESSAGES waiting; audio stops at three
quarters of that, so that a trigger still gets through when audio does not. What does not fit is dropped (the
newest), counted, and shown in the session's status; dropped audio is a gap that the engine fills with silence.
Outwards, OUTBOX_MESSAGES may wait for the I/O thread; then the newest is dropped and counted: the plugin's fallback
ladder covers the hole.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import protocol

if TYPE_CHECKING:
    from attacca.engine.prompted import Prompt

ALL_SESSIONS: Final = 0
INBOX_MESSAGES: Final = 512
INBOX_OPENINGS: Final = 64
OUTBOX_MESSAGES: Final = 4096
_AUDIO_MESSAGES: Final = INBOX_MESSAGES * 3 // 4


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A session was opened, or reopened."""

    session: int
    hello: protocol.Hello


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A session is over; reason in words."""

    session: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Received:
    """A valid message of a session."""

    session: int
    message: Any
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A command from OSC or a MIDI port of this machine. `session` 0 is the one that was opened last."""

    session: int
    name: str  # "param", "trigger", "release", "cancel", "midi"
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """A text that a session (ALL_SESSIONS: all) was told has become a prompt, or was refused in words."""

    session: int
    prompt: Prompt | None  # None: refused, or a model that reads none
    refused: str = ""
    outside: bool = False  # it came by OSC: its faults are not the client's


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """A ping came back."""

    session: int
    seconds: float


Command = Opened | Closed | Received | Outside | Told | RoundTrip


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message for a session's owner, for listeners, or both."""

    session: int
    message: protocol.Message
    payload: bytes | None = None
    to_owner: bool = True
    topic: str | None = None  # "pcm", "codes" or "status"
    epoch: int | None = None  # dropped if the owner's epoch has moved on meanwhile


class Inbox:
    """I/O thread (and OSC, MIDI ports) to decode thread."""

    def __init__(self) -> None:
        self.dropped: Counter[int] = Counter()  # session -> messages
        self._commands: deque[Command] = deque()
        self._waiting: Counter[int] = Counter()
        self._openings = 0
        self._condition = threading.Condition()

    def put(self, command: Command) -> bool:
        """Any thread; never blocks on work. False if the command was dropped."""
        with self._condition:
            if isinstance(command, Opened):
                if self._openings >= INBOX_OPENINGS:
                    return False
                self._openings += 1
            if isinstance(command, Opened | Closed):
                self._forget(command.session)
            else:
                audio = isinstance(command, Received) and isinstance(command.message, protocol.Audio)
                if self._waiting[command.session] >= (_AUDIO_MESSAGES if audio else INBOX_MESSAGES):
                    self.dropped[command.session] += 1
                    return False
                self._waiting[command.session] += 1
            self._commands.append(command)
            self._condition.notify()
        return True

    def take(self, timeout_s: float) -> list[Command]:
        """Decode thread: everything there is, after waiting up to `timeout_s` for something."""
        with self._condition:
            if not self._commands and timeout_s > 0:
                self._condition.wait(timeout_s)
            commands = list(self._commands)
            self._commands.clear()
            self._waiting.clear()
            self._openings = 0
        return commands

    def _forget(self, session: int) -> None:
        """Under the lock: what waits for a session is of no use any more."""
        if self._waiting.pop(session, 0) or self._openings > 1:
            kept = [entry for entry in self._commands if entry.session != session]
            self._commands = deque(kept)

    def wake(self) -> None:
        """Any thread: ends a wait."""
        with self._condition:
            self._condition.notify_all()


class Outbox:
    """Decode thread to I/O thread. Single appends and pops of a deque are atomic."""

    def __init__(self) -> None:
        self.dropped: Counter[int] = Counter()  # session -> messages
        self._messages: deque[Outgoing] = deque()

    def put(self, outgoing: Outgoing) -> bool:
        """Decode thread; False if the message was dropped."""
        if len(self._messages) >= OUTBOX_MESSAGES:
            self.dropped[outgoing.session] += 1
            return False
        self._messages.append(outgoing)
        return True

    def take(self) -> Outgoing | None:
        """I/O thread; None if there is nothing."""
        return self._messages.popleft() if self._messages else None
