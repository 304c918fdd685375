"""The picture of benchmarks/gpu.py: milliseconds a step by case and flavour; takes that share steps, by time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def draw(told: dict[str, Any], path: Path) -> None:
    """Write the picture of a report."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    rows = told["steps"]
    places = range(len(rows))
    device = [row["device_ms"] for row in rows]
    left.barh(places, device, label="device", color="#2a9d8f")
    gaps = [max(0.0, row["launch_gap_ms"]) for row in rows]
    left.barh(places, gaps, left=device, label="launch gap, host", color="#e9c46a")
    left.set_yticks(places, [f"{row['case']}\n{row['flavour']}" for row in rows], fontsize=7)
    left.invert_yaxis()
    left.set_xlabel("ms per step, one take, queued")
    left.legend()
    for case in dict.fromkeys(row["case"] for row in told["takes"]):
        found = [row for row in told["takes"] if row["case"] == case and "failed" not in row]
        counts = [row["takes"] for row in found]
        right.plot(counts, [row["rtf_each"] for row in found], marker="o", label=f"{case}: steps")
    served = told["engine"]
    if served:
        counts = [row["takes"] for row in served]
        right.plot(counts, [row["rtf"] for row in served], "k--s", label=f"{served[0]['bundle']}: whole path")
    right.axhline(1.0, color="#888888", linewidth=0.8)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xlabel("takes in one step")
    right.set_ylabel("real-time factor of each")
    if told["takes"] or served:
        right.legend(fontsize=7)
    gpu = (told["environment"] or {}).get("gpu", "unknown")
    figure.suptitle(f"Decoder steps on {gpu}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
