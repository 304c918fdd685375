"""Takes as the client sees them: which chunks are due from which position on, in which epoch.

On the audio thread, between host events and the ring: a trigger, a release, a new epoch or a take's end becomes a
cut in the ring, so that only what is due is ever heard. Bar lines and launches come from the same exact arithmetic
that the engine uses (bridge/transport.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import msgspec

from attacca.bridge.client_network import Due, NetworkHalf
from attacca.bridge.protocol import ENGINE_TAKES_FROM, Chunk, Mode, Release, Trigger
from attacca.bridge.ring import NOTHING, PositionRing
from attacca.bridge.transport import Launch, Timeline, nearest_sample, quantum_of

_MAX_GENERATION: Final = 0xFFFF
_KEPT_DUES: Final = 8
_KEPT_RECORDS: Final = 256
_FINEST_QUANTUM_PPQ: Final = 0.25  # of all that the engine offers
_BENT_LAUNCH_S: Final = Fraction(1, 50)  # a launch that the engine commits further off is a late entry


@dataclass(frozen=True, kw_only=True)
class TakeRecord:
    """A take from its trigger on, for measurement."""

    take: int
    epoch: int
    trigger: Trigger
    triggered_s: float
    launch: Launch | None  # None: the host stood still
    opening: int  # NetworkHalf.openings at the trigger: the take is lost with its session
    released: int | None = None

    @property
    def foreign(self) -> bool:
        """Whether the engine started it (OSC, its own MIDI port), and so places it."""
        return self.take >= ENGINE_TAKES_FROM


class TakeBook:
    """One take sounds at a time; a new trigger ends the old take where the new one enters. Audio thread only."""

    def __init__(
        self, ring: PositionRing, network: NetworkHalf, timeline: Timeline, clock: Callable[[], float]
    ) -> None:
        self.epoch = 0
        self.records: list[TakeRecord] = []
        self._ring, self._network, self._timeline, self._clock = ring, network, timeline, clock
        self._current: TakeRecord | None = None
        self._playing = False
        self._generation = 0
        self._bent = False  # the launch has moved along a glide, and the engine has not committed it yet
        self._first = (NOTHING, 0)  # newest generation of which a committed chunk came, and where it began
        self._takes = 0
        self._held: Trigger | None = None  # what nobody has let go of: a session to come is asked for it again

    @property
    def current(self) -> TakeRecord | None:
        """The take that is armed or sounding, if any."""
        return self._current

    @property
    def held(self) -> bool:
        """Whether the take last asked for waits for its release: nothing ended it, nor does it end by itself."""
        return self._held is not None

    def trigger(self, event: Trigger, position: int) -> int:
        """Arm a take at `position`; returns its number. Its audio is due from its launch on.

        Without a session nobody can begin it: 0, and the next session is asked, if it is still held then.
        """
        self._held = event if event.mode in (Mode.CONTINUE, Mode.VAMP) else None  # others end by themselves
        if not self._network.connected:
            return 0
        self._takes += 1
        event = msgspec.structs.replace(event, take=self._takes, position=position)
        launch = self._launch(event, position)
        if self._current is not None and self._current.opening == self._network.openings:
            until = position if launch is None else launch.position
            self._network.outbox.put(Release(take=self._current.take, position=until))
        record = TakeRecord(
            take=self._takes,
            epoch=self.epoch,
            trigger=event,
            triggered_s=self._clock(),
            launch=launch,
            opening=self._network.openings,
        )
        self._note(record)
        if launch is not None:
            self._ring.cut(launch.position, self._begin(record.take))
        self._network.outbox.put(event)
        return record.take

    def release(self, position: int, *, quantized: bool) -> None:
        """End the current take at `position`, or at the next multiple of its quantum; nothing without a take."""
        self._held = None
        record = self._current
        if record is None or record.released is not None:
            return
        launch = self._launch(record.trigger, position, mode=Mode.CONTINUE) if quantized else None
        until = position if launch is None else launch.position
        self._ring.cut(until, NOTHING)
        if record.opening == self._network.openings:
            self._network.outbox.put(Release(take=record.take, position=position, quantized=quantized))
        self._current = self.records[-1] = replace(record, released=until)

    def enter_epoch(self, position: int, epoch: int) -> None:
        """The old prediction fails at `position`: whatever was sent for it is stale from there on."""
        stopped = self._playing and not self._timeline.playing
        if stopped:
            self._held = None
        self.epoch, self._playing = epoch, self._timeline.playing
        self._ring.cut(position, NOTHING)
        record = self._current
        if record is None:
            return
        over = record.released is not None and record.released <= position
        if stopped or over or record.foreign:  # what the engine started, it places anew: see _adopt
            self._current = None
            return
        if record.launch is None or record.launch.position > position:
            record = replace(record, launch=self._launch(record.trigger, position))
        record = replace(record, epoch=epoch, released=self._moved(record.released, position))
        self._current = self.records[-1] = record
        if record.launch is None:
            return
        due = max(position, record.launch.position)
        self._ring.cut(due, self._begin(record.take))
        if record.released is not None:
            self._ring.cut(max(record.released, due), NOTHING)

    def bend(self, position: int) -> None:
        """The tempo glides: what was sent sounds on, what is still to begin or to end moves with the bars."""
        record = self._current
        if record is None:
            return
        launch = record.launch
        start = position if launch is None else launch.position
        released = record.released
        if released is not None and released <= max(start, position):
            return  # over, or over before it begins
        if launch is not None and start > position and self._first[0] != self._generation:
            launch = self._launch(record.trigger, position) or launch
            self._ring.cut(launch.position, self._generation, instead_of=start)
            self._bent = True
        if released is not None:
            moved = self._moved(released, position) or position
            moved = max(moved, position if launch is None else launch.position)
            self._ring.cut(moved, NOTHING, instead_of=released)
            released = moved
        self._current = self.records[-1] = replace(record, launch=launch, released=released)

    def _follow_launch(self, record: TakeRecord) -> TakeRecord:
        """A take that the engine began while its bar line moved begins there, so that its first beat is whole: off
        the grid by no more than all that is sent along a glide."""
        generation, position = self._first
        launch, read_end = record.launch, self._ring.read_end
        if not self._bent or generation != self._generation or launch is None:
            return record
        self._bent = False
        near = abs(position - launch.position) <= _BENT_LAUNCH_S * self._timeline.sample_rate
        if not near or position == launch.position or min(position, launch.position) < read_end:
            return record
        self._ring.cut(position, generation, instead_of=launch.position)
        if record.released is not None:
            self._ring.cut(max(record.released, position), NOTHING)
        return replace(record, launch=Launch(ppq=launch.ppq, position=position))

    def _moved(self, released: int | None, position: int) -> int | None:
        """A pending end keeps the quarter notes that were left until it, as the engine's does."""
        if released is None or not self._timeline.playing:
            return None if released is None else position
        before, now = self._timeline.segments[-2:]
        left = before.ppq_at(released) - before.ppq_at(position)
        return nearest_sample(now.position_of(now.ppq_at(position) + left))

    def silence(self, position: int) -> None:
        """End the current take at once, as All Sound Off does; the engine is told by who asked for it."""
        self._held = None
        self._end_at(position)

    def resume(self, position: int, *, sounding: bool) -> int:
        """A new session is open: what is still held begins anew. The old take goes on by the ladder until then.

        Its generation, if it goes on with what sounds, else NOTHING.
        """
        if self._held is None:
            return NOTHING
        if not sounding:
            self._end_at(self._ring.read_end)
        self.trigger(self._held, position)
        return self._generation if sounding else NOTHING

    def _end_at(self, position: int) -> None:
        if self._current is not None:
            self._ring.cut(position, NOTHING)
            self._current = None

    def follow(self, *, sounding: bool) -> None:
        """Take in what the network half learned: takes that the engine started, takes that ended, a lost session.

        `sounding`: whether the take, fallbacks included, is heard; a lost one is over when the ladder is.
        """
        while self._network.unclaimed:
            self._adopt(self._network.unclaimed.popleft())
        while self._network.ended:
            self._ended(*self._network.ended.popleft())
        self._first = self._network.first_committed or self._first
        record = self._current
        if record is None:
            return
        record = self._current = self.records[-1] = self._follow_launch(record)
        if record.released is not None and record.released <= self._ring.read_end:
            self._current = None
        elif not sounding and (record.opening != self._network.openings or not self._network.connected):
            self._end_at(self._ring.read_end)

    def _adopt(self, chunk: Chunk) -> None:
        """A take that the engine started sounds from its first committed chunk on, and ends what sounded before."""
        known = any((due.epoch, due.take) == (chunk.epoch, chunk.take) for due in self._network.due)
        if chunk.epoch != self.epoch or known:
            return
        position = max(chunk.position, self._ring.read_end)
        trigger = Trigger(take=chunk.take, position=position, quantum_bars=None, quantum_ppq=_FINEST_QUANTUM_PPQ)
        launch = self._launch(trigger, position)
        self._held = None
        current = self._current
        ours = current is not None and not current.foreign and current.opening == self._network.openings
        if current is not None and ours and current.released is None:
            self._network.outbox.put(Release(take=current.take, position=position))
        self._note(
            TakeRecord(
                take=chunk.take,
                epoch=self.epoch,
                trigger=trigger,
                triggered_s=self._clock(),
                launch=launch if launch is not None and launch.position == position else None,
                opening=self._network.openings,
            )
        )
        self._ring.cut(position, self._begin(chunk.take))

    def _ended(self, epoch: int, take: int, position: int) -> None:
        record = self._current
        if record is None or take != record.take:
            return
        until = max(position, self._ring.read_end) if epoch == self.epoch else self._ring.read_end
        if record.released is None or until < record.released:
            self._ring.cut(until, NOTHING)
        self._current = self._held = None

    def _note(self, record: TakeRecord) -> None:
        self._current = record
        self.records.append(record)
        del self.records[:-_KEPT_RECORDS]

    def covered(self, position: int) -> bool:
        """Whether everything that is due before `position` is committed. Before a take's first chunk nothing is."""
        start = self._ring.read_end
        first = self._network.first_committed
        if first is not None and first[0] == self._generation:
            start = min(max(start, first[1]), position)
        return self._ring.committed_until(start, position) >= position

    def bar_lines(self, position: int) -> tuple[int, int, int] | None:
        """See playback.Grid. None, too, where the tempo has changed since the previous bar line."""
        lines = self._lines_at(position)
        return lines if lines is not None and lines[0] >= self._timeline.segment.begun else None

    def _lines_at(self, position: int) -> tuple[int, int, int] | None:
        try:
            bar = self._timeline.bar_at(position)
            length = self._timeline.segment.snapshot.bar_quarters / self._timeline.segment.quarters_per_sample
        except ValueError:
            return None
        if nearest_sample(bar.position + length) <= position:  # the bar line lies between this sample and its time
            return self._lines(bar.position + length, length)
        if nearest_sample(bar.position) > position:
            return self._lines(bar.position - length, length)
        return self._lines(bar.position, length)

    @staticmethod
    def _lines(start: Fraction, length: Fraction) -> tuple[int, int, int]:
        return nearest_sample(start - length), nearest_sample(start), nearest_sample(start + length)

    def is_launch(self, position: int) -> bool:
        """See playback.Grid: on the current take's launch grid, or at its launch."""
        record = self._current
        if record is None:
            return False
        if record.launch is not None and record.launch.position == position:
            return True
        launch = self._launch(record.trigger, position, mode=Mode.CONTINUE)
        no_grid = record.trigger.quantum_bars == 0 or (
            record.trigger.quantum_bars is None and record.trigger.quantum_ppq == 0
        )
        return not no_grid and launch is not None and launch.position == position

    def _begin(self, take: int) -> int:
        """A new generation for a take in the present epoch, known to the network half before it is due."""
        self._generation = self._generation % _MAX_GENERATION + 1
        self._bent = False
        due = Due(generation=self._generation, epoch=self.epoch, take=take)
        self._network.due = (*self._network.due[1 - _KEPT_DUES :], due)
        return self._generation

    def _launch(self, trigger: Trigger, position: int, *, mode: Mode | None = None) -> Launch | None:
        """Where a take that is triggered at `position` enters; None while the host stands still."""
        bars = None if trigger.quantum_bars is None else quantum_of(trigger.quantum_bars)
        try:
            launch = self._timeline.next_launch(position, bars=bars, quarters=quantum_of(trigger.quantum_ppq))
            if (mode or trigger.mode) is Mode.ANSWER:
                heard = self._timeline.bars_after(launch.position, trigger.bars)
                return Launch(ppq=self._timeline.ppq_at(heard), position=nearest_sample(heard))
        except ValueError:
            return None
        return launch
