"""Spectra for the scorecard: log-mel distance of two sounds, and how loud and how abrupt a join is.

Reads audio only; the onset detector and the pictures stand on the same spectrogram and mel bands. Everything is
judged at one rate and in mono, whatever the codec under test plays, so that figures of different bundles compare.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE = 32000  # of all that is judged
Audio = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]
_SILENCE = 1e-6
_FLUX_HOP = 32
_MEL_FLOOR = 1e-4  # amplitude; sounds are brought to an RMS of 0.1 before, so this lies 60 dB below them


def converted(audio: Audio, rate: int, to_rate: int, channels: int) -> npt.NDArray[np.float32]:
    """Sound [n] or [n, C] at another rate, as a codec of so many channels takes it: [m], or [m, 2] for two."""
    sound = np.asarray(audio, np.float32)
    if channels == 1 and sound.ndim == 2:
        sound = sound.mean(axis=1)
    elif channels == 2 and (sound.ndim == 1 or sound.shape[1] == 1):
        sound = np.repeat(sound.reshape(-1, 1), 2, axis=1)
    return sound if rate == to_rate else np.asarray(soxr.resample(sound, rate, to_rate), np.float32)


def analysed(audio: Audio, rate: int) -> npt.NDArray[np.float32]:
    """What is judged of a sound [n] or [n, C]: mono at SAMPLE_RATE."""
    return converted(audio, rate, SAMPLE_RATE, 1)


def magnitudes(audio: Audio, window_samples: int, hop_samples: int) -> Array:
    """[len(audio) // hop, window / 2 + 1] amplitudes; frame i is centred on sample i * hop, Hann window.

    A full-scale sine has amplitude 1.
    """
    window = np.hanning(window_samples + 1)[:-1]
    padded = np.pad(np.asarray(audio, np.float64), window_samples // 2)
    frames = len(audio) // hop_samples
    out = np.empty((frames, window_samples // 2 + 1))
    for first in range(0, frames, 512):  # in blocks: the segments of a whole song would fill the memory
        starts = np.arange(first, min(first + 512, frames)) * hop_samples
        segments = padded[starts[:, None] + np.arange(window_samples)]
        out[first : first + len(starts)] = np.abs(np.fft.rfft(segments * window))
    return out * (2.0 / window.sum())


def mel_bands(window_samples: int, bands: int, low_hz: float = 30.0, high_hz: float = 14000.0) -> Array:
    """[bands, bins] triangles of equal width in mel (O'Shaughnessy 1987), peak 1."""
    mel_low, mel_high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    edges = 700.0 * (10 ** (np.linspace(mel_low, mel_high, bands + 2) / 2595.0) - 1.0)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hz = np.fft.rfftfreq(window_samples, 1.0 / SAMPLE_RATE)
    return np.maximum(0.0, np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)))


def rms(audio: Audio) -> float:
    """Root of the mean square; 0 for no samples."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0


def levelled(audio: Audio, reference: Audio | None = None) -> Array:
    """The audio with the gain that brings `reference` (itself by default) to an RMS of 0.1; silence stays."""
    level = rms(audio if reference is None else reference)
    return np.asarray(audio, np.float64) * (0.1 / level if level > _SILENCE else 1.0)


def log_mel(audio: Audio) -> Array:
    """[frames, 80] log10 of mel amplitudes: window 1024, hop 256."""
    return np.log10(magnitudes(audio, 1024, 256) @ mel_bands(1024, 80).T + _MEL_FLOOR)


def mel_distance(original: Audio, other: Audio) -> float:
    """Mean absolute difference of the log10 mel spectra, both under the original's level (0.1 is 2 dB).

    Raises ValueError where the lengths differ.
    """
    if len(original) != len(other):
        raise ValueError(f"mel_distance needs sounds of one length, got {len(original)} and {len(other)} samples")
    return float(np.abs(log_mel(levelled(original)) - log_mel(levelled(other, original))).mean())


def step_db(before: Audio, after: Audio) -> float:
    """Level of the second after a join less that of the second before, in dB (both floored at -100 dBFS)."""
    levels = [20.0 * np.log10(max(rms(part), 1e-5)) for part in (before[-SAMPLE_RATE:], after[:SAMPLE_RATE])]
    return levels[1] - levels[0]


def flux(audio: Audio) -> Array:
    """[len / 32] rise of the log spectrum per millisecond, all bins alike.

    The window is short (4 ms), so that a break in the wave itself stands out from the attacks of instruments.
    """
    spectra = np.log1p(100.0 * magnitudes(audio, 128, _FLUX_HOP))
    return np.maximum(0.0, np.diff(spectra, axis=0, prepend=spectra[:1])).mean(axis=1)


def seam_percentile(audio: Audio, join: int, elsewhere_s: Array) -> float:
    """Share (0..100) of the places `elsewhere_s` whose strongest flux within 20 ms is below that at sample `join`.

    The join stands on a bar line, so the places are the other beats: 50 means that the join is like any beat.
    """
    sound = flux(levelled(audio))
    reach = round(0.02 * SAMPLE_RATE / _FLUX_HOP)

    def strongest(sample: float) -> float:
        frame = round(sample / _FLUX_HOP)
        return float(sound[max(0, frame - reach) : frame + reach + 1].max(initial=0.0))

    others = np.array([strongest(t * SAMPLE_RATE) for t in elsewhere_s])
    if not len(others):
        raise ValueError("seam_percentile needs at least one other place to compare with")
    here = strongest(join)
    return float(100.0 * (np.mean(others < here) + 0.5 * np.mean(others == here)))
