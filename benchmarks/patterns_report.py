"""What the comparison of patterns found: report, table, picture, and where it agrees with the paper.

Reads what benchmarks/patterns.py measured; no model here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from rich.table import Table

from attacca.bridge.machine import commit, machine, versions
from benchmarks.frechet import frechet_interval
from benchmarks.report import median_interval

if TYPE_CHECKING:
    from benchmarks.patterns import Heard

_MEASURES = ("onset_f1_70ms", "onset_f1_25ms", "chord_match")
_INK, _PAPER, _COLOURS = (
    "#e8e6e3",
    "#14121c",
    ("#7f7a94", "#c77d5a", "#5ad1c8", "#e0c060", "#9ad15a", "#d15a9a", "#5a8ad1"),
)
Report = dict[str, Any]


def make_report(
    rows: dict[str, dict[str, Any]], heard: dict[str, list[Heard]], real: Heard, *, skill: dict[str, float]
) -> Report:
    """The JSON object. Distances and scores are over all seeds' continuations, intervals over songs."""
    patterns: dict[str, dict[str, Any]] = {}
    for name, plays in heard.items():
        row = dict(rows.get(name, {}))
        for kind in real.vectors:
            songs = [np.concatenate([play.vectors[kind][i] for play in plays]) for i in range(len(real.scores))]
            found, low, high = frechet_interval(songs, real.vectors[kind])
            row[f"frechet_{kind}"] = {"value": found, "interval_95": [low, high]}
        for measure in _MEASURES:
            values = [score[measure] for play in plays for score in play.scores if measure in score]
            if values:
                median, low, high = median_interval(values)
                row[measure] = {"value": median, "interval_95": [low, high]}
        if "bits" in row:
            row["bits_per_frame"] = [float(sum(bits)) for bits in row["bits"]]  # of each seed's model
            row["bits"] = np.mean(row["bits"], axis=0).tolist()
        patterns[name] = row
    return {
        "patterns": patterns,
        "real": {m: float(np.median([s[m] for s in real.scores if m in s])) for m in _MEASURES},
        "embedding_skill": skill,
        "against_the_paper": against_the_paper(patterns),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def against_the_paper(patterns: dict[str, dict[str, Any]]) -> list[str]:
    """Le Lan et al.'s statements beside ours, in words with figures; whether the intervals overlap decides."""

    def compare(name: str, other: str, claim: str) -> str:
        one, two = (patterns[n]["frechet_trained"] for n in (name, other))
        change = 100.0 * (one["value"] / two["value"] - 1.0)
        (low, high), (other_low, other_high) = one["interval_95"], two["interval_95"]
        apart = high < other_low or low > other_high
        cost = patterns[name]["ms_per_s"] / patterns[other]["ms_per_s"]
        return (
            f"{name} against {other}: Fréchet distance {change:+.0f} % at {cost:.2f} x the time "
            f"({'intervals apart' if apart else 'within the intervals, so not told apart'}); the paper: {claim}"
        )

    return [
        compare("flat", "delay", "-39 % at 4 x the time"),
        compare("stack", "flat", "below flat"),
        compare("stack-delay p=3", "delay", "-45 % at delay's speed"),
        compare("stack-delay p=1", "delay", "only marginally below"),
    ]


def make_table(report: Report) -> Table:
    """Patterns down, measures across, intervals beneath."""
    table = Table(title="codebook patterns, trained and scored alike")
    table.add_column("")
    heads = ("steps\nfor 10 s", "slots kept\nfor 10 s", "ms per s\nof audio", "RTF", "bits per\nframe")
    measures = {
        "frechet_trained": "Fréchet,\ntrained",
        "frechet_log_mel": "Fréchet,\nlog-mel",
        "onset_f1_70ms": "onset F1\n70 ms",
        "onset_f1_25ms": "onset F1\n25 ms",
        "chord_match": "chord\nmatch",
    }
    for head in (*heads, *measures.values()):
        table.add_column(head, justify="right")
    for name, row in report["patterns"].items():
        cells = [name]
        if "ms_per_s" in row:
            cells += [f"{row['steps_for_10_s']}", f"{row['context_slots_for_10_s']}", f"{row['ms_per_s']:.0f}"]
            bits = row["bits_per_frame"]
            spread = f"\n[dim]{min(bits):.2f}–{max(bits):.2f}[/dim]" if len(bits) > 1 else ""
            cells += [f"{row['rtf']:.3f}", f"{np.mean(bits):.2f}{spread}"]
        else:
            cells += [""] * len(heads)
        for measure in measures:
            found = row.get(measure)
            if found is None:
                cells.append("")
                continue
            low, high = found["interval_95"]
            cells.append(f"{found['value']:.2f}\n[dim]{low:.2f}–{high:.2f}[/dim]")
        table.add_row(*cells)
    return table


def make_figure(report: Report, path: Path) -> None:
    """Distance over cost, and bits by codebook."""
    trained = {name: row for name, row in report["patterns"].items() if "ms_per_s" in row}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), facecolor=_PAPER)
    for (name, row), colour in zip(trained.items(), _COLOURS, strict=True):
        found = row["frechet_trained"]
        low, high = found["interval_95"]
        error = [[max(0.0, found["value"] - low)], [max(0.0, high - found["value"])]]
        left.errorbar(row["ms_per_s"], found["value"], yerr=error, fmt="o", color=colour, capsize=3, label=name)
        right.plot(range(1, len(row["bits"]) + 1), row["bits"], "o-", color=colour, label=name)
    left.axhline(
        report["patterns"]["codec"]["frechet_trained"]["value"], color=_INK, ls=":", lw=1, label="codec alone"
    )
    left.set_xlabel("ms of one thread per second of audio (decoder)")
    left.set_ylabel("Fréchet distance (trained embedding), 95 %")
    right.set_xlabel("codebook, coarse to fine")
    right.set_ylabel("held-out bits")
    right.set_xticks(range(1, 1 + max(len(row["bits"]) for row in trained.values())))
    for axis in (left, right):
        axis.set_facecolor(_PAPER)
        axis.tick_params(colors=_INK)
        axis.xaxis.label.set_color(_INK)
        axis.yaxis.label.set_color(_INK)
        for spine in axis.spines.values():
            spine.set_color("#3a3746")
        axis.grid(color="#2a2736", lw=0.6)
    left.legend(facecolor=_PAPER, labelcolor=_INK, edgecolor="#3a3746", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
