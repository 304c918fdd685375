"""The scorecard's tables in the documents: `python -m benchmarks.card q.json docs/model-card.md README.md`.

After `python -m benchmarks.quality`: figures get into a document by this command alone, between
`<!-- scorecard: NAME -->` and `<!-- end -->`, so that none is copied by hand and none stays from another model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Report = dict[str, Any]
_BLOCK = re.compile(r"(<!-- scorecard: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_STANDARD: tuple[tuple[str, str, int], ...] = (
    ("beat onset F1, 70 ms", "onset_f1_70ms", 2),
    ("25 ms", "onset_f1_25ms", 2),
    ("tempo step F1", "tempo_step_f1", 2),
    ("chord match", "chord_match", 2),
    ("players as commanded", "players_as_commanded", 2),
    ("bits per frame", "bits_per_frame", 1),
    ("level step at the join, dB", "seam_loudness_db", 1),
)
_STANDARD_ROWS = (
    ("{model}", "model"),
    ("guidance off", "guidance_1"),
    ("nothing commanded", "no_conditioning"),
    ("chance (other grids and chords; unigram codes)", "chance"),
    ("another song in its place", "other_song"),
    ("ceiling: the song itself", "real"),
)
_LONG: tuple[tuple[str, str, int], ...] = (
    ("drift over {bars} bars as the engine plays, ms", "drift_ms_64_bars_played", 1),
    ("drift of the model alone, ms", "drift_ms_64_bars", 1),
    ("level after {bars} bars against what was heard as the engine plays, dB", "level_rise_db_64_bars_played", 1),
    ("level of the model alone, dB", "level_rise_db_64_bars", 1),
    ("a player switched at the join is heard as commanded", "instrument_presence", 2),
    ("one who rested, switched on", "instrument_presence_on", 2),
    ("one who played, switched off", "instrument_presence_off", 2),
    ("style of the context", "continuation_style", 2),
    ("players of the context", "continuation_players", 2),
    ("level against the context, dB", "continuation_level_db", 1),
)
_LONG_COLUMNS = (
    ("{model}", "model"),
    ("guidance off", "guidance_1"),
    ("nothing commanded", "no_conditioning"),
    ("chance", "chance"),
    ("another song", "other_song"),
    ("the song itself", "real"),
)


def _cell(report: Report, row: str, measure: str, digits: int) -> str:
    """A median, with its interval where it is the model's; empty where there is none."""
    value = (report if row == "model" else report[row])[measure]
    if value is None:
        return ""
    interval = report["intervals_95"][row][measure] if row == "model" else None
    spread = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
    return f"**{value:.{digits}f}**{spread}" if row == "model" else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "-|" * len(head), *lines[1:]]) + "\n"


def obedience_table(report: Report) -> str:
    """Rows of what was played, columns of what was measured; songs in held-out styles last."""
    name = f"**{report['model']['name']} v{report['model']['version']}**"
    rows = [
        [label.format(model=name), *(_cell(report, row, measure, digits) for _, measure, digits in _STANDARD)]
        for label, row in _STANDARD_ROWS
    ]
    apart = report["heldout_styles"]
    if apart is not None:
        values = [(apart[measure], digits) for _, measure, digits in _STANDARD]
        cells = ["" if value is None else f"{value:.{digits}f}" for value, digits in values]
        rows.append([f"{name}, styles never met (blues, synthwave)", *cells])
    return _table(["", *(heading for heading, _, _ in _STANDARD)], rows)


def long_table(report: Report) -> str:
    """Rows of what shows over time or against the context, columns of what was played."""
    name = f"{report['model']['name']} v{report['model']['version']}"
    rows = [
        [
            heading.format(bars=report["drift_bars"]),
            *(_cell(report, row, measure, digits) for _, row in _LONG_COLUMNS),
        ]
        for heading, measure, digits in _LONG
    ]
    kept = report["variation"]["model"]
    if kept is not None:
        overlap = " / ".join(f"{kept[amount]:.2f}" for amount in ("0", "0.5", "1"))
        rows.append(["tokens kept by a vamp at variation 0 / 0.5 / 1", overlap, *[""] * (len(_LONG_COLUMNS) - 1)])
    return _table(["", *(label.format(model=name) for label, _ in _LONG_COLUMNS)], rows)


TABLES: dict[str, Callable[[Report], str]] = {"obedience": obedience_table, "long": long_table}


def filled(text: str, report: Report) -> str:
    """The document with every block written anew. ValueError at a block of an unknown name."""

    def block(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in TABLES:
            raise ValueError(f"block {name!r} is unknown, known are {sorted(TABLES)}")
        return f"{begin}{TABLES[name](report)}{end}"

    return _BLOCK.sub(block, text)


def main(
    report: Annotated[Path, typer.Argument(help="JSON of benchmarks.quality")],
    documents: Annotated[list[Path], typer.Argument(help="files with blocks to fill")],
) -> None:
    """Write the scorecard's tables into documents."""
    values = json.loads(report.read_text(encoding="utf-8"))
    for document in documents:
        before = document.read_text(encoding="utf-8")
        after = filled(before, values)
        document.write_text(after, encoding="utf-8")
        blocks = len(_BLOCK.findall(before))
        typer.echo(f"{document}: {blocks} tables{'' if after != before else ', as they were'}")


if __name__ == "__main__":
    typer.run(main)
