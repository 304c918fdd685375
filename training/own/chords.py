"""Chords of a recording, with how sure we are: chroma against 24 triads; between a user's audio and its labels.

Chroma of beats (of half seconds where there are none) is correlated with each triad, which leaves aside what is
flat, drums and noise; a Viterbi path that would rather stay than go chooses among them. The triads are those of
the scorecard (benchmarks/harmony.py).
"""

from __future__ import annotations

from itertools import pairwise

import librosa
import numpy as np
import numpy.typing as npt

from attacca.training.own.sound import ANALYSIS_RATE, Pcm

Array = npt.NDArray[np.float64]
HOP_SAMPLES = 1024
_STAY = 0.7  # probability of a chord to last another segment
_SHARPNESS = 8.0  # of the correlation, as log likelihood


def triads() -> npt.NDArray[np.bool_]:
    """[24, 12] pitch classes: major on C .. B, then minor."""
    rows = np.zeros((24, 12), dtype=np.bool_)
    for root in range(12):
        rows[root, [root, (root + 4) % 12, (root + 7) % 12]] = True
        rows[12 + root, [root, (root + 3) % 12, (root + 7) % 12]] = True
    return rows


def chroma_of(mono: Pcm) -> Array:
    """[12, frames of HOP_SAMPLES] energy by pitch class, C = 0, of float32 [n] at ANALYSIS_RATE; tuned to it."""
    found = librosa.feature.chroma_cqt(y=mono, sr=ANALYSIS_RATE, hop_length=HOP_SAMPLES, norm=None)
    return np.log1p(np.maximum(np.asarray(found, dtype=np.float64), 0.0) * 10.0)


def label_chords(chroma: Array, edges_s: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """Pitch classes [S, 12] and confidence 0..1 [S] of the segments between `edges_s` [S + 1], ascending."""
    columns = np.clip(np.rint(edges_s * ANALYSIS_RATE / HOP_SAMPLES).astype(int), 0, chroma.shape[1] - 1)
    profiles = np.stack([chroma[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(columns)])
    templates = triads().astype(np.float64)
    templates -= templates.mean(axis=1, keepdims=True)
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True) * np.linalg.norm(templates, axis=1)
    fit = centred @ templates.T / np.maximum(size, 1e-9)
    likelihood = np.exp(_SHARPNESS * fit.T)
    moves = librosa.sequence.transition_loop(len(templates), _STAY)
    path = librosa.sequence.viterbi(likelihood / likelihood.sum(axis=0), moves)
    chosen = fit[np.arange(len(fit)), path]
    return triads()[path], np.clip(chosen, 0.0, 1.0)
