"""The message table as data for generators: fields, types, limits and defaults of bridge/protocol.py.

Beside the path: read by protocol_docs (documents) and protocol_header (C++).
"""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from typing import Any

import msgspec

from . import protocol


def doc_of(thing: Any) -> str:
    """A docstring as paragraphs of one line each."""
    text = inspect.getdoc(thing) or ""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text).strip()


def fields_of(message: type[protocol.Message]) -> list[msgspec.inspect.Field]:
    """The fields of a message without "v"."""
    info = msgspec.inspect.type_info(message)
    assert isinstance(info, msgspec.inspect.StructType)
    return [entry for entry in info.fields if entry.name != "v"]


def tag_of(message: type[protocol.Message]) -> str:
    """What the message is called in its "type" field."""
    return str(message.__struct_config__.tag)


def default_text(value: Any) -> str:
    """A default as documents and C++ write it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool):
        return str(value).lower()
    return "nil" if value is None else str(value)


def unwrapped(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, bool]:
    """(the type itself, whether nil is allowed too)."""
    if isinstance(kind, msgspec.inspect.UnionType):
        inner = next(entry for entry in kind.types if not isinstance(entry, msgspec.inspect.NoneType))
        return unwrapped(inner)[0], True
    if isinstance(kind, msgspec.inspect.Metadata):
        return unwrapped(kind.type)
    return kind, False


def kind_name(kind: msgspec.inspect.Type) -> str:
    """int, float, bool, str or bytes; enumerations are str."""
    names = {"IntType": "int", "FloatType": "float", "BoolType": "bool", "StrType": "str", "BytesType": "bytes"}
    return names.get(type(kind).__name__, "str")
