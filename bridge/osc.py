"""OSC: control in and status out, by one address table; for REAPER, Max, TouchOSC and the like.

Beside the ZeroMQ endpoints on the same I/O thread (its UDP socket is one more thing to poll). OSC carries control
only: where a command falls on the time line is where the session's stream is when it arrives, so use the plugin or
MIDI for anything that must be exact. Wrong addresses and types are counted and answered with /attacca/error.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

from .params import BY_OSC, PARAMETERS
from .protocol import Error, Status
from .queues import Outside

MAX_SUBSCRIBERS: Final = 16
_DATAGRAMS_PER_TURN: Final = 64
_DATAGRAM_BYTES: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Address:
    """A row of the table. `types`: one letter each (i integer, f number, s text, w either), optional after |."""

    address: str
    types: str
    description: str

    @property
    def required(self) -> str:
        return self.types.partition("|")[0]

    @property
    def allowed(self) -> str:
        return self.types.replace("|", "")


CONTROL: Final[tuple[Address, ...]] = (
    Address(address="/attacca/trigger", types="", description="Starts a take as the parameters say."),
    Address(address="/attacca/release", types="", description="Ends the take that OSC started last."),
    Address(address="/attacca/cancel", types="", description="Ends all takes of the session at once."),
    Address(address="/attacca/note", types="ii", description="Note and velocity, as from keys; velocity 0 is off."),
    Address(address="/attacca/cc", types="ii", description="MIDI controller and value."),
    Address(
        address="/attacca/text", types="s|i",
        description="What to play, for models that take text; the session it is for, 0 or none: all, and those to"
        " come. Empty: the engine's own text for a session, none for all.",
    ),
    Address(address="/attacca/session", types="i", description="Session that commands go to; 0: the latest."),
    Address(address="/attacca/subscribe", types="si", description="IP address and port that status is sent to."),
    Address(address="/attacca/unsubscribe", types="si", description="No longer."),
    Address(address="/attacca/ping", types="", description="Answered with /attacca/pong."),
    *(
        Address(address=row.osc_address, types="w" if row.choices else "f", description=row.description)
        for row in PARAMETERS
    ),
)  # fmt: skip
STATUS: Final[tuple[Address, ...]] = (
    Address(address="/attacca/status/state", types="is", description="Session; its state in words."),
    Address(address="/attacca/status/take", types="ihh", description="Session; take; where it starts."),
    Address(address="/attacca/status/rtf", types="if", description="Session; compute time over audio time."),
    Address(address="/attacca/status/lookahead", types="ih", description="Session; look-ahead in samples."),
    Address(address="/attacca/status/latency", types="ih", description="Session; control latency in samples."),
    Address(address="/attacca/status/counts", types="iiii", description="Session; late, dropped, bad: how many."),
    Address(address="/attacca/error", types="ss", description="Code; what was wrong."),
    Address(address="/attacca/pong", types="", description="Answers /attacca/ping."),
)  # fmt: skip
_BY_ADDRESS: Final = {row.address: row for row in CONTROL}


def build(address: str, types: str, arguments: tuple[Any, ...]) -> bytes:
    """An OSC message as a datagram."""
    builder = OscMessageBuilder(address=address)
    for kind, argument in zip(types, arguments, strict=True):
        builder.add_arg(argument, kind)
    return bytes(builder.build().dgram)


class OscPort:
    """The UDP socket. I/O thread, except the constructor, which binds (OSError if it cannot)."""

    def __init__(
        self, host: str, port: int, command: Callable[[Outside], bool], *, allow_remote: bool = False
    ) -> None:
        """`command` takes what came; False: there is no room for it; ValueError says what is wrong with it."""
        if not allow_remote and not _is_loopback(host):
            raise OSError(f"OSC on {host} can be reached from other machines; allow it explicitly if you mean it")
        self.counts: Counter[str] = Counter()
        self._command = command
        self._allow_remote = allow_remote
        self._session = 0
        self._subscribers: dict[tuple[str, int], None] = {}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise OSError(f"OSC port {host}:{port} cannot be bound: {error.strerror}") from error
        self._family = family
        self._socket.setblocking(False)
        logging.getLogger().addFilter(self._quiet)  # python-osc warns once per broken bundle, through the root
        self.port = int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        logging.getLogger().removeFilter(self._quiet)
        self._socket.close()

    def receive(self) -> None:
        """Takes in what has arrived, up to a bound. Never raises."""
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP refusal of something we sent earlier
                continue
            self._datagram(datagram, sender[:2])

    def broadcast(self, message: Status | Error) -> None:
        """Status or an error to all subscribers."""
        if not self._subscribers:
            return
        for datagram in _status(message) if isinstance(message, Status) else [_error(message.code, message.text)]:
            for subscriber in self._subscribers:
                self._send(datagram, subscriber)

    def _datagram(self, datagram: bytes, sender: tuple[str, int]) -> None:
        try:
            messages = [timed.message for timed in OscPacket(datagram).messages]
            parsed = [(str(message.address), list(message.params)) for message in messages]
        except Exception as error:  # python-osc lets index, unicode and struct errors of broken bytes through
            kind = "no OSC message" if isinstance(error, ParseError) else f"no OSC message ({type(error).__name__})"
            self._refuse("packet", kind, sender)
            return
        for address, arguments in parsed:
            self._message(address, arguments, sender)

    def _message(self, address: str, arguments: list[Any], sender: tuple[str, int]) -> None:
        row = _BY_ADDRESS.get(address)
        if row is None:
            self._refuse("address", f"no address {address[:64]!r}", sender)
            return
        if not _fits(row, arguments):
            wanted = row.required or "none"
            self._refuse("types", f"{address} takes arguments {wanted!r}, got {str(arguments)[:100]}", sender)
            return
        self.counts["messages"] += 1
        if address == "/attacca/session":
            self._session = arguments[0]
        elif address == "/attacca/ping":
            self._send(build("/attacca/pong", "", ()), sender)
        elif address.endswith("subscribe"):
            self._subscribe(arguments[0], arguments[1], sender, wanted=address.endswith("/subscribe"))
        else:
            self._pass_on(_outside(self._session, address, arguments), sender)

    def _pass_on(self, command: Outside, sender: tuple[str, int]) -> None:
        try:
            if not self._command(command):
                self._refuse("busy", "the engine is behind; the command was dropped", sender)
        except ValueError as error:
            self._refuse(command.name, str(error), sender)

    def _subscribe(self, host: str, port: int, sender: tuple[str, int], *, wanted: bool) -> None:
        if not wanted:
            self._subscribers.pop((host, port), None)
        elif not self._can_reach(host):
            self._refuse("subscribe", f"{host[:64]!r} is no IP address of the kind of this port's own", sender)
        elif not 1 <= port <= 65535 or not (self._allow_remote or _is_loopback(host)):
            self._refuse("subscribe", f"status may not be sent to {host[:64]}:{port}", sender)
        elif len(self._subscribers) >= MAX_SUBSCRIBERS and (host, port) not in self._subscribers:
            self._refuse("subscribe", f"there are {MAX_SUBSCRIBERS} subscribers already", sender)
        else:
            self._subscribers[host, port] = None

    def _can_reach(self, host: str) -> bool:
        """Addresses only: looking a name up, with every status, would hold up the I/O thread."""
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            return False
        return version == (6 if self._family == socket.AF_INET6 else 4)

    def _quiet(self, record: logging.LogRecord) -> bool:
        """Counts python-osc's warnings in place of writing them."""
        if record.module not in ("osc_bundle", "osc_message"):
            return True
        self.counts["malformed"] += 1
        return False

    def _refuse(self, code: str, text: str, sender: tuple[str, int]) -> None:
        self.counts["bad"] += 1
        self.counts[f"bad: {code}"] += 1
        self._send(_error(code, text), sender)

    def _send(self, datagram: bytes, target: tuple[str, int]) -> None:
        try:
            self._socket.sendto(datagram, target)
        except (OSError, UnicodeError):
            self.counts["unsent"] += 1


