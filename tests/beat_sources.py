"""Sounds with a beat whose every onset is known: clicks and drum-like noise, over tones, at any tempo curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def source(
    rate: int,
    bpm: float,
    beats: int,
    tempo: Callable[[float], float],
    *,
    drums: bool = True,
    parts: int = 1,
    plays: Callable[[int], bool] = lambda index: True,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mono [n, 1] and the onset times in s of every part of a beat, heard or not; `tempo`: of time, 1 is `bpm`."""
    rng = np.random.default_rng(seed)
    onsets, time = [], 0.0
    while time < beats * 60.0 / bpm:
        onsets.append(time)
        time += 60.0 / bpm / parts / tempo(time)
    audio = 1e-4 * rng.normal(size=round(time * rate))
    length = rate // (8 if drums else 200)
    if drums:
        times = np.arange(len(audio)) / rate
        audio += sum(0.08 * np.sin(2 * np.pi * hz * times) for hz in (110.0, 220.0, 277.2))
    for index, onset in enumerate(onsets):
        if plays(index):
            ring = np.arange(length) / rate
            hit = rng.normal(size=length) * np.exp(-ring / 0.03) * 0.4
            if not drums:
                hit = 0.8 * np.sin(2 * np.pi * 1500.0 * ring) * np.exp(-ring / 0.001)
            part = audio[round(onset * rate) :][:length]
            part += hit[: len(part)]
    return audio[:, None].astype(np.float32), np.array(onsets)


def no_beat(kind: str, rate: int, seconds: float) -> np.ndarray:
    """Silence, noise or a swelling pad [n, 1]."""
    times = np.arange(round(rate * seconds)) / rate
    audio = {
        "silence": 0.0 * times,
        "noise": 0.1 * np.random.default_rng(0).normal(size=len(times)),
        "pad": 0.2 * np.sin(2 * np.pi * 220.0 * times) * (1.0 + 0.3 * np.sin(2 * np.pi * 0.9 * times)),
    }[kind]
    return audio[:, None].astype(np.float32)
