"""A take under a tempo that glides: how far its beat is off, how much of it is heard, and a picture.

`python -m benchmarks.glide --png docs/img/glide.png` runs the ramps of docs/plugin.md through the real session,
engine and client with the fake model (tests/glide_scene.py), prints a row for each, and draws one of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attacca.bridge.drawing import INK, PAPER

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from glide_scene import AT, HOP, RATE, TRIGGER, Run, played, ramp  # noqa: E402

RAMPS = ((120, 130, 8.0), (120, 140, 1.5), (120, 80, 2.0), (120, 180, 1.5))
DRAWN = 1  # of them
_BEFORE_S, _AFTER_S = 1.0, 2.0
_EXACT_MS = 0.01
_WAVE, _BEAT, _ERROR = "#e2572b", "#5c7a99", "#8a3ffc"
_TONE_HZ, _DECAY_QUARTERS = 180.0, 0.12


def run_of(low: int, high: int, seconds: float) -> Run:
    return played([(1000, TRIGGER), *ramp(low, high, seconds)], seconds + 5.0, bpm=low)


def row_of(run: Run, seconds: float) -> tuple[float, float, float]:
    """(largest error of the beat along the ramp in ms, seconds after it until the beat is exact, share heard)."""
    end = AT + round(seconds * RATE)
    after = np.flatnonzero(np.abs(run.beat_errors_ms(end, len(run.wet))) > _EXACT_MS)
    exact_s = 0.0 if len(after) == 0 else (int(after[-1]) + 1) * HOP / RATE
    in_place = run.wet[AT:end] == np.arange(AT, end)
    return float(np.abs(run.beat_errors_ms(AT, end)).max()), exact_s, float(in_place.mean())


def audible(run: Run, start: int, stop: int) -> np.ndarray:
    """A beat for each that the model was told: a tone that decays from it, where the take was heard."""
    frames = np.arange(start // HOP, stop // HOP + 2) * HOP
    told = np.interp(np.arange(start, stop), frames, [run.engine.made[int(at)] for at in frames])
    strike = np.exp(-(told % 1.0) / _DECAY_QUARTERS) * np.where(told.astype(int) % 4 == 0, 1.0, 0.6)
    tone = np.sin(2 * np.pi * _TONE_HZ * np.arange(stop - start) / RATE)
    heard: np.ndarray = strike * tone * (run.wet[start:stop] != 0)
    return heard


def beats(run: Run, start: int, stop: int) -> list[tuple[float, bool]]:
    """(seconds from the ramp's beginning, whether it is a bar line) of the host's beats."""
    found, beat = [], int(run.ppq_at(start)) + 1
    while (at := run.position_of(beat)) < stop:
        found.append(((at - AT) / RATE, beat % 4 == 0))
        beat += 1
    return found


def draw(path: Path, run: Run, low: int, high: int, seconds: float) -> None:
    """Tempo, what is heard over the host's beats, and how far each frame is off."""
    start, stop = AT - round(_BEFORE_S * RATE), AT + round((seconds + _AFTER_S) * RATE)
    figure = Figure(figsize=(12, 6), facecolor=PAPER)
    FigureCanvasAgg(figure)
    tempo, wave, error = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (1, 2.2, 1.2)})
    blocks = [block for block in run.recording.blocks if start <= block.position < stop]
    times = [(block.position - AT) / RATE for block in blocks]
    tempo.step(times, [block.host.bpm for block in blocks], where="post", color=INK, linewidth=1.2)
    tempo.set_ylabel("host, BPM")
    wave.plot((np.arange(start, stop) - AT) / RATE, audible(run, start, stop), color=_WAVE, linewidth=0.4)
    for at, bar in beats(run, start, stop):
        wave.axvline(at, color=_BEAT, linewidth=1.6 if bar else 0.7)
    wave.set_ylabel("the take, and\nthe host's beats")
    wave.set_yticks([])
    off = run.beat_errors_ms(start, stop)
    error.step(_BEFORE_S * -1.0 + np.arange(len(off)) * HOP / RATE, off, where="post", color=_ERROR, linewidth=1.2)
    error.set_ylabel("late by, ms")
    error.set_xlabel("seconds from the beginning of the ramp")
    for axes in (tempo, wave, error):
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=INK)
        axes.axvspan(0.0, seconds, color=_BEAT, alpha=0.08)
        axes.set_xlim(-_BEFORE_S, seconds + _AFTER_S)
    figure.suptitle(f"{low} to {high} BPM in {seconds:g} s: a take goes on sounding", color=INK)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png", type=Path, help="where to draw one of the ramps")
    options = parser.parse_args()
    for number, (low, high, seconds) in enumerate(RAMPS):
        run = run_of(low, high, seconds)
        worst_ms, exact_s, share = row_of(run, seconds)
        print(
            f"{low} to {high} BPM in {seconds:g} s: beat off by {worst_ms:.1f} ms at most, exact again after "
            f"{exact_s:.2f} s, {100 * share:.1f} % of the ramp in its place"
        )
        if number == DRAWN and options.png is not None:
            draw(options.png, run, low, high, seconds)


if __name__ == "__main__":
    main()
