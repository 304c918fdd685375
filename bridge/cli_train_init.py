"""`attacca train --init`: another codebook pattern from published MusicGen weights; called by bridge/cli_train.py.

The work is attacca.training.own.musicgen_run, looked up by name when the command runs.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from attacca.bridge.tables import console, print_rows

NEEDED = ("torch", "onnx", "soxr")
Bar = Callable[..., AbstractContextManager[Callable[[str, float, str], None]]]


def train_init(
    given: dict[str, Any], bar: Bar, *, dry_run: bool, as_json: bool, flag: Callable[[Any], str]
) -> None:
    """Run it; `given` are InitOptions' fields, `flag` says how a bundle is named to --model."""
    work = importlib.import_module("attacca.training.own.musicgen_run")
    options = work.InitOptions(**given)
    with bar(quiet=False) as progress:
        if dry_run:
            rows = work.look(options, progress, keep=False)
        else:
            result = work.train_init(
                options, progress, show=lambda rows, splits: None if as_json else _print_files(rows, splits)
            )
    if dry_run and as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif dry_run:
        _print_files(rows, {})
    elif as_json:
        print(json.dumps({"bundle": str(result.bundle), **result.scorecard}, indent=2))
    else:
        _print_scorecard(result.scorecard)
        console().print(f"{result.bundle} is ready: attacca serve --model {flag(result.bundle)}", soft_wrap=True)


def _print_files(rows: list[Any], splits: dict[str, str]) -> None:
    """A table of the files, their texts and what each is used for."""
    shown = [
        (row.name, f"{row.seconds:.1f}", row.text or "-", splits.get(row.name, "yes"))
        if not row.problem
        else (row.name, "-", "-", f"skipped: {row.problem}")
        for row in rows
    ]
    print_rows("your music", ("file", "seconds", "text", "used"), shown, numeric=("seconds",))


def _print_scorecard(card: dict[str, Any]) -> None:
    """Bits per frame on the held-out songs: of the weights as they came, of the new pattern, and after training."""
    before, start, after = (card[name] for name in ("before", "start", "after"))
    columns = ("", f"as published ({before['pattern']})", f"{card['pattern']}, untrained", "after")
    lines = [("bits per frame", *(f"{part['bits_per_frame']:.3f}" for part in (before, start, after)))]
    each = zip(before["bits"], start["bits"], after["bits"], strict=True)
    lines += [(f"  codebook {k}", *(f"{bits:.3f}" for bits in row)) for k, row in enumerate(each)]
    print_rows("held-out songs", columns, lines, numeric=columns[1:])
    console().print(f"best after {after['updates']} of {card['last']['updates']} updates")
