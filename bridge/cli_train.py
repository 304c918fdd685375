"""`attacca train`: fine-tune a model on a folder of one's own audio; a part of the command line (bridge/cli.py).

The work is attacca.training.own, on which the runtime does not depend: it is looked up by name when the command
runs, and needs the [train] extra.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from attacca.bridge import cli_train_init
from attacca.bridge.cli_options import AsJson

_INIT = "Another pattern from MusicGen weights"
_NEEDED = ("librosa", "scipy", "torch", "onnx")


def train_command(
    data: Annotated[
        Path, typer.Option("--data", "-d", help="Folder of audio: wav, flac, ogg, mp3, aiff; folders in it too.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Name of the new bundle, or its folder (with a slash).")
    ] = "mine",
    model: Annotated[str, typer.Option("--model", "-m", help="Bundle to start from.")] = "ostinato",
    minutes: Annotated[
        float, typer.Option("--minutes", help="Training time, summed over interrupted runs.")
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what is found: tempo, confidence, seconds of each file.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and of all that is drawn.")] = 0,
    run: Annotated[
        Path | None, typer.Option("--run", help="Working folder; OUT.training beside the bundle if not given.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="decoder.pt to start from instead of the bundle's weights."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Weights of the new bundle: int8, int4, fp16, fp32.")
    ] = "int8",
    heldout: Annotated[float, typer.Option("--heldout", help="Share of the files kept for testing.")] = 0.1,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak; 0.0001 if not given.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Crops per update of all processes; 0: by machine.")] = 0,
    updates: Annotated[int, typer.Option("--updates", help="Train for so many updates in place of minutes.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes on the CPU; 0: by machine.")] = 0,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="MusicGen bundle or checkpoint's folder to begin another pattern with.",
            rich_help_panel=_INIT,
        ),
    ] = None,
    pattern: Annotated[
        str, typer.Option("--pattern", help="With --init: stack-delay, stack or delay.", rich_help_panel=_INIT)
    ] = "stack-delay",
    permutation: Annotated[
        int, typer.Option("--p", help="With --init: the permutation of stack-delay.", rich_help_panel=_INIT)
    ] = 3,
    text: Annotated[
        str,
        typer.Option(
            "--text", help="With --init: text of songs without a NAME.txt beside them.", rich_help_panel=_INIT
        ),
    ] = "",
    crop_frames: Annotated[
        int,
        typer.Option(
            "--crop-frames", help="With --init: frames that are learned from at once.", rich_help_panel=_INIT
        ),
    ] = 500,
    as_json: AsJson = False,
) -> None:
    """Make it yours: fine-tune the model on your own music. Interrupted, the same command goes on.

    Needs pip install 'attacca\\[train]'. Several GPUs: torchrun --nproc-per-node N -m attacca.bridge.cli train ...

    Example: attacca train --data ~/my_music --minutes 30 && attacca serve --model mine

    Example: attacca train --init musicgen-small --pattern stack-delay --data ~/my_music --out stacked
    """
    if init is not None:
        _need(cli_train_init.NEEDED)
        given = {"data": data.expanduser(), "init": init, "out": out, "pattern": pattern, "p": permutation}
        given |= {"text": text, "run": run, "minutes": minutes, "updates": updates, "batch": batch}
        given |= {"crop_frames": crop_frames, "learning_rate": learning_rate, "precision": precision}
        cli_train_init.train_init(
            given | {"heldout": heldout, "seed": seed},
            _progress_bar,
            dry_run=dry_run,
            as_json=as_json,
            flag=_model_flag,
        )
        return
    _need(_NEEDED[:2] if dry_run else _NEEDED)
    own = importlib.import_module("attacca.training.own.run")
    options = own.OwnOptions(
        data=data.expanduser(),
        out=out,
        model=model,
        checkpoint=checkpoint,
        run=run,
        minutes=minutes,
        updates=updates,
        batch=batch,
        learning_rate=learning_rate,
        precision=precision,
        heldout=heldout,
        seed=seed,
        workers=workers,
    )
    quiet = os.environ.get("RANK", "0") != "0"
    with _progress_bar(quiet=quiet) as progress:
        if dry_run:
            rows = own.look(options, progress, keep=False)
        else:
            result = own.train_own(
                options, progress, show=lambda rows, splits: None if as_json else print_files(rows, splits)
            )
    if dry_run:
        _tell_rows(rows, as_json=as_json)
    elif result.scorecard is not None:
        _tell_result(result, as_json=as_json)


def _need(modules: tuple[str, ...]) -> None:
    """UserError naming the extra, if one of them cannot be imported."""
    from importlib.util import find_spec

    from attacca.bridge.cli_group import UserError

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed; install with: pip install 'attacca[train]'")


def print_files(rows: list[Any], splits: dict[str, str]) -> None:
    """A table of the files: what was estimated, how sure that is, and what each is used for."""
    from attacca.bridge.tables import console, print_rows

    columns = ("file", "seconds", "BPM", "beat", "bar", "chord", "beats known", "chords known", "used")
    shown = [
        (
            row.name,
            f"{row.seconds:.1f}",
            f"{row.bpm:.1f}" if row.bpm else "-",
            f"{row.beat_confidence:.2f}",
            f"{row.bar_confidence:.2f}",
            f"{row.chord_confidence:.2f}",
            f"{row.beat_known:.0%}",
            f"{row.chord_known:.0%}",
            splits.get(row.name, "yes"),
        )
        if not row.problem
        else (row.name, *["-"] * 7, f"skipped: {row.problem}")
        for row in rows
    ]
    print_rows("your music; confidences 0..1", columns, shown, numeric=columns[1:8])
    used = [row for row in rows if not row.problem]
    console().print(
        f"{len(used)} files, {sum(row.seconds for row in used) / 60.0:.1f} min; {len(rows) - len(used)} skipped"
    )


def _tell_rows(rows: list[Any], *, as_json: bool) -> None:
    if not as_json:
        print_files(rows, {})
        return
    import json
    from dataclasses import asdict

    print(json.dumps([asdict(row) for row in rows], indent=2))


def _tell_result(result: Any, *, as_json: bool) -> None:
    """The scorecard, and how to play the new bundle."""
    if as_json:
        import json

        print(json.dumps({"bundle": str(result.bundle), **result.scorecard}, indent=2))
        return
    from attacca.bridge.tables import console, print_rows

    bits, onsets = result.scorecard["bits"], result.scorecard["onset_f1_70ms"]
    before, after = bits["before"], bits["after"]
    rows = [("bits per frame", f"{before['bits_per_frame']:.3f}", f"{after['bits_per_frame']:.3f}")]
    pairs = enumerate(zip(before["bits"], after["bits"], strict=True))
    rows += [(f"  codebook {k}", f"{old:.3f}", f"{new:.3f}") for k, (old, new) in pairs]
    if onsets:
        old, new, song = (onsets[name] for name in ("before", "after", "song"))
        rows.append(("onset F1 at 70 ms", f"{old['f1']:.2f}", f"{new['f1']:.2f}"))
        rows.append(("  by chance", f"{old['chance']:.2f}", f"{new['chance']:.2f}"))
    print_rows("held-out songs", ("", "before", "after"), rows, numeric=("before", "after"))
    out = console()
    if onsets:
        out.print(f"the songs themselves have onset F1 {song['f1']:.2f} ({onsets['songs']} songs)")
    else:
        out.print("no held-out song has beats that are sure: onsets were not scored")
    if after["bits_per_frame"] >= before["bits_per_frame"]:
        out.print("Not better than before on held-out songs: more music helps, or a lower --learning-rate.")
    out.print(f"{result.bundle} is ready: attacca serve --model {_model_flag(result.bundle)}", soft_wrap=True)


def _model_flag(bundle: Path) -> str:
    """What --model takes: the name, where that leads to the bundle, else the folder."""
    from attacca.engine.bundle import list_bundles

    found = list_bundles().get(bundle.name)
    return bundle.name if found is not None and found.resolve() == bundle.resolve() else str(bundle)


@contextmanager
def _progress_bar(*, quiet: bool) -> Iterator[Callable[[str, float, str], None]]:
    """A bar on stderr for each stage; gives the function to call with stage, share done and a remark."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from attacca.bridge.tables import console

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=40),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console(stderr=True), disable=quiet) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, share: float, remark: str) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=1.0, remark="")
            progress.update(tasks[stage], completed=min(share, 1.0), remark=remark)

        yield tell
