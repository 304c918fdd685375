"""A beat that drifts by a known amount, held to the grid: `python -m benchmarks.drift` prints what is left of it.

Holds the sounds too, whose every onset is known: clicks and drum-like noise, over tones, at any tempo curve.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sin
from time import process_time

import numpy as np

from attacca.engine.beat_lock import BeatLock
from attacca.engine.beat_tracking import BeatGrid

CASES = (  # BPM, tempo (0: +-0.8 % in 20 s), drums, beats
    (120, 1.0, False, 32),
    (120, 1.005, True, 48),
    (120, 0.985, True, 48),
    (120, 1.019, False, 80),
    (90, 1.019, True, 72),
    (160, 0.981, True, 80),
    (120, 0, True, 64),
    (80, 0, False, 64),
    (120, 1.03, True, 24),
)


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


def heard_late_ms(lock: BeatLock, bpm: float, onsets: np.ndarray) -> np.ndarray:
    """How late the onset of each beat is heard, but for the last two."""
    heard = np.array([lock.stretch.output_of(round(onset * lock.rate)) for onset in onsets[:-2]]) / lock.rate
    return 1000.0 * (heard - np.arange(len(heard)) * 60.0 / bpm)


def main(rate: int = 16000) -> None:
    """One line a case."""
    for bpm, tempo, drums, beats in CASES:
        audio, onsets = source(
            rate, bpm, beats, lambda at, tempo=tempo: tempo or 1.0 + 0.008 * sin(2 * pi * at / 20.0), drums=drums
        )
        lock = BeatLock(rate, 1, BeatGrid([0.0, rate * 60.0 / bpm]), 0.0)
        began = process_time()
        for part in np.array_split(audio, beats):
            lock.push(part)
        cpu_ms = 1000.0 * (process_time() - began) / (len(audio) / rate)
        late = np.abs(heard_late_ms(lock, bpm, onsets))
        outside = np.flatnonzero(late > 10.0)
        print(
            f"{bpm} BPM {f'x {tempo:.3f}' if tempo else 'wavering':8} {'drums' if drums else 'clicks':6} "
            f"worst {late.max():6.1f} ms, {np.mean(late <= 10.0):4.0%} within 10 ms, all from beat "
            f"{int(outside[-1]) + 1 if len(outside) else 0} of {len(late)}, splices {lock.report.splices}, "
            f"new beginnings asked for {lock.report.realigns}, {cpu_ms:.1f} ms CPU per s"
        )


if __name__ == "__main__":
    main()
