"""The message table: the only home of what plugin and engine say to each other over ZeroMQ.

A message is two frames (behind ROUTER's routing id): frame 0 is a msgpack map with "v" and "type" and the fields
below; frame 1 (messages with a payload) is raw little-endian float32 interleaved PCM or uint16 codes. The C++
header of the native plugin and docs/protocol.md are generated from this table, and a test compares both.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 1
MAX_HEADER_BYTES = 4096
MAX_PAYLOAD_BYTES = 1 << 20
ENGINE_TAKES_FROM = 1 << 52  # takes that the engine starts: OSC, keys; clients number their own below

Position = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # stream position: samples at host rate since activation
Count = Annotated[int, Meta(ge=0, le=2**31)]
Id = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(max_length=64)]
MAX_TEXT_CHARACTERS = 512
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]


class Mode(StrEnum):
    """What a take does between trigger and release."""

    CONTINUE = "continue"  # until release
    FILL = "fill"  # N bars, then ends
    VAMP = "vamp"  # N bars again and again, each pass a variation
    ANSWER = "answer"  # listen N bars, reply N bars


class Late(StrEnum):
    """What happens if audio cannot be there by the launch position."""

    JOIN = "join"  # enter in phase as soon as it is there
    WAIT = "wait"  # at the next multiple of the quantum


class Want(StrEnum):
    """Which payloads a client wants in its chunks."""

    PCM = "pcm"
    CODES = "codes"
    BOTH = "both"


class Message(msgspec.Struct, tag_field="type", frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Base of all messages. Unknown fields are ignored, so that a newer minor revision can add some."""

    payload: ClassVar[str | None] = None  # "pcm" or "codes" where frame 1 is present
    v: int = PROTOCOL_VERSION


# --- plugin to engine -------------------------------------------------------------------------------------------


class Hello(Message, tag="hello", frozen=True):
    """Opens (or reopens) a session; the engine answers with welcome or error."""

    client: Name
    sample_rate: Annotated[int, Meta(ge=8000, le=384000)]
    channels: Annotated[int, Meta(ge=1, le=2)]
    want: Want = Want.PCM
    model: Name = ""  # empty: whatever the engine serves


class Transport(Message, tag="transport", frozen=True):
    """What the host said of a block that begins at `position`; sent on change and at least every 100 ms.

    A jump begins a new epoch, for which all is made anew. A tempo that glides comes in the old one: what was sent
    stays due, what follows is made for the new tempo.
    """

    epoch: Id
    position: Position
    ppq: Annotated[float, Meta(ge=-1e9, le=1e9)]
    bpm: Annotated[float, Meta(ge=1.0, le=1000.0)]
    meter_num: Annotated[int, Meta(ge=1, le=64)]
    meter_den: Annotated[int, Meta(ge=1, le=64)]
    bar_start_ppq: Annotated[float, Meta(ge=-1e9, le=1e9)]
    playing: bool
    loop_start_ppq: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None  # both or neither; only while looping
    loop_end_ppq: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    non_realtime: bool = False


class Audio(Message, tag="audio", frozen=True):
    """Input audio, interleaved; its first sample is at `position`."""

    payload: ClassVar[str | None] = "pcm"
    position: Position
    samples: Count  # instants in the payload
    channels: Annotated[int, Meta(ge=1, le=2)]


class Midi(Message, tag="midi", frozen=True):
    """One raw MIDI channel message at a stream position."""

    position: Position
    data: Annotated[bytes, Meta(min_length=1, max_length=3)]


