"""Does the music stand on the host's grid? Beats picked from the sound against the commanded ones.

The picker knows how long a beat is, as the tempo map says, but not where it lies: it takes the strongest rise of
the spectrum within half a beat to either side, so at most one pick a beat. An even stream of eighths would satisfy
a detector that lists every onset; here the strong places must lie on the grid, and a shifted grid is matched only
by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d

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
_TAIL_S = 0.1  # before the end: a beat that late has no time to rise
TOLERANCES_S = (0.07, 0.025)


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


def pick_beats(audio: Audio, beat_s: float | Array) -> Array:
    """Times in seconds of the places that are strongest within half a beat to either side; none in silence.

    `beat_s` is the length of a beat, or of the beat at each 5 ms of the audio [len / 160].
    """
    if np.min(beat_s) <= 0.0:
        raise ValueError(f"beat_s is {np.min(beat_s)}, allowed: above 0")
    if rms(audio) < 1e-5:
        return np.empty(0)
    strength = onset_strength(audio)
    half = 0.5 * np.broadcast_to(beat_s, len(strength)) * SAMPLE_RATE / HOP_SAMPLES
    reach = np.maximum(1, half.astype(np.int64))
    around = np.empty_like(strength)
    for width in np.unique(reach):  # one in a steady song, one for each step of a ramp
        here = reach == width
        around[here] = maximum_filter1d(strength, 2 * int(width) + 1, mode="constant")[here]
    faintest = max(1e-3, _FAINTEST * float(strength.max()))
    picked = np.flatnonzero((strength >= around) & (strength > faintest))
    apart = np.diff(picked, prepend=-int(reach.max()) - 1) > reach[picked]  # of equal neighbours the first
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


def times_of(controls: Controls, ppq: Array) -> Array:
    """Seconds after frame 0's first sample of places in quarter notes, which lie within the frames.

    Exact where the tempo holds from the frame's start to the place, as it does for steps on the composer's grid.
    """
    frame = np.maximum(np.searchsorted(controls.ppq, ppq + 1e-9, side="right") - 1, 0)
    return np.asarray(frame * _FRAME_S + (ppq - controls.ppq[frame]) * 60.0 / controls.bpm[frame])


def beats_ppq(controls: Controls) -> Array:
    """Quarter notes of every commanded main pulse within the frames."""
    if not len(controls):
        return np.empty(0)
    found: list[float] = []
    last_ppq = controls.ppq[-1] + _FRAME_S * controls.bpm[-1] / 60.0
    bars, firsts = np.unique(controls.bar_start_ppq, return_index=True)
    for bar, first in zip(bars, firsts, strict=True):
        for offset in pulses(int(controls.meter_num[first]), int(controls.meter_den[first])):
            if controls.ppq[0] <= bar + offset + 1e-9 and bar + offset < last_ppq - 1e-9:
                found.append(bar + offset)
    return np.array(sorted(found))


def beat_times(controls: Controls) -> Array:
    """Seconds after frame 0's first sample of every commanded main pulse within the frames."""
    return times_of(controls, beats_ppq(controls))


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


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Picked beats against the commanded ones, all in seconds after the first commanded frame."""

    picked: Array
    reference: Array
    beat_s: Array  # length of a beat at each of `reference`

    @classmethod
    def of(cls, audio: Audio, join: int, controls: Controls) -> Grid:
        """What follows sample `join`; `controls` starts there.

        The beat on the join is left out, for the cut alone would be an onset: counted is from half a beat after it,
        and to 0.1 s before the end.
        Raises ValueError where the controls hold fewer than three beats.
        """
        places = beats_ppq(controls)
        if len(places) < 3:
            raise ValueError(f"{len(controls)} frames hold {len(places)} beats, at least 3 are needed")
        beat = float(np.median(np.diff(places)))  # quarters
        reference = times_of(controls, places)
        lead_s = min(join, SAMPLE_RATE) / SAMPLE_RATE
        sound = audio[join - round(lead_s * SAMPLE_RATE) :]
        times = np.arange(len(sound) // HOP_SAMPLES) * (HOP_SAMPLES / SAMPLE_RATE) - lead_s
        lengths = 60.0 * beat / controls.bpm
        frame = np.clip((times / _FRAME_S).astype(np.int64), 0, len(controls) - 1)
        picked = pick_beats(sound, lengths[frame]) - lead_s
        beat_s = lengths[np.minimum((reference / _FRAME_S).astype(np.int64), len(controls) - 1)]
        first_s, end_s = reference[0] + 0.5 * beat_s[0], len(controls) * _FRAME_S - _TAIL_S
        kept = (reference >= first_s) & (reference < end_s)
        inside = picked[(picked >= first_s) & (picked < end_s)]
        return cls(picked=inside, reference=reference[kept], beat_s=beat_s[kept])

    def where(self, frames: npt.NDArray[np.bool_]) -> Grid | None:
        """Only what lies in these of the commanded frames [T]; None with fewer than four beats there."""

        def inside(times: Array) -> npt.NDArray[np.bool_]:
            return np.asarray(frames[np.clip((times / _FRAME_S).astype(np.int64), 0, len(frames) - 1)])

        kept = inside(self.reference)
        if kept.sum() < 4:
            return None
        return Grid(
            picked=self.picked[inside(self.picked)], reference=self.reference[kept], beat_s=self.beat_s[kept]
        )

    def score(self, tolerance_s: float) -> float:
        """F1 of the picked beats."""
        return f1_score(self.picked, self.reference, tolerance_s)

    def chance(self, tolerance_s: float, *, shifts: int = 32) -> float:
        """Mean F1 on grids shifted by -1/2..1/2 beat in even steps."""
        offsets = (np.arange(shifts) + 0.5) / shifts - 0.5
        moved = [f1_score(self.picked, np.sort(self.reference + o * self.beat_s), tolerance_s) for o in offsets]
        return float(np.mean(moved))


def grid_scores(audio: Audio, join: int, controls: Controls) -> tuple[dict[float, float], dict[float, float]]:
    """F1 at 70 and 25 ms of what follows sample `join` against its commanded grid, and the same by chance."""
    grid = Grid.of(audio, join, controls)
    return {t: grid.score(t) for t in TOLERANCES_S}, {t: grid.chance(t) for t in TOLERANCES_S}
