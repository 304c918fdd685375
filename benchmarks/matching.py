"""Does a continuation go on as its context? Style and players by the trained ears, and how loud it is.

Stands beside the scores of obedience, which compare with commands: here the sound after the join is compared with
the sound before it. The real continuation shows how much songs change by themselves, a stranger what chance is.
"""

from __future__ import annotations

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from benchmarks.ears import Ears
from benchmarks.frechet import STEP_S, WINDOW_S
from benchmarks.songs import FRAME_S, Case
from benchmarks.spectra import Audio, rms

_QUIETEST = 1e-5


def match_scores(ears: Ears, case: Case, sound: Audio) -> dict[str, float]:
    """Of `sound` [samples at SAMPLE_RATE], the context and a continuation.

    `continuation_style`: what the mean probabilities of the styles before and after the join have in common, 0..1.
    `continuation_players`: one less the mean difference of the players' mean probabilities, 0..1.
    `continuation_level_db`: difference of the levels, dB. `players_as_commanded`: share of windows and players
    heard (probability above 1/2) as commanded for most of the window.
    """
    before, after = sound[: case.join_heard], sound[case.join_heard :]
    first, then = ears.listen(before), ears.listen(after)
    common = np.minimum(first.styles.mean(axis=0), then.styles.mean(axis=0)).sum()
    apart = np.abs(first.players.mean(axis=0) - then.players.mean(axis=0)).mean()
    levels = [20.0 * np.log10(max(rms(part), _QUIETEST)) for part in (before, after)]
    commanded = commanded_players(case, len(then.players))
    return {
        "continuation_style": float(common),
        "continuation_players": float(1.0 - apart),
        "continuation_level_db": float(abs(levels[1] - levels[0])),
        "players_as_commanded": float(((then.players > 0.5) == commanded).mean()),
    }


def commanded_players(case: Case, windows: int) -> np.ndarray:
    """Bool [windows, players]: who is commanded for most of each window of the ears."""
    starts = (np.arange(windows) * STEP_S / FRAME_S).astype(int)
    span = round(WINDOW_S / FRAME_S)
    parts = [case.commanded.instruments[start : start + span] for start in starts]
    return np.stack([part.mean(axis=0) > 0.5 for part in parts]).reshape(windows, len(INSTRUMENTS))
