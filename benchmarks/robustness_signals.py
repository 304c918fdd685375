"""Test signals that are made here: noise, silence, clicks, sweeps, sides, speech, General MIDI through effects.

Beside the recordings of robustness_items.py. Each is a pure function of its arguments (and of the versions of
FluidSynth, its soundfont and espeak-ng): float32 [n, 2] at its rate, or [n, 1].
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import butter, lfilter, sosfilt

from attacca.training.music import effects
from attacca.training.music.song import ChordSpan, Note, Section, Song, Track
from attacca.training.music.synth import play
from attacca.training.music.tempo import TICKS_PER_QUARTER, steady

RATE = 48000
_LEVEL_DBFS, _PEAK = -18.0, 0.9
_GM_SECONDS = 3.0
PROGRAMS = tuple(range(0, 128, 8))
GUITARS = (27, 29, 30)  # clean, overdriven, distorted: all through an amplifier turned up
_CHORD = (0, 7, 12, 16, 19)
Audio = npt.NDArray[np.float32]


class Missing(RuntimeError):
    """A program that makes a signal is not installed; the message is the Debian package's name."""


def levelled(x: npt.NDArray[np.floating], level_dbfs: float = _LEVEL_DBFS) -> Audio:
    """At an RMS level, or softer where peaks would pass 0.9."""
    rms, peak = float(np.sqrt(np.mean(np.square(x)))), float(np.abs(x).max())
    gain = min(10 ** (level_dbfs / 20) / (rms + 1e-12), _PEAK / (peak + 1e-12))
    return np.asarray(x * gain, np.float32)


def noise(colour: str, seconds: float) -> Audio:
    """ "white", "pink" (to half a dB), "bursts" of white noise, or "hiss" at -80 dBFS; sides independent."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((round(seconds * RATE), 2))
    if colour == "pink":  # Kellet's three poles
        poles = ((0.0990460, 0.99765), (0.2965164, 0.96300), (1.0526913, 0.57000))
        x = 0.1848 * x + sum(lfilter([gain], [1.0, -pole], x, axis=0) for gain, pole in poles)
    elif colour == "bursts":
        x = x * ((np.arange(len(x)) / RATE % 0.5) < 0.08)[:, None]
    return levelled(x, -80.0 if colour == "hiss" else _LEVEL_DBFS)


def silence(seconds: float) -> Audio:
    return np.zeros((round(seconds * RATE), 2), np.float32)


def sweep(seconds: float) -> Audio:
    """A sine from 20 Hz to 20 kHz, evenly in pitch, at -6 dBFS."""
    time = np.arange(round(seconds * RATE)) / RATE
    octaves = np.log(1000.0)
    phase = 2 * np.pi * 20.0 * seconds / octaves * np.expm1(time / seconds * octaves)
    return np.repeat((0.5 * np.sin(phase))[:, None], 2, axis=1).astype(np.float32)


def clicks(seconds: float) -> Audio:
    """Single samples of 0.9 and -0.9 in turn, every quarter of a second."""
    x = np.zeros((round(seconds * RATE), 2), np.float32)
    x[RATE // 8 :: RATE // 4] = 0.9
    x[RATE * 3 // 8 :: RATE // 2] = -0.9
    return x


def speech(voice: str, text: str) -> tuple[Audio, int]:
    """espeak-ng's voice: [n, 1] and its rate. Raises Missing."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise Missing("espeak-ng")
    with tempfile.TemporaryDirectory(prefix="attacca-speech-") as folder:
        path = Path(folder, "speech.wav")
        subprocess.run([program, "-v", voice, "-w", str(path), text], check=True, capture_output=True, timeout=20)
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return audio, rate


