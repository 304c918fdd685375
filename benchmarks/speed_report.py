"""Speed's tables and pictures in the documents, from the JSON of runs: no figure is copied by hand.

`python -m benchmarks.speed_report docs/speed.md README.md --bench b.json --peers p.json` after `attacca bench
--json b.json` and `python -m benchmarks.peers --json p.json`, both on a machine at rest. It writes between
`<!-- speed: NAME -->` and `<!-- end -->`; blocks of a run that is not given stay as they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attacca.bridge.bench_plot import draw_growth, draw_shares, draw_steps
from attacca.bridge.bench_rows import NATIVE, OURS

Report = dict[str, Any]
Pictures = dict[str, Path]
_BLOCK = re.compile(r"(<!-- speed: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TIMES = ("p50 ms", "p99 ms", "p99.9 ms", "max ms", "RTF")
_TIME_KEYS = ("p50_ms", "p99_ms", "p999_ms", "max_ms")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "-|" * len(head), *lines[1:]]) + "\n"


def machine_line(report: Report) -> str:
    """What a run hangs on."""
    about, used = report["machine"], report["versions"]
    names = ("onnxruntime", "torch", "transformers", "numpy")
    packages = ", ".join(f"{name} {used[name]}" for name in names if name in used)
    kind = (
        "a quick run"
        if report.get("quick")
        else "a toy run: no figure means anything"
        if report.get("tiny")
        else f"a run cut to about {report['options']['minutes']:g} minutes"
        if report.get("options", {}).get("minutes")
        else "a full run"
    )
    reads = [f"{count} thread(s) {found['read'] / 1e9:.1f} GB/s" for count, found in report["bandwidth"].items()]
    memory = f" Memory read: {', '.join(reads)}." if reads else ""
    return (
        f"{about['cpu']}, {about['cores']} cores, load {about['load']} when it ended; {packages}; "
        f"commit {str(report['commit'])[:12]}; {kind}.{memory}\n"
    )


def steps_table(report: Report) -> str:
    """Decoder steps."""
    names = ("model", "pattern", "backend", "precision", "threads", "rows", "context", "calls")
    head = (*names[:3], "weights", *names[4:-1], "steps", *_TIMES, "MB/step", "of memory")
    rows = [
        [
            *(str(row[key]) for key in names),
            *_times(row),
            "" if row["bytes_per_step"] is None else f"{row['bytes_per_step'] / 1e6:.1f}",
            "" if row["bandwidth_fraction"] is None else f"{row['bandwidth_fraction']:.2f}",
        ]
        for row in report["rows"]
        if row["group"] == "step"
    ]
    return table(head, rows)


def path_table(report: Report) -> str:
    """Everything but steps and what is live."""
    rows = [row for row in report["rows"] if row["group"] in ("codec", "path")]
    return table(("what", "one call", "takes", "calls", *_TIMES), [_path_cells(row) for row in rows])


def chunks_table(report: Report) -> str:
    """Time from chunk to chunk of one take as a share of a chunk's duration, beside neighbours."""
    rows = [
        [
            str(chunk["busy"]),
            str(chunk["chunks"]),
            f"{chunk['chunk_ms']:.0f}",
            *(f"{chunk[name]:.2f}" for name in ("p50", "p99", "p999", "max")),
            "yes" if chunk["in_time"] else "**no**",
        ]
        for chunk in report["chunks"]
    ]
    head = ("busy neighbours", "chunks", "ms a chunk", "p50", "p99", "p99.9", "max", "p99.9 in time")
    return table(head, rows)


def lines_table(report: Report) -> str:
    """A step as shared + rows * row, what arithmetic a row is, and what one may cost for stack-delay's target."""
    rows = []
    for line in report["lines"]:
        macs = line["row_macs"] / 1e6
        rows.append(
            [
                line["model"],
                line["backend"],
                line["precision"],
                str(line["context"]),
                f"{line['shared_ms']:.2f}",
                f"{line['row_ms']:.3f}",
                f"{macs:.1f}",
                f"{macs / line['row_ms']:.0f}",
                f"{line['core_gmacs']:.0f}",
                f"{line['delay_rows']} / {line['stack_rows']}",
                f"{line['ratio']:.2f}",
                f"{line['wanted_row_ms']:.3f}",
                f"{macs / line['wanted_row_ms']:.0f}",
            ]
        )
    head = ("model", "backend", "weights", "context", "shared ms", "a row ms", "10^6 products a row")
    more = (
        "10^9 a second",
        "of floats, at best",
        "rows, delay / stack-delay",
        "times",
        "a row ms for 1.35",
        "10^9 a second for it",
    )
    return table((*head, *more), rows)


