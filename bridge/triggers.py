"""Triggers: from what is asked for to takes with exact start and end positions.

Between the session, which receives messages, and the engine, which makes takes: where a take starts and ends, and
what a change of transport does to it. Pure logic: it returns actions and touches no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .actions import Action, Ask, Cancel, Drop, End, Move, Replan, Start
from .protocol import Late, Mode
from .transport import Change, Launch, Timeline, nearest_sample

MAX_TAKES = 4  # of a session


class TriggerError(ValueError):
    """A take number that is in use, or unknown."""


@dataclass(kw_only=True)
class _Take:
    ask: Ask
    launch: Launch | None = None  # None: armed until the host plays
    end: Launch | None = None
    sounding: bool = False


@dataclass(kw_only=True)
class Takes:
    """The takes of one session. Decode thread."""

    timeline: Timeline
    _takes: dict[int, _Take] = field(default_factory=dict)

    def __contains__(self, take: int) -> bool:
        return take in self._takes

    def __iter__(self) -> Iterator[int]:
        return iter(self._takes)

    def __len__(self) -> int:
        return len(self._takes)

    def launch_of(self, take: int) -> Launch | None:
        """Where a take starts; None if it is armed until the host plays. KeyError if there is none."""
        return self._takes[take].launch

    def mode_of(self, take: int) -> Mode:
        """KeyError if there is no such take."""
        return self._takes[take].ask.mode

    def describe(self, head: int) -> tuple[str, int | None]:
        """The state in words at a play head, and the take that it is about."""
        for number, take in reversed(self._takes.items()):
            if take.launch is None:
                return "armed until the host plays", number
            if take.launch.position <= head:
                return f"playing take {number}" if take.sounding else f"late, take {number}", number
            if self.timeline.playing:
                return f"armed for bar {self.timeline.bar_at(take.launch.position).index + 1}", number
            return "armed", number
        return "listening", None

    def trigger(self, ask: Ask) -> list[Action]:
        """Starts a take, or arms it while the host stands still. TriggerError: number in use, or full."""
        if len(self._takes) >= MAX_TAKES:
            raise TriggerError(f"{MAX_TAKES} takes are under way in this session, no more are allowed")
        if ask.take in self._takes:
            raise TriggerError(f"take {ask.take} is already there; release it, or use another number")
        self._takes[ask.take] = _Take(ask=ask)
        return self._place(ask.take, ask.position)

    def release(self, take: int, position: int, *, quantized: bool = False) -> list[Action]:
        """Ends a take at `position`, or at the first line of its grid at or after. TriggerError if unknown."""
        if take not in self._takes:
            raise TriggerError(f"take {take} is not there")
        held = self._takes[take]
        if quantized and held.launch is not None and self.timeline.playing:
            position = self._grid(held.ask, position).position
        return self.end_at(take, position)

    def end_at(self, take: int, position: int) -> list[Action]:
        """Ends a take at a position; one that would not have begun by then is cancelled."""
        held = self._takes[take]
        if held.launch is None or position <= held.launch.position:
            return self.cancel(take)
        playing = self.timeline.playing
        ppq = self.timeline.ppq_at(position) if playing else Fraction(0)
        held.end = Launch(ppq=ppq, position=position)
        return [End(take=take, position=position)]

    def cancel(self, take: int) -> list[Action]:
        """Ends a take at once, whatever its state."""
        placed = self._takes.pop(take).launch is not None
        return [Cancel(take=take)] if placed else [Drop(take=take)]

    def cancel_all(self) -> list[Action]:
        """Ends every take at once."""
        drops: list[Action] = [Drop(take=number) for number, take in self._takes.items() if take.launch is None]
        placed = len(drops) < len(self._takes)
        self._takes.clear()
        return [Cancel(take=None), *drops] if placed else drops

    def started(self, take: int, position: int) -> None:
        """The engine's word that a take sounds from `position`; a wait may have moved it."""
        if take in self._takes:
            held = self._takes[take]
            held.sounding = True
            if held.launch is not None and position > held.launch.position:
                ppq = self.timeline.ppq_at(position) if self.timeline.segments else held.launch.ppq
                held.launch = Launch(ppq=ppq, position=position)
                if held.ask.late is Late.WAIT and held.end is not None and self.timeline.playing:
                    held.end = self._bars_on(held.launch, held.ask.bars)  # the engine moved it likewise

    def ended(self, take: int) -> None:
        """The engine's word that a take is over."""
        self._takes.pop(take, None)

    def transport(self, change: Change, position: int, before: Fraction) -> list[Action]:
        """What a change of transport at `position` does; `before` is the linear ppq there by the old epoch.

        Stop cancels. Start places what is armed. A bend moves ends (starts: `regrid`). Anything else places anew
        what has not begun, and has what sounds go on in the new phase; a fill keeps the quarter notes it had left.
        """
        if change is Change.BEND:
            sounding = self._begun(position, begun=True)
            return [end for n in sounding for end in self._move_end(n, self._takes[n], position, before)]
        if not change.ends_epoch:
            return []
        if change is Change.STOP:
            return self.cancel_all()
        placed = [number for number, take in self._takes.items() if take.launch is not None]
        actions: list[Action] = [Replan(position=position)] if placed else []
        for number, take in list(self._takes.items()):
            if take.launch is None:
                actions += self._place(number, position)
            elif take.launch.position > position:
                take.sounding = False
                actions += self._again(number, position)
            else:
                actions += self._move_end(number, take, position, before)
        return actions

    def regrid(self, position: int) -> list[Action]:
        """Places anew what the engine has not begun: now and then along a glide, which moves it by every block."""
        return [move for number in self._begun(position, begun=False) for move in self._again(number, position)]

    def _begun(self, at: int, *, begun: bool) -> list[int]:
        return [n for n, t in self._takes.items() if t.launch and (t.sounding or t.launch.position <= at) is begun]

    def _grid(self, ask: Ask, position: int) -> Launch:
        return self.timeline.next_launch(position, bars=ask.bars_quantum, quarters=ask.quarters_quantum)

    def _place(self, number: int, position: int) -> list[Action]:
        take = self._takes[number]
        ask = take.ask
        take.launch = take.end = None
        if not self.timeline.playing and ask.needs_bars:
            return []
        if not self.timeline.segments:
            take.launch = Launch(ppq=Fraction(0), position=position)
        else:
            take.launch = self._grid(ask, position)
            if ask.mode is Mode.ANSWER:  # listens from the launch on, replies as many bars later
                take.launch = self._bars_on(take.launch, ask.bars)
            if ask.mode in (Mode.FILL, Mode.ANSWER):
                take.end = self._bars_on(take.launch, ask.bars)
        end = None if take.end is None else take.end.position
        return [Start(ask=replace(ask, position=position), start_position=take.launch.position, end_position=end)]

    def _again(self, number: int, position: int) -> list[Action]:
        released = self._takes[number].end if self._takes[number].ask.mode in (Mode.CONTINUE, Mode.VAMP) else None
        placed = self._place(number, position)
        if released is not None or not placed:  # its release came before its start: there is nothing left of it
            self._takes.pop(number)
            return [Cancel(take=number)]
        return [
            Move(take=number, start_position=start.start_position, end_position=start.end_position)
            for start in placed
            if isinstance(start, Start)
        ]

    def _bars_on(self, launch: Launch, bars: int) -> Launch:
        ppq = launch.ppq + bars * self.timeline.segment.snapshot.bar_quarters
        return Launch(ppq=ppq, position=nearest_sample(self.timeline.position_of(ppq)))

    def _move_end(self, number: int, take: _Take, position: int, before: Fraction) -> list[Action]:
        if take.end is None or not self.timeline.playing or take.end.position <= position:
            return []
        ppq = self.timeline.ppq_at(position) + take.end.ppq - before
        take.end = Launch(ppq=ppq, position=nearest_sample(self.timeline.position_of(ppq)))
        return [End(take=number, position=take.end.position)]
