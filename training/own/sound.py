"""A user's audio files: found, read, brought to the codec's rate and channels. The first stage of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from attacca.engine.channels import fold

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
ANALYSIS_RATE = 22050  # Hz, mono: what beats and chords are estimated on
LONGEST_S = 900.0  # of one file; what lies beyond is left out, so that no file fills the memory
_SILENT = 1e-4  # root mean square of full scale

Pcm = npt.NDArray[np.float32]


class UnusableSound(ValueError):
    """A file that is skipped; the message says why."""


@dataclass(frozen=True, kw_only=True)
class SoundFile:
    """A file of the folder. `name` is its path from there, with slashes."""

    name: str
    path: Path

    @property
    def stamp(self) -> tuple[str, int, int]:
        """Changes when the file does: name, bytes, time of change."""
        status = self.path.stat()
        return self.name, status.st_size, status.st_mtime_ns


def find_sounds(folder: Path) -> list[SoundFile]:
    """Audio files under a folder, by name; hidden ones are left out. ValueError if there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(p.startswith(".") for p in parts):
            found.append(SoundFile(name="/".join(parts), path=path))
    return found


def read_sound(path: Path, *, sample_rate: int, audio_channels: int, shortest_s: float) -> Pcm:
    """Float32 [n] or [n, 2] at `sample_rate`, up to LONGEST_S. UnusableSound if broken, too short or silent."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(int(LONGEST_S * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, MemoryError) as error:
        raise UnusableSound(f"cannot be read: {' '.join(str(error).split())}") from None
    seconds = len(samples) / rate
    if seconds < shortest_s:
        raise UnusableSound(f"too short: {seconds:.1f} s, needed: {shortest_s:.1f} s")
    samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -4.0, 4.0)
    folded = fold(samples, audio_channels)
    if float(np.sqrt(np.mean(np.square(folded, dtype=np.float64)))) < _SILENT:
        raise UnusableSound("silent")
    return np.ascontiguousarray(soxr.resample(folded, rate, sample_rate, quality="HQ"), dtype=np.float32)


def analysis_mono(pcm: Pcm, sample_rate: int) -> Pcm:
    """Float32 [m] at ANALYSIS_RATE of codec samples [n] or [n, 2]."""
    mono = pcm if pcm.ndim == 1 else pcm.mean(axis=1)
    return np.asarray(soxr.resample(mono, sample_rate, ANALYSIS_RATE, quality="HQ"), dtype=np.float32)
