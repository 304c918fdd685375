"""The plugin demo's picture: per host the waveform on the bar grid, and below it look-ahead and RTF."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attacca.bridge.demo_measure import Marks, Trace
from attacca.bridge.drawing import INK, PAPER, draw_bars, draw_marks, draw_speed, draw_wave
from attacca.bridge.ring import Samples
from benchmarks.plugin_hosts import Song

_QUIET = "#5d5c57"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one host gave: float32 [samples, 2] each."""

    title: str
    dry: Samples
    wet: Samples
    marks: Marks
    trace: Trace
    figures: dict[str, Any]


def draw_panels(path: Path, panels: list[Panel], song: Song, bar_ppq: Fraction, about: str) -> None:
    """Write the PNG: two rows a panel."""
    seconds = len(song.track) / song.rate
    bar_s = float(bar_ppq * 60 / song.bpm)
    bars = [(number * bar_s, number + 1) for number in range(math.ceil(seconds / bar_s))]
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(12.0, 1.0 + 4.0 * len(panels)), dpi=120, facecolor=PAPER)
        FigureCanvasAgg(figure)
        outer = figure.add_gridspec(
            len(panels), 1, hspace=0.34, left=0.06, right=0.94, top=1 - 1.25 / figure.get_figheight(), bottom=0.06
        )
        for panel, cell in zip(panels, outer, strict=True):
            inner = cell.subgridspec(2, 1, height_ratios=[1.5, 1.0], hspace=0.08)
            wave = figure.add_subplot(inner[0])
            speed = figure.add_subplot(inner[1], sharex=wave)
            draw_wave(wave, panel.dry, panel.wet, song.rate)
            draw_speed(speed, panel.trace, song.rate)
            figure.axes[-1].yaxis.label.set_text("RTF (< 1: real time)")  # of the axes on the right
            for axes in (wave, speed):
                draw_bars(axes, bars, seconds, label=axes is wave, light=False)
                draw_marks(axes, panel.marks, song.rate, label=axes is wave)
            wave.tick_params(labelbottom=False, length=0)
            speed.set_xlabel("seconds", color=INK)
            wave.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=20)
            wave.annotate(
                _facts(panel.figures), (0.21, 1.0), xycoords="axes fraction", xytext=(0, 21),
                textcoords="offset points", fontsize=8.5, color=_QUIET,
            )  # fmt: skip
        top = 1 - 0.42 / figure.get_figheight()
        figure.text(0.06, top, "Attacca", fontsize=19, fontweight="bold", va="center")
        figure.text(0.162, top - 0.003, f"in real hosts, in real time: {about}", fontsize=11.5, va="center")
        figure.savefig(path, facecolor=PAPER)


def _facts(figures: dict[str, Any]) -> str:
    underruns, ahead = figures["underruns"], figures["lookahead_ms"]
    facts = [
        f"start error {figures['start_error_samples']} samples",
        f"underruns {underruns['callbacks']}",
        f"RTF {figures['rtf']['total']}",
        f"look-ahead {ahead['min']:.0f} ms or more",
    ]
    return "   ".join(facts)
