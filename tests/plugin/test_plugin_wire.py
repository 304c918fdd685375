"""The C++ codec against bridge/protocol.py: the same bytes, and the same verdict on everything that is wrong."""

from __future__ import annotations

import ctypes
import random
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_wire import declare, recode

from attacca.bridge import protocol
from attacca.bridge.protocol import CLIENT_MESSAGES, ENGINE_MESSAGES, Message, ProtocolError, decode, encode
from attacca.bridge.protocol_schema import fields_of, tag_of, unwrapped

pytestmark = pytest.mark.plugin

FAULTS = ("drop", "type", "value", "twice", "order", "add", "v", "key")
KINDS = CLIENT_MESSAGES + ENGINE_MESSAGES
pack = msgspec.msgpack.encode


@pytest.fixture(scope="module")
def library(native: Any) -> ctypes.CDLL:
    return declare(native.library)


def agree(library: ctypes.CDLL, frames: list[bytes]) -> bool:
    """Both sides refuse, for the same kind of reason, or both read the same; whether they read it."""
    again, why = recode(library, frames)
    try:
        message, payload = decode(frames)
    except ProtocolError as error:
        assert why.partition(":")[0] == error.code, f"python: {error.code} {error}; c++: {why or 'accepted'}"
        return False
    assert not why, f"python reads {message}; c++: {why}"
    assert again == [bytes(part) for part in encode(message, payload if message.payload else None)]
    return True


@pytest.fixture(scope="module")
def agreed(library: ctypes.CDLL) -> Any:
    return lambda frames: agree(library, frames)


