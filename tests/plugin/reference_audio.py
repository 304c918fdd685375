"""The audio half as it is to be: the reference client between scripted records, with the engine's own keyboard.

The client (bridge/client.py) has notes that start and end takes, but neither parameters nor pedal nor zone; those
are bridge/params.py's and bridge/keyboard.py's, put in front of it here as a session puts them before its takes.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from unittest.mock import patch

import msgspec
from native_audio import ENDED, FIRST, LOST, OPENED, UNCLAIMED, Sent

from attacca.bridge import client as client_module
from attacca.bridge import params
from attacca.bridge.actions import Ask
from attacca.bridge.client import Client
from attacca.bridge.client_config import ClientConfig, Mix
from attacca.bridge.client_network import Outbox
from attacca.bridge.keyboard import Keyboard
from attacca.bridge.midi import Kind, MidiEvent, parse
from attacca.bridge.params import Values
from attacca.bridge.protocol import Chunk, Midi, Mode, Param, Ping, Trigger
from attacca.bridge.ring import Samples

ROWS = {row.name: row for row in (*params.PARAMETERS, *params.PLUGIN_PARAMETERS)}
OWN = {"mix", "gain", *(row.name for row in params.PLUGIN_PARAMETERS)}  # the plugin's own work
TRIGGER_KEY = 128  # the parameter `trigger` as a key beside the notes
VELOCITY_PARAMETERS = ("variation", "temperature")


class ScriptedNetwork:
    """What the client's audio half sees of its network half; told by hand, keeps all that it is given."""

    def __init__(self, *_: Any) -> None:
        self.outbox = Outbox()
        self.unclaimed: deque[Any] = deque()
        self.ended: deque[tuple[int, int, int]] = deque()
        self.openings = 0
        self.connected = False
        self.first_committed: tuple[int, int] | None = None
        self.settled = self.arrived = 0
        self._due: tuple[Any, ...] = ()

    @property
    def due(self) -> tuple[Any, ...]:
        return self._due

    @due.setter
    def due(self, due: tuple[Any, ...]) -> None:
        self._due = due
        self.outbox.put(due[-1])

    def ask_settled(self, number: int) -> None:
        self.outbox.put(Ping(nonce=number, settled=True))


class _Meant:
    """In the place of triggers.Takes: what keys mean, in order."""

    def __init__(self) -> None:
        self.acts: list[str | Ask] = []

    def __contains__(self, take: int) -> bool:
        return True

    def trigger(self, ask: Ask) -> list[Any]:
        self.acts.append(ask)
        return []

    def launch_of(self, take: int) -> None:
        return None

    def mode_of(self, take: int) -> Mode:
        return Mode.CONTINUE  # whether a take ends by itself is the take book's business

    def cancel(self, take: int) -> list[Any]:
        return []  # the new take ends the old one where it enters

    def release(self, take: int, position: int, *, quantized: bool) -> list[Any]:
        self.acts.append("release")
        return []

    def cancel_all(self) -> list[Any]:
        self.acts.append("silence")
        return []


class _Keys(Keyboard):
    def is_trigger(self, note: int) -> bool:
        return note == TRIGGER_KEY or super().is_trigger(note)

    def is_down(self, note: int) -> bool:
        return note in self._down


