"""Labels of a recording, estimated: what `Controls` a host would have sent. Between a user's audio and the tokens.

What is not sure is not known: the decoder has learned to do without, and a wrong beat would teach it to disobey.
Instruments and style are never known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.training.own.beats import BEATS_PER_BAR, Beats, track_beats
from attacca.training.own.chords import HOP_SAMPLES as CHROMA_HOP_SAMPLES
from attacca.training.own.chords import chroma_of, label_chords
from attacca.training.own.sound import ANALYSIS_RATE, Pcm, analysis_mono

SURE_BEAT = 0.35  # least confidence of beats, bars and chords that are commanded
SURE_BAR = 0.55
SURE_CHORD = 0.65
_SEGMENT_S = 0.5  # of chords where there is no beat

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """Labels of one file, and how sure they are."""

    controls: Controls
    seconds: float
    bpm: float  # 0: no beat was found
    beat_confidence: float
    bar_confidence: float
    chord_confidence: float

    @property
    def beat_known(self) -> float:
        """Share of frames that have a beat."""
        return float(self.controls.beat_known.mean())

    @property
    def chord_known(self) -> float:
        """Share of frames that have a chord."""
        return float(self.controls.chord_known.mean())


def estimate(pcm: Pcm, *, sample_rate: int, hop_samples: int) -> Estimate:
    """Labels per codec frame of samples [n] or [n, 2]; frame t is read at its first sample."""
    mono = analysis_mono(pcm, sample_rate)
    frames_s = np.arange(len(pcm) // hop_samples) * (hop_samples / sample_rate)
    chroma = chroma_of(mono)
    beats = track_beats(mono, chroma, CHROMA_HOP_SAMPLES)
    sure = beats is not None and beats.bar_confidence >= SURE_BAR
    known = np.zeros(len(frames_s), np.bool_)
    if beats is not None and sure:
        known = beats.sureness(frames_s) >= SURE_BEAT
    edges_s = _segments(beats, len(mono) / ANALYSIS_RATE)
    notes, fit = label_chords(chroma, edges_s)
    place = np.clip(np.searchsorted(edges_s, frames_s, side="right") - 1, 0, len(notes) - 1)
    return Estimate(
        controls=_controls(frames_s, beats, known, notes[place], fit[place] >= SURE_CHORD),
        seconds=len(pcm) / sample_rate,
        bpm=0.0 if beats is None else beats.bpm,
        beat_confidence=0.0 if beats is None else float(beats.confidence.mean()),
        bar_confidence=0.0 if beats is None else beats.bar_confidence,
        chord_confidence=float(fit.mean()),
    )


def _segments(beats: Beats | None, seconds: float) -> Array:
    """Edges of what has one chord, in seconds: beats that are sure, else half seconds."""
    if beats is None or beats.confidence.mean() < SURE_BEAT:
        return np.arange(0.0, seconds + _SEGMENT_S, _SEGMENT_S)
    inner = beats.times_s[(beats.times_s > 0.05) & (beats.times_s < seconds - 0.05)]
    return np.concatenate([[0.0], inner, [seconds]])


def _controls(
    frames_s: Array,
    beats: Beats | None,
    beat_known: npt.NDArray[np.bool_],
    notes: npt.NDArray[np.bool_],
    chord_known: npt.NDArray[np.bool_],
) -> Controls:
    count = len(frames_s)
    ppq, bpm = frames_s * 2.0, np.full(count, 120.0)
    if beats is not None:
        ppq = beats.ppq(frames_s)
        step_s = frames_s[1] - frames_s[0]
        bpm = np.clip(np.gradient(ppq, step_s) * 60.0, 20.0, 400.0)
    never = np.zeros(count, np.bool_)
    return Controls(
        ppq=ppq,
        bar_start_ppq=np.floor(ppq / BEATS_PER_BAR) * BEATS_PER_BAR,
        bpm=bpm,
        meter_num=np.full(count, BEATS_PER_BAR, np.int16),
        meter_den=np.full(count, 4, np.int16),
        pitch_classes=notes & chord_known[:, None],
        instruments=np.zeros((count, len(INSTRUMENTS)), np.bool_),
        style=np.zeros(count, np.int16),
        beat_known=beat_known,
        chord_known=chord_known,
        instruments_known=never,
        style_known=never,
    )
