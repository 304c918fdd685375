"""Held-out songs cut for the scorecard: what the model hears, what it is commanded, what really came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attacca.engine.conditioning import Controls
from attacca.training.music.songs import (
    FRAMES_PER_SECOND,
    HELDOUT_SEED,
    HELDOUT_STYLE_SEED,
    Rendered,
    Sheet,
    load_song,
    make_song,
)
from benchmarks import onsets
from benchmarks.spectra import SAMPLE_RATE, Audio, analysed, converted

SONG_SECONDS = 44.0
FRAME_S = 1.0 / FRAMES_PER_SECOND
_CONTEXT_S = 6.0
_BARS = 8
_ROUNDING = 1e-6  # of a frame


@dataclass(frozen=True, kw_only=True)
class Case:
    """One held-out song up to frame `stop`, cut at frame `join`, the first at or after a bar line."""

    seed: int
    about: str
    audio: Audio  # float32 [stop * hop] or [stop * hop, 2], as the codec under test takes it
    rate: int = SAMPLE_RATE
    controls: Controls  # of the whole song
    join: int
    stop: int

    @property
    def hop_samples(self) -> int:
        return self.rate // FRAMES_PER_SECOND

    @property
    def join_sample(self) -> int:
        """At the codec's rate."""
        return self.join * self.hop_samples

    @property
    def join_heard(self) -> int:
        """The same at the rate at which sounds are judged."""
        return self.join * (SAMPLE_RATE // FRAMES_PER_SECOND)

    @cached_property
    def heard(self) -> Audio:
        """The song as it is judged: mono at SAMPLE_RATE, [stop * 640]."""
        return analysed(self.audio, self.rate)

    @cached_property
    def commanded(self) -> Controls:
        """The controls of the continuation, exact."""
        return self.controls.slice(self.join, self.stop)

    def joined(self, continuation: Audio) -> Audio:
        """The real context, then another continuation, cut hard, as a listener hears it."""
        after = continuation[: (self.stop - self.join) * self.hop_samples]
        return np.concatenate([self.audio[: self.join_sample], after.astype(np.float32, copy=False)])


def bar_frames(controls: Controls) -> npt.NDArray[np.int64]:
    """First frame at or after each bar line within the controls, whatever the tempo does between them."""
    lines = np.unique(controls.bar_start_ppq)
    times = onsets.times_of(controls, lines[lines >= controls.ppq[0] - 1e-9])
    return np.ceil(times / FRAME_S - _ROUNDING).astype(np.int64)


def cut(
    audio: Audio,
    controls: Controls,
    *,
    rate: int = SAMPLE_RATE,
    seed: int = 0,
    about: str = "",
    longest_s: float = 16.0,
    bars: int = _BARS,
) -> Case:
    """Context: whole bars, 6 s or more. Continuation: whole bars, one to `bars` of them, at most about `longest_s`.

    Raises ValueError where the song is too short for a bar of continuation.
    """
    lines = bar_frames(controls)
    joins = np.flatnonzero(lines * FRAME_S >= _CONTEXT_S - _ROUNDING)
    if len(joins) < 2:
        raise ValueError(f"the song has {len(controls)} frames: no whole bar after {_CONTEXT_S:g} s of context")
    join, after = int(lines[joins[0]]), lines[joins[1:]]
    longest = np.flatnonzero((after - join) * FRAME_S <= longest_s + FRAME_S)
    stop = int(after[min(len(longest), bars) - 1]) if len(longest) else int(after[0])
    used = audio[: stop * rate // FRAMES_PER_SECOND].copy()  # many whole songs would fill the memory
    return Case(seed=seed, about=about, audio=used, rate=rate, controls=controls, join=join, stop=stop)


def as_case(song: Rendered, *, rate: int, channels: int, longest_s: float = 16.0) -> Case:
    """A rendered song cut, its sound as a codec of this rate and so many channels takes it."""
    about = song.about
    moving = "" if about["steady"] else " at first"
    text = f"{about['style']}, {about['meter']}, {float(about['bpm']):.0f} BPM{moving}"
    audio = converted(song.audio, int(about["rate"]), rate, channels)
    return cut(audio, song.controls, rate=rate, seed=int(about["seed"]), about=text, longest_s=longest_s)


def load_case(
    seed: int,
    *,
    longest_s: float = 16.0,
    folder: Path | None = None,
    rate: int = SAMPLE_RATE,
    channels: int = 1,
) -> Case:
    """The song of a seed, from a dataset's folder of held-out songs where it holds it, else composed and rendered.

    Seeds from HELDOUT_STYLE_SEED on are of styles never trained on. Songs are rendered at 48 kHz in stereo, what
    the codec takes is made of that. Raises RenderError where it must be rendered and FluidSynth is missing.
    """
    apart = seed >= HELDOUT_STYLE_SEED
    index = seed - (HELDOUT_STYLE_SEED if apart else HELDOUT_SEED)
    stored = None if folder is None else folder / f"{index:05d}.npz"
    if stored is not None and stored.is_file() and stored.with_suffix(".flac").is_file():
        song = load_song(stored)
        if song.about["seed"] != seed:
            raise ValueError(f"{stored} holds the song of seed {song.about['seed']}, its name says {seed}")
    else:
        song = make_song(seed, Sheet(seconds=SONG_SECONDS, heldout_styles=apart))
    return as_case(song, rate=rate, channels=channels, longest_s=longest_s)


def with_drums(cases: Iterable[Case]) -> list[Case]:
    """Those whose commanded players at the join include drums."""
    return [case for case in cases if case.controls.instruments[case.join, 0]]
