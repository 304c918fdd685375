"""OSC: the address table, wrong addresses and types, subscriptions, over a real UDP socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_message import OscMessage

from attacca.bridge.osc import CONTROL, MAX_SUBSCRIBERS, STATUS, OscPort, build
from attacca.bridge.params import PARAMETERS
from attacca.bridge.protocol import Error, Status
from attacca.bridge.queues import Outside


class Desk:
    """A sender, and a port whose commands are kept."""

    def __init__(self) -> None:
        self.commands: list[Outside] = []
        self.accept = True
        self.port = OscPort("127.0.0.1", 0, self.take)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2.0)
        self.own = self.socket.getsockname()[1]

    def take(self, command: Outside) -> bool:
        self.commands.append(command)
        return self.accept

    def send(self, address: str, types: str = "", *arguments: Any) -> None:
        self.socket.sendto(build(address, types, arguments), ("127.0.0.1", self.port.port))
        self.port.receive()

    def answer(self) -> tuple[str, list[Any]]:
        message = OscMessage(self.socket.recv(4096))
        return message.address, message.params

    def close(self) -> None:
        self.port.close()
        self.socket.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_commands(desk: Desk) -> None:
    desk.send("/attacca/param/mix", "f", 0.25)
    desk.send("/attacca/param/bars", "i", 8)
    desk.send("/attacca/param/style", "s", "waltz")
    desk.send("/attacca/param/style", "i", 2)
    desk.send("/attacca/session", "i", 3)
    desk.send("/attacca/trigger")
    desk.send("/attacca/note", "ii", 60, 100)
    desk.send("/attacca/cc", "ii", 64, 127)
    assert desk.commands == [
        Outside(session=0, name="param", arguments=("mix", 0.25)),
        Outside(session=0, name="param", arguments=("bars", 8.0)),
        Outside(session=0, name="param", arguments=("style", "waltz")),
        Outside(session=0, name="param", arguments=("style", 2.0)),
        Outside(session=3, name="trigger", arguments=()),
        Outside(session=3, name="midi", arguments=(b"\x90\x3c\x64",)),
        Outside(session=3, name="midi", arguments=(b"\xb0\x40\x7f",)),
    ]
    assert desk.port.counts == {"messages": 8}


@pytest.mark.parametrize(
    ("address", "types", "arguments", "code"),
    [
        ("/attacca/nothing", "", (), "address"),
        ("/other", "f", (1.0,), "address"),
        ("/attacca/param/mix", "s", ("loud",), "types"),
        ("/attacca/param/mix", "", (), "types"),
        ("/attacca/param/style", "T", (True,), "types"),
        ("/attacca/param/style", "", (), "types"),
        ("/attacca/param/mix", "ff", (1.0, 2.0), "types"),
        ("/attacca/param/mix", "f", (float("nan"),), "types"),
        ("/attacca/param/mix", "T", (True,), "types"),
        ("/attacca/note", "if", (1, 2.0), "types"),
        ("/attacca/trigger", "i", (1,), "types"),
        ("/attacca/subscribe", "si", ("192.0.2.1", 9), "subscribe"),
        ("/attacca/subscribe", "si", ("example.org", 9), "subscribe"),
        ("/attacca/subscribe", "si", ("localhost", 9), "subscribe"),  # a name is looked up: not on this thread
        ("/attacca/subscribe", "si", ("::1", 9), "subscribe"),
        ("/attacca/subscribe", "si", ("127.0.0.1", 0), "subscribe"),
    ],
)
def test_what_is_wrong_is_answered(
    desk: Desk, address: str, types: str, arguments: tuple[Any, ...], code: str
) -> None:
    desk.send(address, types, *arguments)
    assert desk.answer()[0] == "/attacca/error"
    assert desk.port.counts[f"bad: {code}"] == 1
    assert not desk.commands


def test_a_full_engine_says_so(desk: Desk) -> None:
    desk.accept = False
    desk.send("/attacca/trigger")
    assert desk.answer() == ("/attacca/error", ["busy", "the engine is behind; the command was dropped"])


def test_status_goes_to_subscribers_until_they_leave(desk: Desk) -> None:
    status = Status(
        session=2, state="armed for bar 5", take=9, start_position=2**40, rtf_total=0.5, lookahead_samples=7,
        control_latency_samples=8, late_chunks=1, dropped_messages=2, bad_messages=3,
    )  # fmt: skip
    desk.port.broadcast(status)
    desk.send("/attacca/subscribe", "si", "127.0.0.1", desk.own)
    desk.port.broadcast(status)
    heard = dict(desk.answer() for _ in range(6))
    assert heard == {
        "/attacca/status/state": [2, "armed for bar 5"],
        "/attacca/status/take": [2, 9, 2**40],
        "/attacca/status/rtf": [2, 0.5],
        "/attacca/status/lookahead": [2, 7],
        "/attacca/status/latency": [2, 8],
        "/attacca/status/counts": [2, 1, 2, 3],
    }
    assert set(heard) < {row.address for row in STATUS}
    desk.port.broadcast(Error(code="take", text="no"))
    assert desk.answer() == ("/attacca/error", ["take", "no"])
    desk.send("/attacca/unsubscribe", "si", "127.0.0.1", desk.own)
    desk.port.broadcast(status)
    desk.send("/attacca/ping")
    assert desk.answer() == ("/attacca/pong", [])  # nothing came before it


def test_broken_bundles_are_counted_not_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    broken = b"#bundle\0" + bytes(8) + b"\0\0\0\x04none"
    for _ in range(100):
        desk.port._datagram(broken, ("127.0.0.1", 9))
    assert desk.port.counts["malformed"] >= 100
    assert not caplog.records


def test_subscribers_are_bounded(desk: Desk) -> None:
    for number in range(MAX_SUBSCRIBERS + 3):
        desk.send("/attacca/subscribe", "si", "127.0.0.1", 20000 + number)
    assert desk.port.counts["bad: subscribe"] == 3


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"/attacca/note\0\0\0,ii\0" + b)))
def test_no_datagram_ends_it(datagrams: list[bytes]) -> None:
    commands: list[Outside] = []
    port = OscPort("127.0.0.1", 0, lambda command: bool(commands.append(command)) or True)
    try:
        for datagram in datagrams:
            port._datagram(datagram, ("127.0.0.1", 9))
        assert port.counts["bad"] + port.counts["messages"] >= len([d for d in datagrams if d.startswith(b"/")])
    finally:
        port.close()


def test_every_parameter_has_an_address() -> None:
    addresses = [row.address for row in CONTROL]
    assert len(set(addresses)) == len(addresses)
    assert {row.osc_address for row in PARAMETERS} <= set(addresses)
    assert all(set(row.types) <= set("ifsw|h") for row in CONTROL + STATUS)