def live_table(report: Report) -> str:
    """As a musician meets it: times, then counts."""
    live = [row for row in report["rows"] if row["group"] == "live"]
    times = [[row["name"], str(row["calls"]), *_times(row)[:-1]] for row in live]
    counts = [
        [figure["name"], "-" if figure["value"] is None else f"{figure['value']:g} {figure['unit']}", figure["of"]]
        for figure in report["figures"]
    ]
    return table(("", "runs", *_TIMES[:-1]), times) + "\n" + table(("", "", "of"), counts)


def parts_table(report: Report) -> str:
    """The bundled model in a few rows: its own step, what surrounds it, and the whole path alone and in company."""
    step = next(row for row in report["rows"] if row["group"] == "step")
    label = f"decoder step, {step['pattern']} ({step['rows']} rows)"
    wanted = (
        "codec encode",
        "prefill",
        "codec decode",
        "whole path",
        "TTFA, listening, immediate",
        "control latency",
    )
    rows = [step | {"name": label}, *(row for row in report["rows"] if row["name"] in wanted)]
    return table(("what", "one call", "takes", "calls", *_TIMES), [_path_cells(row) for row in rows])


def ratios_table(report: Report) -> str:
    """What differs in one thing, within the run."""
    return table(("", "times"), [[name, f"{value:.2f}"] for name, value in report["ratios"].items()])


def growth_table(report: Report) -> str:
    """Each series from its first to its last point."""
    rows = [
        [
            series["against"],
            f"{series['x'][0]:g} to {series['x'][-1]:g} {series['unit']}".strip(),
            series["of"],
            f"{series['p50_ms'][0]:.2f} to {series['p50_ms'][-1]:.2f}",
            f"{series['p50_ms'][-1] / series['p50_ms'][0]:.2f}" if series["p50_ms"][0] else "",
        ]
        for series in report["growth"]
    ]
    return table(("grows", "from, to", "one call", "p50 ms", "times"), rows)


def peers_table(report: Report) -> str:
    """What a user would pick instead, beside ours at as many threads."""
    rows = []
    for row in report["rows"]:
        name = f"{row['model']}, {row['name']}: {row['backend']}"
        if name in report["ratios"]:
            times = f"{report['ratios'][name]:.1f}"
            rows.append(
                [row["model"], row["name"], row["backend"], f"{row['p50_ms']:.1f}", f"{row['rtf']:.2f}", times]
            )
    best = {}
    for row in report["rows"]:
        key = (row["model"], row["name"])
        ours = row["backend"] in OURS and row["name"] in ("decoder step", "whole path")
        if ours and (row["threads"] == report["options"]["threads"] or row["backend"] == NATIVE):
            best[key] = min(best.get(key, row), row, key=lambda found: found["rtf"])
    for row in best.values():
        label = f"**Attacca**, {row['precision']}, {row['backend']}"
        rows.append([row["model"], row["name"], label, f"{row['p50_ms']:.1f}", f"{row['rtf']:.2f}", "1"])
    rows.sort(key=lambda cells: (cells[0], cells[1], -float(cells[5])))
    return table(("shape", "one call", "with", "p50 ms", "RTF", "times as long as ours"), rows)


def target_table(report: Report) -> str:
    """Precisions of MusicGen-small's shape: their steps, and how far logits move."""
    steps = [row for row in report["rows"] if row["name"] == "decoder step" and row["bytes_per_step"] is not None]
    moved = report["logit_distance"]
    rows = [
        [
            row["model"],
            row["backend"],
            row["precision"],
            str(row["threads"]),
            f"{row['p50_ms']:.1f}",
            f"{row['rtf']:.2f}",
            f"{row['bytes_per_step'] / 1e6:.0f}",
            "" if row["bandwidth_fraction"] is None else f"{row['bandwidth_fraction']:.2f}",
            f"{100 * moved[row['precision']]:.1f} %"
            if "MusicGen" in row["model"] and row["precision"] in moved
            else "",
        ]
        for row in steps
    ]
    head = ("shape", "backend", "weights", "threads", "p50 ms", "RTF", "MB/step", "of memory", "logits off (RMS)")
    found = report["target"]
    verdict = ""
    if found:
        told = "met" if found["met"] else "**missed**"
        verdict = (
            f"\nTarget: {found['model']}, guidance, window {found['context']}, whole path with EnCodec, "
            f"{found['precision']}, {found['threads']} thread(s): RTF **{found['rtf']:.2f}**, "
            f"wanted below 1: {told}.\n"
        )
    return table(head, rows) + verdict


