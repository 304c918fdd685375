"""The reference client against a scripted engine: launch, release, epochs, ladder, mix, session, queues."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scripted_engine import ScriptedEngine, value_at

from attacca.bridge import protocol
from attacca.bridge.client import Client
from attacca.bridge.client_config import At, ClientConfig, HostBlock, Mix, NoteTriggers
from attacca.bridge.client_network import OUTBOX_MESSAGES, EngineError, Outbox
from attacca.bridge.host_transport import HostConfig, Play, Seek, Stop, Tempo
from attacca.bridge.link import DirectLink, ZmqLink
from attacca.bridge.protocol import Midi, Param, Release, Trigger
from attacca.bridge.transport import nearest_sample
from attacca.bridge.virtual_host import FlatOut, VirtualHost

RATE = 8000
BAR = 16000  # 120 BPM, 4/4
TRIGGER = At(offset=0, event=Trigger(take=0, position=0))
RELEASE = At(offset=0, event=Release(take=0, position=0))


def connected(engine: ScriptedEngine, **settings: object) -> Client:
    config = ClientConfig(sample_rate=RATE, inline=True, **{"wait_s": 0.0, **settings})
    client = Client(DirectLink(engine.exchange, engine.idle), config)
    client.connect(1.0)
    return client


def play(client: Client, until: int, script: list, block: int = 512, **settings: object) -> VirtualHost:
    config = HostConfig(sample_rate=RATE, block_samples=block, channels=client.config.channels, **settings)
    host = VirtualHost(config, clock=FlatOut())
    host.run(client, until, script=script)
    return host


def expect(wet: np.ndarray, start: int, stop: int, epoch: int = 1) -> None:
    np.testing.assert_array_equal(wet[start:stop, 0], value_at(np.arange(start, stop), epoch))


@pytest.mark.parametrize("block", [1, 3, 64, 512, 4096])
def test_take_enters_on_the_bar_line_to_the_sample(block: int) -> None:
    client = connected(ScriptedEngine())
    bar = 2000
    host = play(client, bar + 1500, [(bar - 1234, TRIGGER)], block, start_ppq=Fraction(7, 2))
    wet = host.recording.wet
    assert not wet[:bar].any()
    expect(wet, bar, bar + 1500)
    assert client.playback.counters.launches == 1
    assert client.playback.counters.joins == 0
    assert client.playback.counters.underrun_samples == 0


def test_release_ends_the_take_and_fades_within_10_ms() -> None:
    client = connected(ScriptedEngine())
    host = play(client, 40000, [(BAR - 10, TRIGGER), (30001, RELEASE)], 333)
    wet = host.recording.wet
    expect(wet, BAR, 30001)
    assert wet[30001:30080].any()
    assert not wet[30001 + 80 :].any()
    assert np.abs(np.diff(wet[30000:30100, 0])).max() < 0.06
    assert client.takes.current is None


def test_quantised_release_ends_on_the_bar_line() -> None:
    client = connected(ScriptedEngine())
    release = At(offset=0, event=Release(take=0, position=0, quantized=True))
    wet = play(client, 50000, [(BAR - 10, TRIGGER), (30001, release)], 333).recording.wet
    expect(wet, BAR, 2 * BAR)
    assert not wet[2 * BAR + 80 :].any()


def test_note_on_triggers_and_only_its_note_off_releases() -> None:
    client = connected(ScriptedEngine(), note_triggers=NoteTriggers(channel=2, low=60, high=64))
    notes = [
        (100, bytes([0x90, 60, 100])),  # another channel: plain MIDI
        (15000, bytes([0x92, 60, 100])),
        (20000, bytes([0x82, 61, 0])),  # not the note that is held
        (24000, bytes([0x92, 60, 0])),  # note-on with velocity 0 is a note-off
    ]
    script = [(at, At(offset=0, event=Midi(position=0, data=data))) for at, data in notes]
    wet = play(client, 30000, script).recording.wet
    expect(wet, BAR, 24000)
    assert not wet[24080:].any()


def test_midi_and_parameters_reach_the_engine_with_their_positions() -> None:
    engine = ScriptedEngine()
    client = connected(engine, note_triggers=None)
    midi = At(offset=0, event=Midi(position=0, data=bytes([0x90, 60, 100])))
    param = At(offset=0, event=Param(name="drums", value=0.0))
    play(client, 4000, [(1234, midi), (2345, param)])
    events = [m for m in engine.heard if isinstance(m, Midi | Param)]
    assert [(type(m).__name__, m.position) for m in events] == [("Midi", 1234), ("Param", 2345)]
    audio = [m for m in engine.heard if isinstance(m, protocol.Audio)]
    assert [m.position for m in audio] == list(np.cumsum([0] + [m.samples for m in audio[:-1]]))
    before = engine.heard.index(events[0])
    assert sum(m.samples for m in engine.heard[:before] if isinstance(m, protocol.Audio)) == 1234


def test_retrigger_hands_over_at_the_new_launch() -> None:
    engine = ScriptedEngine(lookahead_samples=3000)
    client = connected(engine)
    host = play(client, 3 * BAR, [(BAR - 10, TRIGGER), (30001, TRIGGER)], 500)
    wet = host.recording.wet
    expect(wet, BAR, 2 * BAR - 1000)
    expect(wet, 2 * BAR + 16, 3 * BAR)
    assert [m.take for m in engine.heard if isinstance(m, Release)] == [1]
    assert client.playback.counters.launches == 2


@pytest.mark.parametrize("action", [Seek(ppq=Fraction(40)), Tempo(bpm=Fraction(97)), Stop()])
def test_no_stale_audio_after_an_epoch_ends(action: object) -> None:
    """After the cut the old epoch lives only as a fade of at most 10 ms; the new one enters at its position."""
    cut, latency = 24001, 700
    client = connected(ScriptedEngine(latency_samples=latency))
    host = play(client, 40000, [(BAR - 1000, TRIGGER), (cut, action)], 480)
    wet = host.recording.wet
    expect(wet, BAR, cut, epoch=1)
    assert not wet[cut + 80 : cut + latency].any()
    if isinstance(action, Stop):
        assert not wet[cut + 80 :].any()
    else:
        expect(wet, cut + latency + 16, 40000, epoch=2)
    assert np.abs(np.diff(wet[cut - 1 : cut + latency + 100, 0])).max() < 0.07
    assert client.playback.counters.underrun_samples == 0


def test_tempo_change_before_launch_moves_the_launch() -> None:
    client = connected(ScriptedEngine())
    tempo = Tempo(bpm=Fraction(90))
    wet = play(client, 40000, [(9000, TRIGGER), (10000, tempo)], 480).recording.wet
    bar = nearest_sample(10000 + (4 - Fraction(10000 * 2, 8000)) * 60 * RATE / 90)
    assert not wet[:bar].any()
    expect(wet, bar, 40000, epoch=2)
    assert client.playback.counters.launches == 1


def test_trigger_while_stopped_launches_after_play() -> None:
    client = connected(ScriptedEngine())
    script = [(1000, TRIGGER), (5000, Play())]
    wet = play(client, 30000, script, 480, playing=False).recording.wet
    assert not wet[:5000].any()
    expect(wet, 5000, 30000, epoch=2)


def dropping(*numbers: int):
    return lambda chunk, payload: [] if chunk.seq in numbers else [(chunk, payload)]


def test_hole_before_a_whole_bar_was_heard_fades_and_returns() -> None:
    client = connected(ScriptedEngine(spoil=dropping(5)))
    wet = play(client, 30000, [(BAR - 10, TRIGGER)]).recording.wet
    hole = BAR + 5000
    expect(wet, BAR, hole)
    assert not wet[hole + 80 : hole + 1000].any()
    expect(wet, hole + 1016, 30000)
    counters = client.playback.counters
    assert (counters.underrun_samples, counters.fade_samples, counters.fade_events) == (1000, 1000, 1)
    assert client.network.counts["lost_chunks"] == 1
    assert np.abs(np.diff(wet[BAR + 1 :, 0])).max() < 0.07


def test_hole_after_a_bar_repeats_it_in_phase() -> None:
    client = connected(ScriptedEngine(spoil=dropping(18, 19)))
    wet = play(client, 50000, [(BAR - 10, TRIGGER)]).recording.wet
    hole = BAR + 18000
    expect(wet, BAR, hole)
    repeated = np.arange(hole + 16, hole + 2000)
    np.testing.assert_array_equal(wet[repeated, 0], value_at(repeated - BAR, 1))
    expect(wet, hole + 2016, 50000)
    counters = client.playback.counters
    assert (counters.underrun_samples, counters.repeat_samples, counters.repeat_events) == (2000, 2000, 1)
    assert counters.fade_samples == 0


def test_repeat_gives_up_after_four_bars_and_every_gap_is_counted() -> None:
    client = connected(ScriptedEngine(spoil=lambda chunk, payload: [(chunk, payload)] if chunk.seq < 20 else []))
    wet = play(client, 8 * BAR, [(BAR - 10, TRIGGER)]).recording.wet
    hole = BAR + 20000
    assert wet[hole : hole + 4 * BAR].any(axis=1).all()
    assert not wet[hole + 4 * BAR + 80 :].any()
    counters = client.playback.counters
    assert counters.repeat_samples == 4 * BAR
    assert counters.repeat_samples + counters.fade_samples == counters.underrun_samples == 8 * BAR - hole


def test_plan_bridges_a_hole_first() -> None:
    client = connected(ScriptedEngine(plan_samples=3000, spoil=dropping(20)))
    wet = play(client, 40000, [(BAR - 10, TRIGGER)]).recording.wet
    counters = client.playback.counters
    assert (counters.planned_samples, counters.planned_events) == (1000, 1)
    assert counters.underrun_samples == counters.repeat_samples == counters.fade_samples == 0
    assert wet[BAR:].any(axis=1).all()


def test_late_join_is_in_phase_ramped_and_counted() -> None:
    client = connected(ScriptedEngine(latency_samples=3000))
    wet = play(client, 40000, [(BAR - 10, TRIGGER)]).recording.wet
    joined = BAR - 10 + 3000
    assert not wet[:joined].any()
    expect(wet, joined + 16, 40000)
    assert client.playback.counters.joins == 1
    assert client.playback.counters.launches == 0


def test_reordered_chunks_play_in_order() -> None:
    kept: list = []

    def swap(chunk, payload):
        kept.append((chunk, payload))
        return [] if len(kept) % 2 else [kept[-1], kept[-2]]

    client = connected(ScriptedEngine(spoil=swap))
    wet = play(client, 40000, [(BAR - 10, TRIGGER)]).recording.wet
    expect(wet, BAR, 40000)
    assert client.network.counts["disordered_chunks"] > 5
    assert client.playback.counters.underrun_samples == 0


@pytest.mark.parametrize("spoiled", ["epoch", "session", "take", "nan", "loud", "channels"])
def test_chunks_that_do_not_belong_are_never_heard(spoiled: str) -> None:
    def spoil(chunk, payload):
        fields = {name: getattr(chunk, name) for name in chunk.__struct_fields__}
        if spoiled == "nan":
            payload = np.full(chunk.samples, np.nan, "<f4").tobytes()
        elif spoiled == "loud":
            payload = np.full(chunk.samples, -3e38, "<f4").tobytes()
        elif spoiled == "channels":
            fields |= {"channels": 2}
            payload = payload * 2
        else:
            fields[spoiled] += 7
        return [(protocol.Chunk(**fields), payload)]

    client = connected(ScriptedEngine(spoil=spoil))
    wet = play(client, 40000, [(BAR - 10, TRIGGER)]).recording.wet
    assert not wet.any()
    assert sum(client.network.counts.values()) > 0


def test_dry_passes_bit_exact_and_solo_mutes_it_while_the_take_sounds() -> None:
    rng = np.random.default_rng(1)
    client = connected(ScriptedEngine(), channels=2)
    client.mix = Mix(solo=True, wet=0.5)
    audio = rng.uniform(-1, 1, (40000, 2)).astype(np.float32)
    output, wet = [], []
    for position in range(0, 40000, 500):
        events = [TRIGGER] if position == 15000 else [RELEASE] if position == 30000 else []
        host = HostBlock(ppq=position * 2 / RATE, bpm=120.0, bar_start_ppq=position * 2 // RATE // 4 * 4.0)
        output.append(client.process(position, host, events, audio[position : position + 500]))
        wet.append(client.wet)
    heard, take = np.concatenate(output), np.concatenate(wet)
    np.testing.assert_array_equal(heard[:BAR], audio[:BAR])
    np.testing.assert_array_equal(heard[BAR + 500 : 30000], take[BAR + 500 : 30000] * np.float32(0.5))
    np.testing.assert_array_equal(heard[30500:], audio[30500:])


def test_hello_without_an_engine_says_so() -> None:
    client = Client(ZmqLink("tcp://127.0.0.1:9"), ClientConfig(sample_rate=RATE))
    with pytest.raises(EngineError, match=r"no answer within 0.3 s"):
        client.connect(0.3)


def test_refusal_is_reported_in_the_engines_words() -> None:
    error = [bytes(f) for f in protocol.encode(protocol.Error(code="model", text="no model named x"))]
    client = Client(DirectLink(lambda _: [error], list), ClientConfig(sample_rate=RATE))
    with pytest.raises(EngineError, match="no model named x"):
        client.connect(1.0)


def test_goodbye_follows_a_hello_that_nobody_answered() -> None:
    """The engine may only be slow: what that hello opens is closed at once."""
    clock, said = FakeClock(), list[protocol.Message]()

    def exchange(frames: list[bytes]) -> list[list[bytes]]:
        said.append(protocol.decode(frames)[0])
        clock.now += 0.2
        return []

    config = ClientConfig(sample_rate=RATE, inline=True)
    with pytest.raises(EngineError, match="no answer"):
        Client(DirectLink(exchange, list), config, clock=clock).connect(0.1)
    assert [type(message) for message in said] == [protocol.Hello, protocol.Bye]


def test_bad_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot connect"):
        ZmqLink("nonsense")


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_session_is_reopened_after_silence_with_back_off() -> None:
    clock, engine, dead = FakeClock(), ScriptedEngine(), [False]
    hellos: list[float] = []

    def exchange(frames: list[bytes]) -> list[list[bytes]]:
        message, _ = protocol.decode(frames)
        hellos.extend([clock.now] if isinstance(message, protocol.Hello) else [])
        if dead[0]:
            return []
        if isinstance(message, protocol.Ping):
            return [[bytes(f) for f in protocol.encode(protocol.Pong(nonce=message.nonce))]]
        return engine.exchange(frames)

    client = Client(DirectLink(exchange, list), ClientConfig(sample_rate=RATE, inline=True), clock=clock)
    client.connect(1.0)
    for _ in range(500):
        clock.now += 0.05
        client.network.pump(0.0)
    assert client.network.connected
    assert client.network.counts["sessions_lost"] == 0
    dead[0] = True
    for _ in range(400):
        clock.now += 0.05
        client.network.pump(0.0)
    assert not client.network.connected
    assert client.network.counts["sessions_lost"] == 1
    gaps = np.diff(hellos[1:])
    assert 5 < len(gaps) < 20
    assert (np.diff(gaps[:4]) > -0.01).all()
    assert gaps[-1] == pytest.approx(2.0, abs=0.1)
    dead[0], engine.session = False, 2
    for _ in range(60):
        clock.now += 0.05
        client.network.pump(0.0)
    assert client.network.connected


def test_outbox_drops_audio_first_and_counts_it() -> None:
    outbox = Outbox()
    audio = protocol.Audio(position=0, samples=0, channels=1)
    for _ in range(OUTBOX_MESSAGES):
        outbox.put(audio, b"")
    assert outbox.dropped["Audio"] == OUTBOX_MESSAGES // 4
    assert outbox.put(Param(name="x", value=0.0))
    for _ in range(OUTBOX_MESSAGES):
        outbox.put(Param(name="x", value=0.0))
    assert outbox.dropped["Param"] == OUTBOX_MESSAGES * 3 // 4 + 1


def test_process_refuses_a_jump_and_a_wrong_shape() -> None:
    client = connected(ScriptedEngine())
    host = HostBlock(ppq=0.0, bpm=120.0)
    with pytest.raises(ValueError, match="expected 0"):
        client.process(5, host, [], np.zeros((4, 1), np.float32))
    with pytest.raises(ValueError, match="1 channels"):
        client.process(0, host, [], np.zeros((4, 2), np.float32))


@pytest.mark.parametrize(
    "settings",
    [{"sample_rate": 1}, {"channels": 3}, {"ring_s": 0.0}, {"history_s": 1e3}, {"wait_s": -1.0}],
)
def test_configuration_is_validated(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ClientConfig(**{"sample_rate": RATE, **settings})


def test_a_text_is_said_whenever_a_session_opens() -> None:
    engine = ScriptedEngine(takes_text=True)
    client = Client(DirectLink(engine.exchange, engine.idle), ClientConfig(sample_rate=48000, inline=True))
    client.tell("slow jazz")
    client.connect(1.0)
    client.network.pump(0.0)
    client.network.pump(0.0)

    def heard() -> list[protocol.Message]:
        return [message for message in engine.heard if isinstance(message, protocol.Prompt)]

    assert heard() == [protocol.Prompt(text="slow jazz")]
    client.tell("")
    client.network.pump(0.0)
    assert [m.text for m in heard()] == ["slow jazz", ""]
    client.tell("drums")
    client.network._begin_anew()
    client.network.pump(0.0)
    client.network.pump(0.0)
    assert [m.text for m in heard()] == ["slow jazz", "", "drums"]
    engine.takes_text = False
    client.network._begin_anew()
    client.network.pump(0.0)
    client.network.pump(0.0)
    assert len(heard()) == 3  # this one takes no text
    with pytest.raises(ValueError, match="allowed: characters that can be read"):
        client.tell("a\x1bb")
    with pytest.raises(ValueError, match="513 characters, allowed: up to 512"):
        client.tell("x" * 513)
