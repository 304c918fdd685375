"""The demo's picture: the waveform on the bar grid, look-ahead and RTF over time, and a spectrogram.

Draws what bridge/demo.py recorded and measured. Imports matplotlib (extra [demo]) when asked to draw.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attacca.bridge.demo_measure import Marks, Trace
from attacca.bridge.ring import Samples
from attacca.bridge.virtual_host import Recording

PAPER, INK, _FAINT = "#fcfbf8", "#23272e", "#c9c8c2"
_DRY, _WET, _TRIGGER, _RTF = "#5c7a99", "#e2572b", "#8a3ffc", "#0f8b8d"
_ENVELOPE_BINS = 2400
_FFT_SAMPLES, _MEL_BANDS, _LOW_HZ = 2048, 128, 40.0

Double = npt.NDArray[np.float64]
Axes = Any  # of matplotlib


def draw_demo(
    path: Path,
    *,
    recording: Recording,
    marks: Marks,
    trace: Trace,
    bar_ppq: Fraction,
    measures: dict[str, Any],
    title: str,
) -> None:
    """Write the picture as a PNG. ImportError without matplotlib, OSError if the file cannot be written."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rate = recording.sample_rate
    output, wet = recording.output, recording.wet
    style: Any = {"font.family": "DejaVu Sans", "font.size": 9, "axes.edgecolor": _FAINT, "text.color": INK}
    with mpl.rc_context(style):
        figure = Figure(figsize=(12.0, 7.4), dpi=130, facecolor=PAPER)
        FigureCanvasAgg(figure)
        rows = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [1.5, 0.85, 1.25], "hspace": 0.10})
        wave, speed, spectrum = rows
        figure.subplots_adjust(left=0.06, right=0.94, top=0.86, bottom=0.07)
        seconds = len(output) / rate
        bars = _bar_lines(recording, bar_ppq)
        draw_wave(wave, output - wet, wet, rate)
        draw_speed(speed, trace, rate)
        _draw_spectrum(spectrum, output.mean(axis=1), rate)
        for axes in rows:
            draw_bars(axes, bars, seconds, label=axes is wave, light=axes is spectrum)
            draw_marks(axes, marks, rate, label=axes is wave)
        _draw_title(figure, title, measures)
        figure.savefig(path, facecolor=PAPER)


def _bar_lines(recording: Recording, bar_ppq: Fraction) -> list[tuple[float, int]]:
    """(seconds, number as musicians count) of each bar line; exact within blocks of constant tempo."""
    lines = []
    for block in recording.blocks:
        per_sample = Fraction(block.host.bpm).limit_denominator(10**6) / (60 * recording.sample_rate)
        first = -(-block.ppq // bar_ppq)
        offset = (first * bar_ppq - block.ppq) / per_sample
        if block.playing and offset < block.samples:
            lines.append((float(block.position + offset) / recording.sample_rate, int(first) + 1))
    return lines


def _envelope(signal: Double) -> tuple[Double, Double, Double]:
    """(bin centres as a share of the length, lowest, highest) over bins of equal length."""
    bins = min(_ENVELOPE_BINS, len(signal))
    edges = np.linspace(0, len(signal), bins + 1).astype(int)[:-1]
    lowest = np.minimum.reduceat(signal, edges)
    highest = np.maximum.reduceat(signal, edges)
    return (np.arange(bins) + 0.5) / bins, lowest, highest


def draw_wave(axes: Axes, dry: Samples, wet: Samples, rate: int) -> None:
    seconds = len(wet) / rate
    peak = max(float(np.abs(dry).max(initial=0.0)), float(np.abs(wet).max(initial=0.0)), 1e-6)
    for signal, colour, label in ((dry, _DRY, "what was played"), (wet, _WET, "what Attacca generated")):
        at, lowest, highest = _envelope(signal.mean(axis=1).astype(np.float64) / peak)
        sounding = highest - lowest > 1e-4
        axes.fill_between(at * seconds, lowest, highest, where=sounding, color=colour, linewidth=0.3, label=label)
    axes.set_ylim(-1.08, 1.08)
    axes.set_yticks([])
    axes.set_ylabel("as heard", color=INK)
    axes.legend(
        loc="lower right", ncols=2, frameon=False, bbox_to_anchor=(1.0, 1.09), borderaxespad=0.0, handlelength=1.0
    )


def draw_speed(axes: Axes, trace: Trace, rate: int) -> None:
    axes.set_ylabel("look-ahead, ms", color=_WET)
    if trace.lookahead:
        points = np.array(trace.lookahead, dtype=np.float64)
        axes.fill_between(points[:, 0] / rate, 0, points[:, 1] * 1000 / rate, color=_WET, alpha=0.22, linewidth=0)
        axes.plot(points[:, 0] / rate, points[:, 1] * 1000 / rate, color=_WET, linewidth=0.7)
    axes.set_ylim(bottom=0)
    right = axes.twinx()
    right.set_ylabel("RTF (below 1 is real time)", color=_RTF)
    known = [(position / rate, status.rtf_total) for position, status in trace.statuses if status.rtf_total > 0]
    if known:
        values = np.array(known)
        right.plot(values[:, 0], values[:, 1], color=_RTF, linewidth=1.6)
    highest = max([value for _, value in known], default=0.0)
    right.axhline(1.0, color=_RTF, linewidth=0.7, linestyle=(0, (4, 3)))
    right.set_ylim(0, max(1.1, 1.1 * highest))
    for side in (axes, right):
        side.tick_params(colors=INK, length=2)
        side.spines["top"].set_visible(False)


def _draw_spectrum(axes: Axes, signal: npt.NDArray[np.floating], rate: int) -> None:
    levels, centres = mel_spectrogram(signal.astype(np.float64), rate)
    top = float(levels.max(initial=-120.0))
    axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=top - 75.0,
        vmax=top,
        extent=(0.0, len(signal) / rate, -0.5, len(centres) - 0.5),
        interpolation="nearest",
    )
    ticks = [hz for hz in (300, 1000, 3000, 10000) if hz < rate / 2]
    axes.set_yticks([float(np.interp(hz, centres, np.arange(len(centres)))) for hz in ticks])
    axes.set_yticklabels([f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks])
    axes.set_ylabel("Hz", color=INK)
    axes.set_xlabel("seconds", color=INK)
    axes.tick_params(colors=INK, length=2)


