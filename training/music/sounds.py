"""Sounds that are no songs, for a robust codec: `python -m attacca.training.music.sounds --out DATA/sounds`.

Beside songs.py, read by the codec's training alone. A clip is a pure function of its seed: any General MIDI program
or kit at any pitch, alone or piled up, through distortion, clipping, filters, rooms and extreme places; noise;
gliding tones; and a synthetic voice (pulses through wandering formants: Fant's source and filter). Held-out seeds
as for songs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soundfile
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.signal import butter, lfilter, sosfilt

from attacca.training.music import effects
from attacca.training.music.catalogue import list_songs
from attacca.training.music.effects import Stereo
from attacca.training.music.song import ChordSpan, Note, Section, Song, Track
from attacca.training.music.songs import whole_file
from attacca.training.music.synth import play
from attacca.training.music.tempo import TICKS_PER_QUARTER, steady

_STREAM = 60  # of a seed: songs draw from the streams below
_KITS = (0, 8, 16, 24, 25, 32, 40, 48)
_LOWEST_KEY, _HIGHEST_KEY = 24, 100
_SECONDS_PER_BAR = 2.0  # at 120 BPM
Rng = np.random.Generator

# First three formants in Hz of a, e, i, o, u (Peterson and Barney 1952, means of adult speakers).
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


@dataclass(frozen=True, kw_only=True)
class Clips:
    """How clips are made."""

    seconds: float = 8.0
    rate: int = 48000
    channels: int = 2

    def __post_init__(self) -> None:
        if not 0.5 <= self.seconds <= 600.0:
            raise ValueError(f"seconds is {self.seconds}, allowed 0.5..600")
        if self.channels not in (1, 2):
            raise ValueError(f"channels is {self.channels}, allowed 1 or 2")

    @property
    def samples(self) -> int:
        return round(self.seconds * self.rate)


def _notes(rng: Rng, tracks: list[Track], bars: int) -> list[Note]:
    """Notes of every length at random places; drums sound their whole key range."""
    notes = []
    end = bars * 4 * TICKS_PER_QUARTER
    for number, track in enumerate(tracks):
        drums = track.instrument == "drums"
        spacing = float(rng.choice([0.125, 0.25, 0.5, 1.0, 2.0])) * TICKS_PER_QUARTER
        centre = rng.uniform(36, 90)
        size = 1 if drums or rng.random() < 0.5 else int(rng.integers(2, 6))
        at = rng.uniform(0, spacing)
        while at < end:
            for _ in range(size):
                pitch = rng.integers(35, 82) if drums else rng.normal(centre, 7)
                start = int(at + rng.uniform(0, 0.05) * spacing)
                notes.append(
                    Note(
                        instrument=track.instrument,
                        track=number,
                        pitch=int(np.clip(pitch, _LOWEST_KEY, _HIGHEST_KEY)),
                        velocity=int(rng.integers(30, 128)),
                        grid_ticks=start,
                        start_ticks=start,
                        duration_ticks=max(1, int(spacing * rng.uniform(0.2, 3.0))),
                    )
                )
            at += spacing * rng.uniform(0.7, 1.4)
    return sorted(notes, key=lambda n: n.start_ticks)


def _instruments(rng: Rng, clips: Clips, *, count: int) -> Stereo:
    """`count` tracks of any programs and kits, summed."""
    bars = math.ceil(clips.seconds / _SECONDS_PER_BAR) + 1
    tracks = []
    for number in range(count):
        drums = rng.random() < 0.2
        program = int(rng.choice(_KITS)) if drums else int(rng.integers(128))
        tracks.append(
            Track(name=str(number), instrument="drums" if drums else "lead", program=program, level=110),
        )
    song = Song(
        seed=0,
        style=-1,
        style_name="sounds",
        tempo=steady(120.0),
        meter=(4, 4),
        num_bars=bars,
        tracks=tuple(tracks),
        notes=tuple(_notes(rng, tracks, bars)),
        chords=(ChordSpan(start_ticks=0, pitch_classes=(0,)),),
        sections=(Section(kind="sounds", first_bar=0, bars=bars, tonic=0, mode="major", level_db=0.0),),
        players=(frozenset(track.instrument for track in tracks),) * bars,
    )
    steps = round(clips.seconds / 0.1) + 1
    wander = rng.choice([0.0, 1.0, 6.0], p=[0.6, 0.2, 0.2])  # cents each 100 ms
    cents = [np.clip(np.cumsum(rng.normal(0, wander, steps)), -190, 190) for _ in tracks]
    dry = play(song, clips.samples, rate=clips.rate, cents=cents)
    placed = [effects.pan(track, float(rng.uniform(-1, 1)), float(rng.uniform(0, 1.5))) for track in dry]
    return np.sum(placed, axis=0, dtype=np.float32)


def _envelope(rng: Rng, clips: Clips, *, silent: float) -> npt.NDArray[np.float64]:
    """Segments of 40 ms to a second, each at a level of its own or silent, joined in 5 ms."""
    out = np.zeros(clips.samples)
    at = 0
    while at < clips.samples:
        length = int(rng.uniform(0.04, 1.0) * clips.rate)
        out[at : at + length] = 0.0 if rng.random() < silent else 10 ** (rng.uniform(-30, 0) / 20)
        at += length
    smooth = max(1, round(0.005 * clips.rate))
    return np.convolve(out, np.full(smooth, 1 / smooth))[: clips.samples]


def _noise(rng: Rng, clips: Clips) -> Stereo:
    """White to brown noise, in bursts or steady, the same on both sides or not."""
    noise = rng.standard_normal((2, clips.samples))
    noise[1] = noise[0] if rng.random() < 0.3 else noise[1]
    slope = float(rng.choice([0.0, 0.7, 0.95, 0.995]))
    noise = lfilter([1.0 - slope], [1.0, -slope], noise, axis=-1)
    if rng.random() < 0.5:
        noise = noise * _envelope(rng, clips, silent=0.4)
    return np.asarray(noise / (np.abs(noise).max() + 1e-9), dtype=np.float32)


def _tones(rng: Rng, clips: Clips) -> Stereo:
    """One to four tones that glide over octaves: sines, saws, squares."""
    time = np.arange(clips.samples) / clips.rate
    out = np.zeros((2, clips.samples))
    for _ in range(int(rng.integers(1, 5))):
        low, high = np.log2(rng.uniform(40, 12000, 2))
        sway = 0.5 - 0.5 * np.cos(2 * math.pi * rng.uniform(0.05, 1.0) * time + rng.uniform(0, 6))
        phase = np.cumsum(2.0 ** (low + (high - low) * sway)) / clips.rate
        shape = int(rng.integers(3))
        wave = np.sin(2 * math.pi * phase) if shape == 0 else 2.0 * (phase % 1.0) - 1.0
        wave = np.sign(wave) if shape == 2 else wave
        left = rng.uniform(0, 1)
        out += np.stack([left * wave, (1 - left) * wave]) * rng.uniform(0.1, 1.0)
    return (out * _envelope(rng, clips, silent=0.2)).astype(np.float32)


def _voice(rng: Rng, clips: Clips) -> Stereo:
    """Syllables: a glottal pulse train with vibrato, or breath, through formants that move from vowel to vowel."""
    count = clips.samples
    time = np.arange(count) / clips.rate
    points = max(2, round(clips.seconds * rng.uniform(2, 7)))
    places = np.linspace(0, count, points)
    base = rng.uniform(80, 350)
    tune = np.interp(np.arange(count), places, rng.normal(0, 3, points))
    vibrato = rng.uniform(0, 0.5) * np.sin(2 * math.pi * rng.uniform(4, 7) * time)
    phase = np.cumsum(base * 2.0 ** ((tune + vibrato) / 12)) / clips.rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    voiced = np.interp(np.arange(count), places, rng.choice([0.0, 1.0, 1.0, 1.0], points))
    source = lfilter([1.0], [1.0, -0.95], pulses) * voiced
    source = source + rng.uniform(0.005, 0.1) * rng.standard_normal(count) * (1.2 - voiced)
    size = rng.uniform(0.85, 1.3)  # of the speaker
    vowels = size * np.array(_VOWELS)[rng.integers(len(_VOWELS), size=points)]
    block = round(0.01 * clips.rate)
    out = np.zeros(count)
    for formant in range(3):
        state = np.zeros(2)
        hz = np.interp(np.arange(0, count, block), places, vowels[:, formant])
        for number, centre in enumerate(hz):
            span = slice(number * block, (number + 1) * block)
            radius = math.exp(-math.pi * (60 + 0.06 * centre) / clips.rate)
            poles = [1.0, -2 * radius * math.cos(2 * math.pi * centre / clips.rate), radius**2]
            part, state = lfilter([1.0 - radius], poles, source[span], zi=state)
            out[span] += part * (1.0, 0.6, 0.3)[formant]
    out = out * _envelope(rng, clips, silent=0.2) / (np.abs(out).max() + 1e-9)
    return np.stack([out, out]).astype(np.float32)


_KINDS: tuple[tuple[str, float, Callable[[Rng, Clips], Stereo]], ...] = (
    ("alone", 0.45, lambda rng, clips: _instruments(rng, clips, count=1)),
    ("piled", 0.25, lambda rng, clips: _instruments(rng, clips, count=int(rng.integers(2, 7)))),
    ("noise", 0.08, _noise),
    ("tones", 0.07, _tones),
    ("voice", 0.15, _voice),
)


def _through_effects(x: Stereo, rng: Rng, rate: int) -> Stereo:
    """Each effect at random; then a level from quiet to clipped."""
    if rng.random() < 0.35:
        x = effects.saturate(x, float(rng.uniform(0.1, 1.0)))
    if rng.random() < 0.15:  # an amplifier turned up, and its loudspeaker
        x = np.tanh(x / (np.abs(x).max() + 1e-9) * rng.uniform(5, 60)).astype(np.float32)
        x = np.asarray(sosfilt(butter(2, [90, 5000], "bandpass", fs=rate, output="sos"), x), dtype=np.float32)
    if rng.random() < 0.3:
        x = effects.tilt(x, float(rng.uniform(-15, 15)), rate, float(rng.uniform(300, 4000)))
    if rng.random() < 0.15:  # a telephone, a wall
        low, high = rng.uniform(30, 500), rng.uniform(1500, 15000)
        x = np.asarray(sosfilt(butter(2, [low, high], "bandpass", fs=rate, output="sos"), x), dtype=np.float32)
    if rng.random() < 0.2:
        x = effects.chorus(
            x, rate, depth_ms=float(rng.uniform(0.5, 4)), speed_hz=float(rng.uniform(0.1, 3)), mix=0.8, phase=0.0
        )
    if rng.random() < 0.35:
        response = effects.room(rng, rate, seconds=float(rng.uniform(0.3, 4)), predelay_ms=10.0, damping=0.5)
        wet = effects.reverberate(x, response)
        x = x + wet * np.float32(rng.uniform(0.1, 0.8))
    if rng.random() < 0.05:
        x = x * np.array([[1.0], [-1.0]], np.float32)  # one side's cable turned round
    peak = float(np.abs(x).max()) + 1e-9
    return np.clip(x * (10 ** (rng.uniform(-30, 0) / 20) / peak) * (4.0 if rng.random() < 0.1 else 1.0), -1, 1)


def make_clip(seed: int, clips: Clips) -> tuple[npt.NDArray[np.float32], str]:
    """Samples float32 [n, channels] and the kind. A pure function of its arguments and of FluidSynth's version."""
    rng = np.random.default_rng([seed, 1, _STREAM])
    number = int(rng.choice(len(_KINDS), p=[share for _, share, _ in _KINDS]))
    name, _, make = _KINDS[number]
    x = _through_effects(make(rng, clips), rng, clips.rate)
    if clips.channels == 1:
        x = x.mean(axis=0, keepdims=True)
    return np.ascontiguousarray(x.T, dtype=np.float32), name


