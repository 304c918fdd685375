"""One ZMTP connection of the plugin, fed without a socket: every way of cutting bytes up, every broken rule."""

from __future__ import annotations

import ctypes
import itertools
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_wire import Heard, declare, feed

from attacca.bridge.protocol import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES

pytestmark = pytest.mark.plugin

MOST_FRAMES = 8


@pytest.fixture(scope="module")
def library(native: Any) -> ctypes.CDLL:
    return declare(native.library)


@pytest.fixture(scope="module")
def fed(library: ctypes.CDLL) -> Any:
    return lambda pieces, **how: feed(library, pieces, **how)


def greeting(*, major: int = 3, minor: int = 1, mechanism: bytes = b"NULL") -> bytes:
    """As libzmq sends it (its signature holds 1 in place of 0)."""
    signature = b"\xff" + bytes(7) + b"\x01\x7f"
    return signature + bytes([major, minor]) + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > 255:
        return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def command(name: bytes, rest: bytes = b"") -> bytes:
    return frame(bytes([len(name)]) + name + rest, 4)


def property_(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def ready(kind: bytes = b"ROUTER", extra: bytes = b"") -> bytes:
    return command(b"READY", property_(b"Socket-Type", kind) + extra)


def message(*frames: bytes) -> bytes:
    return b"".join(frame(body, int(index + 1 < len(frames))) for index, body in enumerate(frames))


OPENED = greeting() + ready()


def test_the_handshake_byte_for_byte(fed: Any) -> None:
    heard = fed([greeting()])
    assert heard == Heard(
        messages=[],
        reply=command(b"READY", property_(b"Socket-Type", b"DEALER") + property_(b"Identity", b"tester")),
        ready=False,
        why="",
    )
    assert fed([OPENED]).ready
    subscriber = fed([greeting(), ready(b"XPUB")], subscriber=True, name=b"pcm/")
    assert subscriber.reply == command(b"READY", property_(b"Socket-Type", b"SUB")) + frame(b"\x01pcm/")
    assert subscriber.ready


SCRIPT = (
    OPENED
    + message(b"header", b"payload" * 60)
    + command(b"PING", b"\0\x0acontext")
    + message(b"")
    + message(b"a", b"")
    + command(b"NEWER", b"whatever")
    + message(b"h" * 256, b"p" * 3000)
)
HEARD = [[b"header", b"payload" * 60], [b""], [b"a", b""], [b"h" * 256, b"p" * 3000]]


def test_one_byte_at_a_time(fed: Any) -> None:
    whole = fed([SCRIPT])
    assert whole.messages == HEARD
    assert whole.reply.endswith(command(b"PONG", b"context"))
    assert fed([SCRIPT[i : i + 1] for i in range(len(SCRIPT))]) == whole


def test_cut_in_two_at_every_byte(fed: Any) -> None:
    whole = fed([SCRIPT])
    for at in range(len(SCRIPT)):
        start = fed([SCRIPT[:at]])
        assert not start.why, at
        assert start.messages == HEARD[: len(start.messages)], at
        assert fed([SCRIPT[:at], SCRIPT[at:]]) == whole, at


@given(
    st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=MOST_FRAMES), max_size=6),
    st.lists(st.integers(0, 4000), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_any_messages_in_any_pieces(fed: Any, messages: list[list[bytes]], cuts: list[int]) -> None:
    stream = OPENED + b"".join(message(*frames) for frames in messages)
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    heard = fed([stream[a:b] for a, b in itertools.pairwise(ends)])
    assert heard.messages == messages
    assert not heard.why


@given(st.binary(max_size=300), st.integers(0, 2**16), st.binary(min_size=1, max_size=8), st.booleans())
@settings(max_examples=1000, deadline=None)
def test_broken_bytes_never_do_more_than_fail(
    fed: Any, noise: bytes, at: int, flipped: bytes, subscriber: bool
) -> None:
    place = at % len(SCRIPT)
    for stream in (noise, OPENED + noise, SCRIPT[:place] + flipped + SCRIPT[place + len(flipped) :]):
        heard = fed([stream], subscriber=subscriber)
        assert sum(len(part) for frames in heard.messages for part in frames) <= len(stream)


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak ZMTP 3"),
        (b"\0", "does not speak ZMTP 3"),
        (b"\x01\0", "does not speak ZMTP 3"),  # ZMTP 1.0: an empty identity
        (b"\xff" + bytes(7) + b"\x01\x7f\x01", "does not speak ZMTP 3"),  # ZMTP 2.0: waits after this byte
        (b"\xff" + bytes(7) + b"\x01\x7e", "does not speak ZMTP 3"),
        (greeting(major=2), "does not speak ZMTP 3"),
        (greeting(mechanism=b"PLAIN"), "mechanism PLAIN"),
        (greeting(mechanism=b"CURVE"), "mechanism CURVE"),
        (greeting(mechanism=b"NULLIFY"), "mechanism NULLIFY"),
        (greeting(mechanism=b"\xff" * 20), "mechanism ???"),
        (greeting() + message(b"too soon"), "before the handshake"),
        (greeting() + command(b"PING", b"\0\0"), "no READY but PING"),
        (greeting() + command(b"ERROR", b"\x0cgo away now!"), "it says: go away now!"),
        (greeting() + command(b"ERROR"), "it says: error"),
        (greeting() + command(b"ERROR", b"\xffcut\x01"), "it says: cut?"),
        (greeting() + ready(b"PULL"), "a socket of type PULL"),
        (greeting() + ready(b"DEALER"), "a socket of type DEALER"),
        (greeting() + command(b"READY"), "a socket of type "),
        (greeting() + command(b"READY", property_(b"Socket-Type", b"ROUTER")[:-1]), "cut short"),
        (greeting() + command(b"READY", b"\x0bSocket-Type"), "cut short"),
        (greeting() + command(b"READY", b"\0"), "cut short"),
        (greeting() + frame(b"", 4), "no name"),
        (greeting() + frame(b"\x09READY", 4), "no name"),
        (greeting() + frame(b"\0READY", 4), "no name"),
        (greeting() + frame(b"\x05READY", 5), "more than one frame"),
        (greeting() + b"\x06" + struct.pack(">Q", 4097), "of 4097 bytes, at most 4096"),
        (OPENED + b"\x08", "unknown flags"),
        (OPENED + b"\x80", "unknown flags"),
        (OPENED + command(b"ERROR", b"\x03bye"), "it says: bye"),
        (OPENED + b"\x02" + struct.pack(">Q", MAX_HEADER_BYTES + 1), "of 4097 bytes, at most 4096"),
        (OPENED + b"\x02" + b"\xff" * 8, "at most 4096"),
        (OPENED + frame(b"h", 1) + b"\x02" + struct.pack(">Q", MAX_PAYLOAD_BYTES + 1), "at most 1048576"),
        (OPENED + frame(b"h", 1) * MOST_FRAMES + b"\0", "too many frames"),
    ],
)
def test_broken_rules_end_the_connection(fed: Any, stream: bytes, why: str) -> None:
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        heard = fed([*pieces, b"more", b""])
        assert why in heard.why
        assert heard.messages == []


