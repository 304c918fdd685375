"""Chroma of a recording: which pitch class is strongest, about eight times a second, as melody models read it.

Beside the path: what a melody model is told (engine/melody.py) is made of this. The bank of filters is that of
Ellis 2007 ("Chroma feature analysis and synthesis"): a Gaussian per pitch class and octave, middle ones weigh most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
SAMPLE_RATE = 32000
WINDOW_SAMPLES, HOP_SAMPLES = 16384, 4096
PITCH_CLASSES = 12
_LOWEST_A_HZ = 440.0 / 16
_OCTAVE, _OCTAVES_WIDE = 5.0, 2.0  # where the bank looks, in octaves above the lowest A


def chroma_of(pcm: Floats) -> Floats:
    """Mono samples [n] at SAMPLE_RATE -> [1 + n // HOP_SAMPLES, 12], a single 1 in each row; C is first.

    Centred frames; a recording shorter than a window is padded to one. ValueError on another shape.
    """
    if pcm.ndim != 1 or len(pcm) == 0:
        raise ValueError(f"pcm has shape {pcm.shape}, allowed: [n], n above 0")
    missing = max(0, WINDOW_SAMPLES - len(pcm))
    padded = np.pad(np.pad(pcm, (missing // 2, missing - missing // 2)), WINDOW_SAMPLES // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    filters = chroma_filters()
    count = 1 + (len(padded) - WINDOW_SAMPLES) // HOP_SAMPLES
    strongest = np.empty(count, np.int64)
    for i in range(count):
        part = padded[i * HOP_SAMPLES : i * HOP_SAMPLES + WINDOW_SAMPLES]
        strongest[i] = np.argmax(filters @ np.abs(np.fft.rfft(part * window)) ** 2)
    return one_hot(strongest)


def one_hot(pitch_classes: npt.NDArray[np.int64]) -> Floats:
    """Pitch classes [n], C = 0, as rows of chroma [n, 12]: a melody written down. ValueError outside 0..11."""
    if len(pitch_classes) and not 0 <= int(pitch_classes.min()) <= int(pitch_classes.max()) < PITCH_CLASSES:
        raise ValueError(f"pitch classes lie in {pitch_classes.min()}..{pitch_classes.max()}, allowed: 0..11")
    return np.eye(PITCH_CLASSES, dtype=np.float32)[pitch_classes]


def chord_rows(pitch_classes: Iterable[int], rows: int) -> Floats:
    """A held chord as chroma [rows, 12]: its pitch classes in turn, lowest first, for models read one a row.

    ValueError outside 0..11 or if there is none.
    """
    held = sorted(set(pitch_classes))
    if not held:
        raise ValueError("a chord of no notes has no rows")
    return one_hot(np.resize(np.array(held, np.int64), rows))


def phrase_rows(starts_s: Sequence[float], pitch_classes: Sequence[int | None], end_s: float) -> Floats:
    """A melody over time as chroma [n, 12], a row every HOP_SAMPLES, from its first note to `end_s`.

    Note i, or None for silence, sounds from `starts_s[i]` (ascending) until the next one does; silence is the note
    before it, as rows of silence would say nothing. [0, 12] if there is no note.
    """
    first = next((i for i, note in enumerate(pitch_classes) if note is not None), None)
    if first is None or end_s <= starts_s[first]:
        return one_hot(np.zeros(0, np.int64))
    begin, notes = starts_s[first], [0]
    for note in pitch_classes:
        notes.append(notes[-1] if note is None else note)
    count = math.ceil((end_s - begin) * SAMPLE_RATE / HOP_SAMPLES)
    times = begin + np.arange(count) * (HOP_SAMPLES / SAMPLE_RATE)
    return one_hot(np.array(notes, np.int64)[np.searchsorted(np.array(starts_s), times, side="right")])


def chroma_filters() -> npt.NDArray[np.float64]:
    """The bank [12, WINDOW_SAMPLES // 2 + 1], C first."""
    frequencies = np.arange(1, WINDOW_SAMPLES) * (SAMPLE_RATE / WINDOW_SAMPLES)
    pitch = PITCH_CLASSES * np.log2(frequencies / _LOWEST_A_HZ)
    pitch = np.concatenate([[pitch[0] - 1.5 * PITCH_CLASSES], pitch])  # 0 Hz stands far below the first bin
    width = np.append(np.maximum(np.diff(pitch), 1.0), 1.0)
    half = PITCH_CLASSES // 2
    away = np.remainder(pitch - np.arange(PITCH_CLASSES)[:, None] + half, PITCH_CLASSES) - half
    bank = np.exp(-0.5 * (2.0 * away / width) ** 2)
    bank /= np.sqrt(np.sum(bank**2, axis=0, keepdims=True))
    bank *= np.exp(-0.5 * ((pitch / PITCH_CLASSES - _OCTAVE) / _OCTAVES_WIDE) ** 2)
    found: npt.NDArray[np.float64] = np.roll(bank, -3, axis=0)[
        :, : WINDOW_SAMPLES // 2 + 1
    ]  # from A first to C first
    return found


def fitted(chroma: Floats, rows: int) -> Floats:
    """Repeated or cut to so many rows, as the models were trained. ValueError if there are none to repeat."""
    if len(chroma) == 0:
        raise ValueError("the melody has no rows")
    return np.tile(chroma, (-(-rows // len(chroma)), 1))[:rows]
