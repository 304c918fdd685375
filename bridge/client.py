"""The reference client: what the native plugin will do, in Python.

Between a host's callbacks and an engine's sockets. The audio half (`process`, never blocks in real time) keeps the
stream position, turns host transport into epochs, sends audio and events, and plays the ring; the network half
(bridge/client_network.py) runs on a thread of its own, or inline where a run must not depend on time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from attacca.bridge.client_config import At, ClientConfig, Event, HostBlock, Mix
from attacca.bridge.client_network import EngineError, NetworkHalf
from attacca.bridge.client_takes import TakeBook
from attacca.bridge.epochs import EpochTracker
from attacca.bridge.link import Link, ZmqLink
from attacca.bridge.playback import Playback
from attacca.bridge.protocol import Audio, Hello, Midi, Release, Trigger, Want, Welcome
from attacca.bridge.ring import PositionRing, Samples
from attacca.bridge.text_rules import check_text
from attacca.bridge.transport import Change

_AUDIO_BATCH_S: Final = 0.010  # audio goes out in pieces of at least this length
_SNAPSHOT_S: Final = 0.1
_PLAIN_PPQ: Final = 1e-6  # far below what ends an epoch
_PUMP_S: Final = 0.002
_WAIT_AFTER_TIMEOUT_S: Final = 0.01
_MIX_RAMP_S: Final = 0.005
_SUSTAIN: Final = 64
_RESET: Final = 121
_ALL_SOUND_OFF: Final = 120
_ALL_NOTES_OFF: Final = 123


class Client:
    """One plugin instance. Main thread: constructor, connect, close. Audio thread: process, wait_for."""

    def __init__(
        self, link: Link | str, config: ClientConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Main thread. `link`: an address, or a Link of one's own."""
        rate = config.sample_rate
        self.config = config
        self.mix = Mix()  # replace it whole, from any thread
        self.ring = PositionRing(capacity_samples=round(config.ring_s * rate), channels=config.channels)
        self.playback = Playback(self.ring, sample_rate=rate, history_s=config.history_s)
        hello = Hello(
            client=config.name, sample_rate=rate, channels=config.channels, want=Want.PCM, model=config.model
        )
        self.network = NetworkHalf(ZmqLink(link) if isinstance(link, str) else link, hello, self.ring, clock)
        self._tracker = EpochTracker(rate)
        self.takes = TakeBook(self.ring, self.network, self._tracker.timeline, clock)
        self.wait_timeouts = 0
        self.wet: Samples = np.zeros((0, config.channels), dtype=np.float32)
        self._clock = clock
        self._position = 0
        self._batch: list[Samples] = []
        self._batch_from = 0
        self._dry_gain = self._wet_gain = 1.0
        self._openings = 0  # as last seen
        self._chord: dict[tuple[int, int], Midi] = {}  # note-ons of (channel, pitch) that are held now
        self._pedals: dict[int, Midi] = {}  # by channel, those that are down
        self._held: int | None = None  # the note that owns the take
        self._known: tuple[int, HostBlock] | None = None  # the last block judged exactly
        self._sent_position = 0
        self._starved = False
        self._seen_arrivals = 0
        self._asked = 0  # whether all is settled, so many times
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._arrived = threading.Event()

    def connect(self, timeout_s: float = 5.0) -> Welcome:
        """Main thread. Open the session, then start the network thread. EngineError says why it could not."""
        try:
            welcome = self.network.connect(timeout_s)
        except EngineError:
            self.network.close()
            raise
        if not self.config.inline:
            self._thread = threading.Thread(target=self._pump_on, name="attacca-client", daemon=True)
            self._thread.start()
        return welcome

    def tell(self, text: str) -> None:
        """Main thread. What to play, in words; said again whenever a session opens, if the model takes text
        (`network.welcome.takes_text`). An empty one is the engine's own. ValueError if it cannot be read.
        """
        check_text(text)
        self.network.text = text

    def close(self) -> None:
        """Main thread. Say goodbye; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.network.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pump_on(self) -> None:
        while not self._closing.is_set():
            if self.network.pump(_PUMP_S):
                self._arrived.set()

    def process(self, position: int, host: HostBlock, events: Sequence[At], audio: Samples) -> Samples:
        """Audio thread. One callback: float32 [n, channels] in, [n, channels] out; `wet` holds the take alone.

        `position` must follow the last block's end (ValueError). Blocks only if the host says it is not in real
        time, and then at most `wait_s`. `events` ascend by offset.
        """
        if position != self._position:
            raise ValueError(f"block at {position}, expected {self._position}: the stream position never jumps")
        if audio.ndim != 2 or audio.shape[1] != self.config.channels:
            raise ValueError(f"audio of shape {audio.shape}, the client has {self.config.channels} channels")
        count = len(audio)
        self._position = position + count
        self._hear_host(position, host)
        self.takes.follow(sounding=self.playback.sounding)
        self._follow_session(position)
        done = 0
        for at in events:
            offset = min(max(at.offset, 0), count)
            self._queue_audio(position + done, audio[done:offset])
            done = offset
            self._handle(position + offset, at.event)
        if host.non_realtime:
            # First the wait, then the block's audio: an engine that has heard it takes it for played.
            self._flush_audio(force=True)
            if not self.config.inline:  # there every exchange settles all
                self._asked += 1
                self.network.ask_settled(self._asked)
            self.wait_for(self._position, self.config.wait_s)
        self._queue_audio(position + done, audio[done:])
        self._flush_audio(force=host.non_realtime)
        if self.config.inline:
            self.network.pump(0.0)
        self.wet = self.playback.render(position, count, self.takes)
        return self._mixed(audio)

    def wait_for(self, position: int, timeout_s: float) -> bool:
        """Audio thread, only where the host is not in real time: until the engine has done all it was asked for and
        audio covers what is due before `position`.

        False if that took longer than `timeout_s`: then the fallbacks play, and until a chunk comes the next waits
        are short.
        """
        if self.config.inline:
            self.network.pump(0.0)
        deadline = self._clock() + (min(timeout_s, _WAIT_AFTER_TIMEOUT_S) if self._starved else timeout_s)
        while not self._ready(position):
            left_s = deadline - self._clock()
            if left_s <= 0:
                self.wait_timeouts += 1
                self._starved, self._seen_arrivals = True, self.network.arrived
                return False
            if self.config.inline:
                if not self.network.pump(left_s):  # the engine has had its turn and had nothing to say
                    self.wait_timeouts += 1
                    return False
            else:
                self._arrived.clear()
                self._arrived.wait(min(left_s, 0.05))
            self.takes.follow(sounding=self.playback.sounding)
            if self._starved and self.network.arrived != self._seen_arrivals:
                self._starved, deadline = False, self._clock() + timeout_s
        self._starved = False
        return True

    def _ready(self, position: int) -> bool:
        """Without a session there is nothing to wait for but what is due: the fallbacks have it."""
        settled = self.network.settled >= self._asked or not self.network.connected
        return settled and self.takes.covered(position)

    def _hear_host(self, position: int, host: HostBlock) -> None:
        if self._as_predicted(position, host):
            return
        snapshot = self._tracker.block(position=position, **vars(host))
        self._known = (position, host)
        if snapshot is None:
            return
        self._sent_position = position
        if snapshot.epoch != self.takes.epoch:
            self._flush_audio(force=True)
            self.takes.enter_epoch(position, snapshot.epoch)
        elif self._tracker.change is Change.BEND:
            self._flush_audio(force=True)
            self.takes.bend(position)
        self.network.outbox.put(snapshot)

    def _as_predicted(self, position: int, host: HostBlock) -> bool:
        """Whether a block plainly follows from the last one judged, so that exact arithmetic would say no more."""
        if self._known is None or position - self._sent_position >= _SNAPSHOT_S * self.config.sample_rate:
            return False
        before, last = self._known
        same = (
            host.loop is None
            and host.playing == last.playing
            and host.bpm == last.bpm
            and (host.meter_num, host.meter_den) == (last.meter_num, last.meter_den)
            and (host.bar_start_ppq, host.loop, host.non_realtime)
            == (last.bar_start_ppq, last.loop, last.non_realtime)
        )
        quarters = (position - before) / self.config.sample_rate * host.bpm / 60.0 if host.playing else 0.0
        return same and abs(host.ppq - last.ppq - quarters) < _PLAIN_PPQ

    def _follow_session(self, position: int) -> None:
        """An engine that was away knows nothing of what is still held: pedals, chords, the take."""
        if self._openings == self.network.openings:
            return
        self._openings = self.network.openings
        if not self.network.connected:
            return
        self._flush_audio(force=True)
        for channel in sorted(self._pedals):
            self.network.outbox.put(msgspec.structs.replace(self._pedals[channel], position=position))
        for key in sorted(self._chord):
            self.network.outbox.put(msgspec.structs.replace(self._chord[key], position=position))
        self.playback.go_on_into(self.takes.resume(position, sounding=self.playback.sounding))

    def _handle(self, position: int, event: Event) -> None:
        if isinstance(event, Midi) and self.config.note_triggers is not None:
            pressed = self.config.note_triggers.pressed(event.data)
            if pressed is not None:
                played = self._from_note(event.data[1], pressed=pressed)
                if played is None:
                    return
                event = played
        if isinstance(event, Midi):
            self._all_off(position, event.data)
            self._remember(event)
        self._flush_audio(force=True)
        if isinstance(event, Trigger):
            self.takes.trigger(event, position)
        elif isinstance(event, Release):
            self.takes.release(position, quantized=event.quantized)
        else:
            self.network.outbox.put(msgspec.structs.replace(event, position=position))

    def _from_note(self, pitch: int, *, pressed: bool) -> Trigger | Release | None:
        """The newest held note owns the take: only its own note-off ends it. Others end by themselves."""
        if pressed:
            self._held = pitch
            return self.config.trigger
        if pitch != self._held:
            return None
        self._held = None
        if not self.takes.held:
            return None
        return Release(take=0, position=0, quantized=self.config.release_quantized)

    def _all_off(self, position: int, data: bytes) -> None:
        """All Sound Off ends the take here, too, at once; All Notes Off lets the note that holds it go."""
        triggers = self.config.note_triggers
        ours = triggers is None or triggers.channel in (None, data[0] & 0x0F)
        if data[0] & 0xF0 != 0xB0 or len(data) != 3 or not ours:
            return
        if data[1] == _ALL_SOUND_OFF:
            self._held = None
            self.takes.silence(position)
        elif data[1] == _ALL_NOTES_OFF and self._held is not None:
            self._held = None
            if self.takes.held:
                self.takes.release(position, quantized=self.config.release_quantized)

    def _remember(self, event: Midi) -> None:
        """Which chord notes and pedals are down, as the engine has been told."""
        data = event.data
        if len(data) != 3:
            return
        kind, key = data[0] & 0xF0, (data[0] & 0x0F, data[1])
        if kind == 0x90 and data[2] > 0:
            self._chord[key] = event
        elif kind in (0x80, 0x90):
            self._chord.pop(key, None)
        elif kind == 0xB0 and data[1] in (_ALL_SOUND_OFF, _ALL_NOTES_OFF):
            self._chord = {held: note for held, note in self._chord.items() if held[0] != key[0]}
            self._pedals.pop(key[0], None)
        elif kind == 0xB0 and data[1] == _SUSTAIN and data[2] >= 64:
            self._pedals[key[0]] = event
        elif kind == 0xB0 and data[1] in (_SUSTAIN, _RESET):
            self._pedals.pop(key[0], None)

    def _queue_audio(self, position: int, audio: Samples) -> None:
        if not self._batch:
            self._batch_from = position
        if len(audio):
            self._batch.append(audio)

    def _flush_audio(self, *, force: bool) -> None:
        samples = sum(len(piece) for piece in self._batch)
        if samples == 0 or (not force and samples < _AUDIO_BATCH_S * self.config.sample_rate):
            return
        audio: Any = np.concatenate(self._batch)
        self._batch = []
        message = Audio(position=self._batch_from, samples=samples, channels=self.config.channels)
        self.network.outbox.put(message, np.ascontiguousarray(audio, dtype="<f4").tobytes())

    def _mixed(self, audio: Samples) -> Samples:
        """Dry and wet as heard. The dry signal passes bit-exactly at gain 1; gains move in ramps from the first
        block on."""
        mix = self.mix
        dry = 0.0 if mix.solo and self.playback.sounding else mix.dry
        if self._position == len(audio):
            self._dry_gain, self._wet_gain = dry, mix.wet
        output, self._dry_gain = self._ramped(audio, self._dry_gain, dry)
        wet, self._wet_gain = self._ramped(self.wet, self._wet_gain, mix.wet)
        return np.where(wet == 0.0, output, output + wet)

    def _ramped(self, audio: Samples, gain: float, target: float) -> tuple[Samples, float]:
        """`audio` with a gain on its way to `target`, and the gain of its last sample."""
        if gain == target:
            return (audio.copy() if gain == 1.0 else audio * np.float32(gain)), gain
        step = max(abs(gain - target), 1.0) / (_MIX_RAMP_S * self.config.sample_rate)
        moved = gain + np.sign(target - gain) * step * np.arange(1, len(audio) + 1)
        gains = np.minimum(moved, target) if target > gain else np.maximum(moved, target)
        return audio * gains.astype(np.float32)[:, None], float(gains[-1]) if len(gains) else gain
