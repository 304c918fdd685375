"""Beat grid: the timeline for many positions at once, in float64, as conditioning wants it.

Between bridge/transport.py, whose exact arithmetic it follows to 1e-6 quarter notes, and bridge/controls.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .transport import Timeline

Grid = tuple[
    npt.NDArray[np.float64],  # linear ppq
    npt.NDArray[np.float64],  # start of the bar that holds it
    npt.NDArray[np.float64],  # bpm
    npt.NDArray[np.int16],  # meter_num
    npt.NDArray[np.int16],  # meter_den
    npt.NDArray[np.bool_],  # known: the host was playing there
]


def grid(timeline: Timeline, positions: npt.NDArray[np.float64]) -> Grid:
    """The beat at stream positions [n], each by the epoch it fell in (the last one for the future). Never raises.

    float64, within 1e-6 quarter notes of the exact arithmetic; before any transport everything is unknown.
    """
    n = positions.shape[0]
    ppq, bar, bpm = np.zeros(n), np.zeros(n), np.full(n, 120.0)
    num, den = np.full(n, 4, np.int16), np.full(n, 4, np.int16)
    known = np.zeros(n, np.bool_)
    segments = timeline.segments
    if not segments:
        return ppq, bar, bpm, num, den, known
    # Half a sample early, so that a frame rounded to the very start of an epoch is read in it.
    starts = np.array([s.snapshot.position for s in segments], np.float64) - 0.5
    starts = np.maximum.accumulate(starts)
    owner = np.searchsorted(starts, positions, side="right") - 1
    for index in np.unique(owner):
        if index < 0:
            continue
        at = owner == index
        segment = segments[index]
        law = segment.snapshot
        quarters = float(segment.quarters_per_sample) if law.playing else 0.0
        ppq[at] = float(law.ppq) + (positions[at] - float(law.position)) * quarters
        length, origin = float(law.bar_quarters), float(segment.bar.ppq)
        bar[at] = origin + np.floor((ppq[at] - origin) / length + 1e-9) * length
        bpm[at], num[at], den[at], known[at] = float(law.bpm), law.meter_num, law.meter_den, law.playing
    return ppq, bar, bpm, num, den, known
