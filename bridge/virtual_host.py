"""The virtual host: what a DAW has, in a few exact lines, to drive a plugin or the reference client.

Transport (tempo, meter, play, stop, seek, loop), an audio track and a MIDI track, rendered block by block against
an injected clock: paced to real time with absolute deadlines, or flat out. Musical time is rational throughout, so
a script of actions at sample positions gives the same callbacks every time; what was heard is recorded exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np

from attacca.bridge.client_config import At, HostBlock
from attacca.bridge.host_tracks import AudioTrack, MidiTrack
from attacca.bridge.host_transport import Action, HostConfig, HostTransport
from attacca.bridge.protocol import Midi
from attacca.bridge.ring import Samples


class Clock(Protocol):
    """Real time, or a stand-in for it."""

    def now_s(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def sleep_until(self, at_s: float) -> None:
        """Return at `at_s`, or at once if that has passed."""
        ...


class RealTime:
    """The machine's monotonic clock: the host is paced."""

    def now_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep_until(self, at_s: float) -> None:
        """See Clock."""
        if (left_s := at_s - time.monotonic()) > 0:
            time.sleep(left_s)


class FlatOut(RealTime):
    """Never sleeps: the host renders as fast as the plugin lets it, and says so (non-realtime)."""

    def sleep_until(self, at_s: float) -> None:
        """See Clock."""


class Plugin(Protocol):
    """What the host calls. `wet` is the last block's generated signal alone, as it was mixed."""

    @property
    def wet(self) -> Samples: ...

    def process(self, position: int, host: HostBlock, events: Sequence[At], audio: Samples) -> Samples: ...


@dataclass(frozen=True, kw_only=True)
class BlockRecord:
    """One callback."""

    position: int
    samples: int
    ppq: Fraction
    playing: bool
    host: HostBlock
    seconds: float  # spent in the plugin
    late_s: float  # how long after its deadline the callback ended; 0 where in time


@dataclass(kw_only=True)
class Recording:
    """All that was played: each array is [samples, channels]."""

    sample_rate: int
    blocks: list[BlockRecord] = field(default_factory=list)
    events: list[tuple[int, bytes]] = field(default_factory=list)  # (stream position, MIDI message)
    _parts: list[tuple[Samples, Samples, Samples]] = field(default_factory=list)

    def add(self, dry: Samples, wet: Samples, output: Samples) -> None:
        """Append one block."""
        self._parts.append((dry.copy(), wet.copy(), output.copy()))

    def _joined(self, index: int) -> Samples:
        return np.concatenate([part[index] for part in self._parts])

    @property
    def dry(self) -> Samples:
        """What the host fed in."""
        return self._joined(0)

    @property
    def wet(self) -> Samples:
        """The generated signal alone."""
        return self._joined(1)

    @property
    def output(self) -> Samples:
        """As heard."""
        return self._joined(2)

    @property
    def late_callbacks(self) -> int:
        """Callbacks that ended after their deadline."""
        return sum(block.late_s > 0 for block in self.blocks)


class VirtualHost:
    """Renders a project through a plugin. One thread: the audio thread."""

    def __init__(
        self,
        config: HostConfig,
        *,
        audio: AudioTrack | None = None,
        midi: MidiTrack | None = None,
        clock: Clock | None = None,
        non_realtime: bool | None = None,
    ) -> None:
        """`non_realtime`: what the host says of itself; by default whether its clock is FlatOut."""
        self.config = config
        self.transport = HostTransport(config)
        self.position = 0
        self.recording = Recording(sample_rate=config.sample_rate)
        self._audio, self._midi = audio, midi
        self._clock = clock or RealTime()
        self._flat_out = isinstance(self._clock, FlatOut)
        self._non_realtime = self._flat_out if non_realtime is None else non_realtime
        self._started_s: float | None = None

    def run(
        self,
        plugin: Plugin,
        until: int,
        *,
        script: Sequence[tuple[int, Action | At]] = (),
        on_block: Callable[[BlockRecord], None] | None = None,
    ) -> Recording:
        """Render up to stream position `until`; more calls go on from there.

        `script`: actions of the host, or events for the plugin (their own offset is ignored), at stream positions.
        A block ends early where an action is due or the loop wraps, as in hosts that keep their automation exact.
        """
        actions = [(at, action) for at, action in script if not isinstance(action, At)]
        events = [(at, event) for at, event in script if isinstance(event, At)]
        actions.sort(key=lambda entry: entry[0])
        while self.position < until:
            while actions and actions[0][0] <= self.position:
                self.transport.act(actions.pop(0)[1])
            count = min(self.config.block_samples, until - self.position)
            if actions:
                count = min(count, actions[0][0] - self.position)
            if (wrap := self.transport.samples_to_loop_end()) is not None:
                count = min(count, wrap)
            here = range(self.position, self.position + count)
            extra = [At(offset=at - self.position, event=event.event) for at, event in events if at in here]
            record = self._render(plugin, count, extra)
            if on_block is not None:
                on_block(record)
        return self.recording

    def _render(self, plugin: Plugin, count: int, extra: list[At]) -> BlockRecord:
        transport, position = self.transport, self.position
        start = transport.ppq
        dry = np.zeros((count, self.config.channels), dtype=np.float32)
        events = list(extra)
        if transport.playing and self._audio is not None:
            dry += self._audio.render(start, transport.ppq_per_sample, count, self.config.channels)
        if transport.playing and self._midi is not None:
            notes = self._midi.events(start, transport.ppq_per_sample, count)
            events += notes
            played = [(position + note.offset, note.event) for note in notes]
            self.recording.events += [(at, event.data) for at, event in played if isinstance(event, Midi)]
        events.sort(key=lambda event: event.offset)
        host = transport.block(non_realtime=self._non_realtime)
        due_s = self._deadline(position)
        self._clock.sleep_until(due_s)
        began_s = self._clock.now_s()
        output = plugin.process(position, host, events, dry)
        ended_s = self._clock.now_s()
        self.recording.add(dry, plugin.wet, output)
        late_s = 0.0 if self._flat_out else max(0.0, ended_s - due_s - count / self.config.sample_rate)
        record = BlockRecord(
            position=position,
            samples=count,
            ppq=start,
            playing=transport.playing,
            host=host,
            seconds=ended_s - began_s,
            late_s=late_s,
        )
        self.recording.blocks.append(record)
        self.position += count
        transport.advance(count)
        return record

    def _deadline(self, position: int) -> float:
        """When the block at `position` is due, on the clock: absolute, so that nothing drifts."""
        if self._started_s is None:
            self._started_s = self._clock.now_s() - position / self.config.sample_rate
        return self._started_s + position / self.config.sample_rate
