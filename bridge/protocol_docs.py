"""Generates docs/protocol.md, docs/osc.md and plugin_stub/protocol.hpp from the tables; a test compares all three.

Beside the path: run `python -m attacca.bridge.protocol_docs` in a clone after a table has changed. Nothing here is
imported by the engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from . import endpoints, osc, params, protocol, queues
from .protocol_header import cpp_header
from .protocol_schema import default_text, doc_of, fields_of, kind_name, tag_of, unwrapped

COMMAND: Final = "python -m attacca.bridge.protocol_docs"


def outputs() -> dict[str, str]:
    """Path inside the repository -> generated text."""
    return {
        "docs/protocol.md": protocol_markdown(),
        "docs/osc.md": osc_markdown(),
        "plugin_stub/protocol.hpp": cpp_header(COMMAND),
    }


def protocol_markdown() -> str:
    """docs/protocol.md."""
    lines = [
        "# Protocol",
        "",
        f"Generated from `bridge/protocol.py` and `bridge/params.py` by `{COMMAND}`; do not edit.",
        "",
        f"Version {protocol.PROTOCOL_VERSION}. {doc_of(protocol)}",
        "",
        f"A header has at most {protocol.MAX_HEADER_BYTES} bytes, a payload at most {protocol.MAX_PAYLOAD_BYTES};"
        " larger frames cost the sender its connection. Unknown fields are ignored; NaN and infinity are refused"
        " everywhere.",
        "",
        "## Endpoints",
        "",
        doc_of(endpoints),
        "",
        f"If not told otherwise, the ROUTER binds `{endpoints.DEFAULT_ADDRESS}` and the PUB"
        f" `{endpoints.DEFAULT_PUBLISH}`.",
        "",
        "## Queues and what is dropped",
        "",
        doc_of(queues)
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
    lines += [
        "",
        "## Parameters of the plugin alone",
        "",
        "Hosts automate them like the rest; the engine refuses a `param` with their name.",
        "",
        "| name | meaning | range | default |",
        "|-|-|-|-|",
    ]
    lines += [
        f"| `{row.name}` | {row.description} | {_span(row)} | {_default(row)} |" for row in params.PLUGIN_PARAMETERS
    ]
    lines += [
        "",
        "## Meters of the plugin",
        "",
        "Read-only, for hosts to show.",
        "",
        "| name | meaning | range |",
        "|-|-|-|",
    ]
    lines += [f"| `{row.name}` | {row.description} | {_span(row)} |" for row in params.METERS]
    return "\n".join(lines) + "\n"


def osc_markdown() -> str:
    """docs/osc.md."""
    lines = [
        "# OSC",
        "",
        f"Generated from `bridge/osc.py` by `{COMMAND}`; do not edit.",
        "",
        doc_of(osc),
        "",
        "Types: i integer, h 64-bit integer, f number (an integer will do), s text, w the number of a list's value"
        " or its word (protocol.md has the lists; a style goes by its name too, see `attacca models show`); what"
        " comes after a bar may be left out. Bundles"
        " are carried out when they arrive, whatever their time tag. At most "
        f"{osc.MAX_SUBSCRIBERS} subscribers; without leave to serve other machines, on this machine only.",
    ]
    for title, table in (("Control", osc.CONTROL), ("Status", osc.STATUS)):
        lines += ["", f"## {title}", "", "| address | types | meaning |", "|-|-|-|"]
        lines += [f"| `{row.address}` | {_cell(row.types)} | {row.description} |" for row in table]
    return "\n".join(lines) + "\n"


def _cell(types: str) -> str:
    escaped = types.replace("|", "\\|")
    return f"`{escaped}`" if types else ""


def write(root: Path) -> None:
    """Writes the generated files below `root`."""
    for name, text in outputs().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")


def _message_table(message: type[protocol.Message]) -> list[str]:
    payload = {None: "", "pcm": " Payload: float32 PCM, interleaved.", "codes": " Payload: uint16 codes."}
    lines = [f"### `{tag_of(message)}`", "", doc_of(message) + payload[message.payload], ""]
    rows = [_field_row(entry) for entry in fields_of(message)]
    return lines + (["| field | type | range | default |", "|-|-|-|-|", *rows, ""] if rows else [])


def _field_row(entry: msgspec.inspect.Field) -> str:
    kind, optional = unwrapped(entry.type)
    words = f"{kind_name(kind)}{' or nil' if optional else ''}"
    default = "" if entry.default is msgspec.NODEFAULT else f"`{default_text(entry.default) or 'empty'}`"
    return f"| `{entry.name}` | {words} | {_range(kind)} | {default} |"


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


def _parameter_row(row: params.Parameter) -> str:
    cc = "" if row.midi_cc is None else str(row.midi_cc)
    return f"| `{row.name}` | {row.description} | {_span(row)} | {_default(row)} | `{row.osc_address}` | {cc} |"


def _span(row: params.Parameter | params.Meter) -> str:
    return ", ".join(row.choices) or f"{row.minimum:g} .. {row.maximum:g}{' ' + row.unit if row.unit else ''}"


def _default(row: params.Parameter) -> str:
    return row.choices[int(row.default)] if row.choices else f"{row.default:g}"


if __name__ == "__main__":
    write(Path.cwd())