@pytest.mark.parametrize(
    "stream",
    [
        greeting(major=4, minor=9) + ready(),  # newer peers must speak 3.0 to us
        greeting() + ready(extra=property_(b"Identity", b"\0\x01") + property_(b"X-Colour", b"")),
        greeting() + command(b"READY", property_(b"socket-TYPE", b"ROUTER")),
        greeting() + b"\x06" + struct.pack(">Q", len(ready()) - 2) + ready()[2:],  # a long frame that need not be
        OPENED + command(b"PING") + command(b"PONG", b"") + command(b"SUBSCRIBE", b"x"),
    ],
)
def test_what_is_unusual_but_allowed(fed: Any, stream: bytes) -> None:
    heard = fed([stream + message(b"works")])
    assert (heard.ready, heard.messages) == (True, [[b"works"]])


def test_the_largest_frames_pass(fed: Any) -> None:
    header, payload = bytes(MAX_HEADER_BYTES), random.Random(1).randbytes(MAX_PAYLOAD_BYTES)
    assert fed([OPENED + message(header, payload)]).messages == [[header, payload]]
    opened = greeting() + ready(b"PUB")
    heard = fed([opened + message(b"topic", header, payload)], subscriber=True)
    assert heard.messages == [[b"topic", header, payload]]


def test_a_ping_with_too_long_a_context_is_answered_in_part(fed: Any) -> None:
    heard = fed([OPENED + command(b"PING", b"\0\0" + b"c" * 40)])
    assert heard.reply.endswith(command(b"PONG", b"c" * 16))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://127.0.0.1:9123", "127.0.0.1", "9123"),
        ("tcp://studio-pc.local:1", "studio-pc.local", "1"),
        ("tcp://[::1]:65535", "::1", "65535"),
        ("tcp://[fe80::1%eth0]:9", "fe80::1%eth0", "9"),
        *((bad, "", "") for bad in (
            "", "tcp://", "tcp://x", "tcp://:1", "tcp://x:", "tcp://x:0", "tcp://x:65536", "tcp://x:+1",
            "tcp://x:1 ", "udp://x:1", "x:1", "ipc:///tmp/x", "tcp://a b:1", "tcp://*:1", "tcp://::1:9", "tcp://[]:1",
            "tcp://x:99999999999999999999", "tcp://" + "x" * 254 + ":1", "tcp://x/y:1",
        )),
    ],
)  # fmt: skip
def test_addresses(library: ctypes.CDLL, text: str, host: str, port: str) -> None:
    found = [ctypes.create_string_buffer(300) for _ in range(2)]
    library.attacca_parse_address(text.encode(), *found, 300)
    assert [part.value.decode() for part in found] == [host, port]
    link = library.attacca_dealer_new(text.encode(), b"i", 1)
    assert bool(link) == bool(host)
    library.attacca_link_free(link)


def test_identities_that_cannot_be(library: ctypes.CDLL) -> None:
    for identity in (b"", b"\0x", b"x" * 256):
        assert not library.attacca_dealer_new(b"tcp://127.0.0.1:1", identity, len(identity))
