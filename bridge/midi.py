"""MIDI: raw channel messages to events, from a client's messages, a port or a file, each with a stream position.

In front of bridge/keyboard.py. Reading raw bytes needs nothing; files need mido, ports mido and python-rtmidi, both
imported only when they are opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 4 << 20


class MidiError(ValueError):
    """A port or file that cannot be used; says what to do about it."""


class Kind(StrEnum):
    NOTE_ON = "note on"
    NOTE_OFF = "note off"
    CONTROL = "control"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class MidiEvent:
    """A channel message; `number` is the note or controller, `value` the velocity or value, channels from 0."""

    kind: Kind
    channel: int = 0
    number: int = 0
    value: int = 0


def parse(data: bytes) -> MidiEvent:
    """Raw bytes -> event. A note-on of velocity 0 is a note-off. MidiError if they are no MIDI message."""
    if not data or data[0] < 0x80 or any(byte > 0x7F for byte in data[1:]):
        raise MidiError(f"no MIDI message: {data[:3].hex(' ') or 'empty'}")
    status, channel = data[0] & 0xF0, data[0] & 0x0F
    if status not in (0x80, 0x90, 0xB0):
        return MidiEvent(kind=Kind.OTHER, channel=channel)
    if len(data) != 3:
        raise MidiError(f"MIDI message {data[:3].hex(' ')} has {len(data)} bytes, not 3")
    kind = {0x80: Kind.NOTE_OFF, 0x90: Kind.NOTE_ON, 0xB0: Kind.CONTROL}[status]
    if kind is Kind.NOTE_ON and data[2] == 0:
        kind = Kind.NOTE_OFF
    return MidiEvent(kind=kind, channel=channel, number=data[1], value=data[2])


def read_file(path: Path | str) -> list[tuple[Fraction, bytes]]:
    """Channel messages of a .mid in time order, each with its quarter note; the host's tempo holds, not the file's.

    MidiError if it cannot be read.
    """
    song, messages = _read(Path(path))
    events = []
    ticks = 0
    for message in messages:
        ticks += message.time
        if not message.is_meta and message.type != "sysex":
            events.append((Fraction(ticks, song.ticks_per_beat), bytes(message.bytes())))
    return events


def read_melody(path: Path | str) -> tuple[list[float], list[int | None], float]:
    """The highest note of a .mid over time, by the file's own tempo: seconds, the pitch class that sounds from then
    on or None, and where the last one ends. MidiError if it cannot be read.
    """
    import mido

    song, messages = _read(Path(path))
    starts: list[float] = []
    highest: list[int | None] = []
    held: set[tuple[int, int]] = set()
    now_s, tempo = 0.0, 500_000  # microseconds a quarter, until the file says otherwise
    for message in messages:
        now_s += mido.tick2second(message.time, song.ticks_per_beat, tempo)
        if message.type == "set_tempo":
            tempo = message.tempo
        elif message.type in ("note_on", "note_off"):
            key = (message.note, message.channel)
            if message.type == "note_on" and message.velocity > 0:
                held.add(key)
            else:
                held.discard(key)
            starts.append(now_s)
            highest.append(max(held)[0] % 12 if held else None)
    return starts, highest, starts[-1] if starts else 0.0


def _read(path: Path) -> tuple[Any, list[Any]]:
    """The file, and its messages of all tracks in time order. MidiError if it cannot be read."""
    import mido

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MidiError(f"{path}: {path.stat().st_size} bytes, at most {MAX_FILE_BYTES}")
        song = mido.MidiFile(str(path))
        messages = list(mido.merge_tracks(song.tracks))
    except MidiError:
        raise
    except Exception as error:  # mido lets index, key and struct errors of broken files through
        raise MidiError(f"{path}: no readable MIDI file ({type(error).__name__}: {error})") from error
    if song.ticks_per_beat <= 0:
        raise MidiError(f"{path}: time in SMPTE frames is not supported; export it in ticks per beat")
    return song, messages


def port_names() -> list[str]:
    """Names of the MIDI inputs of this machine. MidiError if python-rtmidi is not installed."""
    return list(_mido_with_ports().get_input_names())


def open_port(name: str, receive: Callable[[bytes], None]) -> Any:
    """Opens an input (the first whose name contains `name`); `receive` is called on its own thread.

    The caller closes the port. MidiError names the extra to install, or the ports there are.
    """
    mido = _mido_with_ports()
    names = mido.get_input_names()
    match = next((candidate for candidate in names if name.lower() in candidate.lower()), None)
    if match is None:
        raise MidiError(f"no MIDI input {name!r}; there are: {', '.join(names) or 'none'}")
    try:
        return mido.open_input(match, callback=lambda message: receive(bytes(message.bytes())))
    except OSError as error:
        raise MidiError(f"MIDI input {match!r} cannot be opened: {error}") from error


def _mido_with_ports() -> Any:
    try:
        importlib.import_module("rtmidi")  # mido would fail later, and less clearly
    except ImportError:
        raise MidiError("MIDI ports need python-rtmidi: pip install 'attacca[live]'") from None
    import mido

    return mido