def _notes(number: int, program: int) -> list[Note]:
    """A chord held for half a bar, then a line of eighths over two octaves, then the chord again."""
    root = 40 + (program * 5 + number * 3) % 24
    half, eighth = 2 * TICKS_PER_QUARTER, TICKS_PER_QUARTER // 2
    planned = [(0, root + step, half, 96) for step in _CHORD]
    planned += [(half + i * eighth, root + step, eighth, 110 - 6 * i) for i, step in enumerate((0, 12, 19, 24))]
    planned += [(2 * half, root + 5 + step, half, 120) for step in _CHORD]
    return [
        Note(
            instrument="lead",
            track=number,
            pitch=min(pitch, 108),
            velocity=velocity,
            grid_ticks=start,
            start_ticks=start,
            duration_ticks=length,
        )
        for start, pitch, length, velocity in planned
    ]


@lru_cache(maxsize=3)
def _played(programs: tuple[int, ...], rate: int) -> dict[int, Audio]:
    """Up to 16 programs dry, [n, 2], in one pass of the synthesiser. Raises RenderError."""
    notes = [note for number, program in enumerate(programs) for note in _notes(number, program)]
    song = Song(
        seed=0,
        style=-1,
        style_name="robustness",
        tempo=steady(120.0),
        meter=(4, 4),
        num_bars=2,
        tracks=tuple(Track(name=str(p), instrument="lead", program=p, level=110) for p in programs),
        notes=tuple(sorted(notes, key=lambda note: note.start_ticks)),
        chords=(ChordSpan(start_ticks=0, pitch_classes=(0,)),),
        sections=(Section(kind="all", first_bar=0, bars=2, tonic=0, mode="major", level_db=0.0),),
        players=(frozenset({"lead"}),) * 2,
    )
    tracks = play(song, round(_GM_SECONDS * rate), rate=rate)
    return {program: np.ascontiguousarray(track.T) for program, track in zip(programs, tracks, strict=True)}


def dry(program: int, *, rate: int = RATE) -> Audio:
    """A General MIDI program alone. Raises RenderError."""
    return levelled(_played(PROGRAMS if program in PROGRAMS else GUITARS, rate)[program])


def amplified(x: Audio, drive: float, *, rate: int = RATE) -> Audio:
    """An amplifier turned up (tanh) and its loudspeaker (90 Hz to 5 kHz)."""
    bent = np.tanh(drive * levelled(x).T)
    box = butter(2, [90, 5000], "bandpass", fs=rate, output="sos")
    return levelled(np.asarray(sosfilt(box, bent)).T)


def through_effects(program: int) -> Audio:
    """Through one of four chains by its number: amplifier, chorus and hall, telephone, bright and driven."""
    x, chain = dry(program).T, program // 8 % 4
    rng = np.random.default_rng([program, 1])
    if chain == 0:
        return amplified(x.T, 12.0)
    if chain == 1:
        x = effects.chorus(x, RATE, depth_ms=3.0, speed_hz=0.8, mix=0.8, phase=0.0)
        hall = effects.room(rng, RATE, seconds=2.0, predelay_ms=15.0, damping=0.4)
        x = x + 0.5 * effects.reverberate(x, hall)
    elif chain == 2:
        x = np.asarray(sosfilt(butter(2, [300, 3400], "bandpass", fs=RATE, output="sos"), x))
    else:
        x = effects.saturate(effects.tilt(x, 12.0, RATE), 1.0)
    return levelled(effects.pan(x, float(rng.uniform(-0.7, 0.7)), 1.0).T)


def clipped(gain_db: float, *, cut: bool) -> Audio:
    """Three programs at once, so far too loud; `cut` at full scale as converters do, or left beyond it."""
    x = levelled(dry(0) + dry(24) + dry(48)) * np.float32(10 ** (gain_db / 20))
    return np.clip(x, -1.0, 1.0) if cut else x


def placed(left: int, right: int, signs: tuple[float, float]) -> Audio:
    """Program `left` on the left and `right` on the right, each mono and times its sign."""
    sides = [sign * dry(program).mean(axis=1) for program, sign in zip((left, right), signs, strict=True)]
    return levelled(np.stack(sides, axis=1))


def broken() -> Audio:
    """A program with 20 ms of NaN and 20 ms of infinity in it."""
    x = dry(0).copy()
    x[RATE : RATE + 960], x[2 * RATE : 2 * RATE + 960] = np.nan, np.inf
    return x
