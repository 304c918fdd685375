"""A long take as the engine plays it: levelled, and begun anew at a bar where it is lost.

Beside benchmarks/obedience.py, which judges the model alone: what a musician hears has passed through the session.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacca.engine.bundle import Model
from attacca.engine.conditioning import Controls
from attacca.engine.generator import Sampling
from attacca.engine.offline import continue_offline
from benchmarks.obedience import bar_seconds, go_on, long_scores
from benchmarks.songs import FRAME_S, Case
from benchmarks.spectra import analysed


class Commanded:
    """Labels by frame as what a host commands at any stream position. Implements Controller."""

    def __init__(self, controls: Controls, sample_rate: int) -> None:
        self._controls, self._rate = controls, sample_rate

    def controls(self, positions: npt.NDArray[np.float64]) -> Controls:
        """Between frames the beat goes on at their tempo; the last frame's holds on past the end."""
        own = self._controls
        seconds = positions / self._rate
        frame = np.clip(np.floor(seconds / FRAME_S + 1e-6).astype(np.int64), 0, len(own) - 1)
        ppq = own.ppq[frame] + (seconds - frame * FRAME_S) * own.bpm[frame] / 60.0
        bar = 4.0 * own.meter_num[frame] / own.meter_den[frame]
        into = ppq - own.bar_start_ppq[frame]
        others = {name: getattr(own, name)[frame] for name in Controls.__dataclass_fields__}
        return Controls(**others | {"ppq": ppq, "bar_start_ppq": own.bar_start_ppq[frame] + into // bar * bar})


def score_played(model: Model, case: Case, sampling: Sampling, *, bars: int) -> dict[str, float]:
    """`obedience.score_long` of a take that a session plays, each measure with `_played` behind its name."""
    seconds = bars * bar_seconds(case.controls, case.join)
    controls = go_on(case.controls, case.join, round(seconds / FRAME_S))
    after = continue_offline(
        model,
        np.asarray(case.audio[: case.join_sample], np.float32),
        case.rate,
        seconds=seconds,
        controller=Commanded(controls, case.rate),
        sampling=sampling,
    )
    heard = analysed(after.pcm, case.rate)
    scores = long_scores(heard, case.heard[: case.join_heard], controls.slice(case.join, len(controls)))
    return {f"{name}_played": value for name, value in scores.items()}