class Trigger(Message, tag="trigger", frozen=True):
    """Starts a take at the first multiple of its quantum at or after `position`.

    The quantum is `quantum_bars` bars; where that is nil, `quantum_ppq` quarter notes. 0 is at once. A trigger
    carries all that its take needs: the parameters `mode`, `quantum`, `bars`, `late`, `seed` and `trigger_*` hold
    for takes that the engine starts itself (MIDI messages, OSC, its MIDI port). Those have numbers from 2^52 on; a
    client plays them from the `position` of their first committed chunk. Every take ends with a last chunk.
    """

    take: Id
    position: Position
    quantum_bars: Annotated[float, Meta(ge=0, le=64)] | None = 1.0  # None: use quantum_ppq
    quantum_ppq: Annotated[float, Meta(ge=0, le=256)] = 0.0
    mode: Mode = Mode.CONTINUE
    bars: Annotated[int, Meta(ge=1, le=64)] = 4
    late: Late = Late.JOIN
    seed: Annotated[int, Meta(ge=0, le=2**53)] | None = None  # None: the engine chooses, and says in status


class Release(Message, tag="release", frozen=True):
    """Ends a take at `position`; if `quantized`, at the first multiple of its quantum at or after `position`."""

    take: Id
    position: Position
    quantized: bool = False


class Param(Message, tag="param", frozen=True):
    """Sets one parameter of the parameter table (bridge/params.py)."""

    name: Name
    value: float
    position: Position = 0


class Prompt(Message, tag="text", frozen=True):
    """What to play, in words, for models that take text (see `takes_text` in welcome); this session's alone.

    It holds for takes under way from their committed frontier on, faded in, and for all to come. An empty text is
    the engine's own (`--text`), or none. Control characters are refused. A new session begins with the engine's
    own: a client that comes back says its text again.
    """

    text: Text


class Ping(Message, tag="ping", frozen=True):
    """Asks for a pong with the same nonce; either side may send it.

    `settled` asks the engine to answer only when it has done what the messages before it ask for, and after all
    that it has to say of them: a host that renders offline waits so for each block, and every bounce is the same.
    """

    nonce: Id
    settled: bool = False


class Bye(Message, tag="bye", frozen=True):
    """Closes the session at once; silence for the heartbeat's timeout does the same."""


# --- engine to plugin -------------------------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True):
    """Answers hello."""

    session: Id
    model: Name
    model_rate: Count
    hop_samples: Count
    num_codebooks: Count
    publish: Text  # address of the PUB socket
    heartbeat_s: Annotated[float, Meta(gt=0, le=3600)]
    engine: Name  # engine version
    takes_text: bool = False  # whether the model can be told what to play in words


class Chunk(Message, tag="chunk", frozen=True):
    """Consecutive samples of a take; its first sample belongs at `position` and nowhere else."""

    payload: ClassVar[str | None] = "pcm"
    session: Id
    epoch: Id
    take: Id
    seq: Id  # counts the chunks of a take from 0
    position: Position
    ppq: float  # of the first sample
    samples: Count  # instants at host rate
    channels: Annotated[int, Meta(ge=1, le=2)]
    first_frame: Position  # timestep of the first codec frame behind it
    frames: Count
    committed: bool  # False: a plan that a later chunk may replace
    last: bool = False  # the take ends with this chunk; an empty one: it ends at `position`, whatever was sent


class CodesChunk(Message, tag="codes", frozen=True):
    """The tokens behind a committed chunk: uint16 [frames, num_codebooks], 2.2 kbit/s for ostinato."""

    payload: ClassVar[str | None] = "codes"
    session: Id
    epoch: Id
    take: Id
    seq: Id
    first_frame: Position
    frames: Count
    num_codebooks: Count
    start_position: float  # stream position of the first frame's first sample


