"""The codec's spectral front and back end: streaming causal STFT magnitudes in, overlap-add out.

Sits at both ends of the codec. One codec frame of `hop_samples` holds several sub-frames, each a Gaussian window
that ends where its part of the hop ends, so nothing waits for the future. The networks see log-amplitude bands:
single bins up to `linear_bins`, groups of bins above, where pitch is no longer heard bin by bin. Of a stereo codec
the levels are those of both channels' mean power, and wide bands say how much louder the left is than the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_FIRST_PAN_BINS = 4
_QUIET_POWER = 1e-9  # below it a sound has no side

Float = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]


@dataclass(frozen=True, kw_only=True)
class SpectralConfig:
    """Geometry of the analysis. The window is exp(-pi n^2 / gamma), gamma = gamma_ratio * window^2."""

    hop_samples: int = 640
    sub_hop_samples: int = 320
    window_samples: int = 2048
    gamma_ratio: float = 0.12
    linear_bins: int = 512
    group_bins: int = 4
    floor: float = 3e-5  # amplitude added before the log; a full-scale sine has amplitude 1
    pan_bands: int = 0  # bands that say where the sound stands between left and right; 0: the codec is mono

    def __post_init__(self) -> None:
        if not 1 <= self.sub_hop_samples <= self.hop_samples or self.hop_samples % self.sub_hop_samples:
            raise ValueError(f"sub_hop_samples is {self.sub_hop_samples}, allowed: divisors of {self.hop_samples}")
        if self.window_samples % 2 or not 2 * self.sub_hop_samples <= self.window_samples <= 65536:
            raise ValueError(
                f"window_samples is {self.window_samples}, allowed: even, {2 * self.sub_hop_samples}..65536"
            )
        if not 0.01 <= self.gamma_ratio <= 1.0:
            raise ValueError(f"gamma_ratio is {self.gamma_ratio}, allowed 0.01..1")
        if not 1 <= self.linear_bins <= self.num_bins:
            raise ValueError(f"linear_bins is {self.linear_bins}, allowed 1..{self.num_bins}")
        if not 1 <= self.group_bins <= self.num_bins:
            raise ValueError(f"group_bins is {self.group_bins}, allowed 1..{self.num_bins}")
        if not 1e-8 <= self.floor <= 0.1:
            raise ValueError(f"floor is {self.floor}, allowed 1e-8..0.1")
        if self.pan_bands != 0 and not 2 <= self.pan_bands <= self.num_bins // 8:
            raise ValueError(f"pan_bands is {self.pan_bands}, allowed 0 (mono) or 2..{self.num_bins // 8}")

    @property
    def num_bins(self) -> int:
        return self.window_samples // 2 + 1

    @property
    def sub_frames(self) -> int:
        """Sub-frames in a codec frame."""
        return self.hop_samples // self.sub_hop_samples

    @property
    def gamma(self) -> float:
        """Width of the Gaussian, samples squared."""
        return self.gamma_ratio * self.window_samples**2

    @cached_property
    def band_starts(self) -> npt.NDArray[np.intp]:
        """[bands] first bin of each band. Bins left over at the top join the last group."""
        grouped = np.arange(self.linear_bins, self.num_bins - self.group_bins + 1, self.group_bins)
        return np.concatenate([np.arange(self.linear_bins), grouped]).astype(np.intp)

    @property
    def num_bands(self) -> int:
        return len(self.band_starts)

    @cached_property
    def pan_edges(self) -> npt.NDArray[np.intp]:
        """[pan_bands + 1] first bin of each pan band and the end of the last, evenly spaced in pitch."""
        edges = np.round(np.geomspace(_FIRST_PAN_BINS, self.num_bins, self.pan_bands + 1)).astype(np.intp)
        edges[0] = 0
        if np.any(np.diff(edges) < 1):
            raise ValueError(f"pan_bands is {self.pan_bands}, too many for {self.num_bins} bins")
        return edges

    @property
    def audio_channels(self) -> int:
        """1, or 2 with pan bands."""
        return 2 if self.pan_bands else 1

    @property
    def level_width(self) -> int:
        """Values in one codec frame that are levels: sub_frames * num_bands. They come first."""
        return self.sub_frames * self.num_bands

    @property
    def width(self) -> int:
        """Values in one codec frame: levels of all sub-frames, then pans of all sub-frames."""
        return self.sub_frames * (self.num_bands + self.pan_bands)

    @cached_property
    def window(self) -> npt.NDArray[np.float64]:
        n = np.arange(self.window_samples) - self.window_samples / 2
        return np.exp(-np.pi * n * n / self.gamma)

    @cached_property
    def band_widths(self) -> npt.NDArray[np.intp]:
        """[bands] bins in each band."""
        return np.diff(np.append(self.band_starts, self.num_bins))


def spectrum(segments: npt.NDArray[np.floating], config: SpectralConfig) -> Complex:
    """Spectra [..., bins] of segments [..., window_samples], scaled so that a full-scale sine has amplitude 1."""
    return np.fft.rfft(segments * (config.window * (2.0 / config.window.sum())), axis=-1)


def log_bands(amplitudes: npt.NDArray[np.floating], config: SpectralConfig) -> Float:
    """Log amplitudes [..., bands] (nats, floored) of amplitudes [..., bins]; a group's is its power average."""
    return _log_bands(np.square(amplitudes), config)


