"""How right the estimates are: songs that this repository composed, whose beats and chords are known.

`python -m attacca.training.own.truth --songs 24`; the figures of docs/training.md. Needs FluidSynth.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from attacca.engine.conditioning import Controls
from attacca.training.music.songs import Sheet, make_song
from attacca.training.own.analysis import estimate

FIRST_SEED = 1_000_200
_CLOSE_S = 0.07


def bars_right(found: Controls, true: Controls) -> float:
    """Share of frames with a beat that stand at the right place of the right bar, within 70 ms."""
    quarters = (found.ppq - found.bar_start_ppq) - (true.ppq - true.bar_start_ppq)
    length = true.meter_num * 4.0 / true.meter_den
    apart = (quarters + length / 2.0) % length - length / 2.0
    same_tempo = np.abs(found.bpm / true.bpm - 1.0) < 0.1
    right = same_tempo & (np.abs(apart) * 60.0 / true.bpm < _CLOSE_S)
    return float(right[found.beat_known].mean())


def chords_right(found: Controls, true: Controls) -> float:
    """Share of frames with a chord that has commanded notes alone."""
    both = found.chord_known & true.chord_known
    return float((~(found.pitch_classes & ~true.pitch_classes).any(axis=1))[both].mean())


def main(
    songs: Annotated[int, typer.Option(min=1, help="how many")] = 24,
    seconds: Annotated[float, typer.Option(min=10.0, help="length of each")] = 30.0,
) -> None:
    """Print what is estimated of each song and how much of it is right."""
    sheet = Sheet(seconds=seconds)
    beats: list[float] = []
    chords: list[float] = []
    for seed in range(FIRST_SEED, FIRST_SEED + songs):
        song = make_song(seed, sheet)
        true, about = song.controls, song.about
        found = estimate(song.audio, sample_rate=sheet.rate, hop_samples=sheet.hop_samples)
        line = f"{seed} {about['style']:<9} {about['meter']:<4} {about['bpm']:>6.1f} found {found.bpm:>6.1f}"
        if found.beat_known:
            beats.append(bars_right(found.controls, true))
            line += f"  beats {found.beat_known:4.0%}, {beats[-1]:4.0%} right"
        if (found.controls.chord_known & true.chord_known).any():
            chords.append(chords_right(found.controls, true))
            line += f"  chords {found.chord_known:4.0%}, {chords[-1]:4.0%} right"
        print(line, flush=True)
    right = sum(share > 0.8 for share in beats)
    median = f"{np.median(chords):.0%}" if chords else "-"
    print(
        f"{len(beats)} of {songs} songs have beats, {right} of them the right ones; chords: median {median} right"
    )


if __name__ == "__main__":
    typer.run(main)
