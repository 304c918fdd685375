"""How much of a phrase comes back: token overlap of a vamp's later passes with the phrase, by amount of variation.

Measured through the engine's own vamp (engine/vamp.py) as a take runs it, on a grid of constant tempo from the
join on. Amount 0 repeats the phrase, amount 1 makes every pass anew; overlap must fall from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from attacca.engine.bundle import Model
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Codes, Sampling
from attacca.engine.timeline import Timeline
from attacca.engine.vamp import Vamp
from benchmarks.model import Rows
from benchmarks.obedience import go_on
from benchmarks.songs import FRAME_S, Case

AMOUNTS = (0.0, 0.5, 1.0)
_PHRASE_S = 4.0  # at most this long, but for one bar
_PASSES = 2  # after the phrase
_STEPS = 64


def phrase_bars(case: Case) -> int:
    """Bars of the phrase: as many as fit, one or two."""
    return max(1, min(2, int(_PHRASE_S / bar_s(case))))


def bar_s(case: Case) -> float:
    """A bar at the join's tempo, in seconds."""
    at = case.join
    quarters = 4.0 * float(case.controls.meter_num[at]) / float(case.controls.meter_den[at])
    return quarters * 60.0 / float(case.controls.bpm[at])


def make_vamp(case: Case, amount: float, hop_samples: int, rate: int) -> Vamp:
    """A vamp whose phrase begins at the bar line of the join."""
    controls, at = case.controls, case.join
    quarters = Fraction(4 * int(controls.meter_num[at]), int(controls.meter_den[at]))
    bar_samples = quarters * 60 / Fraction(float(controls.bpm[at])) * rate
    late_s = (controls.ppq[at] - controls.bar_start_ppq[at]) * 60.0 / controls.bpm[at]
    return Vamp(
        timeline=Timeline(anchor_position=0, host_rate=rate, model_rate=rate, hop_samples=hop_samples),
        bar_position=lambda start, bar: start + bar * bar_samples,
        start_position=round((at * FRAME_S - late_s) * rate),
        bars=phrase_bars(case),
        beats_per_bar=int(controls.meter_num[at]),
        variation=amount,
    )


def overlap(vamp: Vamp, case: Case, codes: Codes) -> float:
    """Share of the later passes' codes that are the phrase's at their place; codes [frames from the join, K]."""
    beats = phrase_bars(case) * int(case.controls.meter_num[case.join])
    same = []
    for beat in range(beats, beats * (1 + _PASSES)):
        first, then = (vamp.beat_frame(b) - case.join for b in (beat % beats, beat))
        lengths = [vamp.beat_frame(b + 1) - vamp.beat_frame(b) for b in (beat % beats, beat)]
        skipped = max(0, -first)  # the phrase may begin half a frame before the join
        count = min(*lengths, len(codes) - then) - skipped
        first, then = first + skipped, then + skipped
        same.append(codes[first : first + count] == codes[then : then + count])
    return float(np.concatenate(same).mean())


def vamp_overlaps(
    model: Model,
    case: Case,
    context: Codes,
    sampling: Sampling,
    *,
    known: bool = True,
    amounts: Sequence[float] = AMOUNTS,
) -> dict[float, float]:
    """Overlap by amount, all from one phrase. The song's seed says which beats are varied."""
    hop, rate = model.codec.hop_samples, model.codec.sample_rate
    frames = round((1 + _PASSES) * phrase_bars(case) * bar_s(case) / FRAME_S)
    rows = Rows(go_on(case.controls, case.join, frames + 2), model.conditioning, known=known)
    drawn = replace(sampling, seed=case.seed)
    generator = model.generator()
    generator.listen(context, rows.rows(0, case.join))
    phrase = make_vamp(case, 0.0, hop, rate)
    beats = phrase_bars(case) * int(case.controls.meter_num[case.join])
    opening = _walk(generator, phrase, phrase.beat_frame(beats), rows, drawn)
    found = {}
    for amount in amounts:
        fork, vamp = generator.fork(), make_vamp(case, amount, hop, rate)
        vamp.restore(phrase.snapshot())
        rest = _walk(fork, vamp, vamp.beat_frame(beats * (1 + _PASSES)), rows, drawn)
        found[amount] = overlap(vamp, case, np.concatenate([opening, rest]))
    return found


def real_overlap(case: Case, codes: Codes) -> float | None:
    """The same of the song itself, codes [frames, K]; None where it is too short or its tempo moves."""
    vamp = make_vamp(case, 0.0, case.hop_samples, case.rate)
    beats = phrase_bars(case) * int(case.controls.meter_num[case.join])
    end = vamp.beat_frame(beats * (1 + _PASSES))
    if end > len(codes) or np.ptp(case.controls.bpm[case.join : end]) > 0.0:
        return None
    return overlap(vamp, case, codes[case.join : end])


def _walk(generator: PatternDecoder, vamp: Vamp, until_frame: int, rows: Rows, sampling: Sampling) -> Codes:
    """Codes from the frontier to where the vamp has gone on to."""
    pieces, begin = [], generator.frontier
    while generator.frontier < until_frame:
        vamp.plan(generator, until_frame, rows, sampling, _STEPS)
        pieces.append(generator.read(begin, generator.frontier))  # a generator keeps its last window only
        begin = generator.frontier
    return np.concatenate(pieces)
