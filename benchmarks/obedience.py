"""Does the music obey over time? Drift over 64 bars, a tempo step in mid-take, players switched off and on.

Beside benchmarks/scores.py, which judges a few bars under a song's own commands: here commands go on past the
song's labels, and change. A change comes as a surprise, as on stage: what was planned under the old command is
rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacca.engine.bundle import Model
from attacca.engine.conditioning import INSTRUMENTS, ConditioningLayout, Controls, encode
from attacca.engine.generator import Codes, Conditions, Sampling
from attacca.training.compose import compose
from attacca.training.dataset import HOP_SAMPLES
from attacca.training.render import SAMPLE_RATE, Audio, augment, draw_room, render
from benchmarks import onsets
from benchmarks.ears import Ears
from benchmarks.frechet import WINDOW_S
from benchmarks.model import decode_codes, encode_audio
from benchmarks.songs import Case, cut
from benchmarks.spectra import Array

DRIFT_BARS = 64
STEP_FROM_BPM, STEP_TO_BPM = 100.0, 130.0
_STEP_BARS_BEFORE, _STEP_BARS_AFTER = 4, 8
_EDGE_BARS = 8  # of a long take, at either end, whose beats are compared
_NEAR_S = 0.07
_LOOKAHEAD_FRAMES = 24  # planned under the old command when a change comes
_PIECE_FRAMES = 16
_EAR_SAMPLES = round((WINDOW_S + 0.1) * SAMPLE_RATE)  # the least the ears need
_PPQ_ROUNDING = 1e-6  # of sums of frames
_FRAME_S = HOP_SAMPLES / SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class Change:
    """From frame `frame` on the tempo is `bpm`."""

    frame: int
    bpm: float


def go_on(controls: Controls, join: int, frames: int, *, changes: Sequence[Change] = ()) -> Controls:
    """The controls of [0, join), then `frames` more: the meter held, chords of the song's next whole bars (up to
    eight) in a circle, players and style as at the join, the tempo as `changes` say."""
    bar = 4.0 * float(controls.meter_num[join]) / float(controls.meter_den[join])
    bpm = np.full(frames, float(controls.bpm[join]))
    for change in changes:
        bpm[change.frame - join :] = change.bpm
    ppq = controls.ppq[join] + np.concatenate([[0.0], np.cumsum(bpm[:-1])]) * _FRAME_S / 60.0
    base = np.floor(controls.ppq[join] / bar + 1e-9) * bar
    bars = min(8, int((controls.ppq[-1] - base) / bar))
    if bars < 1:
        raise ValueError(f"the song has no whole bar after frame {join}")
    source = base + (ppq - base + _PPQ_ROUNDING) % (bars * bar)
    at = np.clip(np.searchsorted(controls.ppq, source, side="right") - 1, join, len(controls) - 1)
    held = np.full(frames, join)
    after = Controls(
        ppq=ppq,
        bar_start_ppq=np.floor(ppq / bar + 1e-9) * bar,
        bpm=bpm,
        **{name: getattr(controls, name)[at] for name in ("pitch_classes", "chord_known")},
        **{
            name: getattr(controls, name)[held]
            for name in (
                *("meter_num", "meter_den", "instruments", "style"),
                *("beat_known", "instruments_known", "style_known"),
            )
        },
    )
    before = controls.slice(0, join)
    names = Controls.__dataclass_fields__
    return Controls(**{n: np.concatenate([getattr(before, n), getattr(after, n)]) for n in names})


class Rows:
    """Condition rows of controls; the last row holds on past the end."""

    def __init__(self, controls: Controls, layout: ConditioningLayout) -> None:
        self._rows = encode(controls, layout)

    def rows(self, first_frame: int, count: int) -> Conditions:
        """float32 [count, layout.width]."""
        return self._rows[np.minimum(np.arange(first_frame, first_frame + count), len(self._rows) - 1)]


def continue_under(
    model: Model, context: Codes, plans: Sequence[tuple[int, Controls]], sampling: Sampling
) -> Audio:
    """Samples from the join (the end of the context's codes) to the end of the last plan.

    `plans`: from which frame on which controls are commanded, the first from the join on; each next one comes as a
    surprise, `_LOOKAHEAD_FRAMES` already planned under the one before.
    """
    generator = model.generator()
    join, stop = len(context), len(plans[-1][1])
    generator.listen(context, Rows(plans[0][1], model.conditioning).rows(0, join))
    pieces = []
    for index, (first, controls) in enumerate(plans):
        rows = Rows(controls, model.conditioning)
        if index:
            generator.rollback(first)
        last = plans[index + 1][0] if index + 1 < len(plans) else stop
        for start in range(first, last, _PIECE_FRAMES):  # a generator keeps its last window only
            end = min(start + _PIECE_FRAMES, last)
            generator.plan(end, rows, sampling)
            pieces.append(generator.read(start, end))
        if last < stop:
            generator.plan(last + _LOOKAHEAD_FRAMES, rows, sampling)
    return decode_codes(model.codec, np.concatenate([context, *pieces]))[join * HOP_SAMPLES :]


def drift_ms(audio: Audio, controls: Controls) -> float | None:
    """How much later, in ms, beats lie against the commanded grid in the last 8 bars than in the first 8.

    Medians of what lies within 70 ms; None where either end has fewer than four such beats. `controls` start where
    the audio does.
    """
    beats = onsets.beat_times(controls)
    beat_s = float(np.median(np.diff(beats)))
    picked = onsets.pick_beats(audio, beat_s)
    bar_s = 60.0 / float(controls.bpm[0]) * 4.0 * float(controls.meter_num[0]) / float(controls.meter_den[0])
    edge_s, end_s = _EDGE_BARS * bar_s, len(controls) * _FRAME_S

    def offset(low_s: float, high_s: float) -> float | None:
        wanted = beats[(beats >= low_s) & (beats < high_s)]
        nearest = picked[np.abs(picked[None] - wanted[:, None]).argmin(axis=1)] if len(picked) else wanted + 1.0
        off = (nearest - wanted)[np.abs(nearest - wanted) <= _NEAR_S]
        return float(np.median(off)) if len(off) >= 4 else None

    first, last = offset(0.5 * beat_s, edge_s), offset(end_s - edge_s, end_s)
    return None if first is None or last is None else 1000.0 * (last - first)


def score_drift(model: Model, case: Case, sampling: Sampling, *, bars: int = DRIFT_BARS) -> float | None:
    """Drift of `bars` bars continued from a song."""
    bar_s = (
        60.0 / float(case.controls.bpm[0]) * 4.0 * float(case.controls.meter_num[0] / case.controls.meter_den[0])
    )
    controls = go_on(case.controls, case.join, round(bars * bar_s / _FRAME_S))
    context = encode_audio(model.codec, case.audio)[: case.join]
    audio = continue_under(model, context, [(case.join, controls)], sampling)
    return drift_ms(audio, controls.slice(case.join, len(controls)))


def step_case(seed: int) -> Case:
    """A song of a held-out seed at the step's first tempo, in 4/4."""
    seconds = 24.0
    song = compose(seed, bpm=STEP_FROM_BPM, meter=(4, 4), min_seconds=seconds + 1.0)
    rng = np.random.default_rng([seed, 100])
    frames = round(seconds / _FRAME_S)
    audio = augment(render(song, frames * HOP_SAMPLES, room=draw_room(rng)), rng)
    return cut(audio, song.controls(frames, HOP_SAMPLES, SAMPLE_RATE), seed=seed, about=song.style_name)


def score_step(model: Model, case: Case, sampling: Sampling) -> tuple[float, float]:
    """F1 at 70 ms on the new grid after a tempo step in mid-take, and by chance (see onsets.grid_scores)."""
    bar_s = 60.0 / STEP_FROM_BPM * 4.0
    step = int(np.ceil((case.join * _FRAME_S + _STEP_BARS_BEFORE * bar_s) / _FRAME_S))
    stop = step + round(_STEP_BARS_AFTER * 60.0 / STEP_TO_BPM * 4.0 / _FRAME_S)
    steady = go_on(case.controls, case.join, stop - case.join)
    changed = go_on(case.controls, case.join, stop - case.join, changes=[Change(frame=step, bpm=STEP_TO_BPM)])
    context = encode_audio(model.codec, case.audio)[: case.join]
    audio = continue_under(model, context, [(case.join, steady), (step, changed)], sampling)
    scores, chance = onsets.grid_scores(audio, (step - case.join) * HOP_SAMPLES, changed.slice(step, stop))
    return scores[0.07], chance[0.07]


def switched(controls: Controls, join: int, player: int, *, on: bool) -> Controls:
    """The same controls with a player commanded off or on from the join."""
    instruments = controls.instruments.copy()
    instruments[join:, player] = on
    known = controls.instruments_known.copy()
    known[join:] = True
    return Controls(
        **{n: getattr(controls, n) for n in Controls.__dataclass_fields__ if not n.startswith("instruments")},
        instruments=instruments,
        instruments_known=known,
    )


def switches(case: Case) -> list[tuple[int, bool]]:
    """(player, on) to be commanded for a song: every player off in turn by its seed, and one that rests on."""
    playing = [i for i in range(len(INSTRUMENTS)) if case.controls.instruments[case.join, i]]
    resting = [i for i in range(len(INSTRUMENTS)) if i not in playing]
    chosen = [(playing[case.seed % len(playing)], False)] if len(playing) > 1 else []
    return [*chosen, (resting[case.seed % len(resting)], True)] if resting else chosen


def score_switches(model: Model, case: Case, sampling: Sampling, ears: Ears) -> float | None:
    """Share of windows in which the ears hear a switched player as commanded, from a bar after the join on.

    None where the song has nobody to switch.
    """
    context = encode_audio(model.codec, case.audio)[: case.join]
    bar_s = (
        60.0 / float(case.controls.bpm[0]) * 4.0 * float(case.controls.meter_num[0] / case.controls.meter_den[0])
    )
    shares = []
    for player, on in switches(case):
        commanded = switched(case.controls.slice(0, case.stop), case.join, player, on=on)
        audio = continue_under(model, context, [(case.join, commanded)], sampling)
        heard = audio[min(round(bar_s * SAMPLE_RATE), max(0, len(audio) - _EAR_SAMPLES)) :]
        shares.append(float(np.mean((ears.players(heard)[:, player] > 0.5) == on)))
    return float(np.mean(shares)) if shares else None


def si_sdr_db(original: Audio, other: Audio) -> float:
    """Scale-invariant signal to distortion ratio (Le Roux et al. 2019, eq. 3) in dB."""
    if len(original) != len(other):
        raise ValueError(f"si_sdr_db needs sounds of one length, got {len(original)} and {len(other)} samples")
    reference: Array = np.asarray(original, np.float64) - np.mean(original)
    estimate: Array = np.asarray(other, np.float64) - np.mean(other)
    scale = float(reference @ estimate) / max(float(reference @ reference), 1e-12)
    signal, rest = scale * reference, estimate - scale * reference
    return float(10.0 * np.log10(max(float(signal @ signal), 1e-12) / max(float(rest @ rest), 1e-12)))
