"""What the comparison of patterns found: report, table, and where it agrees with the paper.

Reads what benchmarks/patterns_train.py and patterns_play.py measured; no model here. Intervals are over resampled
songs, the same for all patterns, and over resampled seeds; two patterns are compared within each resampling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from attacca.bridge.machine import commit, machine, versions
from benchmarks.frechet import frechet_distance
from benchmarks.patterns_play import MEASURES
from benchmarks.report import median_interval
from benchmarks.spectra import Array

if TYPE_CHECKING:
    from benchmarks.patterns_play import Heard

# Le Lan et al. 2023, Tables 2 and 3: what of, against what, and their Fréchet distance (VGGish) and time.
CLAIMS = (
    ("flat", "delay", "39 % lower at 4 x the time"),
    ("stack", "flat", "lower"),
    ("stack-delay p=3", "delay", "45 % lower at delay's speed"),
    ("stack-delay p=1", "delay", "only marginally lower"),
)
_BITS_DRAWS, _DISTANCE_DRAWS = 2000, 200
_LEAST = 1e-9  # of a distance: rounding may leave less than nothing, which has no logarithm
Report = dict[str, Any]
Draws = dict[str, Array]  # name -> what was found, then the same of each resampling


def interval(found: float, drawn: Array, *, basic: bool = False) -> dict[str, Any]:
    """Value and 95 % interval: percentiles, or `basic`: twice the value less them, where resampling biases."""
    low, high = (float(edge) for edge in np.percentile(drawn, [2.5, 97.5]))
    return {"value": found, "interval_95": [2 * found - high, 2 * found - low] if basic else [low, high]}


def bits_draws(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> Draws:
    """Bits per frame of each pattern. Songs are resampled for all at once, seeds for each pattern by itself."""
    per_song = {name: np.array([np.sum(r["bits"], axis=1) for r in rs]) for name, rs in models.items()}
    seeds, songs = next(iter(per_song.values())).shape
    rng = np.random.default_rng(0)
    chosen = rng.integers(songs, size=(_BITS_DRAWS, 1, songs))
    found = {}
    for name, bits in per_song.items():
        drawn = bits[rng.integers(seeds, size=(_BITS_DRAWS, seeds, 1)), chosen].mean(axis=(1, 2))
        found[name] = np.concatenate([[bits.mean()], drawn])
    return found


def distance_draws(heard: Mapping[str, Sequence[Heard]], real: Heard, kind: str) -> Draws:
    """Logarithms of Fréchet distances from the real songs in one embedding."""
    reference = real.vectors[kind]
    count = len(reference)
    rng = np.random.default_rng(0)
    choices = [np.arange(count), *rng.integers(count, size=(_DISTANCE_DRAWS, count))]
    played = {
        name: [np.concatenate([play.vectors[kind][i] for play in plays]) for i in range(count)]
        for name, plays in heard.items()
    }

    def distance(songs: list[Array], chosen: Array) -> float:
        found = frechet_distance(
            np.concatenate([songs[i] for i in chosen]), np.concatenate([reference[i] for i in chosen])
        )
        return max(found, _LEAST)

    return {name: np.log([distance(songs, chosen) for chosen in choices]) for name, songs in played.items()}


def make_report(plan: dict[str, Any], trained: dict[str, Any], played: dict[str, Any] | None) -> Report:
    """The JSON object; without `played` it holds bits and costs of training alone."""
    models = trained["models"]
    bits = bits_draws(models)
    patterns = {name: _bits_row(results, bits[name], bits["delay"]) for name, results in models.items()}
    level_s = np.mean([result["curve"][-1]["cpu_s"] for result in models["delay"]])
    for name, results in models.items():
        patterns[name]["bits_at_delays_cpu_s"] = float(np.mean([_at(r["curve"], level_s) for r in results]))
    report: Report = {
        "plan": plan,
        "patterns": patterns,
        "unigram_bits": trained["unigram_bits"],
        "cells_by_codebook": trained["cells"],
        "delays_cpu_s": float(level_s),
    }
    distances: dict[str, Draws] = {}
    if played is not None:
        distances = {kind: distance_draws(played["heard"], played["real"], kind) for kind in played["real"].vectors}
        for name in played["heard"]:
            patterns.setdefault(name, {}).update(_heard_row(played, distances, name))
        scores = played["real"].scores
        report["real"] = {m: median_interval([s[m] for s in scores if m in s])[0] for m in MEASURES}
        report["embedding_skill"] = played["skill"]
    report["comparisons"] = [_compare(patterns, bits, distances, *claim) for claim in CLAIMS]
    return report | {
        "against_the_paper": [in_words(found) for found in report["comparisons"]],
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _bits_row(results: Sequence[Mapping[str, Any]], own: Array, delays: Array) -> dict[str, Any]:
    less = own - delays
    return {
        "bits": np.mean([result["bits"] for result in results], axis=(0, 1)).tolist(),
        "bits_per_frame": interval(float(own[0]), own[1:])
        | {"seeds": [float(np.sum(result["bits"], axis=1).mean()) for result in results]},
        "bits_less_delays": interval(float(less[0]), less[1:]),
        "curves": [result["curve"] for result in results],
        "train_cpu_s_per_update": float(np.mean([result["cpu_s_per_update"] for result in results])),
        "parameters": results[0]["parameters"],
    }


def _heard_row(played: Mapping[str, Any], distances: Mapping[str, Draws], name: str) -> dict[str, Any]:
    row = dict(played["costs"].get(name, {}))
    for kind, drawn in distances.items():
        row[f"frechet_{kind}"] = _exponential(interval(float(drawn[name][0]), drawn[name][1:], basic=True))
    for measure in MEASURES:
        values = [score[measure] for play in played["heard"][name] for score in play.scores if measure in score]
        if values:
            median, low, high = median_interval(values)
            row[measure] = {"value": median, "interval_95": [low, high]}
    return row


def _compare(
    patterns: Mapping[str, Any], bits: Draws, distances: Mapping[str, Draws], name: str, other: str, claim: str
) -> dict[str, Any]:
    less = bits[name] - bits[other]
    found = {"of": name, "against": other, "paper": claim, "bits": interval(float(less[0]), less[1:])}
    for kind, drawn in distances.items():
        ratio = drawn[name] - drawn[other]
        change = _exponential(interval(float(ratio[0]), ratio[1:], basic=True), lambda x: 100.0 * (x - 1.0))
        found[f"frechet_{kind}_percent"] = change
    if distances:
        found["time"] = patterns[name]["ms_per_s"] / patterns[other]["ms_per_s"]
    return found


def _exponential(found: dict[str, Any], then: Callable[[float], float] = float) -> dict[str, Any]:
    edges = [then(float(np.exp(edge))) for edge in found["interval_95"]]
    return {"value": then(float(np.exp(found["value"]))), "interval_95": edges}


def _at(curve: Sequence[Mapping[str, Any]], cpu_s: float) -> float:
    """Bits per frame of a learning curve at a time, straight between its points and level outside them."""
    return float(np.interp(cpu_s, [point["cpu_s"] for point in curve], [p["bits_per_frame"] for p in curve]))


def in_words(found: Mapping[str, Any]) -> str:
    """One of the paper's statements beside ours; whether the interval holds 0 decides what is said."""

    def told(part: Mapping[str, Any], unit: str, digits: int) -> str:
        low, high = part["interval_95"]
        verdict = "lower" if high < 0.0 else "higher" if low > 0.0 else "not told apart"
        return f"{part['value']:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}], {verdict}"

    said = [f"bits per frame {told(found['bits'], '', 2)}"]
    if "time" in found:
        said.insert(0, f"Fréchet distance {told(found['frechet_trained_percent'], ' %', 0)}")
        said.append(f"{found['time']:.2f} x the time")
    return f"{found['of']} against {found['against']}: {'; '.join(said)}. The paper: {found['paper']}"


