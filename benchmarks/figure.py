"""Spectrograms side by side with the bar grid on top: what came, what the model played, what the codec keeps."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.onsets import beat_times, times_of
from benchmarks.scores import SongScores
from benchmarks.songs import Case
from benchmarks.spectra import SAMPLE_RATE, Array, Audio, analysed, levelled, magnitudes

_PANELS = (
    ("real", "the song itself"),
    ("model", "continued by Attacca from the join on"),
    ("codec", "the song through the codec"),
)
_LEAD_S, _TAIL_S = 3.0, 9.0
_LOW_HZ, _HIGH_HZ, _ROWS = 45.0, 9000.0, 300
_INK, _FAINT, _PAPER, _JOIN = "#e8e6e3", "#9a98a3", "#14121c", "#5ad1c8"


def _log_spectrogram(audio: Audio) -> Array:
    """[_ROWS, frames] dB over a logarithmic frequency axis, one frame per 5 ms."""
    spectra = magnitudes(audio, 4096, 160)
    hz = np.geomspace(_LOW_HZ, _HIGH_HZ, _ROWS)
    place = hz * 4096 / SAMPLE_RATE
    left = place.astype(np.intp)
    share = place - left
    return 20 * np.log10(spectra[:, left] * (1 - share) + spectra[:, left + 1] * share + 1e-7).T


def draw(path: Path, song: SongScores, case: Case) -> None:
    """Write the picture of one scored song (its audio must be kept): 3 s before the join, 9 s after it."""
    join_s = case.join_heard / SAMPLE_RATE
    first_s, last_s = join_s - _LEAD_S, min(join_s + _TAIL_S, len(case.heard) / SAMPLE_RATE)
    controls = case.controls.slice(0, case.stop)
    bars = times_of(controls, np.unique(controls.bar_start_ppq)) - join_s
    beats = beat_times(controls) - join_s
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.8), sharey=True, facecolor=_PAPER)
    cut = slice(round(first_s * 200), round(last_s * 200))
    for axis, (name, title) in zip(axes, _PANELS, strict=True):
        picture = _log_spectrogram(levelled(analysed(song.audio[name], song.rate), case.heard))[:, cut]
        axis.imshow(
            picture,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-82,
            vmax=-22,
            extent=(first_s - join_s, last_s - join_s, 0.0, 1.0),
            interpolation="bilinear",
        )
        axis.set_xlim(first_s - join_s, last_s - join_s)
        _grid(axis, bars, beats)
        axis.set_title(title, color=_INK, fontsize=13, loc="left", pad=16)
        axis.set_xlabel("seconds after the join", color=_FAINT)
    ticks = np.array([50, 100, 200, 500, 1000, 2000, 5000])
    axes[0].set_yticks(np.log(ticks / _LOW_HZ) / np.log(_HIGH_HZ / _LOW_HZ))
    axes[0].set_yticklabels([f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz" for hz in ticks])
    figure.suptitle(
        f"held-out song {song.seed}: {song.about}; ticks above: the host's beats and bars",
        color=_FAINT,
        fontsize=10,
        x=0.995,
        ha="right",
        y=0.985,
    )
    figure.tight_layout(w_pad=1.5)
    figure.savefig(path, dpi=110, facecolor=_PAPER)
    pyplot.close(figure)


def _grid(axis: Axes, bars: Array, beats: Array) -> None:
    """Beats as ticks above the picture, bars as longer ones and faint lines through it, the join in colour."""
    above = axis.get_xaxis_transform()
    first, last = axis.get_xlim()
    for times, height, width in ((beats, 1.025, 1.0), (bars, 1.05, 1.6)):
        shown = times[(times >= first) & (times <= last)]
        axis.vlines(shown, 1.005, height, _INK, linewidth=width, transform=above, clip_on=False)
    for bar in bars[np.abs(bars) > 0.1]:
        axis.axvline(bar, color=_INK, linewidth=0.8, alpha=0.35, linestyle=(0, (2, 3)))
    axis.axvline(0.0, color=_JOIN, linewidth=1.8)
    axis.vlines(0.0, 1.005, 1.05, _JOIN, linewidth=1.8, transform=above, clip_on=False)
    axis.tick_params(colors=_FAINT, length=3)
    for side in axis.spines.values():
        side.set_visible(False)
