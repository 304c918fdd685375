"""Every piece's figures in one picture: log-mel distance between its bounds, level and stereo errors beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

_INK, _FAINT, _PAPER, _LINE = "#e8e6e3", "#9a98a3", "#14121c", "#2c2938"
_WIDEST_DB = 30.0  # level errors beyond stand at the edge
_STYLES = {  # row: colour, marker, what it is
    "untrained": ("#6b6878", "x", "untrained codec"),
    "phase": ("#5ad1c8", "|", "true amplitudes, our phases"),
    "unquantised": ("#f0c05a", "|", "without the quantiser"),
    "codec": ("#ff7b54", "o", "through the codec"),
}
_PANELS = (
    ("mel_distance", "log-mel distance", tuple(_STYLES)),
    ("level_error_db", "level error, dB", ("codec",)),
    ("stereo_error_db", "stereo error, dB", ("codec",)),
)


def draw(path: Path, report: dict[str, Any]) -> None:
    """Write the picture of a report (see robustness_report): a row for each piece, grouped by kind."""
    items = report["items"]
    figure, axes = pyplot.subplots(
        *(1, 3),
        figsize=(14, 1.6 + 0.2 * len(items)),
        sharey=True,
        gridspec_kw={"width_ratios": [3, 1, 1]},
        facecolor=_PAPER,
    )
    places = -np.arange(len(items), dtype=float)
    for axis, (measure, title, rows) in zip(axes, _PANELS, strict=True):
        _panel(axis, items, places, measure, rows)
        axis.set_title(title, color=_INK, loc="left", fontsize=12)
    axes[0].set_yticks(places, [f"{item['about']}  [{item['kind']}]" for item in items], fontsize=8)
    axes[0].set_ylim(places[-1] - 1.0, 1.0)
    axes[0].set_xlim(left=0.0)
    axes[1].set_xlim(-_WIDEST_DB, _WIDEST_DB / 3)
    axes[1].axvline(0.0, color=_FAINT, linewidth=0.8)
    handles = [axes[0].scatter([], [], color=c, marker=m, label=t) for c, m, t in _shown(items)]
    figure.legend(handles=handles, facecolor=_PAPER, edgecolor=_PAPER, labelcolor=_INK, ncols=4, loc="upper left")
    about = report["model"]
    figure.suptitle(
        f"{about['name']}, {about['sample_rate']} Hz, {about['channels']} channel(s): what it was not trained on",
        color=_FAINT,
        fontsize=10,
        x=0.995,
        ha="right",
    )
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 0.985))
    figure.savefig(path, dpi=100, facecolor=_PAPER)
    pyplot.close(figure)


def _shown(items: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [style for row, style in _STYLES.items() if any(row in item["scores"] for item in items)]


def _panel(axis: Axes, items: list[dict[str, Any]], places: Any, measure: str, rows: tuple[str, ...]) -> None:
    axis.set_facecolor(_PAPER)
    axis.hlines(places, 0, 1, transform=axis.get_yaxis_transform(), color=_LINE, linewidth=0.6)
    for row in rows:
        colour, marker, _ = _STYLES[row]
        found = [
            (item["scores"][row][measure], place)
            for item, place in zip(items, places, strict=True)
            if item["scores"].get(row, {}).get(measure) is not None
        ]
        if found:
            values, heights = zip(*found, strict=True)
            axis.scatter(np.clip(values, -_WIDEST_DB, None), heights, color=colour, marker=marker, s=28, zorder=3)
    axis.tick_params(colors=_FAINT, length=2)
    for side in axis.spines.values():
        side.set_visible(False)
