"""Takes that the client did not start, and takes that end before their time: in one thread, sample by sample."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from direct_engine import MODEL_RATE, DirectEngine, connected, model_time

from attacca.bridge import protocol
from attacca.bridge.client import Client
from attacca.bridge.client_config import At
from attacca.bridge.host_transport import HostConfig, Play, Tempo
from attacca.bridge.link import DirectLink
from attacca.bridge.osc import OscPort, build
from attacca.bridge.protocol import ENGINE_TAKES_FROM, Midi, Release, Trigger
from attacca.bridge.virtual_host import FlatOut, Recording, VirtualHost

RATE = 48000
BAR = 96000  # 120 BPM, 4/4
FADE = 480
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))
ALL_SOUND_OFF = At(offset=0, event=Midi(position=0, data=b"\xb0\x78\x00"))
ALL_NOTES_OFF = At(offset=0, event=Midi(position=0, data=b"\xb0\x7b\x00"))


class Desk:
    """OSC datagrams into the engine's session at stream positions, as its I/O thread would hand them over."""

    def __init__(self, engine: DirectEngine, commands: list[tuple[int, str, str, tuple[Any, ...]]]) -> None:
        self._engine, self._commands = engine, sorted(commands)
        self._port = OscPort("127.0.0.1", 0, self._command)

    def _command(self, command: Any) -> bool:
        assert self._engine.session is not None
        self._engine.session.outside(command.name, command.arguments, self._engine._now)
        return True

    def __call__(self, block: Any) -> None:
        while self._commands and self._commands[0][0] <= block.position:
            _, address, types, arguments = self._commands.pop(0)
            self._port._datagram(build(address, types, arguments), ("127.0.0.1", 9))
        if not self._commands:
            self._port.close()


def play(
    client: Client,
    until: int,
    script: list[Any],
    desk: Desk | None = None,
    *,
    offline: bool = True,
    **config: Any,
) -> Recording:
    host = VirtualHost(
        HostConfig(sample_rate=RATE, block_samples=512, **config), clock=FlatOut(), non_realtime=offline
    )
    return host.run(client, until, script=script, on_block=desk)


def sounding(recording: Recording) -> tuple[int, int]:
    """First and last position of what is heard of the take."""
    heard = np.flatnonzero(recording.wet[:, 0])
    return int(heard[0]), int(heard[-1])


@pytest.mark.parametrize("offline", [True, False])
def test_an_osc_trigger_is_heard_on_the_bar_line_and_its_release_ends_it(offline: bool) -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    commands = [(BAR - 40000, "/attacca/trigger", "", ()), (2 * BAR + 5000, "/attacca/release", "", ())]
    recording = play(client, 3 * BAR, [], Desk(engine, commands), offline=offline)
    first, last = sounding(recording)
    assert first == BAR
    inside = np.arange(BAR + 5, 2 * BAR + 4000)
    np.testing.assert_allclose(recording.wet[inside, 0], model_time(inside, RATE), atol=1.0)
    assert 2 * BAR + 4000 < last <= 2 * BAR + 5000 + 3 * 512 + FADE
    assert client.playback.counters.launches == 1
    assert client.playback.counters.underrun_samples == 0
    assert client.takes.current is None
    assert client.network.counts["stale_chunks"] == 0


def test_an_osc_take_that_joins_late_is_in_phase_and_ramped() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    recording = play(client, 2 * BAR, [], Desk(engine, [(BAR - 1100, "/attacca/trigger", "", ())]), offline=False)
    first, _ = sounding(recording)
    assert BAR < first < BAR + 4000
    assert client.playback.counters.joins == 1
    inside = np.arange(first + 200, 2 * BAR - 600)
    np.testing.assert_allclose(recording.wet[inside, 0], model_time(inside, RATE), atol=1.0)


