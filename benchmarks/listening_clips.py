"""Sounds and pictures of the listening page: Ogg/Opus files, waveform over the bar grid, spectrogram.

The same sound gives the same bytes: an Ogg stream's serial number, which encoders draw at random, is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import soundfile

matplotlib.use("Agg")
from matplotlib import pyplot

RATE = 48000
_COMPRESSION = 0.9  # about 65 kbit/s in stereo
_PIXELS, _DPI = (560, 190), 100
_WAVE_SHARE = 0.3
_LOW_HZ, _HIGH_HZ, _ROWS = 45.0, 18000.0, 220
_WINDOW, _FLOOR_DB, _TOP_DB = 4096, -92.0, -22.0
_INK, _PAPER, _WAVE, _JOIN, _STEP = "#e8e6e3", "#14121c", "#8f8aa3", "#5ad1c8", "#f0c05a"
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One player on the page. Times in seconds from the clip's start."""

    title: str
    audio: Samples  # [n, 1 or 2] at RATE
    bars_s: tuple[float, ...] = ()
    beats_s: tuple[float, ...] = ()
    join_s: float | None = None  # from here on it is the model's
    step_s: float | None = None  # here the tempo changes

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE


def write_sound(path: Path, audio: Samples, *, serial: int) -> None:
    """Ogg/Opus; one channel where both are the same."""
    same = audio.shape[1] == 2 and np.array_equal(audio[:, 0], audio[:, 1])
    shown = np.clip(audio[:, :1] if same else audio, -1.0, 1.0)
    soundfile.write(path, shown, RATE, format="OGG", subtype="OPUS", compression_level=_COMPRESSION)
    path.write_bytes(with_serial(path.read_bytes(), serial))


@cache
def _checksums() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


def with_serial(stream: bytes, serial: int) -> bytes:
    """An Ogg stream with this serial number in every page, checksums made anew (RFC 3533). Else ValueError."""
    out, table, at = bytearray(stream), _checksums(), 0
    while at < len(out):
        if out[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = serial.to_bytes(4, "little")
        out[at + 22 : at + 26] = bytes(4)
        check = 0
        for byte in out[at:end]:
            check = ((check << 8) & 0xFFFFFFFF) ^ table[(check >> 24) ^ byte]
        out[at + 22 : at + 26] = check.to_bytes(4, "little")
        at = end
    return bytes(out)


def spectrogram(audio: Samples, columns: int) -> npt.NDArray[np.float64]:
    """[_ROWS, columns] dB of the sum of both channels' power, frequencies evenly in pitch, lowest first."""
    padded = np.pad(audio, ((_WINDOW // 2, _WINDOW // 2), (0, 0)))
    starts = np.linspace(0, len(audio) - 1, columns).astype(np.intp)
    window = np.hanning(_WINDOW + 1)[:-1]
    segments = padded[starts[:, None] + np.arange(_WINDOW)] * window[:, None]
    power = (np.abs(np.fft.rfft(segments, axis=1)) ** 2).mean(axis=2) * (2.0 / window.sum()) ** 2
    place = np.geomspace(_LOW_HZ, _HIGH_HZ, _ROWS) * _WINDOW / RATE
    left = place.astype(np.intp)
    share = place - left
    return 10.0 * np.log10(power[:, left] * (1 - share) + power[:, left + 1] * share + 1e-12).T


def draw_clip(path: Path, clip: Clip, *, peak: float = 1.0) -> None:
    """Waveform (up to `peak`) above, spectrogram below, time from edge to edge: x / width is time / duration."""
    figure = pyplot.figure(figsize=(_PIXELS[0] / _DPI, _PIXELS[1] / _DPI), dpi=_DPI, facecolor=_PAPER)
    wave = figure.add_axes((0.0, 1.0 - _WAVE_SHARE, 1.0, _WAVE_SHARE))
    below = figure.add_axes((0.0, 0.0, 1.0, 1.0 - _WAVE_SHARE - 0.01))
    size = len(clip.audio) // _PIXELS[0]
    columns = np.abs(clip.audio[: size * _PIXELS[0]]).max(axis=1).reshape(_PIXELS[0], size).max(axis=1)
    times = (np.arange(_PIXELS[0]) + 0.5) / _PIXELS[0] * clip.seconds
    wave.fill_between(times, -columns, columns, color=_WAVE, linewidth=0.0)
    wave.set_ylim(-peak, peak)
    below.imshow(
        spectrogram(clip.audio, _PIXELS[0] // 2),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=_FLOOR_DB,
        vmax=_TOP_DB,
        extent=(0.0, clip.seconds, 0.0, 1.0),
        interpolation="bilinear",
    )
    for axis in (wave, below):
        axis.set_xlim(0.0, clip.seconds)
        axis.axis("off")
        for bar in clip.bars_s:
            axis.axvline(bar, color=_INK, linewidth=0.9, alpha=0.6)
        for time, colour in ((clip.join_s, _JOIN), (clip.step_s, _STEP)):
            if time is not None:
                axis.axvline(time, color=colour, linewidth=2.2)
    wave.vlines(clip.beats_s, -peak, -0.7 * peak, color=_INK, linewidth=0.7, alpha=0.6)
    figure.savefig(path, dpi=_DPI, facecolor=_PAPER, pil_kwargs={"quality": 60})
    pyplot.close(figure)
