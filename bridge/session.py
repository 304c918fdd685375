"""Session: one client on the decode thread, from its messages to engine calls and from engine events to messages.

Between the worker, which owns the queues, and the engine. Everything musical of a session lives here: timeline,
held notes, parameters, takes. What is wrong with a command is told to its client as `error` and goes no further.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np

from attacca.engine.events import ChunkEvent, Event, Measures, TakeEnded, TakeStarted
from attacca.engine.service import Engine

from . import protocol
from .actions import Action, Ask, Cancel, Drop, End, Move, Replan, Start, ask_of
from .controls import SessionControls
from .glide import Glide
from .keyboard import Keyboard
from .midi import Kind, MidiError, parse
from .params import BY_NAME, Values
from .protocol import Audio, Error, Midi, Param, Prompt, Release, Transport, Trigger
from .queues import Told
from .session_status import SessionStatus
from .speaker import Send, Speaker
from .take_requests import take_request
from .teller import Teller
from .telling import TellError, Telling
from .transport import Change, Snapshot, Timeline
from .triggers import Takes, TriggerError

REPLAN_EVERY_S: Final = 0.05  # changes of controls are gathered this long: a turned knob is one replan
_SAMPLING: Final = ("temperature", "guidance", "top_k")
_LOUDEST: Final = 8.0  # 18 dB over full scale; beyond is a broken client, not music


class Session:
    """Decode thread only. `now` arguments are seconds of the worker's clock."""

    def __init__(
        self,
        number: int,
        hello: protocol.Hello,
        *,
        engine: Engine,
        send: Send,
        choose_seed: Callable[[], int],
        initial: Mapping[str, float],
        teller: Teller | None = None,
        now: float,
    ) -> None:
        """Opens the session in the engine; raises what that raises."""
        self.number, self.hello = number, hello
        self.timeline = Timeline(hello.sample_rate)
        self.values = Values(initial, engine.conditioning)
        self.controls = SessionControls(self.timeline)
        self.takes = Takes(timeline=self.timeline)
        self.keys = Keyboard(takes=self.takes, values=self.values)
        self.counts: Counter[str] = Counter()
        self._speaker = Speaker(number, hello, send)
        self._choose_seed = choose_seed
        self._telling = Telling(number, teller, lambda prompt: self._engine.tell(number, prompt))
        self._head, self._heard_s = 0, now
        self._status = SessionStatus(number, self.takes)
        self._replan_s = float("-inf")
        self._replan_from: int | None = None
        self._drawn: dict[str, Any] = {}  # sampling parameters that changed; a take's own survive the others
        self._recondition = False  # what conditions the plan has changed
        self._glide = Glide()
        self._outside_take: int | None = None
        self._outside = False  # a command from elsewhere is being handled: its faults are not the client's
        self.attach(engine)

    def attach(self, engine: Engine) -> None:
        """Opens the session in a (new) engine, without its takes."""
        self._engine = engine
        for take in list(self.takes):
            self._over(take)
        self.takes.cancel_all()
        engine.open(
            self.number,
            sample_rate=self.hello.sample_rate,
            channels=self.hello.channels,
            controller=self.controls,
        )
        self.controls.parameters(self._head, self.values)
        self._look_ahead()
        engine.set_realtime(self.number, not self.timeline.non_realtime)
        self._telling.again()

    # --- commands -----------------------------------------------------------------------------------------------

    def receive(self, message: Any, payload: bytes, now: float) -> None:
        """A valid message of the client, whose faults are answered; what else fails is raised."""
        try:
            if isinstance(message, Audio):
                self._audio(message, payload, now)
            elif isinstance(message, Transport):
                self._transport(Snapshot.of(message), now)
            elif isinstance(message, Midi):
                self._midi(message.position, message.data)
            elif isinstance(message, Trigger):
                self._trigger(ask_of(message))
            elif isinstance(message, Release):
                self._act(self.takes.release(message.take, message.position, quantized=message.quantized))
            elif isinstance(message, Param):
                self.set(message.name, message.value, max(message.position, self._head))
            elif isinstance(message, Prompt):
                self._telling.text(message.text, waits=self.timeline.non_realtime)
        except TriggerError as error:
            self._refuse("take", str(error))
        except MidiError as error:
            self._refuse("midi", str(error))
        except TellError as error:
            self._refuse("text", str(error))

    def outside(self, name: str, arguments: tuple[Any, ...], now: float) -> None:
        """A command from OSC or a MIDI port, at the stream position where the client should be by now."""
        position = self.position(now)
        self._outside = True
        try:
            if name == "param":
                self.set(arguments[0], arguments[1], position)
            elif name == "midi":
                self._midi(position, arguments[0])
            elif name == "trigger":
                self._trigger_outside(position)
            elif name == "cancel":
                self._act(self.takes.cancel_all())
            elif name == "release" and self._outside_take is not None:
                take, self._outside_take = self._outside_take, None
                quantized = self.values.choice("release_quantized") == "on"
                self._act(self.takes.release(take, position, quantized=quantized))
        except (TriggerError, MidiError) as error:
            self._refuse("outside", str(error))
        finally:
            self._outside = False

    def _trigger(self, ask: Ask) -> None:
        """A client's trigger. One that is refused is over at once, so that nobody waits for it."""
        try:
            self._act(self.takes.trigger(ask))
        except TriggerError:
            if ask.take not in self.takes:
                self._over(ask.take)
            raise

    def _trigger_outside(self, position: int) -> None:
        """A take as the parameters say; it takes over from the last one from outside at its own launch."""
        ask = self.keys.ask(position)
        before, self._outside_take = self._outside_take, ask.take
        self._act(self.takes.trigger(ask))
        launch = self.takes.launch_of(ask.take)
        if before is not None and before in self.takes:
            over = self.takes.cancel(before) if launch is None else self.takes.end_at(before, launch.position)
            self._act(over)

    def _over(self, take: int) -> None:
        self._speaker.over(take, self.timeline.epoch, min(self._head, 2**62))

    def position(self, now: float) -> int:
        """Where the client's stream should be by now; as last heard while it renders offline."""
        if self.timeline.non_realtime:
            return self._head
        return self._head + round(min(now - self._heard_s, 1.0) * self.hello.sample_rate)

    def set(self, name: str, value: float | str, position: int) -> None:
        """Sets a parameter; what the plan depends on is generated anew, soon."""
        clamped = self.values.clamped
        try:
            changed = self.values.set(name, value)
        except ValueError as error:
            self._refuse("param", str(error))
            return
        if self.values.clamped > clamped:
            row = BY_NAME[name]
            self._refuse("range", f"{name} {value} is outside {row.minimum:g}..{row.maximum:g}: clamped")
        if changed:
            self._changed(name, position)

    def round_trip(self, seconds: float) -> None:
        self._engine.round_trip(self.number, seconds)

    def told(self, told: Told) -> None:
        """A text that this session was told is a prompt by now, or was refused."""
        self._telling.told(told)
        if told.refused:
            self._outside = told.outside
            self._refuse("text", told.refused)
            self._outside = False

    def close(self) -> None:
        """Ends the session and all it holds."""
        self._engine.close(self.number)

    def flush(self, now: float) -> None:
        """Applies gathered changes of controls, at most every REPLAN_EVERY_S, and sends status when it is due."""
        self._follow_glide(now)
        waited = now - self._replan_s >= REPLAN_EVERY_S or self.timeline.non_realtime
        if self._replan_from is not None and waited:
            position, self._replan_from, self._replan_s = self._replan_from, None, now
            self.counts["replans"] += 1
            drawn, self._drawn = self._drawn, {}
            if drawn:
                self._engine.set_sampling(self.number, **drawn)  # plans anew from the committed frontier on
            if any(True for _ in self.takes):
                self._telling.follow(waits=self.timeline.non_realtime)
            if self._recondition:
                self._recondition = False
                self._engine.replan(self.number, position)
        if self._status.is_due(now):
            heard = self._engine.measures(self.number) or Measures(session=self.number)
            self._speaker.say(self._status.message(self._head, heard, self.counts), topic="status")

    def _follow_glide(self, now: float) -> None:
        if self._glide.regrids(now):
            self._engine.replan(self.number, self._head, bent=True)
            self._act(self.takes.regrid(self._head))
        if self._glide.replans(now):
            self._recondition = True
            self._mark(self._head)

    @property
    def replan_is_due(self) -> bool:
        """Whether `flush` has a change of controls or of tempo to apply."""
        return self._replan_from is not None or self._glide.under_way

    def _audio(self, message: Audio, payload: bytes, now: float) -> None:
        if message.channels != self.hello.channels:
            self._refuse("channels", f"audio of {message.channels} channels, hello said {self.hello.channels}")
            return
        pcm = np.frombuffer(payload, "<f4").astype(np.float32).reshape(message.samples, message.channels)
        loud = ~(np.abs(pcm) <= _LOUDEST)  # NaN too
        if loud.any():
            self.counts["bad samples"] += int(loud.sum())
            self._refuse("audio", f"{int(loud.sum())} samples are not finite, or beyond {_LOUDEST:g} of full scale")
            pcm = np.clip(np.nan_to_num(pcm, nan=0.0, posinf=0.0, neginf=0.0), -_LOUDEST, _LOUDEST)
        self._advance(message.position + message.samples, now)
        self._engine.listen(self.number, message.position, pcm)

    def _advance(self, position: int, now: float) -> None:
        self._head, self._heard_s = position, now
        self._engine.advance(self.number, position)

    def _transport(self, snapshot: Snapshot, now: float) -> None:
        position = snapshot.position
        before = self.timeline.ppq_at(position) if self.timeline.segments else Fraction(0)
        realtime = not self.timeline.non_realtime
        change = self.timeline.feed(snapshot)
        if change is Change.STALE:
            self.counts["stale transports"] += 1
            return
        self._advance(position, now)
        if realtime == snapshot.non_realtime:
            self._engine.set_realtime(self.number, not snapshot.non_realtime)
        if change is Change.BEND:
            self.counts["bends"] += 1
            last, present = self.timeline.segments[-2:]
            self._glide.bend(now, before=float(last.snapshot.bpm), bpm=float(present.snapshot.bpm))
        elif change.ends_epoch:
            self.counts["epochs"] += 1
            self._status.changed()
        self._act(self.takes.transport(change, position, before))

    def _midi(self, position: int, data: bytes) -> None:
        event = parse(data)
        self._act(self.keys.handle(position, event))
        self._telling.hold(position, self.keys.chord if self.values.choice("chord_follow") == "on" else ())
        if self.controls.hold(position, self.keys.chord):
            self._recondition = True
            self._mark(position)
        if event.kind is Kind.CONTROL and self.keys.hears(event):
            row = self.values.set_cc(event.number, event.value)
            if row is not None:
                self._changed(row.name, position)

    def _changed(self, name: str, position: int) -> None:
        self._status.changed()
        if name == "lookahead_ms":
            self._look_ahead()
        row = BY_NAME[name]
        if name in _SAMPLING:
            self._drawn[name] = self.values.number(name) if row.integer else self.values[name]
            self._mark(position)
        elif self.controls.parameters(position, self.values) or row.replans:
            self._recondition = True
            self._mark(position)

    def _mark(self, position: int) -> None:
        self._replan_from = position if self._replan_from is None else min(position, self._replan_from)

    def _look_ahead(self) -> None:
        ms = self.values["lookahead_ms"]
        samples = round(ms * self.hello.sample_rate / 1000) if ms > 0 else None
        self._engine.set_look_ahead(self.number, samples)

    # --- takes --------------------------------------------------------------------------------------------------

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            self._status.changed()
            if isinstance(action, Start):
                self._start(action)
            elif isinstance(action, Move):
                self._status.moves(action.take, action.start_position)
                self._engine.rearm(self.number, action.take, action.start_position, action.end_position)
            elif isinstance(action, End):
                self._engine.release(self.number, action.take, action.position)
            elif isinstance(action, Cancel):
                self._engine.cancel(self.number, action.take)
            elif isinstance(action, Drop):
                self._over(action.take)
            elif isinstance(action, Replan):
                self._engine.replan(self.number, action.position, epoch=self.timeline.epoch)

    def _start(self, start: Start) -> None:
        ask = start.ask
        seed = self._choose_seed() if ask.seed is None else ask.seed
        self._status.begins(ask.take, seed, start.start_position)
        self._telling.begin(ask.position, self.hello.sample_rate, waits=self.timeline.non_realtime)
        self._engine.start(self.number, take_request(start, seed, self.values, self.timeline))

    # --- events -------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """What the engine says of this session, as messages."""
        if isinstance(event, ChunkEvent):
            self._chunk(event)
        elif isinstance(event, TakeStarted):
            self.takes.started(event.take, event.start_position)
            self._status.begins(event.take, event.seed, event.start_position)
        elif isinstance(event, TakeEnded):
            self._status.changed()
            if event.reason not in ("cancelled", "closed"):  # those we asked for; the number may be in use again
                self.takes.ended(event.take)
            if event.reason.startswith(("refused", "error")):
                self._refuse("take", f"take {event.take} {event.reason}")
        elif isinstance(event, Measures):
            self._status.measured(event)

    def _chunk(self, event: ChunkEvent) -> None:
        if event.epoch != self.timeline.epoch:
            self.counts["stale chunks"] += 1
            return
        ppq = float(self.timeline.host_ppq_at(event.position)) if self.timeline.segments else 0.0
        self._speaker.chunk(event, ppq)

    def error(self, code: str, text: str) -> None:
        """Tells the client (OSC alone, if that was the cause) what went wrong."""
        self._speaker.say(Error(code=code, text=text[:512]), to_owner=not self._outside)

    def _refuse(self, code: str, text: str) -> None:
        self.counts[f"{'outside' if self._outside else 'refused'}: {code}"] += 1
        self.error(code, text)