def make_table(report: Report) -> Table:
    """Patterns down, measures across, intervals beneath."""
    table = Table(title="codebook patterns, trained and scored alike")
    table.add_column("")
    heads = ("steps\nfor 10 s", "slots kept\nfor 10 s", "ms per s\nof audio", "RTF\nplayed", "CPU s an\nupdate")
    measures = {
        "bits_per_frame": "bits per\nframe",
        "bits_less_delays": "less\ndelay's",
        "frechet_trained": "Fréchet,\ntrained",
        "frechet_log_mel": "Fréchet,\nlog-mel",
        "onset_f1_70ms": "onset F1\n70 ms",
        "onset_f1_25ms": "onset F1\n25 ms",
        "chord_match": "chord\nmatch",
    }
    for head in (*heads, *measures.values()):
        table.add_column(head, justify="right")
    plain = {
        "steps_for_10_s": "d",
        "context_slots_for_10_s": "d",
        "ms_per_s": ".0f",
        "rtf": ".3f",
        "train_cpu_s_per_update": ".3f",
    }
    for name, row in report["patterns"].items():
        cells = [name, *(f"{row[key]:{form}}" if key in row else "" for key, form in plain.items())]
        for measure in measures:
            found = row.get(measure)
            if found is None:
                cells.append("")
                continue
            low, high = found["interval_95"]
            cells.append(f"{found['value']:.2f}\n[dim]{low:.2f}–{high:.2f}[/dim]")
        table.add_row(*cells)
    return table
