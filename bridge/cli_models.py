"""`attacca models`: list, verify and show; a part of the command line (bridge/cli.py)."""

from __future__ import annotations

from typing import Annotated

import typer

from attacca.bridge.cli_options import AsJson

models_app = typer.Typer(help="List, verify and show model bundles.")


@models_app.callback(invoke_without_command=True)
def models_main(context: typer.Context) -> None:
    """List, verify and show model bundles."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """The bundles that can be named."""
    from attacca.bridge import models

    models.print_list(as_json=as_json)


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
