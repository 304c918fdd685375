"""Renders a song to mono audio with FluidSynth and roughens it; between the composer and the dataset.

Sample 0 is ppq 0. FluidSynth starts notes on its 64-sample blocks, so an onset comes at most 2 ms (at 32 kHz) late
and never early, without drift; what a drum sample takes to speak comes on top.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import lfilter

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.compose import Song
from attacca.training.music.soundfont import RenderError, find_soundfont

SAMPLE_RATE = 32000
_GAIN = 0.4
_TIMEOUT_S = 120
Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Room:
    """FluidSynth's own reverb and chorus, levels 0..1; the default is dry."""

    reverb: float = 0.0
    room_size: float = 0.4
    chorus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("reverb", "room_size", "chorus"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"Room.{name} is {value}, allowed 0..1")


def find_fluidsynth() -> str:
    """Path of the FluidSynth program. Raises RenderError that names the Debian package."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise RenderError("fluidsynth is not installed; on Debian: apt install fluidsynth fluid-soundfont-gm")
    return program


def render(
    song: Song, num_samples: int, *, instruments: Iterable[str] = INSTRUMENTS, room: Room | None = None
) -> Audio:
    """The song's first `num_samples` at 32 kHz, float32 [num_samples]; fewer instruments give a stem."""
    room = room or Room()
    command = [find_fluidsynth(), "-ni", "-q", "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "float"]
    command += ["-g", str(_GAIN)]
    settings = {
        "synth.reverb.active": int(room.reverb > 0),
        "synth.reverb.level": room.reverb,
        "synth.reverb.room-size": room.room_size,
        "synth.chorus.active": int(room.chorus > 0),
        "synth.chorus.level": 2.0 * room.chorus,
        "synth.polyphony": 256,
    }
    for name, value in settings.items():
        command += ["-o", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="attacca-render-") as folder:
        midi, wave = Path(folder, "song.mid"), Path(folder, "song.wav")
        song.midi(instruments).save(midi)
        command += ["-F", str(wave), str(find_soundfont()), str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode or not wave.is_file():
            raise RenderError(f"fluidsynth ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        stereo, rate = soundfile.read(wave, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise RenderError(f"fluidsynth wrote {rate} Hz, asked for {SAMPLE_RATE}")
    mono = stereo[:num_samples].mean(axis=1)
    return np.pad(mono, (0, num_samples - mono.shape[0])).astype(np.float32)


def draw_room(rng: np.random.Generator) -> Room:
    """Reverb and chorus at low level; a third of songs are dry."""
    if rng.random() < 1 / 3:
        return Room()
    return Room(
        reverb=float(rng.uniform(0.05, 0.45)),
        room_size=float(rng.uniform(0.1, 0.6)),
        chorus=float(rng.uniform(0.0, 0.4)) if rng.random() < 0.5 else 0.0,
    )


def level_db(audio: Audio) -> float:
    """RMS level in dBFS; silence gives -120."""
    return float(20 * np.log10(max(1e-6, np.sqrt(np.mean(np.square(audio, dtype=np.float64))))))


def augment(audio: Audio, rng: np.random.Generator) -> Audio:
    """EQ tilt, compression, saturation and level (-24..-10 dBFS, then a limiter); causal, keeps length."""
    x = _tilt(audio.astype(np.float64), float(rng.uniform(-4.0, 4.0)))
    x = _to_level(x, -18.0)
    if rng.random() < 0.6:
        x = _compress(x, ratio=float(rng.uniform(1.3, 3.0)), threshold_db=float(rng.uniform(-24.0, -14.0)))
    if rng.random() < 0.5:
        drive = float(rng.uniform(0.5, 2.0))
        x = np.tanh(drive * x) / drive
    return _limit(_to_level(x, float(rng.uniform(-24.0, -10.0)))).astype(np.float32)


def _to_level(x: npt.NDArray[np.float64], target_db: float) -> npt.NDArray[np.float64]:
    rms = float(np.sqrt(np.mean(x * x)))
    return x * (10 ** (target_db / 20) / rms) if rms > 1e-6 else x


def _tilt(x: npt.NDArray[np.float64], gain_db: float) -> npt.NDArray[np.float64]:
    """First-order high shelf around 1 kHz, `gain_db` from bottom to top; the level is set afterwards."""
    root = 10 ** (gain_db / 40)
    k = np.tan(np.pi * 1000.0 / SAMPLE_RATE)
    return np.asarray(lfilter([root + k, k - root], [1 / root + k, k - 1 / root], x))


def _compress(x: npt.NDArray[np.float64], *, ratio: float, threshold_db: float) -> npt.NDArray[np.float64]:
    """Feed-forward compressor on a smoothed power envelope (30 ms)."""
    pole = float(np.exp(-1.0 / (0.03 * SAMPLE_RATE)))
    power = lfilter([1.0 - pole], [1.0, -pole], x * x)
    over_db = np.maximum(0.0, 10 * np.log10(power + 1e-9) - threshold_db)
    return np.asarray(x * 10 ** (-over_db * (1.0 - 1.0 / ratio) / 20))


def _limit(x: npt.NDArray[np.float64], knee: float = 0.7) -> npt.NDArray[np.float64]:
    """Soft limit: linear up to `knee`, then tanh towards 0.99."""
    size = np.abs(x)
    room = 0.99 - knee
    bent = knee + room * np.tanh((size - knee) / room)
    return np.where(size <= knee, x, np.sign(x) * bent)
