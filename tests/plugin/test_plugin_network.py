"""The plugin's network half as a session: by the letter of what a new one is told, and when one ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Native
from native_network import RATE, RING, Bench, Note, open_session, welcome

from attacca.bridge import protocol
from attacca.bridge.protocol import (
    MAX_PAYLOAD_BYTES,
    Audio,
    Error,
    Hello,
    Param,
    Ping,
    Pong,
    Status,
    Transport,
    Trigger,
)

pytestmark = pytest.mark.plugin

TRIGGER = Trigger(
    take=3, position=900, quantum_bars=None, quantum_ppq=0.5, mode="vamp", bars=2, late="wait", seed=7
)


def transport(position: int, epoch: int, **changes: object) -> Transport:
    fields: dict[str, object] = {
        "epoch": epoch, "position": position, "ppq": position / 24000, "bpm": 120.0, "meter_num": 4, "meter_den": 4,
        "bar_start_ppq": 0.0, "playing": True,
    }  # fmt: skip
    return Transport(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def bench(native: Native) -> Iterator[Bench]:
    with Bench(native.library, ring=RING) as made:
        yield made


def test_hello_says_who_we_are_and_backs_off(bench: Bench) -> None:
    times, now = [], 0.0
    while now < 8.0:
        bench.at(now)
        for message, _ in bench.sent():
            assert message == Hello(client="bench", sample_rate=RATE, channels=1, want="pcm", model="")
            times.append(round(now, 2))
        now += 0.01
    assert times == pytest.approx([0.0, 0.1, 0.3, 0.8, 1.8, 3.8, 5.8, 7.8], abs=0.06)
    assert bench.call("reopened") == len(times) - 1


def test_without_a_peer_nothing_is_said_and_nothing_reopened(bench: Bench) -> None:
    bench.wire(ready=False)
    for now in range(20):
        bench.at(float(now))
    assert bench.sent() == []
    assert bench.call("reopened") == 0
    bench.wire(ready=True)
    bench.pump()
    assert [type(message) for message, _ in bench.sent()] == [Hello]


def test_a_new_session_is_told_all_in_order(bench: Bench) -> None:
    """Twice: first with what was queued before there was a session, then after a loss, with a link that chokes."""
    rng = np.random.default_rng(3)
    told = {"temperature": 0.5, "drums": 2.0}
    bench.param("temperature", 0.9)
    sound: list[np.ndarray] = []

    def play(blocks: int) -> None:
        for _ in range(blocks):
            sound.append(rng.standard_normal((480, 1)).astype(np.float32))
            assert bench.audio(480 * (len(sound) - 1), sound[-1])
            bench.pump()

    snapshots = [transport(0, 1), transport(20_000, 2, bpm=90.0), transport(60_000, 3, meter_num=3)]
    for number, snapshot in enumerate(snapshots):
        bench.transport(snapshot)
        bench.transport(
            transport(snapshot.position + 4800, number + 1, bpm=snapshot.bpm, meter_num=snapshot.meter_num)
        )
        play(100)
    for name, value in told.items():
        bench.param(name, value)
    last = transport(64_800, 3, meter_num=3)

    def check(messages: list[tuple[object, bytes]]) -> None:
        assert [m for m, _ in messages if isinstance(m, Param)] == [Param(name=k, value=v) for k, v in told.items()]
        heard = [m for m, _ in messages if isinstance(m, Transport)]
        assert [m for m in heard if m in snapshots] == snapshots
        assert heard[-1] == last
        assert [m.epoch for m in heard] == sorted(m.epoch for m in heard)
        kinds = [type(m) for m, _ in messages]
        assert kinds == sorted(kinds, key=[Param, Transport, Audio].index)
        audio = [(m, p) for m, p in messages if isinstance(m, Audio)]
        kept = min(2 * RATE, 480 * len(sound))
        assert all(len(p) <= MAX_PAYLOAD_BYTES for _, p in audio)
        assert len(audio) == 1
        joined = np.concatenate([np.frombuffer(p, "<f4") for _, p in audio])
        assert audio[0][0].position == 480 * len(sound) - kept
        np.testing.assert_array_equal(joined, np.concatenate(sound)[-kept:, 0])

    bench.pump()
    bench.sent()
    bench.feed(welcome())
    bench.pump()
    assert bench.notes() == [Note("opened")]
    check(bench.sent())
    play(60)
    assert len(bench.sent()) == 60
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        bench.at(now)
    assert bench.notes() == [Note("lost")]
    assert bench.meters["connected"] == 0
    play(60)  # heard though nobody listens
    assert {type(m) for m, _ in bench.sent()} == {Ping, Hello}
    bench.wire(full=True)
    bench.feed(welcome(2))
    bench.pump()
    bench.trigger(TRIGGER)
    for _ in range(3):
        bench.pump()
    assert bench.notes() == []
    bench.wire()
    bench.pump()
    *briefing, (trigger, _) = bench.sent()
    assert bench.notes() == [Note("opened")]
    check(briefing)
    assert trigger == TRIGGER


def test_long_history_goes_in_large_equal_pieces(native: Native) -> None:
    with Bench(native.library, rate=96000, channels=2, history_s=8.0, input_samples=1 << 20) as bench:
        ramp = np.arange(800_000, dtype=np.float32)
        stereo = np.stack([ramp, -ramp], axis=1)
        for at in range(0, len(ramp), 100_000):
            assert bench.audio(at, stereo[at : at + 100_000])
            bench.pump()
        bench.feed(welcome())
        bench.pump()
        audio = [(m, p) for m, p in bench.sent() if isinstance(m, Audio)]
    assert {m.samples for m, _ in audio} == {128_000}
    assert audio[0][0].position == 32_000
    joined = np.concatenate([np.frombuffer(p, "<f4").reshape(-1, 2) for _, p in audio])
    np.testing.assert_array_equal(joined, stereo[32_000:])


def test_holes_in_the_history_are_silence_and_a_jump_begins_anew(bench: Bench) -> None:
    ones = np.ones((100, 1), np.float32)
    for position in (0, 100, 500):
        bench.audio(position, ones)
    (message, payload) = open_with_audio(bench)
    assert (message.position, message.samples) == (0, 600)
    np.testing.assert_array_equal(np.frombuffer(payload, "<f4").nonzero()[0], [*range(200), *range(500, 600)])
    bench.audio(10**9, ones)
    bench.pump()
    bench.feed(Error(code="hello", text="who are you?"))
    bench.pump()
    bench.at(0.5)
    (message, _) = open_with_audio(bench, session=2)
    assert (message.position, message.samples) == (10**9, 100)


def open_with_audio(bench: Bench, session: int = 1) -> tuple[Audio, bytes]:
    bench.pump()
    bench.sent()
    bench.feed(welcome(session))
    bench.pump()
    (found,) = [(m, p) for m, p in bench.sent() if isinstance(m, Audio)]
    return found


def test_of_many_epochs_the_newest_are_told_and_loops_are_kept(bench: Bench) -> None:
    for epoch in range(1, 400):
        bench.transport(transport(epoch * 100, epoch, bpm=100.0 + epoch % 7))
        bench.pump()
    looped = transport(40_000, 399, bpm=100.0 + 399 % 7, loop_start_ppq=4.0, loop_end_ppq=8.0)
    bench.transport(looped)
    later = [protocol.msgspec.structs.replace(looped, position=at, ppq=at / 24000) for at in (45_000, 50_000)]
    for snapshot in later:
        bench.transport(snapshot)
    heard = [m for m in open_session(bench) if isinstance(m, Transport)]
    assert len(heard) == 192
    assert [m.epoch for m in heard] == [*range(210, 400), 399, 399]
    assert heard[-2:] == [looped, later[-1]]


def test_records_become_messages(bench: Bench) -> None:
    assert open_session(bench) == []
    bench.call("midi", 5, b"\x90\x40\x7f", 3)
    bench.trigger(TRIGGER)
    bench.call("release", 1000, 3, True)
    bench.param("guidance", 2.5, position=77)
    bench.call("settled", 12)
    bench.transport(transport(7, 4, non_realtime=True))
    bench.call("param", 0, 9999, 1.0)  # no such row: nothing to say
    bench.pump()
    assert [m for m, _ in bench.sent()] == [
        protocol.Midi(position=5, data=b"\x90\x40\x7f"),
        TRIGGER,
        protocol.Release(take=3, position=1000, quantized=True),
        Param(name="guidance", value=2.5, position=77),
        Ping(nonce=(1 << 32) + 12, settled=True),
        transport(7, 4, non_realtime=True),
    ]
    bench.feed(Pong(nonce=(1 << 32) + 12))
    bench.pump()
    assert bench.meters["settled"] == 12


def test_a_full_link_holds_back_in_order_and_a_stuck_one_is_given_up(bench: Bench) -> None:
    open_session(bench)
    bench.wire(full=True)
    for position in range(0, 1000, 100):
        bench.call("release", position, 1, False)
        bench.pump()
    assert bench.sent() == []
    bench.wire()
    bench.pump()
    assert [m.position for m, _ in bench.sent()] == list(range(0, 1000, 100))
    bench.wire(full=True)
    bench.call("release", 1, 1, False)
    for now in np.arange(0.0, 3.2, 0.5):  # it goes on to say something, but takes nothing
        bench.feed(Status(session=1, state="listening"))
        bench.at(float(now))
    assert bench.meters["sessions_lost"] == 0
    bench.at(3.7)
    assert bench.meters["sessions_lost"] == 1


def test_silence_ends_a_session_and_only_the_engines(bench: Bench) -> None:
    open_session(bench)
    pings = 0
    for now in np.arange(0.1, 3.0, 0.1):
        bench.at(float(now))
        pings += sum(isinstance(m, Ping) for m, _ in bench.sent())
    assert 2 <= pings <= 29
    assert bench.meters["connected"] == 1
    bench.feed(Pong(nonce=1))
    bench.at(2.95)
    bench.at(60.0)  # this thread slept: the engine may have spoken meanwhile
    assert bench.meters["connected"] == 1
    bench.feed(Pong(nonce=1))
    bench.at(60.1)
    for now in np.arange(60.2, 63.0, 0.1):
        bench.at(float(now))
    assert bench.meters["connected"] == 1
    bench.at(63.3)
    assert bench.meters["connected"] == 0
    assert bench.notes() == [Note("opened"), Note("lost")]


def test_an_engine_that_knows_no_session_is_greeted_but_not_for_ever_at_once(bench: Bench) -> None:
    hellos = []
    for turn in range(400):
        bench.at(turn * 0.01)
        for message, _ in bench.sent():
            if isinstance(message, Hello):
                hellos.append(turn)
                bench.feed(welcome(turn))
                bench.feed(Error(code="hello", text="no session"))
    assert 3 < len(hellos) < 10
    assert hellos[1] <= 15


def test_what_nobody_asked_for_is_not_believed(bench: Bench) -> None:
    open_session(bench)
    bench.notes()
    for session in range(50):
        bench.feed(welcome(session))
    bench.pump()
    assert bench.notes() == []
    assert bench.meters["bad_messages"] == 50
    bench.feed(Status(session=9, state="someone else's"))
    bench.pump()
    assert bench.text("state") == ""


def test_texts_and_meters(bench: Bench) -> None:
    bench.pump()
    bench.feed(Error(code="full", text="all 8 sessions are in use"))
    bench.pump()
    assert bench.text("error") == "all 8 sessions are in use"
    open_session(bench)
    assert (bench.text("error"), bench.text("model")) == ("", "m")
    bench.feed(Status(session=1, state="armed for bar 17", seed=5))
    bench.pump()
    assert bench.text("state") == "armed for bar 17"
    assert bench.meters["seed"] == 5
    bench.call("close")
    assert isinstance(bench.sent()[-1][0], protocol.Bye)
    assert bench.meters["connected"] == bench.meters["sessions_lost"] == 0
    assert bench.notes()[-1] == Note("lost")
    bench.pump()
    assert bench.sent() == []
    bench.param("seed", 4.0)
    bench.call("attach")
    assert Param(name="seed", value=4.0) in open_session(bench)


def test_goodbye_follows_a_hello_that_nobody_answered(bench: Bench) -> None:
    """The engine may only be slow: what that hello opens is closed at once."""
    bench.pump()
    bench.call("close")
    assert [type(message) for message, _ in bench.sent()] == [Hello, protocol.Bye]
    bench.wire(ready=False)
    bench.call("attach")
    bench.pump()
    bench.call("close")
    assert bench.sent() == []  # nobody was greeted