class Status(Message, tag="status", frozen=True):
    """State and measures of a session; sent on change and at least once a second."""

    session: Id
    state: Text  # in words, e.g. "armed for bar 5"
    take: Id | None = None
    seed: Id | None = None
    start_position: Position | None = None
    rtf_decoder: float = 0.0
    rtf_codec: float = 0.0
    rtf_total: float = 0.0
    lookahead_samples: Count = 0
    control_latency_samples: Count = 0
    late_chunks: Count = 0
    dropped_messages: Count = 0
    bad_messages: Count = 0
    gap_samples: Count = 0  # holes in the input audio, heard as silence
    bad_samples: Count = 0  # of the input audio: not finite, or far beyond full scale
    level_gain_db: float = 0.0  # what holds the take to the level of what was played
    drift_ms: float = 0.0  # of a take held to the beat: how late it is as generated
    beat_error_ms: float = 0.0  # and as heard
    new_beginnings: Count = 0  # at bar lines, where it had drifted too far


class Error(Message, tag="error", frozen=True):
    """Why a message was refused, or what went wrong in the engine."""

    code: Name
    text: Text


class Pong(Message, tag="pong", frozen=True):
    """Answers ping."""

    nonce: Id


CLIENT_MESSAGES = (Hello, Transport, Audio, Midi, Trigger, Release, Param, Prompt, Ping, Bye)
ENGINE_MESSAGES = (Welcome, Chunk, CodesChunk, Status, Error, Pong)
AnyMessage = (
    Hello | Transport | Audio | Midi | Trigger | Release | Param | Prompt | Ping | Bye
    | Welcome | Chunk | CodesChunk | Status | Error | Pong
)  # fmt: skip


class ProtocolError(ValueError):
    """Bytes that are not a message of this protocol. `code` is short and stable, the text is for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyMessage)


class _Versioned(msgspec.Struct):
    v: int


_version_decoder = msgspec.msgpack.Decoder(_Versioned)


def encode(message: Message, payload: bytes | memoryview | None = None) -> list[bytes | memoryview]:
    """A message as ZeroMQ frames: [header] or [header, payload]. ValueError if payload and type disagree."""
    if (payload is None) != (type(message).payload is None):
        raise ValueError(f"{type(message).__name__} {'needs' if payload is None else 'takes no'} payload")
    header = _encoder.encode(message)
    return [header] if payload is None else [header, payload]


def decode(frames: list[bytes]) -> tuple[Any, bytes]:
    """Frames -> (message, payload or b""). ProtocolError says what is wrong; nothing else is ever raised."""
    if not 1 <= len(frames) <= 2:
        raise ProtocolError("frames", f"expected 1 or 2 frames, got {len(frames)}")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise ProtocolError("size", f"header of {len(frames[0])} bytes, at most {MAX_HEADER_BYTES}")
    payload = frames[1] if len(frames) == 2 else b""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError("size", f"payload of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}")
    try:
        message = _decoder.decode(frames[0])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # A message of another version may well have other fields: then the version is what is wrong.
        _check_version(frames[0])
        raise ProtocolError("header", str(error)[:200]) from None
    if message.v != PROTOCOL_VERSION:
        raise ProtocolError("version", f"protocol {message.v}, this side speaks {PROTOCOL_VERSION}")
    _check_finite(message)
    expected = _payload_bytes(message)
    if expected is None and len(frames) == 2:
        raise ProtocolError("payload", f"{type(message).__name__} takes no payload")
    if expected is not None and len(payload) != expected:
        raise ProtocolError("payload", f"payload of {len(payload)} bytes, the header says {expected}")
    return message, payload


def _check_version(header: bytes) -> None:
    try:
        version = _version_decoder.decode(header).v
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return
    if version != PROTOCOL_VERSION:
        raise ProtocolError("version", f"protocol {version}, this side speaks {PROTOCOL_VERSION}")


def _check_finite(message: Any) -> None:
    """msgspec's bounds refuse NaN where there are bounds; this refuses it everywhere."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ProtocolError("header", f"{name} is {value}, not a finite number")


def _payload_bytes(message: Any) -> int | None:
    if isinstance(message, Audio):
        return message.samples * message.channels * 4
    if isinstance(message, Chunk):
        return message.samples * message.channels * 4
    if isinstance(message, CodesChunk):
        return message.frames * message.num_codebooks * 2
    return None