def _outside(session: int, address: str, arguments: list[Any]) -> Outside:
    if address in BY_OSC:
        return Outside(session=session, name="param", arguments=(BY_OSC[address].name, _value(arguments[0])))
    if address in ("/attacca/note", "/attacca/cc"):
        status = 0x90 if address.endswith("note") else 0xB0
        data = bytes([status, arguments[0] & 0x7F, arguments[1] & 0x7F])
        return Outside(session=session, name="midi", arguments=(data,))
    if address == "/attacca/text":
        return Outside(session=arguments[1] if len(arguments) > 1 else 0, name="text", arguments=(arguments[0],))
    return Outside(session=session, name=address.rpartition("/")[2], arguments=tuple(arguments))


def _value(argument: Any) -> float | str:
    return argument if isinstance(argument, str) else float(argument)


def _fits(row: Address, arguments: list[Any]) -> bool:
    if not len(row.required) <= len(arguments) <= len(row.allowed):
        return False
    return all(_is(kind, argument) for kind, argument in zip(row.allowed, arguments, strict=False))


def _is(kind: str, argument: Any) -> bool:
    if isinstance(argument, bool):
        return False
    if kind == "s" or (kind == "w" and isinstance(argument, str)):
        return isinstance(argument, str)
    if kind == "i":
        return isinstance(argument, int)
    return isinstance(argument, int | float) and math.isfinite(argument)


def _error(code: str, text: str) -> bytes:
    return build("/attacca/error", "ss", (code, text))


def _status(status: Status) -> list[bytes]:
    session = status.session & 0x7FFFFFFF
    counts = (session, status.late_chunks, status.dropped_messages, status.bad_messages)
    datagrams = [
        build("/attacca/status/state", "is", (session, status.state)),
        build("/attacca/status/rtf", "if", (session, status.rtf_total)),
        build("/attacca/status/lookahead", "ih", (session, status.lookahead_samples)),
        build("/attacca/status/latency", "ih", (session, status.control_latency_samples)),
        build("/attacca/status/counts", "iiii", tuple(min(count, 2**31 - 1) for count in counts)),
    ]
    if status.take is not None:
        start = -1 if status.start_position is None else status.start_position
        datagrams.append(build("/attacca/status/take", "ihh", (session, status.take, start)))
    return datagrams


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
