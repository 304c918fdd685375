"""What fine-tuning gained: bits of the held-out songs, and onsets on their beats when the model continues them.

After training/own/finetune.py; goes into RUN/scorecard.json. The picker of onsets knows how long a beat is, not
where it lies, as the scorecard's of the bundled model does (benchmarks/onsets.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt

from attacca.engine.bundle import Model, load_bundle
from attacca.engine.conditioning import ConditioningLayout, Controls, encode
from attacca.engine.generator import Codes, Conditions, Sampling
from attacca.training.own.dataset import load_labels
from attacca.training.own.sound import ANALYSIS_RATE, Pcm, analysis_mono

Array = npt.NDArray[np.float64]
SONGS = 4  # that are continued
PREFIX_S, CONTINUED_S = 4.0, 8.0
TOLERANCE_S = 0.07
_HOP_SAMPLES = 128
_LATENCY_S = 0.015  # of the onset envelope, at this hop
_FAINTEST = 0.03  # of the strongest rise
_SHIFTS = 16  # of the grid, for chance
_READ_FRAMES = 16


class _Commands:
    """A song's labels as a ConditionSource; the last frame's for all time after."""

    def __init__(self, controls: Controls, layout: ConditioningLayout) -> None:
        self._rows = encode(controls, layout)

    def rows(self, first_frame: int, count: int) -> Conditions:
        return self._rows[np.minimum(np.arange(first_frame, first_frame + count), len(self._rows) - 1)]


def bits_table(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Bits per frame and per codebook on held-out crops: before, at the best evaluation since, and at the last."""
    before, since = history[0], history[1:] or history[:1]
    best = min(since, key=lambda line: line["bits_per_frame"])
    lines = {"before": before, "after": best, "last": since[-1]}
    table: dict[str, Any] = {}
    for name, line in lines.items():
        table[name] = {
            key: line[key] for key in ("bits_per_frame", "bits", "bits_unconditioned_per_frame", "updates")
        }
    return table


def onset_table(
    bundles: dict[str, Path], data: Path, *, seed: int, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Onset F1 at 70 ms of continuations by each bundle of up to SONGS held-out songs, on their estimated beats.

    Per bundle, and for the songs themselves as the codec plays them ("song"): "f1" and "chance", the mean over
    shifted grids. Empty where no held-out song has beats for sure over PREFIX_S + CONTINUED_S.
    """
    models = {name: load_bundle(path) for name, path in bundles.items()}
    some = next(iter(models.values()))
    stretches = list(_stretches(data, some.manifest.frames_per_second))[:SONGS]
    if not stretches:
        return {}
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in ("song", *models)}
    for number, (codes, controls) in enumerate(stretches):
        scores["song"].append(_score(some, codes, controls))
        for place, (name, model) in enumerate(models.items()):
            scores[name].append(_score(model, continue_codes(model, codes, controls, seed=seed), controls))
            progress((number + (place + 1) / len(models)) / len(stretches))
    table: dict[str, Any] = {"songs": len(stretches)}
    for name, pairs in scores.items():
        f1, chance = np.mean(pairs, axis=0)
        table[name] = {"f1": round(float(f1), 3), "chance": round(float(chance), 3)}
    return table


def _stretches(data: Path, frames_per_second: float) -> list[tuple[Codes, Controls]]:
    """The first stretch of each held-out song whose beats are known throughout: codes [T, K] and its labels."""
    length = round((PREFIX_S + CONTINUED_S) * frames_per_second)
    found = []
    for path in sorted((data / "tokens" / "heldout").glob("*.npy")):
        codes, controls = np.load(path), load_labels(data / "heldout" / f"{path.stem}.npz")
        known = controls.beat_known[: len(codes)]
        misses = np.concatenate([[0], np.cumsum(~known)])
        starts = np.flatnonzero(misses[length:] == misses[:-length]) if len(known) >= length else np.empty(0, int)
        if len(starts):
            start = int(starts[0])
            found.append((codes[start : start + length], controls.slice(start, start + length)))
    return found


def continue_codes(model: Model, codes: Codes, controls: Controls, *, seed: int) -> Codes:
    """The first PREFIX_S of codes [T, K] and what the model makes of the rest, under the song's labels."""
    prefix = round(PREFIX_S * model.manifest.frames_per_second)
    defaults = model.manifest.sampling
    sampling = Sampling(
        seed=seed, temperature=defaults.temperature, top_k=defaults.top_k, guidance=defaults.guidance
    )
    generator, source = model.generator(), _Commands(controls, model.conditioning)
    generator.force(codes[:prefix], source)
    parts = [codes[:prefix]]
    for start in range(prefix, len(codes), _READ_FRAMES):  # a plan keeps no more than the window
        stop = min(start + _READ_FRAMES, len(codes))
        generator.plan(stop, source, sampling)
        parts.append(generator.read(start, stop))
    return np.concatenate(parts)


def _score(model: Model, codes: Codes, controls: Controls) -> tuple[float, float]:
    """(F1, chance) of the part after the prefix."""
    decoder = model.codec.decoder()
    pcm = decoder.push(codes)[decoder.delay_samples :]
    step_s = 1.0 / model.manifest.frames_per_second
    times_s = np.arange(len(controls)) * step_s
    numbers = np.arange(np.ceil(controls.ppq[0]), np.floor(controls.ppq[-1]) + 1)
    beats_s = np.interp(numbers, controls.ppq, times_s)
    beat_s = float(np.median(np.diff(beats_s)))
    picked = pick_onsets(analysis_mono(pcm, model.codec.sample_rate), beat_s)
    first_s, last_s = PREFIX_S + 0.5 * beat_s, times_s[-1] - 0.5 * beat_s

    def within(times: Array) -> Array:
        return times[(times >= first_s) & (times < last_s)]

    shifts = ((np.arange(_SHIFTS) + 0.5) / _SHIFTS - 0.5) * beat_s
    chance = [f1_score(within(picked), within(beats_s + shift), TOLERANCE_S) for shift in shifts]
    return f1_score(within(picked), within(beats_s), TOLERANCE_S), float(np.mean(chance))


def pick_onsets(mono: Pcm, beat_s: float) -> Array:
    """Times of the places of float32 [n] that rise most within half a beat to either side; none in silence."""
    strength = librosa.onset.onset_strength(y=mono, sr=ANALYSIS_RATE, hop_length=_HOP_SAMPLES)
    reach = max(1, int(0.5 * beat_s * ANALYSIS_RATE / _HOP_SAMPLES))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(strength, reach), 2 * reach + 1).max(axis=1)
    picked = np.flatnonzero((strength >= around) & (strength > max(1e-3, _FAINTEST * float(strength.max()))))
    apart = np.diff(picked, prepend=-reach - 1) > reach
    return np.asarray(picked[apart] * (_HOP_SAMPLES / ANALYSIS_RATE) - _LATENCY_S)


def f1_score(picked: Array, reference: Array, tolerance_s: float) -> float:
    """F1 of the largest one-to-one matching within the tolerance (both ascending); 0 where both are empty."""
    i = j = matched = 0
    while i < len(picked) and j < len(reference):
        if abs(picked[i] - reference[j]) <= tolerance_s:
            matched, i, j = matched + 1, i + 1, j + 1
        elif picked[i] < reference[j]:
            i += 1
        else:
            j += 1
    total = len(picked) + len(reference)
    return 2.0 * matched / total if total else 0.0
