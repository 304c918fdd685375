"""`attacca models`: list, pull, verify, show and score; a part of the command line (bridge/cli.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attacca.bridge.cli_options import AsJson, Text, Threads

models_app = typer.Typer(help="List, pull, verify, show and score model bundles.")


@models_app.callback(invoke_without_command=True)
def models_main(context: typer.Context) -> None:
    """List, pull, verify, show and score model bundles."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """The bundles that can be named."""
    from attacca.bridge import models

    models.print_list(as_json=as_json)


@models_app.command("pull")
def models_pull(
    source: Annotated[
        str, typer.Argument(help="Name, URL or path of a bundle; a checkpoint's folder; or OWNER/NAME of the hub.")
    ],
    to: Annotated[Path | None, typer.Option("--to", help="Folder it is put into.")] = None,
    sha256: Annotated[str, typer.Option("--sha256", help="What the file must hash to.")] = "",
    precision: Annotated[
        str, typer.Option("--precision", help="Checkpoint: weights of its bundle: int8, int4, fp16, fp32.")
    ] = "int8",
    kv_bits: Annotated[int, typer.Option("--kv-bits", help="Checkpoint: cache of its bundle: 32 or 8.")] = 32,
    window_frames: Annotated[
        int | None, typer.Option("--window-frames", help="Checkpoint: frames that a frame sees, 1536 if not given.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Hub: branch, tag or commit.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="Hub: URL of a mirror.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Hub: only what is here already.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Hub: folder of the files before conversion.")
    ] = None,
) -> None:
    """Bring a model here, verified; stopped, the same command goes on.

    Example: attacca models pull facebook/musicgen-small
    """
    from attacca.bridge.pull import pull

    typer.echo(
        pull(
            source,
            to,
            sha256=sha256,
            precision=precision,
            kv_bits=kv_bits,
            window_frames=window_frames,
            revision=revision,
            endpoint=endpoint,
            offline=offline,
            checkpoint=checkpoint,
        )
    )


@models_app.command("verify")
def models_verify(
    model: Annotated[str | None, typer.Argument(help="Name or directory; all if left out.")] = None,
) -> None:
    """Check every file of a bundle against its hash; exit code 2 if one does not hold."""
    from attacca.bridge import models

    models.print_verify(model)


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(help="Name or directory.")] = "ostinato", as_json: AsJson = False
) -> None:
    """A bundle's manifest: shapes, pattern, licence, provenance, metrics."""
    from attacca.bridge import models

    models.print_show(model, as_json=as_json)


@models_app.command("score")
def models_score(
    bundles: Annotated[
        list[str],
        typer.Argument(help="Bundles of one model, by name or directory; a checkpoint's folder is all precisions."),
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="Bundle that the others are compared with; else an fp32 one.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", help="Audio file, or a folder of them; a built-in riff if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Of each file.")] = 8.0,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Folder where the bundles made of a checkpoint stay.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is sampled.")] = 0,
    text: Text = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """How far coarser weights are from finer ones: bits of given music, logits, sampled sound.

    Example: attacca models score musicgen-small --against musicgen-small-fp32 --audio ~/songs
    """
    from attacca.bridge import scoring, scoring_table
    from attacca.bridge.continuing import progress_bar

    options = scoring.ScoreOptions(
        models=tuple(bundles),
        against=against,
        audio=audio,
        seconds=seconds,
        text=text,
        seed=seed,
        threads=threads or 1,
        keep=keep,
    )
    with progress_bar("scoring") as progress:
        report = scoring.score(options, progress)
    scoring_table.print_report(report, as_json=as_json)
