"""The bench on the terminal and on disk: progress while it runs, then the table, the JSON and the pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from attacca.bridge.bench_plan import Job, Report
from attacca.bridge.tables import console, print_rows

_TIMES = ("calls", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "RTF")
_STEPS = ("model", "pattern", "backend", "precision", "threads", "rows", "context", *_TIMES, "MB/step", "of memory")
_OTHERS = ("what", "one call", "takes", *_TIMES)
STDOUT = Path("-")


def measured(jobs: Iterable[Job]) -> Report:
    """Do all jobs, a line of progress on stderr meanwhile."""
    report = Report()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        for job in jobs:
            bar.update(task, description=job.label)
            job.do(report)
    return report


def print_report(told: dict[str, Any], to: Path | None, plot: Path | None) -> None:
    """The report where it was asked for. OSError if a file cannot be written."""
    if to is not None and to != STDOUT:
        to.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if to == STDOUT:
        print(json.dumps(told, indent=1, allow_nan=False))
    else:
        print_table(told)
    if plot is not None:
        from attacca.bridge.bench_plot import draw_bench

        for path in draw_bench(told, plot):
            print(f"written: {path}", file=sys.stderr)


def print_table(told: dict[str, Any]) -> None:
    """Rows, figures, ratios and what they hang on."""
    title = f"attacca bench: {told['model']}" + (", quick" if told["quick"] else "")
    steps = [_step_cells(row) for row in told["rows"] if row["group"] == "step"]
    others = [_other_cells(row) for row in told["rows"] if row["group"] != "step"]
    if steps:
        print_rows(f"{title}: decoder steps", _STEPS, steps, numeric=_STEPS[4:])
    if others:
        print_rows(f"{title}: the path", _OTHERS, others, numeric=_OTHERS[2:])
    cells = [(figure["name"], _number(figure["value"]), figure["unit"], figure["of"]) for figure in told["figures"]]
    if cells:
        print_rows("", ("figure", "", "unit", "of"), cells, numeric=("",))
    if told["ratios"]:
        print_rows("", ("ratio", "times"), [(k, f"{v:.2f}") for k, v in told["ratios"].items()], numeric=("times",))
    print_shares(told)
    say = console().print
    names = {
        "rtf_decoder": "decoder",
        "rtf_codec": "codec",
        "rtf_total": "whole path",
        "rtf_listening": "listening",
    }
    parts = [f"{names[key]} {value:.3f}" for key, value in told["rtf"].items()]
    if parts:
        say(f"RTF: {', '.join(parts)} (below 1 is real time)")
    speeds = [f"{count} thread(s) {found['read'] / 1e9:.1f} GB/s" for count, found in told["bandwidth"].items()]
    if speeds:
        say(f"memory read: {', '.join(speeds)}")
    for line in told["left_out"]:
        say(f"left out: {line}")
    about = told["machine"]
    say(f"{about['cpu']}, {about['cores']} cores, load {about['load']}, {told['threads']} thread(s) a model")


def print_shares(told: dict[str, Any]) -> None:
    """A chunk's time beside neighbours, and what rows cost in a step."""
    shares = ("p50", "p99", "p999", "max")
    chunks = [
        (str(chunk["busy"]), str(chunk["chunks"]), *(f"{chunk[share]:.2f}" for share in shares))
        for chunk in told["chunks"]
    ]
    if chunks:
        head = ("busy", "chunks", "p50", "p99", "p99.9", "max")
        print_rows("time of a chunk over its duration", head, chunks, numeric=head)
    figures = ("shared_ms", "row_ms", "wanted_row_ms", "ratio")
    costs = [
        (line["model"], line["backend"], line["precision"], *(f"{line[figure]:.3f}" for figure in figures))
        for line in told["lines"]
    ]
    if costs:
        names = ("model", "backend", "precision", "shared ms", "a row ms", "for 1.35", "stack-delay over delay")
        print_rows("a step's processor time by rows", names, costs, numeric=names[3:])


def _step_cells(row: dict[str, Any]) -> tuple[str, ...]:
    size, fraction = row["bytes_per_step"], row["bandwidth_fraction"]
    return (
        *(str(row[key]) for key in ("model", "pattern", "backend", "precision", "threads", "rows", "context")),
        *_times(row),
        "" if size is None else f"{size / 1e6:.1f}",
        "" if fraction is None else f"{fraction:.2f}",
    )


def _other_cells(row: dict[str, Any]) -> tuple[str, ...]:
    takes = str(row["takes"]) + (f" (+{row['busy']} busy)" if row["busy"] else "")
    return (row["name"], row["call"], takes, *_times(row))


def _times(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["calls"]),
        *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms")),
        "" if row["rtf"] is None else f"{row['rtf']:.3f}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
