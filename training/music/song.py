"""What composer v1 hands on: a song as exact events on tracks, its MIDI file and its labels per codec frame.

Between the composer (composer.py) and the renderer (synth.py, mixing.py) and trainers, who read `Controls`. Every
track belongs to one of the four instruments of the conditioning; an instrument may have several tracks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mido
import numpy as np

from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.training.music.tempo import TICKS_PER_QUARTER, TempoMap

DRUM_CHANNEL = 9


@dataclass(frozen=True, kw_only=True)
class Track:
    """One synthesiser channel."""

    name: str
    instrument: str  # one of INSTRUMENTS
    program: int  # General MIDI, 0-based; for drums the kit
    level: int  # MIDI channel volume 0..127


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note. `grid_ticks` is where it is meant (swing included), `start_ticks` where a hand plays it."""

    instrument: str
    track: int
    pitch: int
    velocity: int
    grid_ticks: int
    start_ticks: int
    duration_ticks: int


@dataclass(frozen=True, kw_only=True)
class ChordSpan:
    """A chord from `start_ticks` until the next span. `pitch_classes` holds the root first."""

    start_ticks: int
    pitch_classes: tuple[int, ...]
    symbol: str = ""  # Roman numeral in the key of its section


@dataclass(frozen=True, kw_only=True)
class Section:
    """Whole bars of one kind; those of a kind share harmony and patterns."""

    kind: str
    first_bar: int
    bars: int
    tonic: int  # pitch class
    mode: str
    level_db: float  # how loud it is played, against the song's level


@dataclass(frozen=True, kw_only=True)
class Song:
    """A composed song of one meter. `style` counts the trained styles; a held-out style has -1."""

    seed: int
    style: int
    style_name: str
    tempo: TempoMap
    meter: tuple[int, int]
    num_bars: int
    tracks: tuple[Track, ...]
    notes: tuple[Note, ...]  # by start_ticks
    chords: tuple[ChordSpan, ...]  # by start_ticks; the first starts at 0
    sections: tuple[Section, ...]
    players: tuple[frozenset[str], ...]  # per bar: which instruments play

    def __post_init__(self) -> None:
        if len(self.players) != self.num_bars or sum(s.bars for s in self.sections) != self.num_bars:
            raise ValueError(f"players or sections do not cover {self.num_bars} bars")

    @property
    def bpm(self) -> float:
        """Quarter notes per minute at the start."""
        return 60e6 / self.tempo.tempo_us[0]

    @property
    def bar_ticks(self) -> int:
        """Ticks per bar; an integer for every meter with denominator up to 8."""
        return TICKS_PER_QUARTER * 4 * self.meter[0] // self.meter[1]

    @property
    def duration_s(self) -> float:
        """From ppq 0 to the end of the last bar."""
        return float(self.tempo.seconds(self.num_bars * self.bar_ticks))

    @property
    def programs(self) -> dict[str, int]:
        """Program of each instrument's first track."""
        return {t.instrument: t.program for t in reversed(self.tracks)}

    def seconds(self, ticks: int) -> float:
        """Time of a tick, in seconds after ppq 0."""
        return float(self.tempo.seconds(ticks))

    def channel(self, track: int) -> int:
        """MIDI channel of a track: drums on DRUM_CHANNEL, the others in order around it."""
        if self.tracks[track].instrument == "drums":
            return DRUM_CHANNEL
        number = sum(t.instrument != "drums" for t in self.tracks[:track])
        return number if number < DRUM_CHANNEL else number + 1

    def midi(self, instruments: Iterable[str] = INSTRUMENTS) -> mido.MidiFile:
        """A type 1 file: tempi and meter, then the tracks of the instruments asked for."""
        wanted = tuple(instruments)
        unknown = set(wanted) - set(INSTRUMENTS)
        if unknown:
            raise ValueError(f"unknown instruments {sorted(unknown)}, allowed {INSTRUMENTS}")
        file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER)
        head = mido.MidiTrack()
        num, den = self.meter
        head.append(mido.MetaMessage("time_signature", numerator=num, denominator=den, time=0))
        now = 0
        for tick, tempo_us in zip(self.tempo.ticks, self.tempo.tempo_us, strict=True):
            head.append(mido.MetaMessage("set_tempo", tempo=tempo_us, time=tick - now))
            now = tick
        end = max(now, self.num_bars * self.bar_ticks)
        head.append(mido.MetaMessage("end_of_track", time=end - now))
        file.tracks.append(head)
        for number, track in enumerate(self.tracks):
            if track.instrument in wanted:
                file.tracks.append(self._midi_track(number))
        return file

    def _midi_track(self, number: int) -> mido.MidiTrack:
        channel = self.channel(number)
        track = mido.MidiTrack()
        program, level = self.tracks[number].program, self.tracks[number].level
        track.append(mido.Message("program_change", channel=channel, program=program, time=0))
        track.append(mido.Message("control_change", channel=channel, control=7, value=level, time=0))
        events: list[tuple[int, int, int, int]] = []  # (tick, on, pitch, velocity): offs sort before ons
        for note in self.notes:
            if note.track == number:
                events.append((note.start_ticks, 1, note.pitch, note.velocity))
                events.append((note.start_ticks + note.duration_ticks, 0, note.pitch, 0))
        now = 0
        for tick, on, pitch, velocity in sorted(events):
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now))
            now = tick
        return track

    def controls(self, num_frames: int, hop_samples: int = 960, sample_rate: int = 48000) -> Controls:
        """Exact labels of frames 0..num_frames-1, read at each frame's first sample (integer arithmetic).

        A chord counts as known where any pitched instrument plays, a style where it is a trained one. Raises
        ValueError past the song's end.
        """
        sample = np.arange(num_frames, dtype=np.int64) * hop_samples
        tick, ppq, bpm = self.tempo.at_samples(sample, sample_rate)
        bar = tick // self.bar_ticks
        if num_frames and bar[-1] >= self.num_bars:
            raise ValueError(f"{num_frames} frames reach bar {bar[-1]}, the song has {self.num_bars} bars")
        num, den = self.meter
        starts = np.array([c.start_ticks for c in self.chords], dtype=np.int64)
        tones = np.zeros((len(self.chords), 12), dtype=np.bool_)
        for row, chord in enumerate(self.chords):
            tones[row, list(chord.pitch_classes)] = True
        playing = np.array([[name in who for name in INSTRUMENTS] for who in self.players], dtype=np.bool_)
        known = np.ones(num_frames, dtype=np.bool_)
        pitched = [i for i, name in enumerate(INSTRUMENTS) if name != "drums"]
        return Controls(
            ppq=ppq,
            bar_start_ppq=bar * (4.0 * num / den),
            bpm=bpm,
            meter_num=np.full(num_frames, num, dtype=np.int16),
            meter_den=np.full(num_frames, den, dtype=np.int16),
            pitch_classes=tones[np.searchsorted(starts, tick, side="right") - 1],
            instruments=playing[bar],
            style=np.full(num_frames, max(0, self.style), dtype=np.int16),
            beat_known=known,
            chord_known=playing[bar][:, pitched].any(axis=1),
            instruments_known=known.copy(),
            style_known=np.full(num_frames, self.style >= 0),
        )
