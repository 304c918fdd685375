"""What the composer hands on: a song as exact events, its MIDI file and its labels per codec frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mido
import numpy as np

from attacca.engine.conditioning import INSTRUMENTS, Controls

TICKS_PER_QUARTER = 960
NUM_STYLES = 8
DRUM_CHANNEL = 9
_CHANNELS = {"drums": DRUM_CHANNEL, "bass": 0, "chords": 1, "lead": 2}


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note. `grid_ticks` is where it is meant, `start_ticks` where it is played (jitter of at most 5 ms)."""

    instrument: str
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


@dataclass(frozen=True, kw_only=True)
class Song:
    """A composed song at one tempo and meter. Tempo is an integer of microseconds, so MIDI states it exactly."""

    seed: int
    style: int  # 0..NUM_STYLES-1
    style_name: str
    tempo_us: int  # microseconds per quarter note
    meter: tuple[int, int]
    num_bars: int
    programs: dict[str, int]  # General MIDI program per instrument; for drums the kit
    levels: dict[str, int]  # MIDI channel volume per instrument, 0..127
    notes: tuple[Note, ...]  # by start_ticks
    chords: tuple[ChordSpan, ...]  # by start_ticks; the first starts at 0
    players: tuple[frozenset[str], ...]  # per bar: which instruments play

    def __post_init__(self) -> None:
        if not 0 <= self.style < NUM_STYLES:
            raise ValueError(f"style is {self.style}, allowed 0..{NUM_STYLES - 1}")
        if len(self.players) != self.num_bars:
            raise ValueError(f"players has {len(self.players)} bars, num_bars is {self.num_bars}")

    @property
    def bpm(self) -> float:
        """Quarter notes per minute."""
        return 60e6 / self.tempo_us

    @property
    def bar_ticks(self) -> int:
        """Ticks per bar; an integer for every meter with denominator up to 8."""
        return TICKS_PER_QUARTER * 4 * self.meter[0] // self.meter[1]

    @property
    def duration_s(self) -> float:
        """From ppq 0 to the end of the last bar."""
        return self.num_bars * self.bar_ticks / TICKS_PER_QUARTER * self.tempo_us / 1e6

    def seconds(self, ticks: int) -> float:
        """Time of a tick, in seconds after ppq 0."""
        return ticks * self.tempo_us / (1e6 * TICKS_PER_QUARTER)

    def midi(self, instruments: Iterable[str] = INSTRUMENTS) -> mido.MidiFile:
        """A type 1 file: tempo and meter, then one track per instrument asked for."""
        wanted = tuple(instruments)
        unknown = set(wanted) - set(INSTRUMENTS)
        if unknown:
            raise ValueError(f"unknown instruments {sorted(unknown)}, allowed {INSTRUMENTS}")
        file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER)
        head = mido.MidiTrack()
        head.append(mido.MetaMessage("set_tempo", tempo=self.tempo_us, time=0))
        num, den = self.meter
        head.append(mido.MetaMessage("time_signature", numerator=num, denominator=den, time=0))
        head.append(mido.MetaMessage("end_of_track", time=self.num_bars * self.bar_ticks))
        file.tracks.append(head)
        for instrument in wanted:
            file.tracks.append(self._track(instrument))
        return file

    def _track(self, instrument: str) -> mido.MidiTrack:
        channel = _CHANNELS[instrument]
        track = mido.MidiTrack()
        program = self.programs[instrument]
        track.append(mido.Message("program_change", channel=channel, program=program, time=0))
        level = self.levels[instrument]
        track.append(mido.Message("control_change", channel=channel, control=7, value=level, time=0))
        events: list[tuple[int, int, int, int]] = []  # (tick, on, pitch, velocity): offs sort before ons
        for note in self.notes:
            if note.instrument == instrument:
                events.append((note.start_ticks, 1, note.pitch, note.velocity))
                events.append((note.start_ticks + note.duration_ticks, 0, note.pitch, 0))
        now = 0
        for tick, on, pitch, velocity in sorted(events):
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now))
            now = tick
        return track

    def controls(self, num_frames: int, hop_samples: int = 640, sample_rate: int = 32000) -> Controls:
        """Exact labels of frames 0..num_frames-1, read at each frame's first sample (integer arithmetic).

        A chord counts as known where any pitched instrument plays. Raises ValueError past the song's end.
        """
        sample = np.arange(num_frames, dtype=np.int64) * hop_samples
        num, den = self.meter
        per_quarter = sample_rate * self.tempo_us  # sample * 1e6 / this = quarters
        bar = (sample * (1_000_000 * den)) // (per_quarter * 4 * num)
        if num_frames and bar[-1] >= self.num_bars:
            raise ValueError(f"{num_frames} frames reach bar {bar[-1]}, the song has {self.num_bars} bars")
        tick = (sample * (1_000_000 * TICKS_PER_QUARTER)) // per_quarter
        starts = np.array([c.start_ticks for c in self.chords], dtype=np.int64)
        tones = np.zeros((len(self.chords), 12), dtype=np.bool_)
        for row, chord in enumerate(self.chords):
            tones[row, list(chord.pitch_classes)] = True
        playing = np.array([[name in who for name in INSTRUMENTS] for who in self.players], dtype=np.bool_)
        known = np.ones(num_frames, dtype=np.bool_)
        pitched = [i for i, name in enumerate(INSTRUMENTS) if name != "drums"]
        return Controls(
            ppq=sample * 1e6 / per_quarter,
            bar_start_ppq=bar * (4.0 * num / den),
            bpm=np.full(num_frames, self.bpm),
            meter_num=np.full(num_frames, num, dtype=np.int16),
            meter_den=np.full(num_frames, den, dtype=np.int16),
            pitch_classes=tones[np.searchsorted(starts, tick, side="right") - 1],
            instruments=playing[bar],
            style=np.full(num_frames, self.style, dtype=np.int16),
            beat_known=known,
            chord_known=playing[bar][:, pitched].any(axis=1),
            instruments_known=known.copy(),
            style_known=known.copy(),
        )
