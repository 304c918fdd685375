"""Keys: from MIDI notes to takes, which a key holds while it is down, and to the chord that is commanded.

In front of bridge/triggers.py, which gives takes their positions. Pure logic: it returns actions and touches no
engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .actions import Action, Ask
from .midi import Kind, MidiEvent
from .params import BY_NAME, QUANTUM_VALUES, Values
from .protocol import ENGINE_TAKES_FROM, Late, Mode
from .transport import quantum_of
from .triggers import Takes

_SUSTAIN, _ALL_SOUND_OFF, _RESET, _ALL_NOTES_OFF = 64, 120, 121, 123


@dataclass(kw_only=True)
class Keyboard:
    """Notes to takes and chords. A new trigger key takes over from the last one at its own launch. Decode
    thread."""

    takes: Takes
    values: Values
    next_take: int = ENGINE_TAKES_FROM
    chord: set[int] = field(default_factory=set)  # chord notes that command now: held, or sustained
    _keys: dict[int, int] = field(default_factory=dict)  # trigger note -> take
    _down: set[int] = field(default_factory=set)
    _sustain: bool = False

    def is_trigger(self, note: int) -> bool:
        """Whether a note starts takes; all others are chords."""
        if note == self.values.number("trigger_note"):
            return True
        return self.values.number("trigger_low") <= note <= self.values.number("trigger_high")

    def hears(self, event: MidiEvent) -> bool:
        """The channel filter."""
        wanted = self.values.number("midi_channel")
        return wanted in (0, event.channel + 1)

    def handle(self, position: int, event: MidiEvent) -> list[Action]:
        """Notes, sustain and the all-off controllers; other events do nothing here. `chord` may change."""
        if not self.hears(event):
            return []
        if event.kind is Kind.NOTE_ON:
            return self._note_on(position, event.number, event.value)
        if event.kind is Kind.NOTE_OFF:
            return self._note_off(position, event.number)
        if event.kind is not Kind.CONTROL:
            return []
        if event.number == _SUSTAIN:
            return self._pedal(position, down=event.value >= 64)
        if event.number == _RESET:
            return self._pedal(position, down=False)
        if event.number in (_ALL_SOUND_OFF, _ALL_NOTES_OFF):
            return self._all_off(position, at_once=event.number == _ALL_SOUND_OFF)
        return []

    def ask(self, position: int, *, velocity: int | None = None) -> Ask:
        """A trigger as the parameters say, with a take number of our own."""
        bars, quarters = QUANTUM_VALUES[self.values.number("quantum")]
        number, self.next_take = self.next_take, self.next_take + 1
        seed = self.values.number("seed")
        ask = Ask(
            take=number,
            position=position,
            bars_quantum=None if bars is None else quantum_of(bars),
            quarters_quantum=quantum_of(quarters),
            mode=Mode(self.values.choice("mode")),
            bars=self.values.number("bars"),
            late=Late(self.values.choice("late")),
            seed=seed if seed >= 0 else None,
        )
        target = self.values.choice("velocity_to")
        if velocity is None or target == "nothing":
            return ask
        row = BY_NAME[target]
        amount = row.minimum + velocity / 127.0 * (row.maximum - row.minimum)
        return replace(ask, temperature=amount) if target == "temperature" else replace(ask, variation=amount)

    def _note_on(self, position: int, note: int, velocity: int) -> list[Action]:
        self._down.add(note)
        if not self.is_trigger(note):
            self.chord.add(note)
            return []
        ask = self.ask(position, velocity=velocity)
        actions = self.takes.trigger(ask)
        launch = self.takes.launch_of(ask.take)
        for held in self._keys.values():
            if held in self.takes:
                over = self.takes.cancel(held) if launch is None else self.takes.end_at(held, launch.position)
                actions = [*over, *actions]
        self._keys = {note: ask.take}
        return actions

    def _note_off(self, position: int, note: int) -> list[Action]:
        self._down.discard(note)
        if self._sustain:
            return []
        self.chord.discard(note)
        return self._let_go(note, position) if note in self._keys else []

    def _let_go(self, note: int, position: int) -> list[Action]:
        take = self._keys.pop(note)
        if take not in self.takes:
            return []
        if self.takes.mode_of(take) in (Mode.FILL, Mode.ANSWER):
            return []  # these have an end of their own
        return self.takes.release(take, position, quantized=self.values.choice("release_quantized") == "on")

    def _pedal(self, position: int, *, down: bool) -> list[Action]:
        self._sustain = down
        if down:
            return []
        self.chord &= self._down
        up = [note for note in self._keys if note not in self._down]
        return [action for note in up for action in self._let_go(note, position)]

    def _all_off(self, position: int, *, at_once: bool) -> list[Action]:
        self._down.clear()
        self.chord.clear()
        self._sustain = False
        if at_once:
            self._keys.clear()
            return self.takes.cancel_all()
        return [action for note in list(self._keys) for action in self._let_go(note, position)]
