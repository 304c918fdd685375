"""`attacca plugin`: install, where, uninstall and connect; a part of the command line (bridge/cli.py)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from attacca.bridge.cli_options import AsJson

plugin_app = typer.Typer(help="Install the native plugin, and tell it where the engine is.")


class Format(StrEnum):
    """A plugin format that has a folder of its own."""

    VST3 = "vst3"
    CLAP = "clap"
    LV2 = "lv2"


Formats = Annotated[list[Format] | None, typer.Option("--format", "-f", help="Only this; can be repeated.")]
Source = Annotated[Path | None, typer.Option("--from", help="Folder of built plugins; else build/plugin/bin.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done.")]


@plugin_app.callback(invoke_without_command=True)
def plugin_main(context: typer.Context) -> None:
    """Install the native plugin, and tell it where the engine is."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@plugin_app.command("install")
def plugin_install(
    source: Source = None, formats: Formats = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Copy what `make plugin` built to where this user's hosts look.

    Example: attacca plugin install --format clap
    """
    from attacca.bridge import plugin_commands

    plugin_commands.install(source, _names(formats), dry_run=dry_run, as_json=as_json)


@plugin_app.command("where")
def plugin_where(source: Source = None, formats: Formats = None, as_json: AsJson = False) -> None:
    """What is installed where, its version, and whether it is what was built."""
    from attacca.bridge import plugin_commands

    plugin_commands.where(source, _names(formats), as_json=as_json)


@plugin_app.command("uninstall")
def plugin_uninstall(formats: Formats = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Take the installed plugins away again, and nothing else."""
    from attacca.bridge import plugin_commands

    plugin_commands.uninstall(_names(formats), dry_run=dry_run, as_json=as_json)


@plugin_app.command("connect")
def plugin_connect(
    address: Annotated[str | None, typer.Argument(metavar="[tcp://HOST:PORT]", help="The engine.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Say which address new plugins use, and why.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Back to this machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell plugins where the engine is; they read it when the host activates them.

    Example: attacca plugin connect tcp://192.168.1.20:9123
    """
    from attacca.bridge import plugin_commands

    plugin_commands.connect(address, show=show, reset=reset, as_json=as_json)


def _names(formats: list[Format] | None) -> tuple[str, ...]:
    return tuple(kind.value for kind in Format if not formats or kind in formats)
