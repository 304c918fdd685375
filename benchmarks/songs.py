"""Held-out songs cut for the scorecard: what the model hears, what it is commanded, what really came."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from attacca.engine.conditioning import Controls
from attacca.training.dataset import HELDOUT_SEED, HOP_SAMPLES, load_song, make_song
from attacca.training.render import SAMPLE_RATE, Audio

SONG_SECONDS = 44.0
_CONTEXT_S = 6.0
_BARS = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """One held-out song up to frame `stop`, cut at frame `join`, the first at or after a bar line."""

    seed: int
    about: str
    audio: Audio  # float32 [stop * 640], 32 kHz
    controls: Controls  # of the whole song
    join: int
    stop: int

    @property
    def join_sample(self) -> int:
        return self.join * HOP_SAMPLES

    @cached_property
    def commanded(self) -> Controls:
        """The controls of the continuation, exact."""
        return self.controls.slice(self.join, self.stop)

    def joined(self, continuation: Audio) -> Audio:
        """The real context, then another continuation, cut hard, as a listener hears it."""
        after = continuation[: (self.stop - self.join) * HOP_SAMPLES]
        return np.concatenate([self.audio[: self.join_sample], after.astype(np.float32, copy=False)])


def cut(
    audio: Audio, controls: Controls, *, seed: int = 0, about: str = "", longest_s: float = 16.0, bars: int = _BARS
) -> Case:
    """Context: whole bars, 6 s or more. Continuation: up to `bars` whole bars and at most about `longest_s`.

    Raises ValueError where the song is too short for a bar of continuation.
    """
    per_quarter_s = 60.0 / float(controls.bpm[0])
    bar_s = 4.0 * float(controls.meter_num[0]) / float(controls.meter_den[0]) * per_quarter_s
    context_bars = math.ceil(_CONTEXT_S / bar_s)
    kept_bars = max(1, min(bars, int(longest_s / bar_s)))
    frame_s = HOP_SAMPLES / SAMPLE_RATE
    join = math.ceil(context_bars * bar_s / frame_s - 1e-6)
    stop = math.ceil((context_bars + kept_bars) * bar_s / frame_s - 1e-6)
    if stop > len(controls):
        raise ValueError(f"the song has {len(controls)} frames, {stop} needed for {kept_bars} bars after the join")
    used = audio[: stop * HOP_SAMPLES].copy()  # a thousand whole songs would fill the memory
    return Case(seed=seed, about=about, audio=used, controls=controls, join=join, stop=stop)


def load_case(seed: int, *, longest_s: float = 16.0, folder: Path | None = None) -> Case:
    """The song of a seed, from a dataset's folder of held-out songs where it holds it, else composed and rendered.

    Raises RenderError where it must be rendered and FluidSynth is missing.
    """
    stored = None if folder is None else folder / f"{seed - HELDOUT_SEED:05d}.npz"
    if stored is not None and stored.is_file() and stored.with_suffix(".flac").is_file():
        audio, controls = load_song(stored)
        with np.load(stored, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
        if about["seed"] != seed:
            raise ValueError(f"{stored} holds the song of seed {about['seed']}, its name says {seed}")
    else:
        audio, controls, about = make_song(seed, SONG_SECONDS)
    text = f"{about['style']}, {about['meter']}, {float(about['bpm']):.0f} BPM"
    return cut(audio, controls, seed=seed, about=text, longest_s=longest_s)