def mel_spectrogram(signal: Double, rate: int) -> tuple[Double, Double]:
    """(level in dB [frames, bands], centre of each band in Hz) of a mono signal."""
    hop = max(1, len(signal) // 1400)
    padded = np.pad(signal, (_FFT_SAMPLES // 2, _FFT_SAMPLES))
    starts = np.arange(0, max(len(signal), 1), hop)
    window = np.hanning(_FFT_SAMPLES)
    power = np.empty((len(starts), _FFT_SAMPLES // 2 + 1))
    for index, start in enumerate(starts):
        power[index] = np.abs(np.fft.rfft(padded[start : start + _FFT_SAMPLES] * window)) ** 2
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (_LOW_HZ, min(rate / 2, 16000.0)))
    edges = 700 * (10 ** (np.linspace(low, high, _MEL_BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_FFT_SAMPLES, 1 / rate)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    nearest = np.abs(frequencies[:, None] - edges[1:-1]).argmin(axis=0)
    weights[nearest, np.arange(_MEL_BANDS)] = np.maximum(weights[nearest, np.arange(_MEL_BANDS)], 1e-3)
    weights /= weights.sum(axis=0)
    return 10 * np.log10(power @ weights + 1e-10), edges[1:-1]


def draw_bars(axes: Axes, bars: list[tuple[float, int]], seconds: float, *, label: bool, light: bool) -> None:
    axes.set_xlim(0.0, seconds)
    axes.set_facecolor(PAPER)
    for at, number in bars:
        axes.axvline(
            at, color="white" if light else _FAINT, linewidth=0.7, alpha=0.45 if light else 1.0, zorder=0.5
        )
        if label and at < seconds - 0.01:
            axes.annotate(
                str(number),
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, 3),
                textcoords="offset points",
                color="#8b8a84",
                fontsize=8,
            )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_marks(axes: Axes, marks: Marks, rate: int, *, label: bool) -> None:
    entries = (
        (marks.trigger, _TRIGGER, "note on", "right"),
        (marks.start, _WET, "start: on the bar line", "left"),
        (marks.release, INK, "note off", "left"),
    )
    for position, colour, text, side in entries:
        if position is None:
            continue
        axes.axvline(position / rate, color=colour, linewidth=1.3)
        if label:
            axes.annotate(
                text,
                (position / rate, -1.0),
                xytext=(4 if side == "left" else -4, 0),
                textcoords="offset points",
                ha=side,
                color=colour,
                fontsize=8.5,
                fontweight="bold",
            )


def _draw_title(figure: Any, title: str, measures: dict[str, Any]) -> None:
    figure.text(0.06, 0.955, "Attacca", fontsize=19, fontweight="bold", color=INK, va="center")
    figure.text(0.162, 0.952, f"goes straight on: {title}", fontsize=11.5, color=INK, va="center")
    rtf, underruns = measures["rtf"], measures["underruns"]
    facts = [
        f"start error {measures['start_error_samples']} samples",
        f"underruns {underruns['callbacks']}",
        f"RTF {rtf['total']}",
        f"first audio after {'-' if measures['ttfa_ms'] is None else measures['ttfa_ms']} ms",
        f"control latency {'-' if measures['control_latency_ms'] is None else measures['control_latency_ms']} ms",
    ]
    figure.text(0.06, 0.908, "     ".join(facts), fontsize=9.5, color="#5d5c57", va="center")
