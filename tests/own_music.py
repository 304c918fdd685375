"""A small folder of synthetic songs with known beats and chords, for the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 32000
CHORDS = ((0, 4, 7), (9, 0, 4), (5, 9, 0), (7, 11, 2))  # C, A minor, F, G


def make_music(*, bpm: float, seconds: float, rate: int = RATE, start_s: float = 0.4, seed: int = 0) -> np.ndarray:
    """Float32 [n]: a kick on one, clicks on all beats, hats between, and a triad a bar that changes on the bar."""
    rng = np.random.default_rng(seed)
    count, beat_s = round(seconds * rate), 60.0 / bpm
    audio = np.zeros(count)

    def add(at_s: float, sound: np.ndarray) -> None:
        first = round(at_s * rate)
        if first < count:
            part = sound[: count - first]
            audio[first : first + len(part)] += part

    t = np.arange(round(0.25 * rate)) / rate
    kick = np.sin(2 * np.pi * 60.0 * t) * np.exp(-t / 0.06)
    click = rng.standard_normal(len(t)) * np.exp(-t / 0.015)
    bar_t = np.arange(round(4 * beat_s * rate)) / rate
    fade = np.minimum(1.0, np.minimum(bar_t, bar_t[::-1]) / 0.01)
    for number in range(int((seconds - start_s) / beat_s) + 1):
        at_s = start_s + number * beat_s
        add(at_s, 0.35 * click)
        add(at_s + beat_s / 2, 0.08 * click)
        if number % 4 == 0:
            add(at_s, 0.8 * kick)
            tones = [48 + pitch + 12 * octave for pitch in CHORDS[number // 4 % 4] for octave in (0, 1)]
            hz = [440.0 * 2.0 ** ((tone - 69) / 12) for tone in tones]
            add(at_s, 0.05 * sum(np.sin(2 * np.pi * f * bar_t) for f in hz) * fade)
    return (audio / np.abs(audio).max() * 0.7).astype(np.float32)


def write_folder(folder: Path, *, songs: int = 4, seconds: float = 14.0) -> Path:
    """Songs at several tempi, rates, formats and channels, and files that cannot be used."""
    (folder / "album").mkdir(parents=True)
    for index in range(songs):
        rate = (44100, 32000, 48000, 22050)[index % 4]
        mono = make_music(bpm=96.0 + 8.0 * index, seconds=seconds, rate=rate, seed=index)
        path = folder / ("album" if index % 2 else "") / f"song {index}.{('wav', 'flac', 'ogg', 'aiff')[index % 4]}"
        soundfile.write(path, mono if index % 2 else np.stack([mono, 0.5 * mono], axis=1), rate)
    (folder / "broken.mp3").write_bytes(b"no music at all" * 100)
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "short.wav", np.full(2000, 0.1), RATE)
    soundfile.write(folder / "silent.flac", np.zeros(RATE * 5), RATE)
    (folder / "cover.jpg").write_bytes(b"\xff\xd8")
    return folder
