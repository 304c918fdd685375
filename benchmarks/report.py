"""From songs' scores to what is published: medians with intervals, the JSON file, the table."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.table import Table

from attacca.bridge.machine import commit, machine, versions
from attacca.engine.manifest import Manifest
from benchmarks.scores import MEASURES, ROWS, SongScores

_RESAMPLES = 2000
_MEANS = ("instrument_presence",)  # of few answers a song: a median would hide the songs that fail
Report = dict[str, Any]
_HEADINGS = {
    "onset_f1_70ms": "onset F1\n70 ms",
    "onset_f1_25ms": "onset F1\n25 ms",
    "chord_match": "chord\nmatch",
    "drift_ms_64_bars": "drift, ms\n64 bars",
    "tempo_step_f1": "tempo\nstep F1",
    "instrument_presence": "players\nswitched",
    "mel_distance": "log-mel\ndistance",
    "si_sdr_db": "SI-SDR\ndB",
    "bits_per_frame": "bits per\nframe",
    "seam_loudness_db": "seam\nlevel, dB",
    "seam_flux_percentile": "seam flux\npercentile",
}


def median_interval(values: list[float], *, seed: int = 0, mean: bool = False) -> tuple[float, float, float]:
    """Median, or mean, and the bootstrap 95 % interval of it (percentiles over resampled songs)."""
    data = np.asarray(values, np.float64)
    if not len(data):
        raise ValueError("no values to take a median of")
    drawn = np.random.default_rng(seed).integers(len(data), size=(_RESAMPLES, len(data)))
    middle = np.mean if mean else np.median
    low, high = np.percentile(middle(data[drawn], axis=1), [2.5, 97.5])
    return float(middle(data)), float(low), float(high)


def make_report(songs: list[SongScores], manifest: Manifest, *, seconds: float) -> Report:
    """The JSON object: the model's medians at the top, the other rows under their names, None where a measure means
    nothing, intervals beside, then every song."""
    medians: dict[str, dict[str, float | None]] = {}
    intervals: dict[str, dict[str, list[float] | None]] = {}
    for row in ROWS:
        medians[row], intervals[row] = {}, {}
        for measure in MEASURES:
            values = [song.rows[row][measure] for song in songs if measure in song.rows.get(row, {})]
            if values:
                median, low, high = median_interval(values, mean=measure in _MEANS)
                medians[row][measure], intervals[row][measure] = median, [low, high]
            else:
                medians[row][measure], intervals[row][measure] = None, None
    own = medians.pop("model")
    return {
        **own,
        **medians,
        "intervals_95": intervals,
        "bits_by_codebook": np.median([song.bits_by_codebook for song in songs], axis=0).tolist(),
        "unigram_bits_by_codebook": np.median([song.unigram_by_codebook for song in songs], axis=0).tolist(),
        "rows": ROWS,
        "songs": [{"seed": s.seed, "about": s.about, "scores": s.rows} for s in songs],
        "seeds": [song.seed for song in songs],
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "sampling": {name: getattr(manifest.sampling, name) for name in ("temperature", "top_k", "guidance")},
            "provenance": dict(manifest.provenance),
        },
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": seconds,
    }


def make_table(report: Report) -> Table:
    """What was played down, measures across, intervals beneath the medians."""
    shown = [row for row in ROWS if row == "model" or any(v is not None for v in report[row].values())]
    count = len(report["seeds"])
    table = Table(title=f"{report['model']['name']} on {count} held-out songs: medians and 95 % intervals")
    table.add_column("")
    for measure in MEASURES:
        table.add_column(_HEADINGS[measure], justify="right")
    for row in shown:
        cells = [f"{row.replace('_', ' ')}\n[dim]{ROWS[row]}[/dim]"]
        for measure in MEASURES:
            value = report[measure] if row == "model" else report[row][measure]
            interval = report["intervals_95"][row][measure]
            if value is None or interval is None:
                cells.append("")
            else:
                cells.append(f"{_shown(value)}\n[dim]{_shown(interval[0])}–{_shown(interval[1])}[/dim]")
        table.add_row(*cells)
    return table


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
