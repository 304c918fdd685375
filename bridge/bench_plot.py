"""Pictures of a bench: what cost grows with, and steps against each other. matplotlib is imported to draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attacca.bridge.drawing import INK, PAPER

_LINE, _FAINT = "#e2572b", "#c9c8c2"
_TAIL = "#f3b49f"


def draw_bench(told: dict[str, Any], folder: Path) -> list[Path]:
    """Write growth.png and steps.png, what there is to draw; the files. ImportError without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if told["growth"]:
        written.append(draw_growth(told["growth"], folder / "growth.png"))
    steps = [row for row in told["rows"] if row["group"] == "step"]
    if steps:
        written.append(draw_steps(steps, folder / "steps.png"))
    return written


def draw_growth(growth: list[dict[str, Any]], path: Path) -> Path:
    """A panel for each series: median milliseconds of a call against what grows, from zero on."""
    figure, panels = _figure(len(growth), 3.4)
    for axes, series in zip(panels, growth, strict=True):
        axes.plot(series["x"], series["p50_ms"], color=_LINE, linewidth=1.6, marker="o", markersize=3.5)
        axes.set_ylim(0.0, 1.25 * max(series["p50_ms"]))
        axes.set_xlim(left=0.0)
        unit = f", {series['unit']}" if series["unit"] else ""
        axes.set_xlabel(f"{series['against']}{unit}", color=INK)
        axes.set_ylabel(f"ms per {series['of']}, p50", color=INK)
    return _saved(figure, path)


def draw_steps(rows: list[dict[str, Any]], path: Path) -> Path:
    """A bar for each step row; see draw_shares."""
    names = ("model", "pattern", "backend", "precision")
    labels = [
        "  ".join([*(row[name] for name in names), f"context {row['context']}", f"{row['threads']} thr."])
        for row in rows
    ]
    return draw_shares(list(zip(labels, rows, strict=True)), path)


def draw_shares(bars: list[tuple[str, dict[str, Any]]], path: Path) -> Path:
    """A bar for each (label, row): the median as a share of the audio it stands for, and p99 behind it."""
    figure, (axes,) = _figure(1, 1.0 + 0.24 * len(bars), width=11.0)
    places = list(range(len(bars)))[::-1]
    medians, tails = (
        [100.0 * row[key] / row["audio_ms"] if row["audio_ms"] else 0.0 for _, row in bars]
        for key in ("p50_ms", "p99_ms")
    )
    axes.barh(places, tails, height=0.62, color=_TAIL, label="p99")
    axes.barh(places, medians, height=0.62, color=_LINE, label="p50")
    axes.set_yticks(places, [label for label, _ in bars], fontsize=7.5)
    if max(tails, default=0.0) > 60.0:
        axes.axvline(100.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlabel("share of real time, %", color=INK)
    axes.legend(frameon=False, loc="lower right")
    return _saved(figure, path)


def _figure(panels: int, height: float, width: float | None = None) -> tuple[Any, list[Any]]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {"font.family": "DejaVu Sans", "font.size": 9, "axes.edgecolor": _FAINT, "text.color": INK}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width or 3.6 * panels, height), dpi=130, facecolor=PAPER)
        FigureCanvasAgg(figure)
        found = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in found:
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=INK, length=2)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, found


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, facecolor=PAPER)
    return path
