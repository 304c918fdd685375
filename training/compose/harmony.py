"""Harmony for the composer: keys, phrases of diatonic chords, and voicings that move as little as they can."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from attacca.training.compose.styles import Style

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)


@dataclass(frozen=True, kw_only=True)
class Key:
    """Tonic pitch class and mode; `size` is how many thirds a chord stacks (3 triads, 4 sevenths)."""

    tonic: int
    minor: bool
    size: int

    @property
    def scale(self) -> tuple[int, ...]:
        """The seven pitch classes from the tonic up."""
        return tuple((self.tonic + s) % 12 for s in (_MINOR if self.minor else _MAJOR))

    def chord(self, degree: int) -> tuple[int, ...]:
        """Pitch classes of the diatonic chord on a degree (0-based), root first. Minor's dominant is major.

        Diminished triads (vii in major, ii in minor) give way to the chord a third below, which holds them.
        """
        degree %= 7
        if degree == (1 if self.minor else 6):
            degree = (degree - 2) % 7
        scale = self.scale
        tones = [scale[(degree + 2 * i) % 7] for i in range(self.size)]
        if self.minor and degree == 4:
            tones[1] = (tones[1] + 1) % 12
        return tuple(tones)


def choose_key(rng: np.random.Generator, style: Style) -> Key:
    """A key at random, mode and chord size as the style likes them."""
    return Key(
        tonic=int(rng.integers(12)),
        minor=bool(rng.random() < style.minor),
        size=4 if rng.random() < style.seventh else 3,
    )


def phrase(rng: np.random.Generator, style: Style, bars: int) -> list[tuple[int, ...]]:
    """Degrees for each of `bars` bars, one or two per bar; the second half of eight bars ends differently."""
    base = style.progressions[int(rng.integers(len(style.progressions)))]
    out: list[tuple[int, ...]] = []
    for bar in range(bars):
        degree = base[bar % 4]
        last = bar % 4 == 3
        if bar >= 4 and last:
            degree = 4 if degree != 4 else 0
        if (last and rng.random() < 0.35) or rng.random() < 0.06:
            out.append((degree, int(rng.choice([3, 4, 5]))))
        else:
            out.append((degree,))
    return out


def voice(tones: tuple[int, ...], previous: tuple[int, ...] | None, centre: int) -> tuple[int, ...]:
    """MIDI pitches of a close voicing: every tone once, least movement from `previous`, near `centre`."""
    best: tuple[float, tuple[int, ...]] | None = None
    octaves = range((centre - 12) // 12, (centre + 12) // 12 + 1)
    for placed in product(*[[12 * o + t for o in octaves if abs(12 * o + t - centre) <= 10] for t in tones]):
        pitches = tuple(sorted(placed))
        spread = pitches[-1] - pitches[0]
        if spread > 14:
            continue
        cost = 0.3 * abs(float(np.mean(pitches)) - centre) + 0.2 * max(0, spread - 12)
        if previous is not None:
            width = min(len(previous), len(pitches))
            cost += sum(abs(a - b) for a, b in zip(pitches[:width], previous[:width], strict=True))
        if best is None or (cost, pitches) < best:
            best = (cost, pitches)
    if best is None:
        raise ValueError(f"no voicing of {tones} lies within 10 semitones of {centre}")
    return best[1]
