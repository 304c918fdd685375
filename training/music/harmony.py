"""Harmony of composer v1: Roman numerals to pitch classes, scales over chords, and voicings that move least."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic": (0, 2, 3, 5, 7, 8, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
_DEGREES = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
# Intervals above the root; a suffix means one thing after a capital numeral and another after a small one.
_MAJOR = {
    "": (0, 4, 7),
    "5": (0, 7),
    "6": (0, 4, 7, 9),
    "7": (0, 4, 7, 10),
    "9": (0, 4, 7, 10, 2),
    "maj7": (0, 4, 7, 11),
    "add9": (0, 4, 7, 2),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "7sus4": (0, 5, 7, 10),
}
_MINOR = {
    "": (0, 3, 7),
    "5": (0, 7),
    "6": (0, 3, 7, 9),
    "7": (0, 3, 7, 10),
    "9": (0, 3, 7, 10, 2),
    "add9": (0, 3, 7, 2),
    "b5": (0, 3, 6),
    "7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
}
_NUMERAL = re.compile(r"^([b#]?)(VII|VI|IV|V|III|II|I|vii|vi|iv|v|iii|ii|i)(.*)$")


@dataclass(frozen=True, kw_only=True)
class Chord:
    """A numeral in no key yet: root above the tonic, intervals above the root (0 first)."""

    symbol: str
    root: int
    intervals: tuple[int, ...]

    def tones(self, tonic: int) -> tuple[int, ...]:
        """Pitch classes in the key of `tonic`, root first."""
        return tuple((tonic + self.root + i) % 12 for i in self.intervals)


@cache
def chord(symbol: str) -> Chord:
    """A numeral over the major scale's degrees, whatever the mode: bVII, ii7, V7, iv6. Raises ValueError."""
    found = _NUMERAL.match(symbol)
    if found is None:
        raise ValueError(f"{symbol!r} is no Roman numeral")
    accidental, numeral, suffix = found.groups()
    table = _MAJOR if numeral.isupper() else _MINOR
    if suffix not in table:
        raise ValueError(f"{symbol!r} ends in {suffix!r}, allowed {sorted(table)}")
    root = _DEGREES[numeral.upper()] + {"b": -1, "#": 1, "": 0}[accidental]
    return Chord(symbol=symbol, root=root % 12, intervals=table[suffix])


def progression(text: str) -> tuple[tuple[Chord, ...], ...]:
    """Bars apart by spaces, chords within a bar by commas: "ii7 V7 Imaj7 vi7,V7"."""
    return tuple(tuple(chord(symbol) for symbol in bar.split(",")) for bar in text.split())


# Interval above a chord's root -> the other interval that a scale cannot hold beside it (other third, seventh...)
_RIVAL = {0: 1, 2: 1, 3: 4, 4: 3, 5: 6, 6: 7, 7: 6, 8: 7, 9: 10, 10: 11, 11: 10}


def scale_over(tonic: int, mode: str, tones: tuple[int, ...]) -> tuple[int, ...]:
    """The mode's pitch classes, bent to the tones of a chord (root first): V7 in minor raises the seventh."""
    scale = {(tonic + s) % 12 for s in MODES[mode]}
    for tone in tones:
        if tone not in scale:
            scale -= {(tones[0] + _RIVAL[(tone - tones[0]) % 12]) % 12} - set(tones)
            scale.add(tone)
    return tuple(sorted(scale))


def pentatonic(tonic: int, mode: str, *, blues: bool = False) -> tuple[int, ...]:
    """Minor pentatonic in minor-like modes and in blues (with the flat fifth there), else major pentatonic."""
    minor = blues or 3 in MODES[mode]
    steps = (0, 3, 5, 7, 10) if minor else (0, 2, 4, 7, 9)
    return tuple(sorted((tonic + s) % 12 for s in (*steps, *((6,) if blues else ()))))


@cache
def candidates(
    tones: tuple[int, ...], voices: int, low: int, high: int, spread: int
) -> tuple[tuple[int, ...], ...]:
    """Every voicing in low..high that holds each tone, of at least `voices` pitches, no wider than `spread`.

    One voice more than there are tones doubles any of them; more are not doubled. All pitches differ.
    """
    wanted = [tones] if voices <= len(tones) else [(*tones, tone) for tone in tones]
    found: set[tuple[int, ...]] = set()
    for each in wanted:
        places = [[p for p in range(low, high + 1) if p % 12 == tone] for tone in each]
        found |= {tuple(sorted(choice)) for choice in product(*places) if len(set(choice)) == len(choice)}
    return tuple(sorted(c for c in found if c[-1] - c[0] <= spread))


def movement(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Semitones that all voices move in total, sorted voices paired; voices that come or go count nothing."""
    if len(before) > len(after):
        return movement(after, before)
    return min(
        sum(abs(a - b) for a, b in zip(before, after[i:], strict=False))
        for i in range(len(after) - len(before) + 1)
    )


def _parallels(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Outer voices that keep an octave or a fifth while both move."""
    if len(before) != len(after) or before[0] == after[0]:
        return 0
    gap = (before[-1] - before[0]) % 12
    return int(gap in (0, 7) and gap == (after[-1] - after[0]) % 12)


def voice(
    tones: tuple[int, ...], previous: tuple[int, ...] | None, *, centre: int, voices: int = 3, spread: int = 14
) -> tuple[int, ...]:
    """MIDI pitches, low to high: of all candidates within 12 semitones of `centre` the cheapest.

    Cost: semitones moved, then a pull to the centre, then small fines for rubbing neighbours and outer parallels.
    """

    def cost(option: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        fine = 0.3 * abs(sum(option) / len(option) - centre)
        fine += sum(0.6 for a, b in pairwise(option) if b - a == 1)
        if previous is not None:
            fine += movement(previous, option) + _parallels(previous, option)
        return fine, option

    options = candidates(tones, voices, centre - 12, centre + 12, spread)
    if not options:
        raise ValueError(f"no voicing of {tones} in {voices} voices within {spread} semitones around {centre}")
    return min(options, key=cost)
