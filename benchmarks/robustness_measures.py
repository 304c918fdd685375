"""How far a sound is from what went in, at one fixed rate (48 kHz, two channels); for benchmarks.robustness.

Everything takes float arrays [n, 2]. A sound of another rate or of one channel is brought there first, so that
codecs of any rate and of one or two channels stand under the same measures, what they leave out included.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacca.engine.resample import Resampler

RATE = 48000
SILENT_DBFS = -95.0  # below it an input counts as silence: it has no spectrum or sides to keep
_WINDOW, _HOP, _BANDS = 2048, 512, 80
_LOW_HZ, _HIGH_HZ = 30.0, 20000.0
_MEL_FLOOR = 1e-4  # amplitude; sounds are brought to an RMS of 0.1 before, so this lies 60 dB below them
_SIDE_WINDOW, _SIDE_BANDS, _SIDE_LIMIT_DB = 4096, 16, 20.0
_MOST_DB = 120.0
Audio = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]
Row = dict[str, float | None]


def to_common(audio: Audio, rate: int) -> npt.NDArray[np.float32]:
    """[n] or [n, 1 or 2] at `rate` -> float32 [m, 2] at RATE, by the engine's exact resampler."""
    two = np.asarray(audio, np.float32).reshape(len(audio), -1)
    if two.shape[1] not in (1, 2):
        raise ValueError(f"audio has {two.shape[1]} channels, allowed: 1 or 2")
    two = np.repeat(two, 2, axis=1) if two.shape[1] == 1 else two
    return resampled(two, rate, RATE)


def resampled(audio: npt.NDArray[np.float32], from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """[n, channels] at another rate, nothing delayed."""
    if from_hz == to_hz:
        return audio
    stream = Resampler(from_hz, to_hz, channels=audio.shape[1])
    flat = audio[:, 0] if audio.shape[1] == 1 else audio
    return np.concatenate([stream.push(flat), stream.flush()]).reshape(-1, audio.shape[1])


def rms_dbfs(audio: Audio) -> float:
    """RMS level over all channels; -120 for silence and below."""
    power = float(np.mean(np.square(audio, dtype=np.float64))) if len(audio) else 0.0
    return 10.0 * float(np.log10(max(power, 1e-12)))


def _magnitudes(audio: Audio, window_samples: int, hop_samples: int) -> Array:
    """[2, frames, bins] amplitudes by a Hann window; a full-scale sine has 1."""
    padded = np.pad(np.asarray(audio, np.float64), ((window_samples // 2, window_samples // 2), (0, 0)))
    window = np.hanning(window_samples + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples, axis=0)[::hop_samples]
    return np.abs(np.fft.rfft(np.moveaxis(frames, 1, 0) * window, axis=-1)) * (2.0 / window.sum())


def _bands(window_samples: int, count: int) -> Array:
    """[count, bins] triangles of equal width in mel (O'Shaughnessy 1987), peak 1."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, _HIGH_HZ))
    edges = 700.0 * (10 ** (np.linspace(low, high, count + 2) / 2595.0) - 1.0)
    hz = np.fft.rfftfreq(window_samples, 1.0 / RATE)
    rise = (hz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hz) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rise, fall))


def mel_distance(original: Audio, other: Audio) -> float:
    """Mean |difference| of the log10 mel spectra of both channels, under the original's level (0.1 is 2 dB)."""
    gain = 0.1 / 10 ** (rms_dbfs(original) / 20)
    bands = _bands(_WINDOW, _BANDS).T
    first, second = (np.log10(gain * _magnitudes(x, _WINDOW, _HOP) @ bands + _MEL_FLOOR) for x in (original, other))
    return float(np.abs(first - second).mean())


def si_sdr_db(original: Audio, other: Audio) -> float:
    """Scale-invariant signal to distortion ratio (Le Roux et al. 2019, eq. 3), both channels as one vector.

    It compares waveforms. A codec that makes its phases from amplitudes cannot score in it: see the phase bound.
    """
    reference, estimate = (np.ravel(x - np.mean(x, axis=0, dtype=np.float64)) for x in (original, other))
    power = float(reference @ reference)
    target = reference * (float(estimate @ reference) / max(power, 1e-12))
    rest = estimate - target
    ratio = max(float(target @ target), 1e-12) / max(float(rest @ rest), 1e-12)
    return float(np.clip(10.0 * np.log10(ratio), -_MOST_DB, _MOST_DB))


def _sides(audio: Audio) -> tuple[Array, Array]:
    """([frames, bands] level of left against right in dB, limited; [frames, bands] power)."""
    power = _magnitudes(audio, _SIDE_WINDOW, _SIDE_WINDOW // 2) ** 2 @ _bands(_SIDE_WINDOW, _SIDE_BANDS).T
    level = 10.0 * np.log10((power[0] + 1e-10) / (power[1] + 1e-10))
    return np.clip(level, -_SIDE_LIMIT_DB, _SIDE_LIMIT_DB), power.sum(axis=0)


def stereo_error_db(original: Audio, other: Audio) -> float:
    """Mean |error| of the level of left against right (limited to +-20 dB), in 16 bands and every 43 ms.

    Weighted by the original's amplitude there, so that a side counts where something is to be heard.
    """
    (before, power), (after, _) = _sides(original), _sides(other)
    return float(np.average(np.abs(after - before), weights=np.sqrt(power) + 1e-12))


def correlation(audio: Audio) -> float | None:
    """Of left and right, -1..1; None where a channel is silent."""
    left, right = (x - x.mean() for x in np.asarray(audio, np.float64).T)
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / scale if scale > 1e-9 else None


def measure(original: Audio, other: Audio) -> Row:
    """Every measure of two sounds [n, 2] at RATE; None where it means nothing, as of silence.

    Raises ValueError where lengths differ.
    """
    if original.shape != other.shape:
        raise ValueError(f"two sounds of one shape are needed, got {original.shape} and {other.shape}")
    silent = rms_dbfs(original) < SILENT_DBFS
    return {
        "mel_distance": None if silent else mel_distance(original, other),
        "si_sdr_db": None if silent else si_sdr_db(original, other),
        "level_error_db": None if silent else rms_dbfs(other) - rms_dbfs(original),
        "stereo_error_db": None if silent else stereo_error_db(original, other),
        "correlation": correlation(other),
        "out_dbfs": rms_dbfs(other),
        "peak": float(np.abs(other).max(initial=0.0)),
    }
