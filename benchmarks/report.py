"""From songs' scores to what is published: medians with intervals, the JSON file, the table."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from attacca.bridge.machine import commit, machine, versions
from attacca.engine.manifest import Manifest
from benchmarks.measures import MEANS, MEASURES, PLAYED, ROWS
from benchmarks.scores import SongScores

_RESAMPLES = 2000
Report = dict[str, Any]


def median_interval(values: list[float], *, seed: int = 0, mean: bool = False) -> tuple[float, float, float]:
    """Median, or mean, and the bootstrap 95 % interval of it (percentiles over resampled songs)."""
    data = np.asarray(values, np.float64)
    if not len(data):
        raise ValueError("no values to take a median of")
    drawn = np.random.default_rng(seed).integers(len(data), size=(_RESAMPLES, len(data)))
    middle = np.mean if mean else np.median
    low, high = np.percentile(middle(data[drawn], axis=1), [2.5, 97.5])
    return float(middle(data)), float(low), float(high)


def summary(songs: list[SongScores]) -> Report:
    """The model's medians at the top, the other rows under their names, None where a measure means nothing,
    intervals beside, then every song."""
    medians: dict[str, dict[str, float | None]] = {}
    intervals: dict[str, dict[str, list[float] | None]] = {}
    counts: dict[str, dict[str, int]] = {}
    for row in ROWS:
        medians[row], intervals[row], counts[row] = {}, {}, {}
        for measure in MEASURES:
            values = [song.rows[row][measure] for song in songs if measure in song.rows.get(row, {})]
            counts[row][measure] = len(values)
            if values:
                median, low, high = median_interval(values, mean=measure in MEANS)
                medians[row][measure], intervals[row][measure] = median, [low, high]
            else:
                medians[row][measure], intervals[row][measure] = None, None
    own = medians.pop("model")
    return {
        **own,
        **medians,
        "variation": {row: _variation(songs, row) for row in PLAYED},
        "intervals_95": intervals,
        "songs_counted": counts,
        "bits_by_codebook": np.median([song.bits_by_codebook for song in songs], axis=0).tolist(),
        "unigram_bits_by_codebook": np.median([song.unigram_by_codebook for song in songs], axis=0).tolist(),
        "songs": [{"seed": s.seed, "about": s.about, "scores": s.rows} for s in songs],
        "seeds": [song.seed for song in songs],
    }


def _variation(songs: list[SongScores], row: str) -> dict[str, float | bool] | None:
    """Mean overlap with the phrase by amount, and whether it falls with it: of the means, and share of songs."""
    keys = [key for key in MEASURES if key.startswith("variation_")]
    found = [[s.rows[row][key] for key in keys] for s in songs if keys[0] in s.rows.get(row, {})]
    if not found:
        return None
    means = np.mean(found, axis=0)
    return {
        **{key.removeprefix("variation_"): float(mean) for key, mean in zip(keys, means, strict=True)},
        "monotonic": bool((np.diff(means) < 0.0).all()),
        "monotonic_songs": float(np.mean((np.diff(found, axis=1) < 0.0).all(axis=1))),
    }


def make_report(
    songs: list[SongScores], manifest: Manifest, *, seconds: float, apart: list[SongScores] | None = None
) -> Report:
    """The JSON object: `summary` of the songs, of songs in held-out styles under `heldout_styles`, and what ran."""
    return {
        **summary(songs),
        "heldout_styles": summary(apart) if apart else None,
        "rows": ROWS,
        "measures": {name: words for name, (_, words) in MEASURES.items()},
        "means": list(MEANS),
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "sampling": msgspec.to_builtins(manifest.sampling),
            "provenance": dict(manifest.provenance),
        },
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": seconds,
    }


def make_table(report: Report, *, block: str | None = None) -> Table:
    """Measures down, what was played across, intervals beneath the medians; of the report or a block of it."""
    part: Report = report if block is None else report[block]
    shown = [row for row in ROWS if row == "model" or any(v is not None for v in part[row].values())]
    songs = "held-out songs" if block is None else "songs in styles never trained on"
    table = Table(title=f"{report['model']['name']} on {len(part['seeds'])} {songs}: medians, 95 % intervals")
    table.add_column("")
    for row in shown:
        table.add_column(f"{row.replace('_', ' ')}\n[dim]{ROWS[row]}[/dim]", justify="right")
    for measure in MEASURES:
        heading = MEASURES[measure][0].format(drift_bars=report.get("drift_bars", 64))
        cells = [f"{heading}{' (mean)' if measure in MEANS else ''}"]
        for row in shown:
            value = part[measure] if row == "model" else part[row][measure]
            interval = part["intervals_95"][row][measure]
            if value is None or interval is None:
                cells.append("")
            else:
                cells.append(f"{_shown(value)}\n[dim]{_shown(interval[0])}–{_shown(interval[1])}[/dim]")
        if any(cells[1:]):
            table.add_row(*cells)
    return table


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
