"""The file that tells plugins where the engine is: read by plugin_stub/plugin/engine_address.cpp, written here.

Beside the path: `attacca plugin connect` calls it. One line, `address = tcp://HOST:PORT`; ATTACCA_ENGINE in a
host's environment wins over it. A plugin reads it whenever its host activates it.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attacca.bridge.endpoints import DEFAULT_ADDRESS

VARIABLE = "ATTACCA_ENGINE"
_TCP = re.compile(r"tcp://([A-Za-z0-9._-]+|\[[A-Za-z0-9.:%_-]+\]):([0-9]{1,5})", re.ASCII)
_MOST_HOST_CHARACTERS = 253
_HEADER = "# Where plugins find the engine. Written by: attacca plugin connect\n"


class AddressError(ValueError):
    """An address that a plugin could not use."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The address that a new plugin uses, and what said so: "environment", "file" or "default"."""

    address: str
    origin: str
    file: Path


def conf_path(environment: Mapping[str, str] = os.environ, system: str | None = None) -> Path:
    """The file, where plugin_conf_path() of the plugin looks. AddressError where the system names no folder."""
    system = platform.system() if system is None else system
    local, home, named = (environment.get(name) for name in ("LOCALAPPDATA", "HOME", "XDG_CONFIG_HOME"))
    if system == "Windows" and local:
        return Path(local) / "attacca" / "attacca" / "plugin.conf"
    if system == "Darwin" and home:
        return Path(home) / "Library" / "Application Support" / "attacca" / "plugin.conf"
    if system not in ("Windows", "Darwin") and (named or home):
        return (Path(named) if named else Path(str(home)) / ".config") / "attacca" / "plugin.conf"
    raise AddressError("the environment names no folder of this user's configuration")


def checked(address: str) -> str:
    """The address without blanks around it; AddressError if a plugin could not use it."""
    text = address.strip()
    if text.startswith("ipc://"):
        raise AddressError(f"{text}: plugins connect by TCP only; give tcp://127.0.0.1:PORT")
    found = _TCP.fullmatch(text)
    if found is None or len(found[1]) > _MOST_HOST_CHARACTERS:
        raise AddressError(f"{text!r} is no address; it must be tcp://HOST:PORT, such as {DEFAULT_ADDRESS}")
    if not 1 <= int(found[2]) <= 65535:
        raise AddressError(f"port {found[2]} must be in 1..65535")
    return text


def current(environment: Mapping[str, str] = os.environ, system: str | None = None) -> Connection:
    """What a plugin that is made now would use, read as the plugin reads it."""
    file = conf_path(environment, system)
    for address, origin in ((_trimmed(environment.get(VARIABLE, "")), "environment"), (_read(file), "file")):
        if address:
            return Connection(address=address, origin=origin, file=file)
    return Connection(address=DEFAULT_ADDRESS, origin="default", file=file)


def write(address: str, file: Path) -> None:
    """Writes the file, all of it or nothing."""
    text = _HEADER + f"address = {checked(address)}\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def reset(file: Path) -> bool:
    """Takes the file away; whether there was one."""
    there = file.exists()
    file.unlink(missing_ok=True)
    return there


def _read(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and _trimmed(name) == "address" and _trimmed(value):
            return _trimmed(value)
    return ""


def _trimmed(text: str) -> str:
    return text.strip(" \t\r\"'")
