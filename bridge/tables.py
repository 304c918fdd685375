"""Tables of the command line, drawn with rich: findings, settings, and whatever else is rows and columns.

Only bridge/cli.py and the modules behind its commands call this; nothing on the path prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attacca.bridge.config import ROWS, Effective
from attacca.bridge.doctor import Finding, Verdict, healthy

_PIPE_WIDTH = 140  # a pipe has no width of its own
_COLOURS = {Verdict.OK: "green", Verdict.LACK: "dim", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def console(*, stderr: bool = False) -> Console:
    """A console that is wide where nobody's terminal limits it."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def print_rows(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Sequence[str] = (),
    stderr: bool = False,
) -> None:
    """A plain table; columns named in `numeric` are right-aligned. Cells are shown as they are, never as markup."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.show_header = any(columns)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console(stderr=stderr).print(table)


def print_findings(findings: Sequence[Finding]) -> None:
    """The doctor's report, then one line of judgement."""
    rows = [
        (
            Text(finding.verdict.value, style=_COLOURS[finding.verdict]),
            finding.area,
            finding.name,
            finding.found,
            finding.remedy,
        )
        for finding in findings
    ]
    print_rows("attacca doctor", ("", "area", "what", "found", "what to do"), rows)
    good = healthy(findings)
    text = "All that `attacca demo` needs is there." if good else "Something that `attacca demo` needs is missing."
    console().print(Text(text, style="green" if good else "bold red"))


def print_settings(effective: Effective, values: Mapping[str, Any]) -> None:
    """Every setting with its value, its origin and what it means."""
    rows = [
        (name, "" if value is None else value, effective.origin[name], ROWS[name].metadata["help"])
        for name, value in values.items()
    ]
    print_rows(f"settings; file: {effective.file}", ("name", "value", "from", "meaning"), rows)
