"""The rest of the path, timed: codec, resampler, queue, wire, and a whole engine playing one take or many.

Beside the path, for `attacca bench`: the same objects that a stream uses, driven one call at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from attacca.bridge import protocol
from attacca.bridge.bench_rows import MONOTONIC_NS, ClockNs, Row, Subject, summarise, timed
from attacca.bridge.bench_steps import Constant
from attacca.bridge.queues import Inbox, Outbox, Outgoing, Received
from attacca.engine.channels import fold
from attacca.engine.events import ChunkEvent, Model, TakeEnded, TakeRequest
from attacca.engine.generator import Sampling
from attacca.engine.offline import SteadyController
from attacca.engine.resample import Resampler
from attacca.engine.service import Engine
from attacca.engine.stream import StreamConfig

Floats = npt.NDArray[np.float32]
HOST_RATE_HZ = 44100  # of a host that needs a resampler whatever the model's rate is
BLOCK_SAMPLES = 512
UNSTEADY = 6  # chunks of a take at its beginning that may be short, or wait for the first
_WIRE_TIMEOUT_MS = 5000


def no_decoder(subject: Subject) -> Subject:
    """The subject of a row in which no decoder step runs."""
    return replace(subject, pattern="", rows=0, context=0)


def codec_rows(
    model: Model, subject: Subject, *, frames: int, warm_up: int = 20, clock_ns: ClockNs = MONOTONIC_NS
) -> list[Row]:
    """Encode, prefill and decode, each in the pieces in which a stream has them."""
    codec, config = model.codec, StreamConfig()
    frame_ms = 1000.0 * codec.hop_samples / codec.sample_rate
    signal = fold(chord(frames * codec.hop_samples, codec.sample_rate)[:, None], codec.audio_channels)
    piece = config.listen_frames * codec.hop_samples
    pieces = [signal[at : at + piece] for at in range(0, len(signal) - piece + 1, piece)]
    found, encode_ns = timed(codec.encoder().push, pieces, clock_ns)
    codes = np.concatenate(found)
    size = config.chunk_frames
    chunks = [codes[at : at + size] for at in range(0, len(codes) - size + 1, size)]
    source, generator = Constant(1000.0 / frame_ms, model.conditioning), model.generator()

    def listen(chunk: npt.NDArray[np.uint16]) -> None:
        generator.listen(chunk, source.rows(generator.frontier, len(chunk)))

    _, prefill_ns = timed(listen, chunks, clock_ns)
    _, decode_ns = timed(codec.decoder().push, chunks, clock_ns)
    bare = no_decoder(subject)
    measured = (
        ("codec encode", config.listen_frames, encode_ns, bare),
        ("prefill", size, prefill_ns, subject),
        ("codec decode", size, decode_ns, bare),
    )
    return [
        summarise(
            name,
            spent_ns,
            group="codec",
            call=f"{count} frames",
            subject=about,
            audio_ms=count * frame_ms,
            warm_up=min(warm_up, len(spent_ns) // 2),
        )
        for name, count, spent_ns, about in measured
    ]


def resample_rows(model: Model, subject: Subject, *, calls: int, clock_ns: ClockNs = MONOTONIC_NS) -> list[Row]:
    """Host to model by blocks, model to host by chunks, between rates that differ."""
    rate, channels = model.codec.sample_rate, model.codec.audio_channels
    host = HOST_RATE_HZ if rate != HOST_RATE_HZ else 48000
    chunk = StreamConfig().chunk_frames * model.codec.hop_samples
    rows = []
    for name, given, wanted, count in (
        ("resample in", host, rate, BLOCK_SAMPLES),
        ("resample out", rate, host, chunk),
    ):
        block = fold(chord(count, given)[:, None], channels)
        push = Resampler(given, wanted, channels=channels).push
        _, spent_ns = timed(push, [block] * calls, clock_ns)
        rows.append(
            summarise(
                name,
                spent_ns,
                group="path",
                call=f"{count} samples, {given} to {wanted} Hz",
                subject=no_decoder(subject),
                audio_ms=1000.0 * count / given,
                warm_up=min(20, calls // 2),
            )
        )
    return rows


def queue_row(subject: Subject, *, calls: int, clock_ns: ClockNs = MONOTONIC_NS) -> Row:
    """A block through the inbox and a chunk through the outbox, put and taken."""
    inbox, outbox = Inbox(), Outbox()
    audio = _audio_message()
    into = Received(session=1, message=audio, payload=bytes(8 * BLOCK_SAMPLES))
    out = Outgoing(session=1, message=audio, payload=bytes(8 * BLOCK_SAMPLES))

    def once(_: int) -> None:
        inbox.put(into)
        outbox.put(out)
        inbox.take(0.0)
        outbox.take()

    _, spent_ns = timed(once, range(calls), clock_ns)
    return summarise(
        "queue",
        spent_ns,
        group="path",
        call="a message each way",
        subject=no_decoder(subject),
        audio_ms=None,
        warm_up=min(20, calls // 2),
    )


def wire_row(subject: Subject, *, calls: int, clock_ns: ClockNs = MONOTONIC_NS) -> Row:
    """A block of audio there and as many samples back, packed and checked at both ends, over ZeroMQ on loopback."""
    context = zmq.Context()
    try:
        router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.rcvtimeo = router.rcvtimeo = _WIRE_TIMEOUT_MS
        echo = threading.Thread(target=_echo, args=(router, calls), daemon=True)
        echo.start()
        payload, audio = bytes(8 * BLOCK_SAMPLES), _audio_message()

        def there_and_back(_: int) -> None:
            dealer.send_multipart(protocol.encode(audio, payload))
            protocol.decode(dealer.recv_multipart())

        _, spent_ns = timed(there_and_back, range(calls), clock_ns)
        echo.join()
    finally:
        context.destroy(linger=0)
    return summarise(
        "wire",
        spent_ns,
        group="path",
        call=f"{BLOCK_SAMPLES} samples there and back",
        subject=no_decoder(subject),
        audio_ms=None,
        warm_up=min(20, calls // 2),
    )


def _echo(router: zmq.Socket[bytes], calls: int) -> None:
    for _ in range(calls):
        identity, *frames = router.recv_multipart()
        message, payload = protocol.decode(frames)
        router.send_multipart([identity, *protocol.encode(message, payload)])


def _audio_message() -> protocol.Audio:
    return protocol.Audio(position=0, samples=BLOCK_SAMPLES, channels=2)


def whole_path_row(
    model: Model,
    subject: Subject,
    sampling: Sampling,
    *,
    seconds: float,
    takes: int = 1,
    busy: int = 0,
    clock_ns: ClockNs = MONOTONIC_NS,
) -> Row:
    """Takes at once, each of its own session, as fast as they go: compute from one chunk of a take to the next.

    Everything but the wire: fork, steps, codec, resampler, chunker and the engine's choice of what is most urgent.
    """
    rate = HOST_RATE_HZ if model.codec.sample_rate != HOST_RATE_HZ else 48000
    engine = Engine(model, max_sessions=takes, max_takes=takes, clock=lambda: clock_ns() / 1e9)
    heard = chord(rate, rate)[:, None]
    for session in range(takes):
        engine.open(session, sample_rate=rate, channels=1, controller=SteadyController(sample_rate=rate, bpm=120.0))
        engine.set_realtime(session, False)
        engine.listen(session, 0, heard)
    while engine.work():
        pass
    end = rate + round(seconds * rate)
    for session in range(takes):
        engine.advance(session, rate)
        engine.start(
            session,
            TakeRequest(take=0, epoch=0, position=rate, start_position=rate, end_position=end, sampling=sampling),
        )
    spent_ns, chunk_ms, total_ns = _play(engine, takes, rate, clock_ns)
    row = summarise(
        "whole path",
        spent_ns,
        group="path",
        call="chunk of each take",
        subject=subject,
        audio_ms=chunk_ms,
        warm_up=min(UNSTEADY * takes, len(spent_ns) // 2),
        takes=takes,
        busy=busy,
    )
    return replace(row, rtf=total_ns / 1e9 / seconds)


def _play(engine: Engine, takes: int, rate: int, clock_ns: ClockNs) -> tuple[list[int], float, int]:
    """(time between the chunks of a take, audio of a full chunk in ms, all of the time).

    All play heads stand where the take that is furthest behind stands: so takes proceed together, as in real time.
    """
    began = clock_ns()
    last_ns, ends = [began] * takes, dict.fromkeys(range(takes), rate)
    spent_ns: list[int] = []
    longest = 0
    while ends:
        events = engine.work()
        if not events:
            raise RuntimeError(f"takes of the sessions {sorted(ends)} stopped without an end")
        now = clock_ns()
        for event in events:
            if isinstance(event, ChunkEvent) and event.committed and event.samples:
                spent_ns.append(now - last_ns[event.session])
                last_ns[event.session], ends[event.session] = now, event.position + event.samples
                longest = max(longest, event.samples)
            elif isinstance(event, TakeEnded):
                if event.reason != "end":
                    raise RuntimeError(f"a take ended: {event.reason}")
                del ends[event.session]
        for session in ends:
            engine.advance(session, min(ends.values()))
    return spent_ns, 1000.0 * longest / rate, clock_ns() - began


def chunk_shares(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Time from chunk to chunk of one take over a chunk's duration, alone and beside busy neighbours.

    As fast as they go, so the scheduler owes this thread nothing: in real time it rests in between and is let in
    sooner. Below 1 in `p999`: in time, but for one chunk in a thousand.
    """
    found = []
    for row in rows:
        if row.name == "whole path" and row.takes == 1 and row.audio_ms:
            times = {"p50": row.p50_ms, "p99": row.p99_ms, "p999": row.p999_ms, "max": row.max_ms}
            shares = {name: round(value / row.audio_ms, 4) for name, value in times.items()}
            told = {"busy": row.busy, "threads": row.subject.threads, "chunks": row.calls, "chunk_ms": row.audio_ms}
            found.append(told | shares | {"in_time": shares["p999"] < 1.0})
    return found


def chord(samples: int, rate_hz: int) -> Floats:
    """A chord with a pulse and some noise: nothing special to any part, and nothing denormal."""
    t = np.arange(samples) / rate_hz
    tones = sum(np.sin(2 * np.pi * frequency * t) for frequency in (130.8, 164.8, 196.0, 261.6))
    pulse = np.exp(-8.0 * (t % 0.5))
    noise = np.random.default_rng(0).standard_normal(samples)
    return (0.08 * tones + 0.1 * pulse * noise + 0.001 * noise).astype(np.float32)


def takes_that_fit(rows: Sequence[Row]) -> int:
    """The most takes at once, of those measured without neighbours, that were made in less time than they last."""
    fitting = [row.takes for row in rows if row.name == "whole path" and not row.busy and (row.rtf or 9.0) < 1.0]
    return max(fitting, default=0)
