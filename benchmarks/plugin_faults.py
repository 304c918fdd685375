"""One run of the built CLAP while its engine is killed, started again and frozen: a picture and its figures.

`python -m benchmarks.plugin_faults --build build/plugin --png docs/img/faults.png` plays the fault tests' scene
(tests/plugin/fault_scene.py) with the default model in real time, and measures what was recorded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attacca.bridge.demo_material import load_material
from attacca.bridge.drawing import INK, PAPER, draw_bars

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "plugin"))

from clap_host import ClapHost  # noqa: E402
from clicks import clicks, near_seams  # noqa: E402
from fault_run import TICK, Watched  # noqa: E402
from fault_scene import BPM, FROZEN_S, KILLED_S, RATE, START_PPQ, THAWED_S, Engine, killed_and_frozen, lines_of  # noqa: E402

COLOURS = {"playing": "#e2572b", "bridging": "#5c7a99", "late": "#c9c8c2", "armed": "#c9c8c2", "idle": "#c9c8c2"}
WORDS = {"playing": "the model, as committed", "bridging": "bridged: its plan, then the last bar"}
SECONDS = 10.0
_FAULT, _BACK, _BINS_PER_S = "#8a3ffc", "#0f8b8d", 250


def riff(file: Path) -> None:
    """What the plugin hears: the demo's riff, at half the scene's tempo and on its grid, throughout."""
    bpm = BPM / 2
    material = load_material(None, sample_rate=RATE, bpm=float(bpm), meter=None, needed_bars=1)
    track = material.track.render(START_PPQ / 2, bpm / (60 * RATE), round(SECONDS * RATE), 2)
    track.astype("<f4").tofile(file)


def measured(run: Watched, returned: list[int]) -> dict[str, Any]:
    """Figures of the run; times in seconds."""
    heard = int(np.flatnonzero(run.audio)[0])
    lines = lines_of(run)
    near = near_seams(run.audio, lines, RATE, run.changes)
    found = clicks(run.audio[heard:], near[heard:], RATE)
    playing = [position for position, word in run.states if word == "playing"]
    backs = [next((p for p in playing if p > back), len(run.audio)) - back for back in returned]
    return {
        "short_callbacks": int(run.played.value("underruns")),
        "music_back_after_s": [round(back / RATE, 3) for back in backs],
        "step_at_seams": found.seam_step,
        "step_elsewhere": found.clean_step,
        "step_allowed": found.allowed_step,
        "flux_at_seams_over_elsewhere": found.seam_flux / found.clean_flux,
        "not_finite": run.played.report["not_finite"],
        "allocations_locks_system_calls": sum(
            run.played.counts[kind] for kind in ("allocations", "frees", "locks", "system_calls")
        ),
        "states": [[round(position / RATE, 3), word] for position, word in run.states],
    }


def draw(path: Path, run: Watched, returned: list[int], figures: dict[str, Any]) -> None:
    """Write the PNG: output over the bar grid, coloured by the state meter, and look-ahead below."""
    seconds = len(run.audio) / RATE
    bars = [(float(line) / RATE, number + 1) for number, line in enumerate(lines_of(run))]
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(12.0, 5.0), dpi=120, facecolor=PAPER)
        FigureCanvasAgg(figure)
        wave, ahead = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.6, 1.0], "hspace": 0.08})
        figure.subplots_adjust(left=0.06, right=0.97, top=0.80, bottom=0.10)
        _draw_output(wave, run)
        ahead.fill_between(
            run.positions / RATE, run.meter("lookahead_now_ms"), color=COLOURS["playing"], alpha=0.35
        )
        ahead.set_ylim(bottom=0)
        ahead.set_ylabel("look-ahead, ms")
        ahead.set_xlabel("seconds")
        for axes in (wave, ahead):
            axes.set_facecolor(PAPER)
            axes.spines[["top", "right"]].set_visible(False)
            draw_bars(axes, bars, seconds, label=axes is wave, light=False)
        back = [position / RATE for position in returned]
        marks = [(KILLED_S, "kill -9", _FAULT), (back[0], "new engine", _BACK)]
        marks += [(FROZEN_S, "frozen", _FAULT), (THAWED_S, "thawed", _BACK)]
        for at_s, text, colour in marks:
            for axes in (wave, ahead):
                axes.axvline(at_s, color=colour, linewidth=1.4)
            ahead.annotate(
                text, (at_s, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -10), textcoords="offset points",
                color=colour, fontweight="bold",
            )  # fmt: skip
        figure.text(0.06, 0.93, "An engine dies, comes back and freezes", fontsize=14, fontweight="bold")
        figure.text(0.06, 0.885, _facts(figures), fontsize=9)
        figure.savefig(path, facecolor=PAPER)


def _facts(figures: dict[str, Any]) -> str:
    first, second = figures["music_back_after_s"]
    return (
        f"CLAP, default model, paced. Music from the model again {first:.2f} s after the new engine was ready, "
        f"{second:.2f} s after the thaw. Largest step at a seam {figures['step_at_seams']:.3f}, "
        f"elsewhere {figures['step_elsewhere']:.3f}."
    )


def _draw_output(axes: Any, run: Watched) -> None:
    edges = np.linspace(0, len(run.audio), round(len(run.audio) / RATE * _BINS_PER_S) + 1).astype(int)[:-1]
    lowest, highest = np.minimum.reduceat(run.audio, edges), np.maximum.reduceat(run.audio, edges)
    states = [*run.states, (len(run.audio) + TICK, "")]
    shown: set[str] = set()
    for (start, word), (stop, _) in pairwise(states):
        here = (edges >= start - TICK) & (edges < stop)
        label = WORDS.get(word) if word not in shown else None
        axes.fill_between(
            edges / RATE, lowest, highest, where=here, color=COLOURS[word], linewidth=0.3, label=label
        )
        shown.add(word)
    axes.set_yticks([])
    axes.set_ylabel("as heard")
    axes.legend(loc="lower right", ncols=2, frameon=False, bbox_to_anchor=(1.0, 1.09), borderaxespad=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "plugin", help="with ATTACCA_TESTS=ON")
    parser.add_argument("--seed", type=int, default=3, help="of the takes")
    parser.add_argument("--png", type=Path, help="the picture")
    parser.add_argument("--json", type=Path, help="the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engine(served=True) as engine:
        host = ClapHost(
            program=options.build / "clap_host",
            folder=Path(folder),
            environment={"ATTACCA_ENGINE": engine.address},
        )
        clap = options.build / "bin" / "Attacca.clap"
        heard = Path(folder) / "heard.raw"
        riff(heard)
        run, returned = killed_and_frozen(host, clap, engine, seconds=SECONDS, seed=options.seed, heard=heard)
    figures = measured(run, returned)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.png:
        draw(options.png, run, returned, figures)


if __name__ == "__main__":
    main()
