"""The reference client's audio half and the plugin's, driven alike step by step, and long scripts of such steps."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from native_audio import ENDED, FIRST, LOST, OPENED, UNCLAIMED, NativeAudio
from reference_audio import ROWS, ReferenceAudio, midi_at

from attacca.bridge.client_config import At
from attacca.bridge.client_network import Due
from attacca.bridge.host_transport import HostConfig, HostTransport, Loop, Meter, Play, Seek, Stop, Tempo
from attacca.bridge.protocol import ENGINE_TAKES_FROM
from attacca.bridge.ring import Samples

RING_S = 2.0
KEYS = (12, 24, 35, 36, 48, 60)  # either side of the default zone's upper end
CHANNEL_OF = {pitch: (0, 0, 1, 2, 0, 1)[index] for index, pitch in enumerate(KEYS)}
COMPARED = (
    "position", "lookahead_samples", "underrun_callbacks", "underrun_samples", "repeat_samples", "planned_samples",
    "fade_samples", "launches", "joins", "dropped_messages", "take", "take_start", "sounding", "late_samples",
    "stale_samples", "early_samples", "missing_samples", "wait_timeouts",
)  # fmt: skip


ACTIONS = (
        Play(), Stop(), Seek(ppq=Fraction(3)), Seek(ppq=Fraction(801, 100)), Tempo(bpm=Fraction("97")),
        Tempo(bpm=Fraction("999.5")), Tempo(bpm=Fraction("123.45")), Meter(num=7, den=8), Meter(num=3, den=4),
        Loop(start_ppq=Fraction(0), end_ppq=Fraction(8)), Loop(start_ppq=Fraction(1), end_ppq=Fraction(7, 2)),
        Loop(start_ppq=None, end_ppq=None),
)  # fmt: skip
TURNED = ("mode", "quantum", "late", "mix", "gain", "trigger", "trigger", "solo", "midi_channel", "trigger_high",
          "trigger_low", "trigger_note", "velocity_to", "release_quantized", "bars", "seed", "drums",
          "temperature", "variation")  # fmt: skip


class Twins:
    """The reference and the native audio half, driven alike; every step compares all that comes out."""

    def __init__(self, native: NativeAudio, *, rate: int, channels: int, bpm: str, meter: tuple[int, int]) -> None:
        self.native, self.rate, self.channels = native, rate, channels
        self.reference = ReferenceAudio(rate=rate, channels=channels, ring_s=RING_S)
        config = HostConfig(sample_rate=rate, block_samples=1, bpm=Fraction(bpm), meter=meter)
        self.host = HostTransport(config)
        self.offline = False
        self.position = 0
        self.dues: list[Due] = []
        self.heard = 0.0  # of takes, to know that a script was about something
        self.timeouts = 0
        self._midi: list[tuple[int, bytes]] = []
        self._notes: list[tuple[int, dict[str, int]]] = []
        self._noise = np.random.default_rng(rate + channels)

    def noise(self, count: int) -> Samples:
        return self._noise.uniform(-1.0, 1.0, (count, self.channels)).astype(np.float32)

    # --- steps ---------------------------------------------------------------------------------------------------
    def host_does(self, action: Any) -> None:
        self.host.act(action)

    def glide(self, share: float, every: int, blocks: int) -> None:
        """A tempo that moves by this share of itself before each of so many blocks."""
        for _ in range(blocks):
            bpm = min(max(float(self.host.bpm) * (1.0 + share), 20.0), 1000.0)
            self.host.act(Tempo(bpm=Fraction(round(1000 * bpm), 1000)))
            self.block(every)

    def parameter(self, name: str, fraction: float) -> None:
        row = ROWS[name]
        value = row.minimum + fraction * (row.maximum - row.minimum)
        self.native.set(name, value)
        self.reference.set(name, value)

    def restore(self, name: str, fraction: float) -> None:
        row = ROWS[name]
        value = row.minimum + fraction * (row.maximum - row.minimum)
        self.native.restore(name, value)
        self.reference.restore(name, value)

    def bypass(self, on: bool) -> None:
        self.native.bypass(on)
        self.reference.bypassed = on

    def go_offline(self, on: bool) -> None:
        self.offline = on

    def settle(self) -> None:
        number = self.reference._asked
        self.native.call("settled", number)
        self.reference.network.settled = number

    def midi(self, offset: int, data: bytes) -> None:
        """In the next block, or at its end if that is shorter."""
        self._midi.append((offset, data))

    def session(self, is_open: bool) -> None:
        self._notes.append((OPENED if is_open else LOST, {}))

    def end(self, epochs_back: int, takes_back: int, ahead: int) -> None:
        """News of a take's end: this one's, an old one's, of this epoch or the last."""
        take = max(self.reference.takes._takes - takes_back, 1)
        self._notes.append((ENDED, self._at(epochs_back, take, ahead)))

    def engine_take(self, epochs_back: int, number: int, ahead: int) -> None:
        self._notes.append((UNCLAIMED, self._at(epochs_back, ENGINE_TAKES_FROM + number, ahead)))

    def _at(self, epochs_back: int, take: int, ahead: int) -> dict[str, int]:
        epoch = max(self.reference.takes.epoch - epochs_back, 0)
        return {"epoch": epoch, "take": take, "position": max(self.position + ahead, 0)}

    def chunk(self, due_back: int, ahead: int, count: int, committed: bool) -> None:
        """Of one of the last generations, anywhere around the play head."""
        if not self.dues:
            return
        generation = self.dues[-1 - min(due_back, len(self.dues) - 1)].generation
        position, samples = max(self.position + ahead, 0), self.noise(count)
        kept = self.reference.ring.write(position, samples, committed=committed, generation=generation)
        assert self.native.write(position, samples, committed=committed, generation=generation) == kept
        if committed and (self.reference.network.first_committed or (0, 0))[0] != generation:
            self._notes.append((FIRST, {"generation": generation, "position": position}))

    def on_launch(self, offset: int, count: int) -> None:
        """The engine begins the take about where it is to enter."""
        record = self.reference.takes.current
        if record is not None and record.launch is not None:
            self.chunk(0, record.launch.position + offset - self.position, count, True)

    def block(self, count: int) -> None:
        self._tell()
        host = self.host.block(non_realtime=self.offline)
        audio = self.noise(count)
        midi = sorted(((min(at, count), data) for at, data in self._midi), key=lambda event: event[0])
        self._midi = []
        events = [At(offset=at, event=midi_at(data)) for at, data in midi]
        expected = self.reference.process(self.position, host, events, audio)
        found = self.native.process(host, midi, audio, in_place=count % 2 == 1)
        self.position += count
        self.host.advance(count)
        self._same(expected, found)

    def feed(self, whole_s: float, hole: bool) -> None:
        """An engine that keeps up: committed audio of the newest generation from the play head on."""
        samples = int(whole_s * self.rate)
        self.chunk(0, 0, samples, not hole)
        if hole:
            self.chunk(0, samples // 2, samples, True)

    def _tell(self) -> None:
        """In the order in which the client takes news in: sessions, then what the engine began, then ends."""
        order = (OPENED, LOST, FIRST, UNCLAIMED, ENDED)
        for kind, fields in sorted(self._notes, key=lambda note: order.index(note[0]) if note[0] > LOST else 0):
            self.native.note(kind, **fields)
            self.reference.note(kind, **fields)
        self._notes = []

    def _same(self, expected: Samples, found: Samples) -> None:
        sent = self.reference.sent()
        assert self.native.sent() == sent
        self.dues += [record.message for record in sent if isinstance(record.message, Due)]
        assert found.tobytes() == expected.tobytes()
        self.heard += float(np.abs(self.reference.wet).sum())
        meters = self.native.meters
        assert {name: meters[name] for name in COMPARED} == self._reference_meters()

    def _reference_meters(self) -> dict[str, int]:
        playback, ring, takes = self.reference.playback, self.reference.ring, self.reference.takes
        take = takes.current
        start = -1
        if take is not None:
            start = take.launch.position if take.launch else take.trigger.position if take.foreign else -1
        counters = vars(playback.counters)
        own = {
            "position": self.position,
            "lookahead_samples": ring.lookahead_samples(),
            "dropped_messages": self.reference.network.outbox.dropped.total(),
            "wait_timeouts": self.reference.wait_timeouts,
            "take": 0 if take is None else take.take,
            "take_start": start,
            "sounding": int(playback.sounding),
        }
        return {
            name: own[name] if name in own else counters.get(name, getattr(ring, name, None)) for name in COMPARED
        }


def drawn(chance: np.random.Generator, count: int) -> list[tuple[Any, ...]]:
    """A long script in which takes do sound: played and fed more often than disturbed."""

    def pick(*choices: Any) -> Any:
        return choices[int(chance.integers(len(choices)))]

    script: list[tuple[Any, ...]] = []
    for _ in range(count):
        ahead = int(chance.integers(-2000, 5000))
        pitch = pick(*KEYS)
        note = bytes((pick(0x90, 0x90, 0x80) | CHANNEL_OF[pitch], pitch, pick(0, 1, 90, 127)))
        control = bytes((0xB0 | pick(0, 1), pick(64, 64, 1, 121, 123, 120), pick(0, 64, 127)))
        disturbance = pick(
            ("host_does", pick(*ACTIONS)),
            ("host_does", Play()),
            ("host_does", Play()),
            ("session", bool(chance.random() < 0.8)),
            pick(("end", pick(0, 1), pick(0, 1), ahead), ("engine_take", pick(0, 1), pick(0, 1), ahead)),
            ("end", 1, 0, abs(ahead)),
            ("bypass", pick(True, False)),
            ("go_offline", pick(True, False)),
            ("settle",),
            ("parameter", pick(*TURNED), pick(0.0, 0.3, 0.5, 0.62, 1.0)),
            ("parameter", pick(*TURNED), float(chance.random())),
            ("restore", pick("trigger", "quantum"), pick(0.0, 0.125, 1.0)),
            ("chunk", pick(0, 1, 2), ahead, int(chance.integers(1, 4000)), pick(True, False)),
        )
        glide = ("glide", pick(-0.004, 0.003, 0.006), pick(64, 64, 300, 512), int(chance.integers(1, 30)))
        begun = ("on_launch", int(chance.integers(-60, 60)), 3000)
        music = pick(("midi", int(chance.integers(0, 2048)), pick(note, note, note, control)), ("feed", 0.2, False))
        script += [("block", pick(int(chance.integers(0, 2049)), 64, 441, 512, 1))]
        script += [("feed", float(chance.random() / 5), bool(chance.random() < 0.3))] * (chance.random() < 0.7)
        script += [music] * (chance.random() < 0.3) + [disturbance] * (chance.random() < 0.2)
        script += [begun] * (chance.random() < 0.1) + [glide] * (chance.random() < 0.05)
    return script