def test_osc_parameters_hold_for_takes_that_osc_starts() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    commands = [
        (0, "/attacca/param/quantum", "i", (3,)),  # 1/4
        (1000, "/attacca/param/mode", "s", ("fill",)),
        (1500, "/attacca/param/style", "s", ("7",)),
        (1600, "/attacca/param/style", "s", ("no such style",)),
        (2000, "/attacca/param/bars", "i", (1,)),
        (40000, "/attacca/trigger", "", ()),
    ]
    first, last = sounding(play(client, 2 * BAR, [], Desk(engine, commands)))
    assert first == 48000
    assert 48000 + BAR <= last <= 48000 + BAR + FADE
    assert engine.session is not None
    assert engine.session.values.choice("style") == "7"
    assert engine.session.values.refused == 1


def test_an_osc_take_goes_on_in_a_new_epoch() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    script = [(BAR + 30001, Tempo(bpm=Fraction(97)))]
    recording = play(client, 2 * BAR, script, Desk(engine, [(BAR - 40000, "/attacca/trigger", "", ())]))
    inside = np.arange(BAR + 30001 + 9000, 2 * BAR - 600)
    np.testing.assert_allclose(recording.wet[inside, 0], model_time(inside, RATE), atol=1.0)
    assert client.takes.current is not None
    assert client.takes.current.take == ENGINE_TAKES_FROM


def test_the_newest_take_sounds_whoever_started_it() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    desk = Desk(
        engine, [(2 * BAR - 40000, "/attacca/trigger", "", ()), (3 * BAR - 40000, "/attacca/trigger", "", ())]
    )
    recording = play(client, 5 * BAR, [(BAR - 40000, TRIGGER), (4 * BAR - 40000, TRIGGER)], desk)
    inside = np.arange(BAR, 5 * BAR - 600)
    inside = inside[inside % BAR > FADE]  # each hands over with a fade
    np.testing.assert_allclose(recording.wet[inside, 0], model_time(inside, RATE), atol=1.0)
    assert engine.session is not None
    assert len(engine.session.takes) == 1
    assert [r.take for r in client.takes.records] == [1, ENGINE_TAKES_FROM, ENGINE_TAKES_FROM + 1, 2]


@pytest.mark.parametrize("outside", [False, True])
def test_all_sound_off_stops_within_10_ms(outside: bool) -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    desk = Desk(engine, [(BAR - 40000, "/attacca/trigger", "", ())] if outside else [])
    script = [(2 * BAR + 5000, ALL_SOUND_OFF)] + ([] if outside else [(BAR - 40000, TRIGGER)])
    recording = play(client, 4 * BAR, script, desk)
    first, last = sounding(recording)
    assert first == BAR
    assert 2 * BAR + 5000 <= last <= 2 * BAR + 5000 + FADE
    assert client.takes.current is None
    assert client.playback.counters.repeat_samples == 0


def test_all_notes_off_lets_the_key_go() -> None:
    client = connected(DirectEngine(), RATE)
    key = At(offset=0, event=Midi(position=0, data=b"\x90\x18\x64"))
    recording = play(client, 3 * BAR, [(BAR - 40000, key), (BAR + 5000, ALL_NOTES_OFF)])
    assert BAR + 5000 <= sounding(recording)[1] <= BAR + 5000 + FADE
    assert client.takes.current is None


def test_a_take_that_the_session_refuses_is_over_at_once() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    play(client, 1000, [])
    assert engine.session is not None
    for take in range(100, 104):
        engine.session.receive(Trigger(take=take, position=1000), b"", 0.0)
    client._handle(1000, Trigger(take=0, position=0))
    client.network.pump(0.0)
    assert client.takes.current is not None
    client.network.pump(0.0)
    client.takes.follow(sounding=False)
    assert client.takes.current is None


def test_a_take_armed_until_the_host_plays_ends_with_its_release() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    release = At(offset=0, event=Release(take=0, position=0))
    recording = play(client, BAR, [(1000, TRIGGER), (3000, release), (9000, Play())], playing=False)
    assert client.takes.current is None
    assert not recording.wet.any()


