"""Configuration: one table of settings; flag wins over environment, over one TOML file, over default.

Read by the command line (bridge/cli.py) before anything of the path is built. The table is the dataclass `Settings`
itself: a setting's flag is `--name-with-dashes`, its variable `ATTACCA_NAME`, its TOML key `name`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "ATTACCA_"
CONFIG_VARIABLE = "ATTACCA_CONFIG"  # names the TOML file, as --config does
# Not settings: folders of bundles (engine/bundle.py), and what the native plugin reads (bridge/plugin_address.py).
_OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, "ATTACCA_MODELS", "ATTACCA_ENGINE", "ATTACCA_OFFLINE", "ATTACCA_WINDOW_FPS"}
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class ConfigError(ValueError):
    """A setting that cannot be used; the message names where it stands, its value and what is allowed."""


def _setting(
    default: Any,
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    starts: str = "",
) -> Any:
    rules = {"help": help_text, "low": low, "high": high, "choices": choices, "starts": starts}
    return field(default=default, metadata=rules)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, validated. ConfigError names the setting, the value and the allowed range."""

    model: str = _setting("ostinato", "Model bundle: a name (see `attacca models list`) or a directory.")
    fake: bool = _setting(False, "Use the fake backend: no weights, test tones in place of music.")
    threads: int = _setting(1, "Threads of each model.", low=1, high=64)
    second_core: str = _setting(
        "auto",
        "Let large models use a core beside the decode thread's; auto: where there is one and steps take long.",
        choices=("auto", "on", "off"),
    )
    backend: str = _setting(
        "auto",
        "What computes the decoder: native is our kernels, cpu onnxruntime; auto is the fastest that passes.",
        choices=("auto", "native", "cpu", "cuda", "tensorrt"),
    )
    text: str | None = _setting(None, "What to play, in words, for models that read text.")
    seed: int | None = _setting(None, "Seed of a take; the same seed gives the same take.", low=0, high=2**53)
    temperature: float | None = _setting(
        None, "Sampling temperature; 0 is greedy. If not set, the model's own.", low=0.0, high=4.0
    )
    top_k: int | None = _setting(
        None, "Draw from the k likeliest tokens; 0 is all. If not set, the model's own.", low=0, high=65535
    )
    guidance: float | None = _setting(
        None, "Classifier-free guidance scale; 1 is none. If not set, the model's own.", low=0.0, high=10.0
    )
    hold_level: bool = _setting(True, "Hold takes to the level of what was played, if the model asks for it.")
    hold_beat: bool = _setting(True, "Hold takes to the host's beat, if the model is not told it.")
    address: str = _setting("tcp://127.0.0.1:9123", "Address the engine binds for plugins.", starts="tcp://")
    publish: str = _setting("tcp://127.0.0.1:9124", "Address of chunks and status for listeners.", starts="tcp://")
    osc_host: str = _setting("127.0.0.1", "Interface of the OSC port.")
    osc_port: int = _setting(9125, "UDP port of OSC control; 0 is none.", low=0, high=65535)
    midi_port: str | None = _setting(None, "MIDI input to open, by a part of its name; needs the [live] extra.")
    allow_remote: bool = _setting(False, "Let other machines connect: nothing is encrypted.")
    priority: str = _setting(
        "normal", "How urgently music is made beside other programs.", choices=("normal", "high", "realtime")
    )
    cores: str | None = _setting(None, "Cores that music is made on, as in 2,3; any if not set.")
    lock_memory: bool = _setting(False, "Keep the engine's memory from being swapped out.")
    log_level: str = _setting("info", "How much is logged.", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        for row in fields(self):
            _check(row, getattr(self, row.name), row.name)


@dataclass(frozen=True, kw_only=True)
class Effective:
    """Resolved settings, with the origin of each ("flag", "ATTACCA_MODEL", a file's path or "default")."""

    settings: Settings
    origin: dict[str, str]
    file: Path  # the TOML file that was read, or would be if it were there


ROWS: dict[str, Field[Any]] = {row.name: row for row in fields(Settings)}
_HINTS = typing.get_type_hints(Settings)


def kind_of(name: str) -> tuple[type, bool]:
    """The type of a setting and whether it may be absent, e.g. (int, True) for `seed`."""
    hint = _HINTS[name]
    if isinstance(hint, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return kinds[0], True
    return hint, False


def default_of(name: str) -> Any:
    """The default of a setting."""
    default = ROWS[name].default
    return None if default is MISSING else default


def default_file() -> Path:
    """Where the TOML file lies if nobody names one: the user's configuration directory."""
    import platformdirs

    return Path(platformdirs.user_config_dir("attacca", appauthor=False)) / "attacca.toml"


def resolve(
    flags: Mapping[str, Any],
    *,
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Effective:
    """Flags (None is "not given") over environment over TOML over defaults.

    `file`, or the one ATTACCA_CONFIG names, must exist; the default file need not. ConfigError on unknown keys,
    on wrong types and ranges, on unreadable or malformed TOML.
    """
    path, required = _config_path(environment, file)
    values: dict[str, Any] = {name: default_of(name) for name in ROWS}
    origin = dict.fromkeys(ROWS, "default")
    layers = [
        {name: (value, str(path)) for name, value in _from_toml(path, required).items()},
        {name: (value, PREFIX + name.upper()) for name, value in _from_environment(environment).items()},
        {name: (value, "flag") for name, value in flags.items() if value is not None},
    ]
    for layer in layers:
        for name, (value, where) in layer.items():
            values[name] = _checked(name, value, where=where)
            origin[name] = where
    return Effective(settings=Settings(**values), origin=origin, file=path)


def _config_path(environment: Mapping[str, str], file: Path | None) -> tuple[Path, bool]:
    if file is not None:
        return file, True
    if environment.get(CONFIG_VARIABLE):
        return Path(environment[CONFIG_VARIABLE]), True
    return default_file(), False


def _from_toml(path: Path, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such configuration file") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    for key in table:
        if key not in ROWS:
            raise ConfigError(f"{path}: unknown setting '{key}'{_nearest(key, list(ROWS))}")
    return table


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in ROWS}
    layer: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable not in known:
            raise ConfigError(f"unknown variable {variable}{_nearest(variable, list(known))}")
        layer[known[variable]] = _parse(known[variable], text, where=variable)
    return layer


def _parse(name: str, text: str, *, where: str) -> Any:
    kind, optional = kind_of(name)
    if optional and text == "":
        return None
    if kind is bool:
        lowered = text.strip().lower()
        if lowered in _TRUE | _FALSE:
            return lowered in _TRUE
        raise ConfigError(f"{where}: '{text}' is neither yes nor no")
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{where}: '{text}' is not {_noun(kind)}") from None


def _checked(name: str, value: Any, *, where: str) -> Any:
    kind, optional = kind_of(name)
    if value is None and optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: {name} = {value!r} is not {_noun(kind)}")
    _check(ROWS[name], value, f"{where}: {name}" if where != "flag" else _flag(name))
    return value


def _check(row: Field[Any], value: Any, label: str) -> None:
    rules = row.metadata
    if value is None:
        return
    if rules["choices"] and value not in rules["choices"]:
        raise ConfigError(f"{label} = {value!r} is not one of {', '.join(rules['choices'])}")
    if rules["low"] is not None and not rules["low"] <= value <= rules["high"]:
        raise ConfigError(f"{label} = {value} is outside {rules['low']}..{rules['high']}")
    if not str(value).startswith(rules["starts"]):
        raise ConfigError(f"{label} = {value!r} does not begin with {rules['starts']}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _noun(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]


def _nearest(key: str, known: list[str]) -> str:
    """A hint that names the nearest known key, or all of them if none is near."""
    lowered = key.replace("-", "_")
    for candidate in difflib.get_close_matches(lowered, known, n=1, cutoff=0.5):
        return f"; did you mean '{candidate}'?"
    return f"; known are {', '.join(known)}"