def frame_rows(segments: npt.NDArray[np.floating], config: SpectralConfig) -> Float:
    """Rows [n, num_bands + pan_bands] of sub-frames' segments [n, window], or [n, 2, window] of a stereo codec."""
    spectra = spectrum(segments, config)
    power = np.square(spectra.real)
    power += np.square(spectra.imag)
    if config.pan_bands == 0:
        return _log_bands(power, config)
    sums = np.add.reduceat(power, config.pan_edges[:-1], axis=-1) + _QUIET_POWER
    levels = _log_bands(0.5 * (power[:, 0] + power[:, 1]), config)
    pans: Float = (0.5 * np.log(sums[:, 0] / sums[:, 1])).astype(np.float32)
    return np.concatenate([levels, pans], axis=-1)


def _log_bands(power: npt.NDArray[np.floating], config: SpectralConfig) -> Float:
    mean = np.add.reduceat(power, config.band_starts, axis=-1) / config.band_widths
    return np.log(np.sqrt(mean) + config.floor).astype(np.float32)


def _segments(audio: npt.NDArray[np.floating], config: SpectralConfig) -> npt.NDArray[np.floating]:
    """A view [n, window] of audio [window + (n - 1) * sub_hop], or [n, 2, window] of [.., 2]."""
    return np.lib.stride_tricks.sliding_window_view(audio, config.window_samples, axis=0)[:: config.sub_hop_samples]


def join_rows(rows: Float, config: SpectralConfig) -> Float:
    """Rows [T * sub_frames, num_bands + pan_bands] -> frames [T, width]: all levels, then all pans."""
    levels, pans = rows[:, : config.num_bands], rows[:, config.num_bands :]
    frames = len(rows) // config.sub_frames
    return np.concatenate([levels.reshape(frames, -1), pans.reshape(frames, -1)], axis=1)


def analyse(audio: npt.NDArray[np.floating], config: SpectralConfig) -> Float:
    """Frames [T, width] of whole audio [>= T * hop], or [.., 2]; the offline form of `StreamingAnalysis`."""
    frames = len(audio) // config.hop_samples
    before = np.zeros((config.window_samples - config.sub_hop_samples, *audio.shape[1:]))
    padded = np.concatenate([before, audio[: frames * config.hop_samples]])
    rows = np.empty((frames * config.sub_frames, config.num_bands + config.pan_bands), np.float32)
    segments, block = _segments(padded, config) if len(rows) else rows, 256
    for start in range(0, len(rows), block):
        rows[start : start + block] = frame_rows(segments[start : start + block], config)
    return join_rows(rows, config)


class StreamingAnalysis:
    """Samples of whole frames in, their levels (and pans) out. Not thread-safe: one per stream."""

    def __init__(self, config: SpectralConfig) -> None:
        self.config = config
        self._kept = config.window_samples - config.sub_hop_samples
        self.reset()

    def reset(self) -> None:
        shape = (self._kept,) if self.config.audio_channels == 1 else (self._kept, 2)
        self._past: Float = np.zeros(shape, np.float32)

    def push(self, samples: Float) -> Float:
        """Samples [n * hop_samples] or [.., 2], n >= 1 -> [n, width] of the frames they complete."""
        joined = np.concatenate([self._past, samples])
        self._past = joined[-self._kept :].copy()
        return join_rows(frame_rows(_segments(joined, self.config), self.config), self.config)

    def snapshot(self) -> Float:
        """Everything the stream is; never written again."""
        return self._past

    def restore(self, snap: Float) -> None:
        self._past = snap


class StreamingSynthesis:
    """Spectra of consecutive sub-frames in, samples out, by weighted overlap-add. One per stream.

    Sample i of the output is sample i - delay_samples of the time on which analysis windows end. Spectra are
    [n, bins] and samples [m] of a mono codec, [n, 2, bins] and [m, 2] of a stereo one.
    """

    def __init__(self, config: SpectralConfig) -> None:
        self.config = config
        self.delay_samples = config.window_samples - config.sub_hop_samples
        squared = np.zeros(config.sub_hop_samples)
        for start in range(0, config.window_samples, config.sub_hop_samples):
            part = config.window[start : start + config.sub_hop_samples] ** 2
            squared[: len(part)] += part
        # Analysis scaled by 2/sum(window); the window again here; the sum of its squares taken out by sample.
        period = np.resize(squared, config.window_samples)
        self._window = config.window / period * (config.window.sum() / 2.0)
        self.reset()

    def reset(self) -> None:
        sides = () if self.config.audio_channels == 1 else (2,)
        # Windows begun before, less what was put out; nothing is heard of the last hop.
        self._tail = np.zeros((*sides, self.config.window_samples - self.config.sub_hop_samples), np.float32)

    def push(self, spectra: Complex) -> npt.NDArray[np.floating]:
        """Spectra of n sub-frames -> samples [n * sub_hop_samples] or [.., 2], as precise as the spectra."""
        hop, window = self.config.sub_hop_samples, self.config.window_samples
        segments = np.fft.irfft(spectra, window, axis=-1)
        segments *= self._window.astype(segments.dtype)
        done, kept = len(segments) * hop, self._tail.shape[-1]
        joined = np.zeros((*self._tail.shape[:-1], done + kept), segments.dtype)
        joined[..., :kept] = self._tail
        for i, segment in enumerate(segments):
            joined[..., i * hop : i * hop + window] += segment
        self._tail = joined[..., done:].copy()
        return joined[..., :done].T

    def snapshot(self) -> npt.NDArray[np.floating]:
        """Everything the stream is; never written again."""
        return self._tail

    def restore(self, snap: npt.NDArray[np.floating]) -> None:
        self._tail = snap
