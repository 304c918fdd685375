"""Speed of this machine with a model: `attacca bench`. The run as a whole, and the report that it becomes.

Beside the path. Rows come from the jobs of bridge/bench_plan.py; each is warmed up, separates its first output,
and judges tails (p50, p99, p99.9, max), not means. Nothing here needs torch; sizes that nobody trained need onnx
and are left out, and said to be, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attacca.bridge import bench_growth
from attacca.bridge.bench_growth import Series
from attacca.bridge.bench_path import chunk_shares
from attacca.bridge.bench_plan import QUICK, BenchOptions, Plan, Report
from attacca.bridge.bench_rows import Row, Subject, as_json
from attacca.bridge.config import Settings
from attacca.bridge.machine import commit, machine, versions
from attacca.engine.bundle import find_bundle

__all__ = ["QUICK", "BenchOptions", "as_report", "ratios", "run", "totals"]


def ratios(rows: Sequence[Row], growth: Sequence[Series]) -> dict[str, float]:
    """{against: value}: what a row costs, beside one that differs from it in one thing; per second of audio."""
    found: dict[str, float] = {}
    steps = [row for row in rows if row.name == "decoder step" and row.rtf]
    if steps:
        first = steps[0]
        delay = next((row for row in steps if _alike(row, first) and row.subject.pattern == "delay"), None)
        for row in steps:
            if delay is not None and delay.rtf and row.rtf and row is not delay and _alike(row, delay):
                found[f"{row.subject.pattern} against delay"] = row.rtf / delay.rtf
        found |= _own_ratios(steps)
    whole = [row for row in rows if row.name == "whole path" and row.rtf]
    alone = next((row for row in whole if row.takes == 1 and not row.busy), None)
    for row in whole:
        if alone is not None and alone.rtf and row.rtf and row is not alone:
            told = neighbours(row.busy) if row.busy else f"{row.takes} takes"
            found[f"whole path, {told} against one take alone"] = row.rtf / alone.rtf
    for series in growth:
        grown = bench_growth.growth(series)
        if series.against == "take length" and grown is not None:
            found["end of the longest take against its beginning"] = grown
    return {name: round(value, 4) for name, value in found.items()}


def _own_ratios(steps: Sequence[Row]) -> dict[str, float]:
    """Of the model's own step: on our kernels against onnxruntime, and of other numbers of threads."""
    first, found = steps[0], {}
    mark = replace(first.subject, backend="", threads=0)
    own = [row for row in steps if replace(row.subject, backend="", threads=0) == mark]
    for base in (row for row in own if row.subject.threads == first.subject.threads and row.rtf):
        if base.subject.backend != first.subject.backend:
            against = f"{first.subject.backend} against {base.subject.backend}"
            found[against] = (first.rtf or 0.0) / (base.rtf or 1.0)
        for row in own:
            if row.subject == replace(base.subject, threads=row.subject.threads) and row is not base and base.rtf:
                against = f"{row.subject.threads} threads against {base.subject.threads}"
                found[against] = (row.rtf or 0.0) / base.rtf
    return found


def neighbours(count: int) -> str:
    """In words."""
    return f"{count} busy neighbour{'s' if count > 1 else ''}"


def _alike(row: Row, other: Row) -> bool:
    """Whether two step rows differ in nothing but pattern and rows."""
    return replace(row.subject, pattern="", rows=0) == replace(other.subject, pattern="", rows=0)


def totals(rows: Sequence[Row]) -> dict[str, float]:
    """RTF of the decoder, of decoding to audio, of all that a playing take costs, and of listening, where known."""
    rtf = {row.name: row.rtf for row in reversed(rows) if row.rtf is not None and row.takes == 1 and not row.busy}
    sums = {
        "rtf_decoder": ("decoder step",),
        "rtf_codec": ("codec decode",),
        "rtf_total": ("whole path",),
        "rtf_listening": ("codec encode", "prefill"),
    }
    return {name: sum(rtf[part] for part in parts) for name, parts in sums.items() if all(p in rtf for p in parts)}


def as_report(report: Report, subject: Subject, options: BenchOptions) -> dict[str, Any]:
    """Everything for machines."""
    growth = [*report.growth, *bench_growth.series_of(report.rows)]
    return {
        "model": subject.model,
        "threads": subject.threads,
        "quick": options.quick,
        "options": asdict(options),
        "rows": [as_json(row) for row in report.rows],
        "figures": [asdict(figure) for figure in report.figures],
        "growth": [asdict(series) for series in growth],
        "chunks": chunk_shares(report.rows),
        "lines": [asdict(line) | {"wanted_row_ms": round(line.wanted_row_ms, 5)} for line in report.lines],
        "ratios": ratios(report.rows, growth),
        "rtf": totals(report.rows),
        "bandwidth": report.bandwidth,
        "left_out": report.left_out,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }


def run(
    settings: Settings,
    options: BenchOptions,
    *,
    to: Path | None = None,
    plot: Path | None = None,
    arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """Load, measure, print, write; ManifestError if the model cannot be loaded.

    `to`: JSON file, "-" for stdout in place of the table; `plot`: folder of pictures; `arguments`: further flags
    of `attacca serve`. Main thread; minutes, or less than one where quick.
    """
    from attacca.bridge.bench_print import measured, print_report
    from attacca.bridge.loading import load_model, sampling_flags, sampling_of

    name = "fake" if settings.fake else settings.model
    model, sampling = load_model(settings), sampling_of(settings)
    named = ["--fake"] if settings.fake else ["--model", settings.model]
    flags = (
        "--threads",
        str(settings.threads),
        "--backend",
        settings.backend,
        "--log-level",
        "warning",
        *arguments,
        *sampling_flags(settings),
    )
    plan = Plan(
        model,
        Path(name).name,
        sampling,
        options,
        threads=settings.threads,
        reload=lambda threads, backend: load_model(replace(settings, threads=threads, backend=backend)),
        folder=None if settings.fake else find_bundle(settings.model),
        engine_arguments=(*flags, *named),
    )
    told = as_report(measured(plan.jobs()), plan.subject, options)
    print_report(told, to, plot)
    return told
