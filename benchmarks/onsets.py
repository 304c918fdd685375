"""Does the music stand on the host's grid? Beats picked from the sound against the commanded ones.

The picker knows how long a beat is but not where it lies: it takes the strongest rise of the spectrum within half a
beat to either side, so at most one pick a beat. An even stream of eighths would satisfy a detector that
lists every onset; here the strong places must lie on the grid, and a shifted grid is matched only by chance.
"""

from __future__ import annotations

import numpy as np

from attacca.engine.conditioning import Controls
from benchmarks.spectra import SAMPLE_RATE, Array, Audio, levelled, magnitudes, mel_bands, rms

HOP_SAMPLES = 160  # 5 ms
_WINDOW_SAMPLES = 1024
_LAG_FRAMES = 3
_BANDS = 40
# The rise is largest this long after the onset: 0 ms for clicks, 8 ms for rendered drums, whose attack takes time.
_LATENCY_S = 0.005
_FAINTEST = 0.03  # of the strongest rise: less is no onset
_FRAME_S = 0.02


def onset_strength(audio: Audio) -> Array:
    """[len / 160] rise of the compressed mel spectrum over 15 ms against the neighbourhood before (SuperFlux,
    Boeck and Widmer 2013), low bands weighted up to five times, as kick and bass carry the beat."""
    mel = np.log1p(10.0 * magnitudes(levelled(audio), _WINDOW_SAMPLES, HOP_SAMPLES) @ mel_bands(1024, _BANDS).T)
    padded = np.pad(mel, ((0, 0), (1, 1)), mode="edge")
    widest = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    rise = np.zeros_like(mel)
    rise[_LAG_FRAMES:] = np.maximum(0.0, mel[_LAG_FRAMES:] - widest[:-_LAG_FRAMES])
    weights = 1.0 + 4.0 * np.exp(-np.arange(_BANDS) / 4.0)
    return np.asarray(rise @ (weights / weights.sum()))


def pick_beats(audio: Audio, beat_s: float) -> Array:
    """Times in seconds of the places that are strongest within half a beat to either side; none in silence."""
    if beat_s <= 0.0:
        raise ValueError(f"beat_s is {beat_s}, allowed: above 0")
    if rms(audio) < 1e-5:
        return np.empty(0)
    strength = onset_strength(audio)
    reach = max(1, int(0.5 * beat_s * SAMPLE_RATE / HOP_SAMPLES))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(strength, reach), 2 * reach + 1).max(axis=1)
    faintest = max(1e-3, _FAINTEST * float(strength.max()))
    picked = np.flatnonzero((strength >= around) & (strength > faintest))
    apart = np.diff(picked, prepend=-reach - 1) > reach  # of equal neighbours the first
    return picked[apart] * (HOP_SAMPLES / SAMPLE_RATE) - _LATENCY_S


def pulses(meter_num: int, meter_den: int) -> Array:
    """Where a bar's main pulses lie, in quarter notes from its start.

    Notes of the denominator in x/2 and x/4; in x/8 and x/16 groups of three if they divide the bar (6/8: two),
    else groups of two with a three at the end (7/8: 2 + 2 + 3), as musicians count them.
    """
    if meter_den <= 4:
        starts = np.arange(meter_num)
    elif meter_num % 3 == 0:
        starts = np.arange(0, meter_num, 3)
    else:
        starts = np.arange(0, max(1, meter_num - 1), 2)
    return starts * (4.0 / meter_den)


def beat_times(controls: Controls) -> Array:
    """Seconds after frame 0's first sample of every commanded main pulse within the frames."""
    if not len(controls):
        return np.empty(0)
    times: list[float] = []
    last_ppq = controls.ppq[-1] + _FRAME_S * controls.bpm[-1] / 60.0
    for bar in np.unique(controls.bar_start_ppq):
        first = int(np.flatnonzero(controls.bar_start_ppq == bar)[0])
        for offset in pulses(int(controls.meter_num[first]), int(controls.meter_den[first])):
            ppq = bar + offset
            frame = int(np.searchsorted(controls.ppq, ppq + 1e-9, side="right")) - 1
            if frame >= 0 and ppq < last_ppq - 1e-9:
                times.append(frame * _FRAME_S + (ppq - controls.ppq[frame]) * 60.0 / controls.bpm[frame])
    return np.array(sorted(times))


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


def grid_scores(
    audio: Audio, join: int, controls: Controls, *, shifts: int = 32
) -> tuple[dict[float, float], dict[float, float]]:
    """F1 at 70 and 25 ms of what follows sample `join` against its commanded grid, and the same by chance.

    Chance is the mean over grids shifted by -1/2..1/2 beat in even steps. The beat on the join is left out, for the
    cut alone would be an onset: counted is from half a beat after it. `controls` starts at the join.
    Raises ValueError where the controls hold fewer than three beats.
    """
    reference = beat_times(controls)
    if len(reference) < 3:
        raise ValueError(f"{len(controls)} frames hold {len(reference)} beats, at least 3 are needed")
    beat_s = float(np.median(np.diff(reference)))
    first_s, end_s = reference[0] + 0.5 * beat_s, len(controls) * _FRAME_S
    lead = min(join, SAMPLE_RATE)
    picked = pick_beats(audio[join - lead :], beat_s) - lead / SAMPLE_RATE

    def within(times: Array) -> Array:
        return times[(times >= first_s) & (times < end_s)]

    offsets = ((np.arange(shifts) + 0.5) / shifts - 0.5) * beat_s
    scores, chance = {}, {}
    for tolerance_s in (0.07, 0.025):
        scores[tolerance_s] = f1_score(within(picked), within(reference), tolerance_s)
        shifted = [f1_score(within(picked), within(reference + o), tolerance_s) for o in offsets]
        chance[tolerance_s] = float(np.mean(shifted))
    return scores, chance
