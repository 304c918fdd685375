"""MIDI: raw messages, files, ports that are not there."""

from __future__ import annotations

import importlib
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacca.bridge import midi
from attacca.bridge.midi import Kind, MidiError, MidiEvent, open_port, parse, read_file


def test_parse() -> None:
    assert parse(b"\x93\x3c\x40") == MidiEvent(kind=Kind.NOTE_ON, channel=3, number=60, value=64)
    assert parse(b"\x90\x3c\x00") == MidiEvent(kind=Kind.NOTE_OFF, number=60)
    assert parse(b"\x8f\x3c\x40") == MidiEvent(kind=Kind.NOTE_OFF, channel=15, number=60, value=64)
    assert parse(b"\xb0\x40\x7f") == MidiEvent(kind=Kind.CONTROL, number=64, value=127)
    assert parse(b"\xc1\x05") == MidiEvent(kind=Kind.OTHER, channel=1)


@given(st.binary(max_size=6))
def test_parse_raises_nothing_else(data: bytes) -> None:
    try:
        event = parse(data)
    except MidiError:
        return
    assert 0 <= event.number <= 127
    assert 0 <= event.value <= 127


def song(path: Path) -> Path:
    file = mido.MidiFile(ticks_per_beat=480)
    tempo, notes = mido.MidiTrack(), mido.MidiTrack()
    tempo.append(mido.MetaMessage("set_tempo", tempo=500000))
    tempo.append(mido.MetaMessage("set_tempo", tempo=1000000, time=960))
    notes.append(mido.Message("note_on", note=0, velocity=9, time=480))
    notes.append(mido.Message("note_off", note=0, velocity=0, time=960))
    notes.append(mido.Message("sysex", data=(1, 2), time=1))
    file.tracks += [tempo, notes]
    file.save(path)
    return path


def test_a_file_by_quarter_notes(tmp_path: Path) -> None:
    assert read_file(song(tmp_path / "a.mid")) == [(1, b"\x90\x00\x09"), (3, b"\x80\x00\x00")]


@pytest.mark.parametrize("cut", [0, 3, 14, 20, 30])
def test_broken_files(tmp_path: Path, cut: int) -> None:
    whole = song(tmp_path / "a.mid").read_bytes()
    broken = tmp_path / "b.mid"
    broken.write_bytes(whole[:cut])
    with pytest.raises(MidiError, match=r"b\.mid"):
        read_file(broken)


def test_files_that_are_missing_too_large_or_in_other_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MidiError, match="FileNotFoundError"):
        read_file(tmp_path / "none.mid")
    smpte = tmp_path / "smpte.mid"
    smpte.write_bytes(b"MThd\0\0\0\6\0\0\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0")
    with pytest.raises(MidiError, match="SMPTE"):
        read_file(smpte)
    monkeypatch.setattr(midi, "MAX_FILE_BYTES", 10)
    with pytest.raises(MidiError, match="at most 10"):
        read_file(song(tmp_path / "a.mid"))


def test_ports_name_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MidiError, match=r"pip install 'attacca\[live\]'"):
        open_port("keys", lambda data: None)


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mido:
        heard: object = None

        @staticmethod
        def get_input_names() -> list[str]:
            return ["Through", "USB Keys 1"]

        def open_input(self, name: str, callback: object) -> str:
            if name == "Through":
                raise OSError("busy")
            self.heard = callback
            return name

    fake, got = Mido(), []
    monkeypatch.setattr(midi, "_mido_with_ports", lambda: fake)
    assert open_port("keys", got.append) == "USB Keys 1"
    fake.heard(mido.Message("note_on", note=3, velocity=4))  # type: ignore[operator]
    assert got == [b"\x90\x03\x04"]
    with pytest.raises(MidiError, match="there are: Through, USB Keys 1"):
        open_port("organ", got.append)
    with pytest.raises(MidiError, match="cannot be opened: busy"):
        open_port("through", got.append)