def lost_in_a_take(clock: list[float]) -> tuple[Any, VirtualHost, Any]:
    """A client whose take sounded for a bar and whose link then fell silent; its host, and what each block does."""
    engine = DirectEngine()
    client = connected(engine, RATE)
    client.network._clock = lambda: clock[0]

    def watch(block: Any) -> None:
        clock[0] = block.position / RATE
        if block.position > 2 * BAR + 5000:
            engine.frozen = True

    host = VirtualHost(HostConfig(sample_rate=RATE, block_samples=512), clock=FlatOut(), non_realtime=False)
    host.run(client, 2 * BAR + 6000, script=[(BAR - 40000, TRIGGER)], on_block=watch)
    client.network._link = DirectLink(lambda frames: [], list)
    client.network._begin_anew()  # the heartbeats have failed
    assert client.takes.current is not None
    return client, host, watch


def test_a_lost_session_ends_the_take_after_the_ladder() -> None:
    client, host, watch = lost_in_a_take([0.0])
    host.run(client, 9 * BAR, on_block=watch)
    counters = client.playback.counters
    assert counters.repeat_samples == 4 * BAR
    assert client.takes.current is None
    missed = counters.underrun_samples
    host.run(client, 10 * BAR, on_block=watch)
    assert counters.underrun_samples == missed  # nothing is due any more


def test_a_held_take_begins_anew_with_the_next_session_and_the_ladder_bridges_until_then() -> None:
    client, host, watch = lost_in_a_take([0.0])
    client.network._take_welcome(protocol.Welcome(
        session=2, model="fake", model_rate=MODEL_RATE, hop_samples=640, num_codebooks=4, publish="",
        heartbeat_s=3600.0, engine="test",
    ))  # fmt: skip
    lost = client.takes.current.take
    host.run(client, 2 * BAR + 7000, on_block=watch)
    again = client.takes.current
    assert again.take == lost + 1
    assert again.launch.position == 3 * BAR
    host.run(client, 4 * BAR, on_block=watch)
    counters = client.playback.counters
    assert counters.underrun_samples == counters.repeat_samples > 0  # a whole bar was there to repeat
    # This session says nothing: its take is due and has not begun, and what it goes on with is bridged on.
    assert counters.waiting_samples == 0
    assert counters.repeat_samples > BAR


def test_an_engine_that_restarts_ends_the_takes_of_its_sessions() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    host = VirtualHost(HostConfig(sample_rate=RATE, block_samples=512), clock=FlatOut())
    host.run(client, BAR + 6000, script=[(BAR - 40000, TRIGGER)])
    assert client.takes.current is not None
    assert engine.session is not None
    engine.engine.close(1)
    engine.session.attach(engine.engine)
    wet = host.run(client, 2 * BAR).wet
    assert not wet[BAR + 6000 + 1024 + FADE :].any()
    assert client.takes.current is None


def test_a_takes_own_temperature_survives_chords_and_other_knobs() -> None:
    engine = DirectEngine()
    client = connected(engine, RATE)
    calls: list[str] = []
    inner = engine.engine
    planned, drawn = inner.replan, inner.set_sampling
    inner.replan = lambda *a, **k: (calls.append("replan"), planned(*a, **k))[1]  # type: ignore[method-assign]
    inner.set_sampling = lambda *a, **k: (  # type: ignore[method-assign]
        calls.append(f"sampling {sorted(k)}"),
        drawn(*a, **k),
    )[1]
    commands: list[Any] = [
        (0, "/attacca/param/velocity_to", "i", (2,)),
        (1000, "/attacca/note", "ii", (24, 127)),
        (60000, "/attacca/note", "ii", (60, 100)),
        (80000, "/attacca/param/guidance", "f", (2.0,)),
    ]
    host = VirtualHost(HostConfig(sample_rate=RATE, block_samples=512), clock=FlatOut())
    host.run(client, 2 * BAR, on_block=Desk(engine, commands))
    (take,) = inner._sessions[1].takes.values()
    assert (take.sampling.temperature, take.sampling.guidance) == (2.0, 2.0)
    assert calls == ["replan", "sampling ['guidance']"]
