"""The demo's riff: `python -m attacca.training.music.riff --out bridge/assets/riff.flac`; four bars by composer v1.

Beside songs.py; what it writes is shipped with the bridge, which reads tempo, meter and length from the .json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer

from attacca.training.music.composer import compose
from attacca.training.music.mixing import render
from attacca.training.music.songs import Audio
from attacca.training.music.tempo import TICKS_PER_QUARTER

STYLE, SEED = "disco", 1_000_102  # held out: no model has been trained on it
PLAYERS = ("drums", "bass", "chords")  # room is left for a lead
BARS, BPM, RATE = 4, 120.0, 48000
_PEAK = 0.7
_STEPS = 1 << 13  # 14 bits: FLAC drops the empty two, which keeps the shipped file small


def make_riff(*, style: str = STYLE, seed: int = SEED) -> tuple[Audio, dict[str, Any]]:
    """BARS bars of 4/4, float32 [samples, 2], and what they are. Raises RenderError."""
    seconds = BARS * 4 * 60.0 / BPM
    song = compose(seed, style=style, bpm=BPM, meter=(4, 4), players=PLAYERS, min_seconds=seconds)
    stereo, _ = render(song, round(seconds * RATE), rate=RATE)
    audio = np.round(stereo.T * (_PEAK * _STEPS / float(np.abs(stereo).max()))) / _STEPS
    end_ticks = BARS * song.bar_ticks
    return audio.astype(np.float32), {
        "bpm": song.bpm,
        "meter": "4/4",
        "bars": BARS,
        "seed": seed,
        "style": song.style_name,
        "style_index": song.style,
        "players": list(PLAYERS),
        "chords": [
            {"ppq": c.start_ticks / TICKS_PER_QUARTER, "pitch_classes": list(c.pitch_classes)}
            for c in song.chords
            if c.start_ticks < end_ticks
        ],
        "licence": "Composed and rendered by attacca.training (Apache-2.0) with FluidR3 GM (MIT, Frank Wen).",
    }


def main(
    out: Annotated[Path, typer.Option(help="FLAC to write; its facts go beside it, as .json.")],
) -> None:
    """Compose and render the riff."""
    audio, about = make_riff()
    soundfile.write(out, audio, RATE, format="FLAC", subtype="PCM_16")
    out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
