"""Fréchet distance between sets of sounds: how far apart two Gaussians fitted to embeddings of them are.

Heusel et al. 2017 (eq. 6) for images, Kilgour et al. 2019 ("Fréchet Audio Distance") for music. Two embeddings are
used here: one that benchmarks/embedding.py trains, and plain statistics of the log-mel spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.spectra import SAMPLE_RATE, Array, Audio, levelled, log_mel

WINDOW_S, STEP_S = 2.0, 0.5
_MEL_HOP = 256
_MEL_BANDS_KEPT = 20
_DEFAULT_DRAWS = 200


def frechet_distance(one: Array, other: Array) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of two sets of vectors [N, D] and [M, D].

    ValueError with fewer than two vectors, or where the widths differ. Biased upwards for small sets: compare sets
    of one size only.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ValueError(f"frechet_distance needs [N, D] and [M, D] with N, M >= 2, got {one.shape}, {other.shape}")
    difference = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False, ddof=0), np.cov(other, rowvar=False, ddof=0)
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    # The root of the product has the trace of the root of C1^1/2 C2 C1^1/2, which is symmetric.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2.0 * inner)


def mel_windows(audio: Audio) -> Array:
    """[windows, frames, 80] log-mel of overlapping windows of 2 s, every 0.5 s, the sound brought to one level."""
    spectrum = log_mel(levelled(audio))
    length, step = (round(s * SAMPLE_RATE / _MEL_HOP) for s in (WINDOW_S, STEP_S))
    starts = np.arange(0, len(spectrum) - length + 1, step)
    if not len(starts):
        raise ValueError(f"{len(audio) / SAMPLE_RATE:.2f} s of sound, needed: {WINDOW_S} s")
    return spectrum[starts[:, None] + np.arange(length)]


def mel_statistics(windows: Array) -> Array:
    """[windows, 60]: mean, deviation and mean rise over time of the log-mel spectrum in 20 bands."""
    count, frames, bands = windows.shape
    coarse = windows.reshape(count, frames, _MEL_BANDS_KEPT, bands // _MEL_BANDS_KEPT).mean(axis=3)
    rise = np.maximum(np.diff(coarse, axis=1), 0.0).mean(axis=1)
    return np.concatenate([coarse.mean(axis=1), coarse.std(axis=1), rise], axis=1)


def frechet_interval(
    songs: Sequence[Array], reference: Sequence[Array], *, seed: int = 0, draws: int = _DEFAULT_DRAWS
) -> tuple[float, float, float]:
    """Distance of songs' vectors [windows, D] from the reference songs', and its 95 % interval over songs.

    Both lists hold the same songs in the same order; they are resampled together. The interval is the basic
    bootstrap's (twice the distance less its percentiles), for a resampled set is poorer, and so farther away.
    """
    if len(songs) != len(reference) or len(songs) < 2:
        raise ValueError(
            f"frechet_interval needs two lists of the same songs, got {len(songs)} and {len(reference)}"
        )
    found = frechet_distance(np.concatenate(songs), np.concatenate(reference))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(len(songs), size=len(songs))
        drawn.append(
            frechet_distance(
                np.concatenate([songs[i] for i in chosen]), np.concatenate([reference[i] for i in chosen])
            )
        )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return found, max(0.0, 2 * found - float(high)), max(0.0, 2 * found - float(low))
