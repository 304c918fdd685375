"""The message table: round trips, every way of being wrong, fuzzing, and the documents generated from it."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.bridge import protocol, protocol_docs
from attacca.bridge.protocol import (
    CLIENT_MESSAGES,
    ENGINE_MESSAGES,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Audio,
    Chunk,
    CodesChunk,
    Hello,
    Message,
    Param,
    ProtocolError,
    Status,
    Transport,
    Trigger,
    decode,
    encode,
)

ROOT = Path(__file__).resolve().parent.parent
KINDS = CLIENT_MESSAGES + ENGINE_MESSAGES


def framed(message: Message, payload: bytes | None = None) -> list[bytes]:
    return [bytes(frame) for frame in encode(message, payload)]


def of_field(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of(*(of_field(entry) for entry in kind.types))
    if isinstance(kind, msgspec.inspect.NoneType):
        return st.none()
    if isinstance(kind, msgspec.inspect.EnumType):
        return st.sampled_from(list(kind.cls))
    if isinstance(kind, msgspec.inspect.IntType):
        return st.integers(kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.FloatType):
        low = kind.ge if kind.gt is None else 1e-6
        return st.floats(low, kind.le, allow_nan=False, allow_infinity=False)
    if isinstance(kind, msgspec.inspect.BoolType):
        return st.booleans()
    if isinstance(kind, msgspec.inspect.BytesType):
        return st.binary(min_size=kind.min_length or 0, max_size=kind.max_length)
    assert isinstance(kind, msgspec.inspect.StrType)
    return st.text(max_size=kind.max_length)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Message, bytes | None]:
    kind = draw(st.sampled_from(KINDS))
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    fields = {entry.name: draw(of_field(entry.type)) for entry in info.fields if entry.name != "v"}
    payload = None
    if kind in (Audio, Chunk):
        count = draw(st.integers(0, 50))
        fields["samples"] = count
        payload = bytes(count * fields["channels"] * 4)
    elif kind is CodesChunk:
        fields["frames"], fields["num_codebooks"] = draw(st.integers(0, 20)), draw(st.integers(0, 8))
        payload = bytes(fields["frames"] * fields["num_codebooks"] * 2)
    return kind(**fields), payload


@given(messages())
@settings(max_examples=300, deadline=None)
def test_every_message_survives_the_wire(case: tuple[Message, bytes | None]) -> None:
    message, payload = case
    frames = framed(message, payload)
    if len(frames[0]) <= MAX_HEADER_BYTES:
        assert decode(frames) == (message, payload or b"")


def test_payloads_are_little_endian() -> None:
    pcm = np.array([[1.0], [-2.0]], "<f4")
    message, payload = decode(framed(Audio(position=0, samples=2, channels=1), pcm.tobytes()))
    assert payload == b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
    assert message.samples == 2


@given(st.lists(st.binary(max_size=300), max_size=4))
@settings(max_examples=500)
def test_decode_raises_protocol_errors_only(frames: list[bytes]) -> None:
    try:
        message, _ = decode(frames)
    except ProtocolError as error:
        assert error.code in {"frames", "size", "header", "version", "payload"}
    else:
        assert isinstance(message, KINDS)


nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from([msgspec.inspect.type_info(kind) for kind in KINDS]),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_wrong_types_in_known_fields(info: msgspec.inspect.StructType, data: st.DataObject) -> None:
    fields: dict[str, Any] = {entry.name: data.draw(nested) for entry in info.fields if data.draw(st.booleans())}
    header = msgspec.msgpack.encode({"type": info.tag, **fields})
    try:
        message, _ = decode([header])
    except ProtocolError:
        return
    assert message.v == protocol.PROTOCOL_VERSION
    assert all(math.isfinite(v) for v in msgspec.structs.asdict(message).values() if isinstance(v, float))


@given(st.integers(0, 400), st.integers(0, 255), messages())
@settings(max_examples=300, deadline=None)
def test_flipped_and_cut_bytes(at: int, byte: int, case: tuple[Message, bytes | None]) -> None:
    header, *rest = framed(*case)
    broken = bytearray(header)
    broken[at % len(broken)] = byte
    for candidate in (bytes(broken), header[: at % len(header)]):
        try:
            decode([candidate, *rest])
        except ProtocolError:
            continue


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "message",
    [
        Param(name="gain", value=0.0),
        Transport(
            epoch=1, position=0, ppq=0.0, bpm=120.0, meter_num=4, meter_den=4, bar_start_ppq=0.0, playing=True,
            loop_start_ppq=0.0, loop_end_ppq=4.0,
        ),
        Trigger(take=1, position=0),
        Status(session=1, state=""),
    ],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_no_float_field_takes_what_is_no_number(message: Message, value: float) -> None:
    checked = 0
    for name in message.__struct_fields__:
        if isinstance(getattr(message, name), float):
            with pytest.raises(ProtocolError) as caught:
                decode(framed(msgspec.structs.replace(message, **{name: value})))
            assert caught.value.code == "header"
            checked += 1
    assert checked


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([], "frames"),
        ([b"", b"", b""], "frames"),
        ([bytes(MAX_HEADER_BYTES + 1)], "size"),
        ([b"\x80", bytes(MAX_PAYLOAD_BYTES + 1)], "size"),
        ([b"\x91" * 4000], "header"),
        ([b"\xdf\xff\xff\xff\xff"], "header"),
        ([msgspec.msgpack.encode({"v": 2, "type": "new kind"})], "version"),
        ([msgspec.msgpack.encode({"v": 1, "type": "new kind"})], "header"),
        ([msgspec.msgpack.encode({"v": 2, "type": "bye"})], "version"),
        ([msgspec.msgpack.encode({"v": 1, "type": "bye"}), b""], "payload"),
        ([msgspec.msgpack.encode({"type": "audio", "position": 0, "samples": 1, "channels": 1})], "payload"),
        (
            [msgspec.msgpack.encode({"type": "audio", "position": 0, "samples": 2**31, "channels": 2}), b"x"],
            "payload",
        ),
    ],
)
def test_codes_of_errors(frames: list[bytes], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frames)
    assert caught.value.code == code


def test_unknown_fields_are_ignored() -> None:
    header = msgspec.msgpack.encode(
        {"v": 1, "type": "hello", "client": "x", "sample_rate": 48000, "channels": 2, "colour": [1, {}]}
    )
    assert decode([header])[0] == Hello(client="x", sample_rate=48000, channels=2)


def test_encode_refuses_a_missing_or_surplus_payload() -> None:
    with pytest.raises(ValueError, match="needs payload"):
        encode(Audio(position=0, samples=0, channels=1))
    with pytest.raises(ValueError, match="takes no payload"):
        encode(protocol.Bye(), b"")


@pytest.mark.parametrize("name", protocol_docs.outputs())
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == protocol_docs.outputs()[name], (
        f"{name} is stale: run {protocol_docs.COMMAND}"
    )


def test_every_message_and_field_is_documented() -> None:
    markdown, header = protocol_docs.protocol_markdown(), protocol_docs.cpp_header(protocol_docs.COMMAND)
    for kind in KINDS:
        assert f"### `{kind.__struct_config__.tag}`" in markdown
        assert f"struct {kind.__name__} {{" in header
        for name in kind.__struct_fields__:
            assert name == "v" or f"| `{name}` |" in markdown


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_the_header_compiles(tmp_path: Path) -> None:
    source = tmp_path / "main.cpp"
    source.write_text(
        '#include "protocol.hpp"\nusing namespace attacca::protocol;\n'
        'static_assert(kParameters[parameter_index("solo")].plugin_only && parameter_index("sol") == -1);\n'
        'static_assert(kMeters[meter_index("state")].choices[1] == "armed");\n'
        'static_assert(!kQuantumValues[1].bars && word_index(late::kAll, "wait") == 1);\n'
        "int main() { Trigger t; Chunk c; Status s;"
        " return t.bars == 4 && !c.last && !s.take && t.mode == mode::kContinue && Audio::has_payload ? 0 : 1; }\n"
    )
    program = tmp_path / "main"
    compile_it = [
        "g++",
        "-std=c++17",
        "-Wall",
        "-Werror",
        "-I",
        str(ROOT / "plugin_stub"),
        str(source),
        "-o",
        program,
    ]
    subprocess.run(compile_it, check=True)
    subprocess.run([program], check=True)
