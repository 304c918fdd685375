"""Generates docs/protocol.md, docs/osc.md and plugin_stub/protocol.hpp from the tables; a test compares all three.

Beside the path: run `python -m attacca.bridge.protocol_docs` in a clone after a table has changed. Nothing here is
imported by the engine.
"""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from . import endpoints, osc, params, protocol, queues

COMMAND: Final = "python -m attacca.bridge.protocol_docs"
CPP_TYPES: Final = {"int": "int64_t", "float": "double", "bool": "bool", "str": "std::string", "bytes": "Bytes"}


def outputs() -> dict[str, str]:
    """Path inside the repository -> generated text."""
    return {
        "docs/protocol.md": protocol_markdown(),
        "docs/osc.md": osc_markdown(),
        "plugin_stub/protocol.hpp": cpp_header(),
    }


def protocol_markdown() -> str:
    """docs/protocol.md."""
    lines = [
        "# Protocol",
        "",
        f"Generated from `bridge/protocol.py` and `bridge/params.py` by `{COMMAND}`; do not edit.",
        "",
        f"Version {protocol.PROTOCOL_VERSION}. {_doc(protocol)}",
        "",
        f"A header has at most {protocol.MAX_HEADER_BYTES} bytes, a payload at most {protocol.MAX_PAYLOAD_BYTES};"
        " larger frames cost the sender its connection. Unknown fields are ignored; NaN and infinity are refused"
        " everywhere.",
        "",
        "## Endpoints",
        "",
        _doc(endpoints),
        "",
        f"If not told otherwise, the ROUTER binds `{endpoints.DEFAULT_ADDRESS}` and the PUB"
        f" `{endpoints.DEFAULT_PUBLISH}`.",
        "",
        "## Queues and what is dropped",
        "",
        _doc(queues)
        .replace("INBOX_MESSAGES", str(queues.INBOX_MESSAGES))
        .replace("OUTBOX_MESSAGES", str(queues.OUTBOX_MESSAGES)),
        "",
    ]
    for title, messages in (
        ("Plugin to engine", protocol.CLIENT_MESSAGES),
        ("Engine to plugin", protocol.ENGINE_MESSAGES),
    ):
        lines += [f"## {title}", "", "`ping` and `pong` go either way.", ""]
        for message in messages:
            lines += _message_table(message)
    lines += [
        "## Parameters",
        "",
        "For `param`, OSC and MIDI controllers. Values are clamped; lists count from 0. `mode`, `quantum`, `bars`,"
        " `late`, `seed`, `trigger_*`, `velocity_to` and `release_quantized` hold for takes that the engine starts"
        " (MIDI messages, OSC, its MIDI port); a `trigger` message carries its own.",
        "",
    ]
    lines += ["| name | meaning | range | default | OSC | CC |", "|-|-|-|-|-|-|"]
    lines += [_parameter_row(row) for row in params.PARAMETERS]
    return "\n".join(lines) + "\n"


def osc_markdown() -> str:
    """docs/osc.md."""
    lines = [
        "# OSC",
        "",
        f"Generated from `bridge/osc.py` by `{COMMAND}`; do not edit.",
        "",
        _doc(osc),
        "",
        "Types: i integer, h 64-bit integer, f number (an integer will do), s text. Bundles are carried out when"
        " they arrive, whatever their time tag. At most "
        f"{osc.MAX_SUBSCRIBERS} subscribers; without leave to serve other machines, on this machine only.",
    ]
    for title, table in (("Control", osc.CONTROL), ("Status", osc.STATUS)):
        lines += ["", f"## {title}", "", "| address | types | meaning |", "|-|-|-|"]
        lines += [
            f"| `{row.address}` | {f'`{row.types}`' if row.types else ''} | {row.description} |" for row in table
        ]
    return "\n".join(lines) + "\n"


def cpp_header() -> str:
    """plugin_stub/protocol.hpp: the tables for the native plugin; no code but data."""
    lines = [
        f"// Generated from bridge/protocol.py and bridge/params.py by `{COMMAND}`. Do not edit.",
        "#pragma once",
        "",
        "#include <array>",
        "#include <cstdint>",
        "#include <optional>",
        "#include <string>",
        "#include <string_view>",
        "#include <vector>",
        "",
        "namespace attacca::protocol {",
        "",
        "using Bytes = std::vector<uint8_t>;",
        "",
        f"inline constexpr int64_t kVersion = {protocol.PROTOCOL_VERSION};",
        f"inline constexpr int64_t kMaxHeaderBytes = {protocol.MAX_HEADER_BYTES};",
        f"inline constexpr int64_t kMaxPayloadBytes = {protocol.MAX_PAYLOAD_BYTES};",
        f"inline constexpr int64_t kEngineTakesFrom = {protocol.ENGINE_TAKES_FROM};",
        "",
    ]
    for enum in (protocol.Mode, protocol.Late, protocol.Want):
        lines += [f"// {_doc(enum)}", f"namespace {_snake(enum.__name__)} {{"]
        lines += [f'inline constexpr std::string_view k{_camel(word.value)} = "{word.value}";' for word in enum]
        lines += [f"}}  // namespace {_snake(enum.__name__)}", ""]
    for messages in (protocol.CLIENT_MESSAGES, protocol.ENGINE_MESSAGES):
        for message in messages:
            lines += _cpp_struct(message)
    lines += [
        "struct Parameter {",
        "    std::string_view name, label, unit;",
        "    double minimum, maximum, initial;",
        "    bool integer;",
        "    int midi_cc;  // -1: none",
        "};",
        "",
        f"inline constexpr std::array<Parameter, {len(params.PARAMETERS)}> kParameters{{{{",
    ]
    for row in params.PARAMETERS:
        cc = -1 if row.midi_cc is None else row.midi_cc
        numbers = f"{row.minimum!r}, {row.maximum!r}, {row.default!r}, {str(row.integer).lower()}, {cc}"
        lines.append(f'    {{"{row.name}", "{row.label}", "{row.unit}", {numbers}}},')
    lines += ["}};", "", "}  // namespace attacca::protocol"]
    return "\n".join(lines) + "\n"