class ReferenceAudio(Client):
    """Driven as NativeAudio is."""

    def __init__(self, *, rate: int, channels: int, ring_s: float) -> None:
        config = ClientConfig(sample_rate=rate, channels=channels, ring_s=ring_s, wait_s=0.0, note_triggers=None)
        with patch.object(client_module, "NetworkHalf", ScriptedNetwork):
            super().__init__(None, config)  # type: ignore[arg-type]
        self.meant = _Meant()
        self.bypassed = False
        self._values = {name: row.default for name, row in ROWS.items()}
        self._told = dict(self._values)
        self._untold: set[str] = set()
        self._edges = 0
        self._trigger_on = self._let_go = False
        self._engine_values = Values()
        self._keys = _Keys(takes=self.meant, values=self._engine_values)  # type: ignore[arg-type]

    def set(self, name: str, value: float) -> None:
        new = ROWS[name].clamp(value)
        if new == self._values[name]:
            return
        self._values[name] = new
        if name in self._engine_values._values:
            self._engine_values.set(name, new)
        if name not in OWN:
            self._untold.add(name)
        self._edges += name == "trigger"

    def restore(self, name: str, value: float) -> None:
        if name != "trigger":
            self.set(name, value)
            return
        self._values[name] = ROWS[name].clamp(value)
        self._trigger_on, self._let_go, self._edges = self._values[name] == 1.0, True, 0

    def note(self, kind: int, *, epoch: int = 0, take: int = 0, position: int = 0, generation: int = 0) -> None:
        network = self.network
        if kind in (OPENED, LOST):
            network.openings += 1
            network.connected = kind == OPENED  # type: ignore[misc]
        elif kind == FIRST:
            network.first_committed = (generation, position)
        elif kind == ENDED:
            network.ended.append((epoch, take, position))
        else:
            assert kind == UNCLAIMED
            chunk = Chunk(
                session=0, epoch=epoch, take=take, seq=0, position=position, ppq=0.0, samples=1, channels=1,
                first_frame=0, frames=1, committed=True,
            )  # fmt: skip
            network.unclaimed.append(chunk)

    def sent(self) -> list[Sent]:
        found = []
        while (entry := self.network.outbox.take()) is not None:
            found.append(Sent(*entry))
        return found

    def _follow_session(self, position: int) -> None:
        super()._follow_session(position)
        for name in ROWS:
            if name in self._untold and self._told[name] != self._values[name]:
                self._tell(position, name, self._values[name])
        if self._let_go and self._keys.is_down(TRIGGER_KEY):
            self._keys._note_off(position, TRIGGER_KEY)
            self._act(position)
        self._let_go = False
        for _ in range(self._edges):
            self._trigger_on = not self._trigger_on
            if self._trigger_on:
                self._keys._note_on(position, TRIGGER_KEY, None)  # type: ignore[arg-type]
            elif self._keys.is_down(TRIGGER_KEY):
                self._keys._note_off(position, TRIGGER_KEY)
            self._act(position)
        self._edges = 0

    def _tell(self, position: int, name: str, value: float) -> None:
        self._flush_audio(force=True)
        self.network.outbox.put(Param(name=name, value=value, position=position))
        self._told[name] = value
        self._untold.discard(name)

    def _handle(self, position: int, event: Any) -> None:
        heard = parse(event.data)
        forward = self._play(position, heard)
        self._act(position)
        if forward:
            self._remember(event)
            self._flush_audio(force=True)
            self.network.outbox.put(msgspec.structs.replace(event, position=position))

    def _play(self, position: int, heard: MidiEvent) -> bool:
        """Lets the keys hear it; whether the engine is to hear it, too. A note goes up as what it went down as."""
        keys, note = self._keys, heard.number
        if heard.kind in (Kind.NOTE_ON, Kind.NOTE_OFF):
            ours = keys.hears(heard) and keys.is_trigger(note)
            if heard.kind is Kind.NOTE_OFF:
                chord = (heard.channel, note) in self._chord
                ours = not chord and (ours or (keys.hears(heard) and keys.is_down(note)))
            if ours:
                keys.handle(position, heard)
            return not ours
        keys.handle(position, heard)
        return True

    def _act(self, position: int) -> None:
        acts, self.meant.acts = self.meant.acts, []
        for act in acts:
            if act == "release" and not self.takes.held:
                continue
            self._flush_audio(force=True)
            if act == "release":
                self.takes.release(position, quantized=self._values["release_quantized"] == 1.0)
            elif act == "silence":
                self.takes.silence(position)
            else:
                assert isinstance(act, Ask)
                self._start(position, act)

    def _start(self, position: int, ask: Ask) -> None:
        for name in VELOCITY_PARAMETERS:
            chosen = getattr(ask, name)
            wanted = self._values[name] if chosen is None else chosen
            if wanted != self._told[name]:
                self._tell(position, name, wanted)
        bars = ask.bars_quantum
        trigger = Trigger(
            take=0, position=0, quantum_bars=None if bars is None else float(bars),
            quantum_ppq=float(ask.quarters_quantum), mode=ask.mode, bars=ask.bars, late=ask.late, seed=ask.seed,
        )  # fmt: skip
        self.takes.trigger(trigger, position)

    def _mixed(self, audio: Samples) -> Samples:
        mix, gain = self._values["mix"], 10.0 ** (self._values["gain"] / 20.0)
        solo = self._values["solo"] == 1.0
        self.mix = Mix(dry=min(1.0, 2.0 * (1.0 - mix)), wet=min(1.0, 2.0 * mix) * gain, solo=solo)
        if self.bypassed:
            self.mix = Mix(dry=1.0, wet=0.0)
        return super()._mixed(audio)


def midi_at(data: bytes) -> Midi:
    """A message of a block; its position is still to come."""
    return Midi(position=0, data=data)
