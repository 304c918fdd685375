"""The picture of the comparison of patterns: what is heard against what it costs, and what is learned against both
updates and processor time. Reads the report (benchmarks/patterns_report.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

_INK, _PAPER, _COLOURS = (
    "#e8e6e3",
    "#14121c",
    ("#a8a2c0", "#c77d5a", "#5ad1c8", "#e0c060", "#9ad15a", "#d15a9a", "#5a8ad1"),
)


def make_figure(report: Mapping[str, Any], path: Path) -> None:
    """Distance over cost (bits over cost where nothing was played), bits by codebook, and both learning curves."""
    trained = {name: row for name, row in report["patterns"].items() if "bits" in row}
    colour = dict(zip(trained, _COLOURS, strict=True))
    figure, axes = pyplot.subplots(2, 2, figsize=(13, 9), facecolor=_PAPER)
    (cost, books), (updates, seconds) = axes
    _draw_cost(cost, report, trained, colour)
    delays = np.array(trained["delay"]["bits"])
    for name, row in trained.items():
        books.plot(range(1, len(delays) + 1), np.array(row["bits"]) - delays, "o-", color=colour[name], label=name)
        for seed, curve in enumerate(row["curves"]):
            bits = [point["bits_per_frame"] for point in curve]
            for axis, key in ((updates, "updates"), (seconds, "cpu_s")):
                label = name if seed == 0 else None
                axis.plot([point[key] for point in curve], bits, ".-", color=colour[name], lw=1.2, label=label)
    books.set_xlabel("codebook, coarse to fine")
    books.set_ylabel("held-out bits less delay's")
    books.set_xticks(range(1, len(delays) + 1))
    for axis, label in ((updates, "updates"), (seconds, "seconds of processor time of training (log)")):
        axis.axhline(sum(report["unigram_bits"]), color=_INK, ls=":", lw=1, label="unigrams")
        axis.set_xlabel(label)
        axis.set_ylabel("held-out bits per frame")
    seconds.set_xscale("log")
    for axis in (cost, books, updates, seconds):
        _dress(axis)
    cost.legend(facecolor=_PAPER, labelcolor=_INK, edgecolor="#3a3746", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_cost(
    axis: Axes, report: Mapping[str, Any], trained: Mapping[str, Any], colour: Mapping[str, str]
) -> None:
    """Value and interval over what a second of audio costs, or an update where nothing was played."""
    played = "codec" in report["patterns"]
    measure, cost = ("frechet_trained", "ms_per_s") if played else ("bits_per_frame", "train_cpu_s_per_update")
    for name, row in trained.items():
        value, (low, high) = row[measure]["value"], row[measure]["interval_95"]
        error = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axis.errorbar(row[cost], value, yerr=error, fmt="o", color=colour[name], capsize=3, label=name)
    if played:
        axis.axhline(report["patterns"]["codec"][measure]["value"], color=_INK, ls=":", lw=1, label="codec alone")
    axis.set_xlabel("decoder: ms of one thread per second of audio" if played else "processor seconds an update")
    axis.set_ylabel("Fréchet distance, trained embedding, 95 %" if played else "held-out bits per frame, 95 %")


def _dress(axis: Axes) -> None:
    axis.set_facecolor(_PAPER)
    axis.tick_params(colors=_INK, which="both")
    axis.xaxis.label.set_color(_INK)
    axis.yaxis.label.set_color(_INK)
    for spine in axis.spines.values():
        spine.set_color("#3a3746")
    axis.grid(color="#2a2736", lw=0.6)
