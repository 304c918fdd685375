"""What the commands of `attacca plugin` do and print, over bridge/plugin_files.py and bridge/plugin_address.py.

Beside the path. One table, or one JSON value for machines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attacca.bridge import plugin_address, plugin_files
from attacca.bridge.cli_group import UserError
from attacca.bridge.plugin_files import Installed
from attacca.bridge.tables import console, print_rows

_STATES = {
    "absent": "not installed",
    "same": "installed, as built",
    "differs": "installed, differs from the build: attacca plugin install",
    "installed": "installed, nothing built to compare with",
    "foreign": "not of ours, left alone",
}


def install(source: Path | None, formats: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Copies each built variant. UserError if there is nothing to copy, or a foreign file is in the way."""
    folder = plugin_files.build_folder() if source is None else source
    rows = [row for row in _survey(folder, formats) if row.built is not None and row.built_version]
    if not rows:
        advice = "make plugin" if source is None else f"it must hold Attacca.{formats[0]} or the like"
        raise UserError(f"{folder}: no built plugin found; {advice}")
    foreign = [str(row.target) for row in rows if row.state == "foreign"]
    if foreign:
        raise UserError(f"not ours, or not ours alone, and in the way: {', '.join(foreign)}; move it away first")
    done = []
    for row in rows:
        action = {"same": "unchanged", "absent": "installed"}.get(row.state, "replaced")
        if action != "unchanged" and not dry_run:
            plugin_files.install(row)
        done.append((row, action))
    _report(done, dry_run=dry_run, as_json=as_json)
    if not as_json and not dry_run:
        console().print("Let the host scan its plugins again; running hosts keep what they have loaded.")


def uninstall(formats: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Removes each installed variant; what is not of ours stays."""
    done = []
    for row in _survey(plugin_files.build_folder(), formats):
        if row.state == "absent":
            continue
        ours = row.state != "foreign"
        if ours and not dry_run:
            plugin_files.uninstall(row)
        done.append((row, "removed" if ours else "left alone: not of ours"))
    if not done and not as_json:
        print("nothing is installed")
        return
    _report(done, dry_run=dry_run, as_json=as_json)


def where(source: Path | None, formats: Sequence[str], *, as_json: bool) -> None:
    """What is installed where."""
    rows = _survey(plugin_files.build_folder() if source is None else source, formats)
    if as_json:
        print(json.dumps([_json(row) for row in rows], indent=2))
        return
    table = [
        (row.name, row.format, row.version or "-", row.built_version or "-", row.target, _STATES[row.state])
        for row in rows
    ]
    print_rows("attacca plugin", ("plugin", "format", "installed", "built", "where", "state"), table)


def connect(address: str | None, *, show: bool, reset: bool, as_json: bool) -> None:
    """Writes, removes or shows the address. UserError unless one is asked for; AddressError if it is bad."""
    if (address is not None) + show + reset != 1:
        raise UserError("give an address (tcp://HOST:PORT), or --show, or --reset")
    file = plugin_address.conf_path()
    if address is not None:
        plugin_address.write(address, file)
    elif reset:
        plugin_address.reset(file)
    now = plugin_address.current()
    if as_json:
        print(json.dumps({"address": now.address, "origin": now.origin, "file": str(now.file)}, indent=2))
        return
    why = {"environment": f"of {plugin_address.VARIABLE} in the environment", "file": f"of {file}"}
    print(f"plugins connect to {now.address} ({why.get(now.origin, 'the default')})")
    if address is not None and now.origin == "environment":
        print(f"{file} says {address}: it holds where {plugin_address.VARIABLE} is not set")


def _survey(source: Path, formats: Sequence[str]) -> list[Installed]:
    return plugin_files.survey(source, plugin_files.places(), tuple(formats))


def _report(done: Sequence[tuple[Installed, str]], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_json(row) | {"action": action, "dry_run": dry_run} for row, action in done], indent=2))
        return
    table = [(row.name, row.format, action, row.target) for row, action in done]
    print_rows("would be done" if dry_run else "attacca plugin", ("plugin", "format", "", "where"), table)


def _json(row: Installed) -> dict[str, Any]:
    return {
        "name": row.name,
        "format": row.format,
        "state": row.state,
        "version": row.version or None,
        "target": str(row.target),
        "built": None if row.built is None else str(row.built),
        "built_version": row.built_version or None,
    }
