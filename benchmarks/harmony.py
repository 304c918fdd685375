"""Does the music play the commanded chords? Chroma of each chord's span against templates of all triads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from attacca.engine.conditioning import INSTRUMENTS, Controls
from benchmarks.spectra import SAMPLE_RATE, Array, Audio, levelled, magnitudes

Span = tuple[int, int, npt.NDArray[np.bool_]]  # first frame, frame after the last, pitch classes [12]
_WINDOW_SAMPLES = 8192
_HOP_SAMPLES = 640
_LOW_HZ, _HIGH_HZ = 110.0, 1000.0  # below, semitones are narrower than the window tells; above, overtones rule
_SHORTEST_FRAMES = 20


def _triads() -> npt.NDArray[np.bool_]:
    rows = np.zeros((24, 12), dtype=np.bool_)
    for root in range(12):
        rows[root, [root, (root + 4) % 12, (root + 7) % 12]] = True
        rows[12 + root, [root, (root + 3) % 12, (root + 7) % 12]] = True
    return rows


TRIADS = _triads()


def chroma(audio: Audio) -> Array:
    """[len / 640, 12] energy by pitch class (C = 0, A = 440 Hz) of what stands above its spectral surroundings."""
    hz = np.fft.rfftfreq(_WINDOW_SAMPLES, 1.0 / SAMPLE_RATE)
    kept = (hz > _LOW_HZ) & (hz < _HIGH_HZ)
    spectra = magnitudes(levelled(audio), _WINDOW_SAMPLES, _HOP_SAMPLES)[:, kept]
    # Drums are broad, tones are narrow: what is left after a median over frequency is tones.
    tones = np.log1p(100.0 * np.maximum(0.0, spectra - median_filter(spectra, (1, 31))))
    pitch = 69.0 + 12.0 * np.log2(hz[kept] / 440.0)
    away = (pitch[:, None] - np.arange(12) + 6.0) % 12.0 - 6.0
    return np.asarray(tones @ np.exp(-0.5 * (away / 0.3) ** 2))


def chord_spans(controls: Controls, *, player: int | None = None) -> list[Span]:
    """Stretches of one commanded chord with a pitched instrument playing, or `player`, 0.4 s or longer."""
    known = controls.chord_known if player is None else controls.chord_known & controls.instruments[:, player]
    changes = np.flatnonzero((controls.pitch_classes[1:] != controls.pitch_classes[:-1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(controls)]
    return [
        (first, stop, controls.pitch_classes[first])
        for first, stop in pairwise(edges)
        if stop - first >= _SHORTEST_FRAMES and known[first:stop].mean() > 0.5
    ]


def best_chord(profile: Array, commanded: npt.NDArray[np.bool_]) -> bool:
    """Whether, of all 24 triads and the commanded set, one made of commanded notes fits the profile [12] best.

    A triad within a commanded seventh counts (Am7 holds C major). A flat or silent profile never matches.
    """
    if np.ptp(profile) < 1e-9:
        return False
    templates = np.concatenate([TRIADS, commanded[None]]).astype(np.float64)
    fit = templates @ profile / np.linalg.norm(templates, axis=1)
    inside = ~(templates.astype(np.bool_) & ~commanded).any(axis=1)
    return bool(inside[int(np.argmax(fit))])


def chord_scores(audio: Audio, controls: Controls) -> tuple[float, float] | None:
    """Share of chord time whose best template is the commanded chord, and the mean of that share with the commands
    transposed by 1..11 semitones (chance). `audio` starts at frame 0; None where no chord is commanded."""
    return chord_scores_by_part(audio, controls).get("chord_match")


def chord_scores_by_part(audio: Audio, controls: Controls) -> dict[str, tuple[float, float]]:
    """The same over all chords (`chord_match`) and over those with the chord player (`chord_match_chords`)."""
    parts = {
        "chord_match": chord_spans(controls),
        "chord_match_chords": chord_spans(controls, player=INSTRUMENTS.index("chords")),
    }
    if not parts["chord_match"]:
        return {}
    profiles = chroma(audio)
    return {name: _shares(profiles, spans) for name, spans in parts.items() if spans}


def _shares(profiles: Array, spans: list[Span]) -> tuple[float, float]:
    by_turn = np.zeros(12)
    for first, stop, notes in spans:
        profile = profiles[first:stop].mean(axis=0) if len(profiles) > first else np.zeros(12)
        by_turn += [(stop - first) * best_chord(profile, np.roll(notes, turn)) for turn in range(12)]
    by_turn /= sum(stop - first for first, stop, _ in spans)
    return float(by_turn[0]), float(by_turn[1:].mean())
