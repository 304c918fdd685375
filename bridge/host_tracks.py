"""Tracks of the virtual host: a WAV and a MIDI clip at the song's start, read by musical time.

The audio clip is not stretched: it plays on through a tempo change, as an unwarped clip in a DAW does, and jumps
with the play head. Loop lengths are rational, so a loop of whole bars never drifts against the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from attacca.bridge.client_config import At
from attacca.bridge.midi import read_file
from attacca.bridge.protocol import Midi
from attacca.bridge.ring import Samples


class AudioTrack:
    """Samples [n, channels] at the host's rate, from ppq 0 on. Audio thread only."""

    def __init__(
        self,
        samples: Samples,
        *,
        loop_samples: Fraction | None = None,
        mute_from_ppq: Fraction | None = None,
    ) -> None:
        """`loop_samples`: length after which it begins again (None: silence after its end)."""
        if samples.ndim != 2 or samples.shape[1] not in (1, 2):
            raise ValueError(f"samples of shape {samples.shape}, expected [n, 1 or 2]")
        if loop_samples is not None and loop_samples < 1:
            raise ValueError(f"loop_samples {float(loop_samples):g} is less than 1")
        self._samples, self._loop, self._mute_from_ppq = samples, loop_samples, mute_from_ppq
        self._expected_ppq: Fraction | None = None
        self._index = 0

    def render(self, start_ppq: Fraction, ppq_per_sample: Fraction, count: int, channels: int) -> Samples:
        """The block [count, channels] whose first sample lies at `start_ppq`; mono goes to both channels."""
        if start_ppq != self._expected_ppq:
            self._index = round(start_ppq / ppq_per_sample)
        self._expected_ppq = start_ppq + count * ppq_per_sample
        block = np.zeros((count, self._samples.shape[1]), dtype=np.float32)
        done = 0
        while done < count:
            index, length = self._piece(self._index + done, count - done)
            low, high = max(index, 0), min(index + length, len(self._samples))
            if low < high:
                block[done + low - index : done + high - index] = self._samples[low:high]
            done += length
        self._index += count
        if self._mute_from_ppq is not None:
            block[max(0, math.ceil((self._mute_from_ppq - start_ppq) / ppq_per_sample)) :] = 0.0
        if channels == block.shape[1]:
            return block
        return np.repeat(block, 2, axis=1) if channels == 2 else block.mean(axis=1, keepdims=True, dtype=np.float32)

    def _piece(self, index: int, count: int) -> tuple[int, int]:
        """(index within the clip, samples until the loop's end) for a running index."""
        if self._loop is None or index < 0:
            return index, count
        passes = index // self._loop
        return index - math.ceil(passes * self._loop), min(count, math.ceil((passes + 1) * self._loop) - index)


class MidiTrack:
    """MIDI messages at musical positions, read once as the play head passes them. Audio thread only."""

    def __init__(self, events: Sequence[tuple[Fraction, bytes]]) -> None:
        self._events = sorted(events, key=lambda event: event[0])

    @classmethod
    def note(
        cls, pitch: int, on_ppq: Fraction, off_ppq: Fraction | None, *, channel: int = 0, velocity: int = 100
    ) -> MidiTrack:
        """One note; `off_ppq` None holds it for ever."""
        if not (0 <= pitch <= 127 and 0 <= channel <= 15 and 1 <= velocity <= 127):
            raise ValueError(f"note {pitch} on channel {channel} at velocity {velocity}: not a MIDI note")
        events = [(on_ppq, bytes([0x90 | channel, pitch, velocity]))]
        if off_ppq is not None:
            events.append((off_ppq, bytes([0x80 | channel, pitch, 0])))
        return cls(events)

    @classmethod
    def from_file(cls, path: Path) -> MidiTrack:
        """Channel messages of all tracks of a .mid, by musical position. MidiError if it cannot be read."""
        return cls([(ppq, data) for ppq, data in read_file(path) if len(data) <= 3])

    def events(self, start_ppq: Fraction, ppq_per_sample: Fraction, count: int) -> list[At]:
        """What sounds in a block: each message at the first sample at or after its position."""
        found = []
        for ppq, data in self._events:
            offset = math.ceil((ppq - start_ppq) / ppq_per_sample)
            if 0 <= offset < count:
                found.append(At(offset=offset, event=Midi(position=0, data=data)))
        return found