def write_clip(path: Path, seed: int, clips: Clips) -> None:
    """PATH.flac, then PATH.npz, which says what it is. `path` has no suffix."""
    audio, kind = make_clip(seed, clips)
    with whole_file(path.with_suffix(".flac")) as partial:
        soundfile.write(partial, audio, clips.rate, format="FLAC", subtype="PCM_16")
    about = {"seed": seed, "kind": kind, "rate": clips.rate}
    with whole_file(path.with_suffix(".npz")) as partial, partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)))


def main(
    out: Annotated[Path, typer.Option(help="Folder for the clips.")],
    clips: Annotated[int, typer.Option(min=1, help="How many.")] = 240,
    first_seed: Annotated[int, typer.Option(min=0, help="1000000 and up are held out.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 8.0,
    rate: Annotated[int, typer.Option(help="Hz.")] = 48000,
    channels: Annotated[int, typer.Option(min=1, max=2)] = 2,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Make the clips that are not there yet; run again to resume."""
    sheet = Clips(seconds=seconds, rate=rate, channels=channels)
    out.mkdir(parents=True, exist_ok=True)
    there = {path.stem for path in list_songs(out)}
    missing = [number for number in range(clips) if f"{number:05d}" not in there]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProcessPoolExecutor(max_workers=workers) as pool, Progress(*columns) as progress:
        task = progress.add_task("sounds", total=clips, completed=clips - len(missing))
        jobs = [pool.submit(write_clip, out / f"{number:05d}", first_seed + number, sheet) for number in missing]
        for done in as_completed(jobs):
            done.result()
            progress.advance(task)


if __name__ == "__main__":
    typer.run(main)
