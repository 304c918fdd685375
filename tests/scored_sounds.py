"""Sounds and controls whose answer is known: clicks, the demo's riff, a song whose tempo moves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from attacca.engine.conditioning import Controls
from attacca.training.music import tempo
from attacca.training.music.composer import compose
from attacca.training.music.song import Song

RATE = 32000
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the fluidsynth program")
RIFF = Path(__file__).parents[1] / "bridge" / "assets" / "riff.flac"


def controls_of(
    frames: int, bpm: float, meter: tuple[int, int] = (4, 4), notes: tuple[int, ...] = (0, 4, 7)
) -> Controls:
    ppq = np.arange(frames) * 0.02 * bpm / 60.0
    bar = 4.0 * meter[0] / meter[1]
    classes = np.zeros((frames, 12), np.bool_)
    classes[:, list(notes)] = True
    yes = np.ones(frames, np.bool_)
    return Controls(
        ppq=ppq,
        bar_start_ppq=np.floor(ppq / bar + 1e-9) * bar,
        bpm=np.full(frames, bpm),
        meter_num=np.full(frames, meter[0], np.int16),
        meter_den=np.full(frames, meter[1], np.int16),
        pitch_classes=classes,
        instruments=np.ones((frames, 4), np.bool_),
        style=np.zeros(frames, np.int16),
        beat_known=yes,
        chord_known=yes,
        instruments_known=yes,
        style_known=yes,
    )


def clicks(times_s: np.ndarray, seconds: float, gains: np.ndarray | float = 1.0) -> np.ndarray:
    """Decaying bursts of noise over a faint floor."""
    rng = np.random.default_rng(1)
    audio = 1e-4 * rng.standard_normal(round(seconds * RATE))
    burst = 0.3 * rng.standard_normal(3200) * np.exp(-np.arange(3200) / 500)
    for time_s, gain in zip(times_s, np.broadcast_to(gains, len(times_s)), strict=True):
        first = round(time_s * RATE)
        part = audio[first : first + len(burst)]
        part += gain * burst[: len(part)]
    return audio


def riff() -> tuple[np.ndarray, Controls, list[dict[str, object]]]:
    """The demo's riff twice: 16 s, mono, at RATE; its controls; its chords by ppq."""
    sound, rate = soundfile.read(RIFF, always_2d=True)
    about = json.loads(RIFF.with_suffix(".json").read_text())
    audio = np.tile(soxr.resample(sound.mean(axis=1), rate, RATE), 2)
    chords = [
        {**chord, "ppq": chord["ppq"] + turn * 4 * about["bars"]} for turn in (0, 1) for chord in about["chords"]
    ]
    return audio, controls_of(len(audio) // 640, about["bpm"]), chords


def bent(meter: tuple[int, int] = (4, 4), plan: list[tuple[int, int, float]] | None = None) -> Song:
    """A song whose tempo moves by `plan` (tick, ramp ticks, bpm), two ramps and a step by default."""
    song = compose(5, bpm=97.0, meter=meter, min_seconds=40.0)
    bar = song.bar_ticks
    plan = plan or [(2 * bar, bar, 130.0), (5 * bar, 0, 80.0), (7 * bar, 2 * bar, 150.0)]
    return replace(song, tempo=tempo.build(97.0, plan))
