"""The flags of the command line that stand for settings, one per row of the table in bridge/config.py.

Used by bridge/cli.py alone. A flag that is not given is None, so that environment, file and default can follow.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attacca.bridge.config import ROWS, default_of

_SETTINGS_PANEL = "Settings (also ATTACCA_NAME in the environment, name in attacca.toml)"


def setting(name: str, *more: str) -> Any:
    """A flag for a setting: help, default and panel from the table."""
    default = default_of(name)
    rules = ROWS[name].metadata
    allowed = f" One of {', '.join(rules['choices'])}." if rules["choices"] else ""
    shown = "" if default is None or default is False else f" [dim]\\[default: {default}][/dim]"
    flag = "--" + name.replace("_", "-")
    declared = (f"{flag}/--no-{flag[2:]}" if isinstance(default, bool) else flag, *more)
    help_text = rules["help"].replace("[", "\\[") + allowed + shown
    return typer.Option(*declared, help=help_text, show_default=False, rich_help_panel=_SETTINGS_PANEL)


Model = Annotated[str | None, setting("model", "-m")]
Fake = Annotated[bool | None, setting("fake")]
Threads = Annotated[int | None, setting("threads", "-t")]
SecondCore = Annotated[str | None, setting("second_core")]
Backend = Annotated[str | None, setting("backend")]
Text = Annotated[str | None, setting("text")]
Seed = Annotated[int | None, setting("seed")]
Temperature = Annotated[float | None, setting("temperature")]
TopK = Annotated[int | None, setting("top_k")]
Guidance = Annotated[float | None, setting("guidance")]
HoldBeat = Annotated[bool | None, setting("hold_beat")]
HoldLevel = Annotated[bool | None, setting("hold_level")]
Address = Annotated[str | None, setting("address", "-a")]
Publish = Annotated[str | None, setting("publish")]
OscHost = Annotated[str | None, setting("osc_host")]
OscPort = Annotated[int | None, setting("osc_port")]
MidiPort = Annotated[str | None, setting("midi_port")]
AllowRemote = Annotated[bool | None, setting("allow_remote")]
Priority = Annotated[str | None, setting("priority")]
Cores = Annotated[str | None, setting("cores")]
LockMemory = Annotated[bool | None, setting("lock_memory")]
LogLevel = Annotated[str | None, setting("log_level")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines in place of a table.")]
