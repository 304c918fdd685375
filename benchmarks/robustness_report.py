"""From the measures of every piece to what is published: medians by kind, the JSON file, the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from attacca.bridge.machine import commit, machine, versions
from attacca.engine.bundle import Model
from benchmarks.robustness_items import Item

if TYPE_CHECKING:
    from benchmarks.robustness import ItemScores

DECODE_LIMIT_MS = 40.0  # per second of audio, one thread
ROWS = {
    "codec": "through the codec",
    "unquantised": "without its quantiser",
    "phase": "true amplitudes, our phases",
    "untrained": "untrained codec",
}
MEASURES = ("mel_distance", "si_sdr_db", "level_error_db", "stereo_error_db")
NOTES = {
    "mel_distance": "mean |difference| of log10 mel spectra, 30 Hz to 20 kHz, under the input's level; 0.1 is 2 dB",
    "si_sdr_db": "compares waveforms; phases are made from amplitudes, so it is far below 0 dB, for the bound too",
    "level_error_db": "level out less level in",
    "stereo_error_db": "mean error of left against right, in bands, weighted by the input",
    "decode_ms_per_s": "CPU time of one thread per second of audio, all at once; chunked: five frames at a time",
}
Report = dict[str, Any]


def make_report(
    done: Sequence[ItemScores], skipped: Sequence[tuple[Item, str]], model: Model, *, cpu_s: float
) -> Report:
    """The JSON object: what must hold for all, medians by kind, then every piece, then what was not there."""
    kinds = list(dict.fromkeys(scores.item.kind for scores in done))
    trips = [scores.trip for scores in done]
    times = [trip.decode_ms_per_s for trip in trips]
    quiet = [scores.rows["codec"]["out_dbfs"] for scores in done if scores.item.name == "silence-digital"]
    return {
        "decode_ms_per_s": {
            "median": float(np.median(times)) if times else None,
            "max": max(times, default=None),
            "limit": DECODE_LIMIT_MS,
            "chunked_median": float(np.median([trip.chunked_ms_per_s for trip in trips])) if trips else None,
        },
        "chunked_max_difference": max((trip.chunked_difference for trip in trips), default=0.0),
        "nonfinite_samples": sum(trip.nonfinite_samples for trip in trips),
        "silence_out_dbfs": quiet[0] if quiet else None,
        "all": _medians(done),
        "kinds": {kind: _medians([s for s in done if s.item.kind == kind]) for kind in kinds},
        "items": [_item(scores) for scores in done],
        "skipped": [{"name": item.name, "about": item.about, "package": package} for item, package in skipped],
        "rows": ROWS,
        "notes": NOTES,
        "model": {
            "name": model.manifest.name,
            "version": model.manifest.version,
            "sample_rate": model.codec.sample_rate,
            "channels": model.codec.audio_channels,
            "num_codebooks": model.codec.num_codebooks,
        },
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu_s": round(cpu_s, 1),
    }


def _item(scores: ItemScores) -> dict[str, Any]:
    item = scores.item
    return {
        "name": item.name,
        "kind": item.kind,
        "about": item.about,
        "package": item.package,
        "licence": item.licence,
        "rate": scores.rate,
        "channels": scores.channels,
        "seconds": round(scores.seconds, 3),
        "scores": scores.rows,
        "decode_ms_per_s": scores.trip.decode_ms_per_s,
        "chunked_difference": scores.trip.chunked_difference,
    }


def _medians(done: Sequence[ItemScores]) -> dict[str, dict[str, float | None]]:
    """By row and measure; levels and sides as sizes of their errors."""
    out: dict[str, dict[str, float | None]] = {}
    for row in ROWS:
        if any(row in scores.rows for scores in done):
            out[row] = {}
            for measure in MEASURES:
                found = [scores.rows[row][measure] for scores in done if row in scores.rows]
                values = [value for value in found if value is not None]
                sizes = np.abs(values) if measure == "level_error_db" else values
                out[row][measure] = float(np.median(sizes)) if values else None
    return out


def make_table(report: Report) -> Table:
    """Kinds down, the codec's measures across with the log-mel distances of its bounds beside."""
    about = report["model"]
    table = Table(
        title=f"{about['name']}, {about['sample_rate']} Hz, {about['channels']} channel(s), "
        f"{about['num_codebooks']} codebooks: medians of {len(report['items'])} pieces",
        caption=_caption(report),
        caption_justify="left",
    )
    rows = [row for row in ROWS if row in report["all"]]
    table.add_column("")
    table.add_column("pieces", justify="right")
    for row in rows:
        table.add_column(f"log-mel distance\n[dim]{ROWS[row]}[/dim]", justify="right")
    table.add_column("SI-SDR, dB\n[dim]codec (phase bound)[/dim]", justify="right")
    table.add_column("|level error|\ndB", justify="right")
    table.add_column("stereo error\ndB", justify="right")
    for kind, medians in [*report["kinds"].items(), ("all", report["all"])]:
        if not medians:
            continue
        count = sum(kind in ("all", item["kind"]) for item in report["items"])
        codec = medians["codec"]
        sdr = f"{_shown(codec['si_sdr_db'])} ({_shown(medians['phase']['si_sdr_db'])})"
        cells = [_shown(medians[row]["mel_distance"], 2) for row in rows]
        cells += [sdr, _shown(codec["level_error_db"]), _shown(codec["stereo_error_db"])]
        table.add_row(kind, str(count), *cells, end_section=kind == list(report["kinds"])[-1])
    return table


def _caption(report: Report) -> str:
    decode = report["decode_ms_per_s"]
    lines = [
        f"decode: {_shown(decode['median'])} ms CPU per second of audio, at most {_shown(decode['max'])} "
        f"({_shown(decode['chunked_median'])} in chunks of five frames; limit {decode['limit']:.0f}); "
        f"chunked against whole: {report['chunked_max_difference']:g}; "
        f"samples not finite: {report['nonfinite_samples']}; "
        f"digital silence comes out at {_shown(report['silence_out_dbfs'])} dBFS",
    ]
    if report["skipped"]:
        packages = sorted({package for piece in report["skipped"] for package in piece["package"].split()})
        lines.append(f"skipped: {len(report['skipped'])} pieces; on Debian: apt-get install {' '.join(packages)}")
    return "\n".join(lines)


def _shown(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
