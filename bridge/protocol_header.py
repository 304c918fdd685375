"""Writes plugin_stub/protocol.hpp: messages, limits, parameters and meters for the native plugin, as C++ data.

Beside the path, run by protocol_docs. Each message gets a visitor over its fields, so that one codec
(plugin_stub/net/wire.cpp) serves them all; there is no other code in the header but look-ups by name.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Final

import msgspec

from . import endpoints, params, protocol
from .protocol_schema import default_text, doc_of, fields_of, kind_name, tag_of, unwrapped

WIDTH: Final = 120
CPP_TYPES: Final = {"int": "int64_t", "float": "double", "bool": "bool", "str": "std::string", "bytes": "Bytes"}
WORDS: Final = (protocol.Mode, protocol.Late, protocol.Want)

OPENING: Final = """\
// clang-format off
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace attacca::protocol {

using Bytes = std::vector<uint8_t>;
"""

LIMITS: Final = """\
// What a field may hold, beside its C++ type. An std::optional may be nil.
struct Integers {
    int64_t least, most;
};
struct Numbers {  // never NaN or infinite
    double least, most;
    bool above;  // `least` itself is refused
};
struct Truth {};
struct Text {
    size_t most_characters;  // Unicode characters, not bytes
};
struct Octets {
    size_t least, most;
};
struct Words {  // one of these; also the names of a list parameter's values 0, 1, ...
    const std::string_view* first;
    size_t count;
    constexpr size_t size() const { return count; }
    constexpr const std::string_view* begin() const { return first; }
    constexpr const std::string_view* end() const { return first + count; }
    constexpr std::string_view operator[](size_t index) const { return first[index]; }
};

enum class Presence { required, defaulted };  // defaulted: if it is missing, what the struct begins with holds

inline constexpr double kAnyNumber = std::numeric_limits<double>::max();
"""

TABLES: Final = """\
struct Parameter {
    std::string_view name, label, unit;
    double minimum, maximum, initial;
    bool integer;
    int midi_cc;  // -1: none
    std::string_view description;
    Words choices;     // empty: a number
    bool plugin_only;  // never sent to the engine
};

struct Meter {
    std::string_view name, label, unit;
    double minimum, maximum;
    bool integer;
    std::string_view description;
    Words choices;
};

struct QuantumValue {
    std::optional<double> bars;  // nil: quarter notes count
    double quarters;
};
"""

LOOK_UPS: Final = """\
// The row's index, or -1; at compile time too.
constexpr int parameter_index(std::string_view name) {
    for (size_t i = 0; i < kParameters.size(); ++i)
        if (kParameters[i].name == name) return static_cast<int>(i);
    return -1;
}

constexpr int meter_index(std::string_view name) {
    for (size_t i = 0; i < kMeters.size(); ++i)
        if (kMeters[i].name == name) return static_cast<int>(i);
    return -1;
}

// The word's place in the list, or -1.
constexpr int word_index(const Words& words, std::string_view word) {
    for (size_t i = 0; i < words.size(); ++i)
        if (words[i] == word) return static_cast<int>(i);
    return -1;
}
"""


def cpp_header(command: str) -> str:
    """The header's text; `command` is what writes it."""
    lines = [
        f"// Generated from bridge/protocol.py and bridge/params.py by `{command}`. Do not edit.",
        OPENING,
        *_constants(),
        "",
        LIMITS,
    ]
    for enum in WORDS:
        lines += [f"// {doc_of(enum)}", f"namespace {enum.__name__.lower()} {{"]
        lines += [
            f'inline constexpr std::string_view k{word.value.capitalize()} = "{word.value}";' for word in enum
        ]
        lines += [
            *_word_list("kAll", [word.value for word in enum]),
            f"}}  // namespace {enum.__name__.lower()}",
            "",
        ]
    for message in protocol.CLIENT_MESSAGES + protocol.ENGINE_MESSAGES:
        lines += _struct(message)
    lines += [TABLES, *_tables(), "", LOOK_UPS, "}  // namespace attacca::protocol"]
    return "\n".join(lines) + "\n"


def _constants() -> list[str]:
    rows = {
        "Version": protocol.PROTOCOL_VERSION,
        "MaxHeaderBytes": protocol.MAX_HEADER_BYTES,
        "MaxPayloadBytes": protocol.MAX_PAYLOAD_BYTES,
        "EngineTakesFrom": protocol.ENGINE_TAKES_FROM,
    }
    lines = [f"inline constexpr int64_t k{name} = {value};" for name, value in rows.items()]
    lines += [
        f"inline constexpr size_t k{name}Characters = {_most(getattr(protocol, name))};"
        for name in ("Name", "Text")
    ]
    lines += [
        f"inline constexpr int64_t kMost{name} = {_most(getattr(protocol, name))};"
        for name in ("Position", "Count", "Id")
    ]
    for name, address in (("Address", endpoints.DEFAULT_ADDRESS), ("Publish", endpoints.DEFAULT_PUBLISH)):
        lines.append(f'inline constexpr std::string_view kDefault{name} = "{address}";')
    return lines


def _most(kind: object) -> int:
    plain, _ = unwrapped(msgspec.inspect.type_info(kind))
    bound = plain.max_length if isinstance(plain, msgspec.inspect.StrType) else getattr(plain, "le", None)
    assert isinstance(bound, int)
    return bound


def _struct(message: type[protocol.Message]) -> list[str]:
    fields = fields_of(message)
    lines = _comment(doc_of(message))
    lines.append(f"struct {message.__name__} {{")
    lines.append(f'    static constexpr std::string_view type = "{tag_of(message)}";')
    lines.append(f"    static constexpr bool has_payload = {str(message.payload is not None).lower()};")
    lines += [f"    static constexpr {_limit_of(entry)};" for entry in fields]
    lines += [f"    {_member(entry)};" for entry in fields]
    lines.append("")
    lines.append("    template <class Self, class Visitor>")
    if not fields:
        return [*lines, "    static constexpr void visit(Self&, Visitor&&) {}", "};", ""]
    lines.append("    static constexpr void visit(Self& self, Visitor&& visitor) {")
    for entry in fields:
        presence = "required" if entry.default is msgspec.NODEFAULT else "defaulted"
        lines.append(
            f'        visitor("{entry.name}", self.{entry.name}, {entry.name}_limit, Presence::{presence});'
        )
    return [*lines, "    }", "};", ""]


def _member(entry: msgspec.inspect.Field) -> str:
    kind, optional = unwrapped(entry.type)
    name = CPP_TYPES[kind_name(kind)]
    if entry.default is None or entry.default is msgspec.NODEFAULT:
        value = "" if optional or name in ("std::string", "Bytes") else "{}"
    elif isinstance(entry.default, str):
        value = f'{{"{default_text(entry.default)}"}}'
    else:
        value = f"{{{default_text(entry.default)}}}"
    return f"{f'std::optional<{name}>' if optional else name} {entry.name}{value}"


def _limit_of(entry: msgspec.inspect.Field) -> str:
    kind, _ = unwrapped(entry.type)
    if isinstance(kind, msgspec.inspect.EnumType):
        return f"Words {entry.name}_limit = {kind.cls.__name__.lower()}::kAll"
    if isinstance(kind, msgspec.inspect.IntType):
        return f"Integers {entry.name}_limit{{{kind.ge}, {kind.le}}}"
    if isinstance(kind, msgspec.inspect.FloatType):
        if kind.le is None:
            return f"Numbers {entry.name}_limit{{-kAnyNumber, kAnyNumber, false}}"
        least = kind.ge if kind.gt is None else kind.gt
        return f"Numbers {entry.name}_limit{{{least!r}, {kind.le!r}, {str(kind.gt is not None).lower()}}}"
    if isinstance(kind, msgspec.inspect.StrType):
        return f"Text {entry.name}_limit{{{kind.max_length}}}"
    if isinstance(kind, msgspec.inspect.BytesType):
        return f"Octets {entry.name}_limit{{{kind.min_length}, {kind.max_length}}}"
    return f"Truth {entry.name}_limit{{}}"


def _tables() -> list[str]:
    rows = params.PARAMETERS + params.PLUGIN_PARAMETERS
    lines = ["// The names of list values.", "namespace choices {"]
    named: tuple[params.Parameter | params.Meter, ...] = (*rows, *params.METERS)
    for entry in named:
        if entry.choices:
            lines += _word_list(f"k{_camel(entry.name)}", entry.choices)
    lines += ["}  // namespace choices", ""]
    lines.append(f"inline constexpr std::array<Parameter, {len(rows)}> kParameters{{{{")
    for row in rows:
        cc = -1 if row.midi_cc is None else row.midi_cc
        numbers = f"{row.minimum!r}, {row.maximum!r}, {row.default!r}, {str(row.integer).lower()}, {cc}"
        lines += [
            f'    {{"{row.name}", "{row.label}", "{row.unit}", {numbers},',
            f"     {json.dumps(row.description)},",
            f"     {_choices(row)}, {str(row.plugin_only).lower()}}},",
        ]
    lines += ["}};", "", f"inline constexpr std::array<Meter, {len(params.METERS)}> kMeters{{{{"]
    for meter in params.METERS:
        numbers = f"{meter.minimum!r}, {meter.maximum!r}, {str(meter.integer).lower()}"
        lines += [
            f'    {{"{meter.name}", "{meter.label}", "{meter.unit}", {numbers},',
            f"     {json.dumps(meter.description)},",
            f"     {_choices(meter)}}},",
        ]
    values = params.QUANTUM_VALUES
    lines += ["}};", "", "// What the parameter `quantum` means, by its value."]
    lines.append(f"inline constexpr std::array<QuantumValue, {len(values)}> kQuantumValues{{{{")
    lines += [f"    {{{'std::nullopt' if bars is None else bars}, {quarters}}}," for bars, quarters in values]
    return [*lines, "}};"]


def _choices(row: params.Parameter | params.Meter) -> str:
    return f"choices::k{_camel(row.name)}" if row.choices else "{}"


def _word_list(name: str, words: Sequence[str]) -> list[str]:
    values = ", ".join(f'"{word}"' for word in words)
    return [
        f"inline constexpr std::string_view {name}Words[] = {{{values}}};",
        f"inline constexpr Words {name}{{{name}Words, {len(words)}}};",
    ]


def _comment(text: str) -> list[str]:
    return [f"// {line}" for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, WIDTH - 3)]


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))
