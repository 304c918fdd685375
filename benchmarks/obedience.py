"""Does the music obey over time? Drift over 64 bars, a tempo step in mid-take, players switched off and on.

Beside benchmarks/scores.py, which judges a few bars under a song's own commands: here commands go on past the
song's labels, and change. A change comes as a surprise, as on stage: what was planned under the old command is
rolled back. The real song that does what was commanded is composed too, and bounds each measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacca.engine.bundle import Model
from attacca.engine.conditioning import INSTRUMENTS, Controls
from attacca.engine.generator import Codes, Sampling
from attacca.training.music.composer import compose
from attacca.training.music.mixing import render
from attacca.training.music.song import Song
from attacca.training.music.songs import HELDOUT_STYLE_SEED
from attacca.training.music.tempo import BPM_RANGE, build, steady
from benchmarks import onsets
from benchmarks.ears import Ears
from benchmarks.frechet import WINDOW_S
from benchmarks.model import Rows, decode_codes
from benchmarks.songs import FRAME_S, Case
from benchmarks.spectra import SAMPLE_RATE, Array, Audio, analysed, converted

DRIFT_BARS = 64
STEP_FROM_BPM, STEP_TO_BPM = 100.0, 130.0
_STEP_BARS_BEFORE, _STEP_BARS_AFTER = 4, 8
_EDGE_BARS = 8  # of a long take, at either end, whose beats are compared
_NEAR_S = 0.07
_LOOKAHEAD_FRAMES = 24  # planned under the old command when a change comes
_PIECE_FRAMES = 16
_HEARD_S = 6.0  # of a switched player, after a bar's grace
_PPQ_ROUNDING = 1e-6  # of sums of frames
_SONG_RATE = 48000


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
    ppq = controls.ppq[join] + np.concatenate([[0.0], np.cumsum(bpm[:-1])]) * FRAME_S / 60.0
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


def continue_under(
    model: Model,
    context: Codes,
    plans: Sequence[tuple[int, Controls]],
    sampling: Sampling,
    *,
    known: bool = True,
) -> Audio:
    """What is judged, mono at SAMPLE_RATE, from the join (the end of the context's codes) to the last plan's end.

    `plans`: from which frame on which controls are commanded, the first from the join on; each next one comes as a
    surprise, `_LOOKAHEAD_FRAMES` already planned under the one before.
    """
    generator = model.generator()
    join, stop = len(context), len(plans[-1][1])
    generator.listen(context, Rows(plans[0][1], model.conditioning, known=known).rows(0, join))
    pieces = []
    for index, (first, controls) in enumerate(plans):
        rows = Rows(controls, model.conditioning, known=known)
        if index:
            generator.rollback(first)
        last = plans[index + 1][0] if index + 1 < len(plans) else stop
        for start in range(first, last, _PIECE_FRAMES):  # a generator keeps its last window only
            end = min(start + _PIECE_FRAMES, last)
            generator.plan(end, rows, sampling)
            pieces.append(generator.read(start, end))
        if last < stop:
            generator.plan(last + _LOOKAHEAD_FRAMES, rows, sampling)
    audio = decode_codes(model.codec, np.concatenate([context, *pieces]))
    return analysed(audio, model.codec.sample_rate)[round(join * FRAME_S * SAMPLE_RATE) :]


def drift_ms(audio: Audio, controls: Controls) -> float | None:
    """How much later, in ms, beats lie against the commanded grid in the last 8 bars than in the first 8.

    Means of what lies within 70 ms, as the picker's hop of 5 ms is coarser than what is sought; None where either
    end has fewer than four such beats. `controls` start where the audio does.
    """
    beats = onsets.beat_times(controls)
    beat_s = float(np.median(np.diff(beats)))
    picked = onsets.pick_beats(audio, beat_s)
    bar_s = 60.0 / float(controls.bpm[0]) * 4.0 * float(controls.meter_num[0]) / float(controls.meter_den[0])
    edge_s, end_s = _EDGE_BARS * bar_s, len(controls) * FRAME_S

    def offset(low_s: float, high_s: float) -> float | None:
        wanted = beats[(beats >= low_s) & (beats < high_s)]
        nearest = picked[np.abs(picked[None] - wanted[:, None]).argmin(axis=1)] if len(picked) else wanted + 1.0
        off = (nearest - wanted)[np.abs(nearest - wanted) <= _NEAR_S]
        return float(np.mean(off)) if len(off) >= 4 else None

    first, last = offset(0.5 * beat_s, edge_s), offset(end_s - edge_s, end_s)
    return None if first is None or last is None else 1000.0 * (last - first)


def bar_seconds(controls: Controls, frame: int) -> float:
    """A bar at the tempo and in the meter of a frame."""
    quarters = 4.0 * float(controls.meter_num[frame]) / float(controls.meter_den[frame])
    return quarters * 60.0 / float(controls.bpm[frame])


def level_db(audio: Audio) -> float:
    """Root mean square in dB of full scale."""
    return float(10.0 * np.log10(max(float(np.mean(np.square(audio, dtype=np.float64))), 1e-12)))


def long_scores(audio: Audio, before: Audio, controls: Controls) -> dict[str, float]:
    """Of a long take under `controls`, both from the join on: drift, and how much louder it ends than `before`."""
    edge = round(_EDGE_BARS * bar_seconds(controls, 0) * SAMPLE_RATE)
    scores = {"level_rise_db_64_bars": level_db(audio[-edge:]) - level_db(before)}
    drift = drift_ms(audio, controls)
    return scores if drift is None else scores | {"drift_ms_64_bars": abs(drift)}


def score_long(
    model: Model, case: Case, context: Codes, sampling: Sampling, *, bars: int = DRIFT_BARS, known: bool = True
) -> dict[str, float]:
    """Drift and level of `bars` bars continued from a song at the tempo of the join, without a leveller."""
    controls = go_on(case.controls, case.join, round(bars * bar_seconds(case.controls, case.join) / FRAME_S))
    audio = continue_under(model, context, [(case.join, controls)], sampling, known=known)
    return long_scores(audio, case.heard[: case.join_heard], controls.slice(case.join, len(controls)))


def real_long(case: Case, bars: int = DRIFT_BARS) -> dict[str, float]:
    """The same of a real song with the players, tempo and meter of the join; its level against its beginning's."""
    controls, join = case.controls, case.join
    meter = (int(controls.meter_num[join]), int(controls.meter_den[join]))
    song = compose(
        case.seed,
        bpm=float(np.clip(controls.bpm[join], *BPM_RANGE)),
        meter=meter,
        players=tuple(name for i, name in enumerate(INSTRUMENTS) if controls.instruments[join, i]) or None,
        min_seconds=bars * bar_seconds(controls, join) + 1.0,
        heldout_styles=case.seed >= HELDOUT_STYLE_SEED,
    )
    stereo, labels = _performed(song, round(bars * bar_seconds(controls, join) / FRAME_S))
    audio = analysed(stereo, _SONG_RATE)
    return long_scores(audio, audio[: round(case.join * FRAME_S * SAMPLE_RATE)], labels)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A song in 4/4 at STEP_FROM_BPM that goes on at STEP_TO_BPM from a bar line on, and its labels without."""

    case: Case  # the song that makes the step; ends _STEP_BARS_AFTER bars after it
    steady: Controls  # as commanded until then
    step: int  # first frame at the new tempo

    @property
    def drums(self) -> bool:
        """Whether they are commanded throughout what is judged."""
        return bool(self.case.controls.instruments[self.step : self.case.stop, 0].all())


def step_song(seed: int, *, rate: int, channels: int) -> Step:
    """The song of a seed in its own style, the step _STEP_BARS_BEFORE bars after the join."""
    song = compose(
        seed, bpm=STEP_FROM_BPM, meter=(4, 4), min_seconds=40.0, heldout_styles=seed >= HELDOUT_STYLE_SEED
    )
    context_bars = 3  # 7.2 s
    step_bar = context_bars + _STEP_BARS_BEFORE
    bent = replace(song, tempo=build(STEP_FROM_BPM, [(step_bar * song.bar_ticks, 0, STEP_TO_BPM)]))
    join, step, stop = (
        int(np.ceil(bent.seconds(bar * song.bar_ticks) / FRAME_S - _PPQ_ROUNDING))
        for bar in (context_bars, step_bar, step_bar + _STEP_BARS_AFTER)
    )
    audio, controls = _performed(bent, stop)
    case = Case(
        seed=seed,
        about=song.style_name,
        audio=converted(audio, _SONG_RATE, rate, channels),
        rate=rate,
        controls=controls,
        join=join,
        stop=stop,
    )
    unbent = replace(song, tempo=steady(STEP_FROM_BPM)).controls(stop)
    return Step(case=case, steady=unbent, step=step)


def _performed(song: Song, frames: int) -> tuple[Audio, Controls]:
    """A song's sound [samples, 2] at _SONG_RATE and its labels."""
    stereo, _ = render(song, round(frames * FRAME_S * _SONG_RATE), rate=_SONG_RATE)
    return stereo.T.astype(np.float32), song.controls(frames)


def step_grid(made: Step, audio: Audio) -> onsets.Grid:
    """The beats after the step of a sound that begins at the join, mono at SAMPLE_RATE, on the new grid."""
    after = made.case.controls.slice(made.step, made.case.stop)
    return onsets.Grid.of(audio, round((made.step - made.case.join) * FRAME_S * SAMPLE_RATE), after)


def play_step(model: Model, made: Step, context: Codes, sampling: Sampling, *, known: bool = True) -> onsets.Grid:
    """The model's beats after a step that came as a surprise."""
    plans = [(made.case.join, made.steady), (made.step, made.case.controls.slice(0, made.case.stop))]
    return step_grid(made, continue_under(model, context, plans, sampling, known=known))


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


def heard_from(case: Case) -> float:
    """Seconds after the join from which a switched player is judged: a bar, or less in a short continuation."""
    there_s = (case.stop - case.join) * FRAME_S
    return min(bar_seconds(case.controls, case.join), there_s - WINDOW_S - 0.1)


def switch_share(ears: Ears, audio: Audio, player: int, *, on: bool) -> float:
    """Share of the windows of a sound (mono at SAMPLE_RATE) in which a player is heard as commanded."""
    return float(np.mean((ears.players(audio)[:, player] > 0.5) == on))


def play_switch(model: Model, case: Case, context: Codes, sampling: Sampling, player: int, *, on: bool) -> Audio:
    """_HEARD_S of what follows a bar after a player was commanded off or on at the join."""
    first_s = heard_from(case)
    stop = min(case.stop, case.join + round((first_s + _HEARD_S) / FRAME_S))
    commanded = switched(case.controls.slice(0, stop), case.join, player, on=on)
    audio = continue_under(model, context, [(case.join, commanded)], sampling)
    return audio[round(first_s * SAMPLE_RATE) :]


def real_switch(case: Case, player: int, *, on: bool) -> Audio | None:
    """A real song of the same seed whose players are those of the join with one switched, _HEARD_S after a bar.

    None where nobody would play.
    """
    playing = {name for i, name in enumerate(INSTRUMENTS) if case.controls.instruments[case.join, i]}
    players = playing | {INSTRUMENTS[player]} if on else playing - {INSTRUMENTS[player]}
    if not players:
        return None
    apart = case.seed >= HELDOUT_STYLE_SEED
    song = compose(case.seed, players=tuple(sorted(players)), heldout_styles=apart, min_seconds=16.0)
    first_s = min(4.0, song.seconds(song.bar_ticks))
    stereo, _ = render(song, round((first_s + _HEARD_S) * SAMPLE_RATE), rate=SAMPLE_RATE)
    return stereo.mean(axis=0)[round(first_s * SAMPLE_RATE) :].astype(np.float32)


def si_sdr_db(original: Audio, other: Audio) -> float:
    """Scale-invariant signal to distortion ratio (Le Roux et al. 2019, eq. 3) in dB."""
    if len(original) != len(other):
        raise ValueError(f"si_sdr_db needs sounds of one length, got {len(original)} and {len(other)} samples")
    reference: Array = np.asarray(original, np.float64) - np.mean(original)
    estimate: Array = np.asarray(other, np.float64) - np.mean(other)
    scale = float(reference @ estimate) / max(float(reference @ reference), 1e-12)
    signal, rest = scale * reference, estimate - scale * reference
    return float(10.0 * np.log10(max(float(signal @ signal), 1e-12) / max(float(rest @ rest), 1e-12)))