def _times(row: Report) -> list[str]:
    return [*(f"{row[key]:.2f}" for key in _TIME_KEYS), "" if row["rtf"] is None else f"{row['rtf']:.3f}"]


def _path_cells(row: Report) -> list[str]:
    takes = str(row["takes"]) + (f", {row['busy']} busy neighbour{'s' * (row['busy'] > 1)}" if row["busy"] else "")
    return [row["name"], row["call"], takes, str(row["calls"]), *_times(row)]


BENCH: dict[str, Callable[[Report], str]] = {
    "machine": machine_line,
    "steps": steps_table,
    "path": path_table,
    "chunks": chunks_table,
    "lines": lines_table,
    "live": live_table,
    "parts": parts_table,
    "ratios": ratios_table,
    "growth": growth_table,
}
PEERS: dict[str, Callable[[Report], str]] = {
    "peers-machine": machine_line,
    "peers": peers_table,
    "target": target_table,
}
PICTURES = {"growth": "growth", "steps": "steps", "peers": "peers"}  # block -> picture that stands above it


def filled(text: str, bench: Report | None, peers: Report | None, pictures: dict[str, str] | None = None) -> str:
    """A document with its blocks written anew; `pictures`: block -> link. ValueError at an unknown block."""

    def block(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in BENCH and name not in PEERS:
            raise ValueError(f"block {name!r} is unknown, known are {sorted([*BENCH, *PEERS])}")
        report = bench if name in BENCH else peers
        if report is None:
            return found.group(0)
        link = (pictures or {}).get(name)
        above = f"![{name}]({link})\n\n" if link else ""
        return f"{begin}{above}{(BENCH | PEERS)[name](report)}{end}"

    return _BLOCK.sub(block, text)


def draw(bench: Report | None, peers: Report | None, folder: Path) -> Pictures:
    """speed-growth.png and speed-steps.png of a bench, speed-peers.png of the peers; block -> file."""
    folder.mkdir(parents=True, exist_ok=True)
    found: Pictures = {}
    series = [*(bench or {}).get("growth", []), *(peers or {}).get("growth", [])]
    if bench is not None and series:
        found["growth"] = draw_growth(series, folder / "speed-growth.png")
    steps = [row for row in (bench or {}).get("rows", []) if row["group"] == "step"]
    if steps:
        found["steps"] = draw_steps(steps, folder / "speed-steps.png")
    if peers is not None:
        rows = [row for row in peers["rows"] if row["name"] in ("decoder step", "whole path")]
        bars = [(f"{row['model']}  {row['name']}  {row['backend']}  {row['precision']}", row) for row in rows]
        threads = peers["options"]["threads"]
        chosen = [(label, row) for label, row in bars if row["threads"] == threads or row["backend"] == NATIVE]
        found["peers"] = draw_shares(chosen, folder / "speed-peers.png")
    return found


def main(
    documents: Annotated[list[Path], typer.Argument(help="files with blocks to fill")],
    bench: Annotated[Path | None, typer.Option(help="JSON of attacca bench")] = None,
    peers: Annotated[Path | None, typer.Option(help="JSON of benchmarks.peers")] = None,
    images: Annotated[Path, typer.Option(help="folder of the pictures")] = Path("docs/img"),
) -> None:
    """Write speed's tables and pictures."""
    runs = [None if path is None else json.loads(path.read_text(encoding="utf-8")) for path in (bench, peers)]
    pictures = draw(*runs, images)
    for document in documents:
        links = {name: os.path.relpath(path, document.parent) for name, path in pictures.items()}
        text = filled(document.read_text(encoding="utf-8"), *runs, links if document.name != "README.md" else None)
        document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
