"""Reads recordings of takes whose samples are their own stream positions (index_engine.py): what is where.

Between the tests over the CLAP host and numpy. Positions are float32, exact below 2**24.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import pairwise

import numpy as np
from clap_host import Played, Script

FADE_S = Fraction(10, 1000)  # the longest that anything may be heard out of its place


class Heard(Enum):
    NOTHING = 0
    PLACED = 1  # samples of a take, each at its stream position
    FADE = 2  # anything else


@dataclass(frozen=True, kw_only=True)
class Span:
    heard: Heard
    start: int
    stop: int


def spans(played: Played, *, start: int = 0, stop: int | None = None, origin: int = 0) -> list[Span]:
    """What is heard in [start, stop), in order; both channels are one. `origin`: where the stream began."""
    stop = len(played.audio) if stop is None else stop
    left = played.audio[start:stop, 0]
    assert all(np.array_equal(left, channel) for channel in played.audio[start:stop].T), "channels differ"
    kinds = np.full(len(left), Heard.FADE.value)
    kinds[left == np.arange(start - origin, stop - origin)] = Heard.PLACED.value
    kinds[left == 0] = Heard.NOTHING.value
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(left)]
    return [Span(heard=Heard(kinds[low]), start=start + low, stop=start + high) for low, high in pairwise(edges)]


def check_places(
    played: Played, rate: int, *, start: int = 0, stop: int | None = None, origin: int = 0
) -> list[int]:
    """Every sample is at its stream position, silent, or of a fade of 10 ms at most, and nothing was missing.

    Returns where samples in their place begin after silence.
    """
    found = spans(played, start=start, stop=stop, origin=origin)
    for span in found:
        assert span.heard is not Heard.FADE or span.stop - span.start <= FADE_S * rate, f"out of place: {span}"
    quiet = {key: played.report[key] for key in ("not_finite", "spills", "errors", "wait_timeouts")}
    assert quiet == dict.fromkeys(quiet, 0)
    assert played.value("underruns") == 0
    begins = zip([Heard.NOTHING, *(span.heard for span in found)], found, strict=False)
    return [span.start for before, span in begins if before is Heard.NOTHING and span.heard is Heard.PLACED]


def fades(played: Played) -> list[tuple[int, int]]:
    """(first, past the last) of whatever is neither silent nor in its place."""
    return [(span.start, span.stop) for span in spans(played) if span.heard is Heard.FADE]


def offline(script: Script) -> Script:
    """The take alone in an offline render, once the engine is there."""
    script.set("render", "offline").at(0, "flush", "mix", 1)
    return script.at(0, "wait", "connection", 1, 10)