def of_field(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values inside and just outside what a field allows."""
    plain, optional = unwrapped(kind)
    match plain:
        case msgspec.inspect.EnumType():
            values = st.sampled_from([*(word.value for word in plain.cls), "", "Continue"])
        case msgspec.inspect.IntType():
            edges = [plain.ge - 1, plain.ge, plain.ge + 1, plain.le - 1, plain.le, plain.le + 1]
            values = st.integers(plain.ge, plain.le) | st.sampled_from(edges) | st.integers(-(2**63), 2**64 - 1)
        case msgspec.inspect.FloatType():
            values = st.floats() | st.floats(plain.ge or plain.gt, plain.le) | st.integers(-(2**63), 2**64 - 1)
        case msgspec.inspect.BoolType():
            values = st.booleans() | st.integers(0, 1)
        case msgspec.inspect.BytesType():
            values = st.binary(max_size=5)
        case _:
            most = plain.max_length
            values = st.text(max_size=most) | st.sampled_from(["é" * most, "😀" * (most + 1), "a\0b", ""])
    return st.none() | values if optional else values


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def payload_for(kind: type[Message], fields: dict[str, Any], draw: st.DrawFn) -> list[bytes]:
    """What frame 1 should be, or near it."""
    if kind.payload is None:
        return draw(st.sampled_from([[], [], [], [], [b""], [b"x"]]))
    names = ("samples", "channels") if kind.payload == "pcm" else ("frames", "num_codebooks")
    for name in names:
        fields[name] = draw(st.integers(0, 5))
    size = fields[names[0]] * fields[names[1]] * (4 if kind.payload == "pcm" else 2)
    return draw(st.sampled_from([[bytes(size)]] * 6 + [[bytes(size + 1)], [bytes(max(size - 1, 0))], []]))


@st.composite
def nearly_right(draw: st.DrawFn) -> list[bytes]:
    """A message of the table with, now and then, a field that is wrong, missing, strange, twice or out of place."""
    kind = draw(st.sampled_from(KINDS))
    fields = {entry.name: draw(of_field(entry.type)) for entry in fields_of(kind)}
    rest = payload_for(kind, fields, draw)
    pairs: list[tuple[Any, Any]] = [("type", tag_of(kind)), *fields.items(), ("v", protocol.PROTOCOL_VERSION)]
    for fault in draw(st.lists(st.sampled_from(FAULTS), max_size=2)):
        at = draw(st.integers(0, max(len(pairs) - 1, 0)))
        if fault == "drop" and pairs:
            del pairs[at]
        elif fault == "value" and pairs:
            pairs[at] = (pairs[at][0], draw(anything))
        elif fault == "twice" and pairs:
            pairs.append((pairs[at][0], draw(st.just(pairs[at][1]) | anything)))
        elif fault == "order":
            pairs = draw(st.permutations(pairs))
        elif fault == "add":
            pairs.insert(at, (draw(st.text(max_size=5)), draw(anything)))
        elif fault == "key":
            pairs.insert(at, (draw(st.integers() | st.binary(max_size=3) | st.none()), 1))
        elif fault == "v":
            pairs.append(("v", draw(st.integers(-1, 3))))
        elif fault == "type":
            pairs.append(("type", draw(st.sampled_from([tag_of(other) for other in KINDS] + ["", "x"]))))
    return [mapped(pairs), *rest]


def mapped(pairs: list[tuple[Any, Any]]) -> bytes:
    """A map that may hold a key twice, as no dict can; integers too long for msgpack are left out."""
    kept = [(k, v) for k, v in pairs if not isinstance(k, int) or -(2**63) <= k < 2**64]
    return bytes([0xDE, 0, len(kept)]) + b"".join(pack(key) + pack(value) for key, value in kept)


@given(nearly_right())
@settings(max_examples=2000, deadline=None)
def test_both_sides_say_the_same_of_nearly_right_messages(agreed: Any, frames: list[bytes]) -> None:
    agreed(frames)


@st.composite
def right(draw: st.DrawFn) -> list[bytes]:
    kind = draw(st.sampled_from(KINDS))
    fields = {}
    for entry in fields_of(kind):
        plain, optional = unwrapped(entry.type)
        match plain:
            case msgspec.inspect.EnumType():
                values = st.sampled_from(list(plain.cls))
            case msgspec.inspect.IntType():
                values = st.integers(plain.ge, plain.le)
            case msgspec.inspect.FloatType():
                least = plain.ge if plain.gt is None else 5e-324
                values = st.floats(least, plain.le, allow_nan=False, allow_infinity=False)
            case msgspec.inspect.BoolType():
                values = st.booleans()
            case msgspec.inspect.BytesType():
                values = st.binary(min_size=plain.min_length, max_size=plain.max_length)
            case _:
                values = st.text(max_size=plain.max_length)
        fields[entry.name] = draw(st.none() | values if optional else values)
    rest = []
    if kind.payload is not None:
        names = ("samples", "channels") if kind.payload == "pcm" else ("frames", "num_codebooks")
        fields[names[0]], fields[names[1]] = draw(st.integers(0, 300)), draw(st.integers(1, 2))
        rest = [bytes(fields[names[0]] * fields[names[1]] * (4 if kind.payload == "pcm" else 2))]
    return [bytes(encode(kind(**fields), *rest)[0]), *rest]


@given(right())
@settings(max_examples=1500, deadline=None)
def test_every_message_is_read_and_written_as_python_does(agreed: Any, frames: list[bytes]) -> None:
    assert agreed(frames)


@given(right(), st.integers(0, 2**16), st.integers(0, 255))
@settings(max_examples=3000, deadline=None)
def test_flipped_and_cut_bytes(agreed: Any, frames: list[bytes], at: int, byte: int) -> None:
    header, *rest = frames
    broken = bytearray(header)
    broken[at % len(broken)] = byte
    agreed([bytes(broken), *rest])
    agreed([header[: at % len(header)], *rest])
    agreed([header + bytes([byte]), *rest])


@given(st.lists(st.binary(max_size=80), max_size=3))
@settings(max_examples=500, deadline=None)
def test_noise(agreed: Any, frames: list[bytes]) -> None:
    agreed(frames)


def ping(*extra: bytes) -> bytes:
    """A ping with raw entries behind its own."""
    return bytes([0x82 + len(extra)]) + b"\xa4type\xa4ping\xa5nonce\x01" + b"".join(extra)


# Forms that msgspec never writes but reads, or refuses: the unknown field z holds each.
STRANGE = {
    "nil": b"\xc0", "never used": b"\xc1", "float32": b"\xca\x7f\xc0\0\0", "float64": b"\xcb" + bytes(8),
    "uint8": b"\xcc\x01", "uint64": b"\xcf" + b"\xff" * 8, "int64": b"\xd3\x80" + bytes(7),
    "int8": b"\xd0\xff",
    "fixext1": b"\xd4\x01\x02", "fixext16": b"\xd8\x01" + bytes(16), "fixext16 cut": b"\xd8\x01" + bytes(15),
    "ext8": b"\xc7\x02\x05ab", "ext16": b"\xc8\0\x02\x05ab", "ext32": b"\xc9\0\0\0\x02\x05ab",
    "ext8 cut": b"\xc7\x09a",
    "timestamp": b"\xd6\xff\0\0\0\0", "no timestamp": b"\xd4\xff\0", "str no UTF-8": b"\xa2\xff\xfe",
    "str8": b"\xd9\x01a", "str16": b"\xda\0\x01a", "str32": b"\xdb\0\0\0\x01a",
    "str32 long": b"\xdb\xff\xff\xff\xffa",
    "bin8": b"\xc4\x01a", "bin16": b"\xc5\0\x01a", "bin32": b"\xc6\0\0\0\x01a",
    "bin32 long": b"\xc6\xff\xff\xff\xffa",
    "array16": b"\xdc\0\x01\x01", "array32": b"\xdd\0\0\0\x01\x01", "array32 long": b"\xdd\xff\xff\xff\xff",
    "map16": b"\xde\0\x01\x01\x02", "map32": b"\xdf\0\0\0\x01\x01\x02", "map32 long": b"\xdf\xff\xff\xff\xff",
    "map of maps": b"\x81\x80\x80", "map cut": b"\x82\x01\x02\x03", "deep": b"\x91" * 400 + b"\x01",
    "too deep": b"\x91" * 1500 + b"\x01", "too deep map": b"\x81\xc0" * 1500 + b"\x01", "all heads": b"\x91" * 4000,
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_values_of_unknown_fields(agreed: Any, name: str) -> None:
    agreed([ping(b"\xa1z" + STRANGE[name])])


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("field", ["client", "sample_rate", "want", "v", "type"])
def test_strange_values_of_known_fields(agreed: Any, name: str, field: str) -> None:
    fields = {"type": "hello", "client": "a", "sample_rate": 48000, "channels": 2, "want": "pcm", "v": 1}
    values = {key: pack(value) for key, value in fields.items()} | {field: STRANGE[name]}
    agreed([bytes([0x80 + len(values)]) + b"".join(pack(key) + value for key, value in values.items())])


@pytest.mark.parametrize(
    "value",
    [
        b"\xca" + struct.pack(">f", 3.1), b"\xca" + struct.pack(">f", float("inf")), b"\xcf" + b"\xff" * 8,
        b"\xd3" + struct.pack(">q", -(2**63)), b"\x01", b"\xc3", b"\xcb" + struct.pack(">d", 5e-324),
        b"\xcb" + struct.pack(">d", float("nan")), b"\xcb" + struct.pack(">d", -0.0), b"\xa13", b"\xc0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tail", [b"", pack("value") + pack(1.5)])
def test_numbers_in_every_form(agreed: Any, value: bytes, tail: bytes) -> None:
    count = 0x83 + bool(tail)
    agreed(
        [bytes([count]) + pack("type") + pack("param") + pack("name") + pack("gain") + pack("value") + value + tail]
    )
    heads = pack("type") + pack("trigger") + pack("take") + pack(1) + pack("position") + pack(0)
    agreed([b"\x84" + heads + pack("quantum_bars") + value])


@pytest.mark.parametrize(
    "text",
    [b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
     b"\xc3", b"\xe2\x82", b"\x80", b"\xf4\x8f\xbf\xbf", b"\xee\x80\x80", b"\xdf\xbf", b"a\0"]
)  # fmt: skip
def test_text_is_utf8_or_refused(agreed: Any, text: bytes) -> None:
    for raw in (
        text,
        *(chr(n).encode("utf-8", "surrogatepass") for n in random.Random(text).sample(range(0x110000), 50)),
    ):
        name = bytes([0xA0 + len(raw)]) + raw
        agreed([b"\x83" + pack("type") + pack("param") + pack("name") + name + pack("value") + pack(1.0)])


@pytest.mark.parametrize(
    "frames",
    [
        [], [b""], [b"", b"", b""], [bytes(4097)], [ping() + b"\0"], [b"\xc0"], [b"\x80"], [b"\x91\x01"],
        [pack({"v": 2, "type": "new"})], [pack({"v": 2})], [pack({"v": 2.0, "type": "bye"})], [pack({"v": None})],
        [pack({"v": 2, "type": "ping"})], [pack({"v": 1, "type": "bye"}), b""], [ping(), bytes((1 << 20) + 1)],
        [pack({"type": "audio", "position": 0, "samples": 0, "channels": 1})],
        [pack({"type": "audio", "position": 0, "samples": 2**31, "channels": 2}), b"x"],
        [pack({"type": "codes", "session": 1, "epoch": 1, "take": 1, "seq": 0, "first_frame": 0, "frames": 2**31,
               "num_codebooks": 2**31, "start_position": 0.0}), b"x"],
    ],
)  # fmt: skip
def test_whole_messages_that_are_wrong(agreed: Any, frames: list[bytes]) -> None:
    agreed(frames)