def write(root: Path) -> None:
    """Writes the generated files below `root`."""
    for name, text in outputs().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")


def _doc(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text).strip()


def _snake(name: str) -> str:
    return name.lower()


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _fields(message: type[protocol.Message]) -> list[msgspec.inspect.Field]:
    info = msgspec.inspect.type_info(message)
    assert isinstance(info, msgspec.inspect.StructType)
    return [entry for entry in info.fields if entry.name != "v"]


def _tag(message: type[protocol.Message]) -> str:
    return str(message.__struct_config__.tag)


def _message_table(message: type[protocol.Message]) -> list[str]:
    payload = {None: "", "pcm": " Payload: float32 PCM, interleaved.", "codes": " Payload: uint16 codes."}
    lines = [f"### `{_tag(message)}`", "", _doc(message) + payload[message.payload], ""]
    rows = [_field_row(entry) for entry in _fields(message)]
    return lines + (["| field | type | range | default |", "|-|-|-|-|", *rows, ""] if rows else [])


def _field_row(entry: msgspec.inspect.Field) -> str:
    kind, optional = _unwrapped(entry.type)
    words = f"{_kind_name(kind)}{' or nil' if optional else ''}"
    default = "" if entry.default is msgspec.NODEFAULT else f"`{_default_text(entry.default) or 'empty'}`"
    return f"| `{entry.name}` | {words} | {_range(kind)} | {default} |"


def _default_text(value: Any) -> str:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool):
        return str(value).lower()
    return "nil" if value is None else str(value)


def _unwrapped(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, bool]:
    if isinstance(kind, msgspec.inspect.UnionType):
        inner = next(entry for entry in kind.types if not isinstance(entry, msgspec.inspect.NoneType))
        return _unwrapped(inner)[0], True
    if isinstance(kind, msgspec.inspect.Metadata):
        return _unwrapped(kind.type)
    return kind, False


def _kind_name(kind: msgspec.inspect.Type) -> str:
    names = {"IntType": "int", "FloatType": "float", "BoolType": "bool", "StrType": "str", "BytesType": "bytes"}
    return names.get(type(kind).__name__, "str")


def _range(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.EnumType):
        return ", ".join(f"`{word.value}`" for word in kind.cls)
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        if kind.le is None:
            return "finite" if isinstance(kind, msgspec.inspect.FloatType) else ""
        return f"{_bound(kind.ge)} .. {_bound(kind.le)}" if kind.gt is None else f"above {kind.gt:g} .. {kind.le:g}"
    if isinstance(kind, msgspec.inspect.StrType | msgspec.inspect.BytesType) and kind.max_length is not None:
        least = f"{kind.min_length} .. " if kind.min_length else "at most "
        return (
            f"{least}{kind.max_length} {'bytes' if isinstance(kind, msgspec.inspect.BytesType) else 'characters'}"
        )
    return ""


def _bound(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and abs(value) > 10**6:
        return f"{'-' if value < 0 else ''}2^{abs(value).bit_length() - 1}"
    return f"{value:g}"


def _cpp_struct(message: type[protocol.Message]) -> list[str]:
    lines = [f"// {line}" for line in _doc(message).splitlines() if line]
    lines.append(f"struct {message.__name__} {{")
    lines.append(f'    static constexpr std::string_view type = "{_tag(message)}";')
    lines.append(f"    static constexpr bool has_payload = {str(message.payload is not None).lower()};")
    for entry in _fields(message):
        kind, optional = _unwrapped(entry.type)
        name = CPP_TYPES[_kind_name(kind)]
        if entry.default is None or entry.default is msgspec.NODEFAULT:
            value = "" if optional or name in ("std::string", "Bytes") else "{}"
        elif isinstance(entry.default, str):
            value = f'{{"{_default_text(entry.default)}"}}'
        else:
            value = f"{{{_default_text(entry.default)}}}"
        lines.append(f"    {f'std::optional<{name}>' if optional else name} {entry.name}{value};")
    return [*lines, "};", ""]


def _parameter_row(row: params.Parameter) -> str:
    cc = "" if row.midi_cc is None else str(row.midi_cc)
    if row.choices:
        span = ", ".join(row.choices)
        default = row.choices[int(row.default)]
    else:
        span = f"{row.minimum:g} .. {row.maximum:g}{' ' + row.unit if row.unit else ''}"
        default = f"{row.default:g}"
    return f"| `{row.name}` | {row.description} | {span} | {default} | `{row.osc_address}` | {cc} |"


if __name__ == "__main__":
    write(Path.cwd())
