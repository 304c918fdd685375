"""Micro time-stretch: moves audio in time by repeating or dropping whole periods, and leaves the rest untouched.

Stands after the codec's decoder where a model that knows no tempo is held to the host's grid. Within +-2 % a beat
needs a few milliseconds now and then, so nothing is resynthesised: between splices every sample is copied, a splice
is one short crossfade to the lag at which the waveform matches itself best (WSOLA, Verhelst & Roelands 1993, used
only where needed), and none is made on an attack. Every output sample therefore has one known input sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

_ONE = 1 << 32  # a ratio of 1: positions are counted in 2**-32 samples, so that no sum depends on its order
_KEPT_SPLICES = 256
_STEPS = ((0.92, 1.0), (0.6, 1.4), (-1.0, 1.8))  # how alike, from how many times the threshold on
_ATTACK = 6.0  # power of 2 ms against the 8 ms before: more is an attack


@dataclass(frozen=True, kw_only=True)
class StretchConfig:
    """Lengths in ms. A splice is sought once the sound is `threshold_ms` away from where it should be."""

    limit: float = 0.02
    threshold_ms: float = 4.0
    fade_ms: float = 10.0
    shortest_ms: float = 2.5
    overshoot_ms: float = 5.0
    apart_ms: float = 30.0

    def __post_init__(self) -> None:
        if not 0.0 < self.limit <= 0.1:
            raise ValueError(f"limit is {self.limit}: give more than 0, at most 0.1")
        if not 1.0 <= self.threshold_ms <= 20.0:
            raise ValueError(f"threshold_ms is {self.threshold_ms}: give 1 to 20")
        if not 2.0 <= self.fade_ms <= 50.0:
            raise ValueError(f"fade_ms is {self.fade_ms}: give 2 to 50")
        if not 1.0 <= self.shortest_ms <= self.threshold_ms:
            raise ValueError(f"shortest_ms is {self.shortest_ms}: give 1 to threshold_ms, {self.threshold_ms}")
        if self.overshoot_ms < 0.0 or self.apart_ms < 0.0:
            raise ValueError("overshoot_ms and apart_ms: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class Splice:
    """From output sample `output` + half a fade on, output sample n is input sample n + `offset`."""

    output: int
    offset: int
    likeness: float  # correlation of what was faded into what


class MicroStretch:
    """Stream of [n, channels] float32 in, stretched out; any chunking gives the same samples. Decode thread.

    Output sample n is input sample n + `offset`; it is given as soon as it is known: at once while nothing is to be
    corrected, at most `delay_samples` of input later else. At a ratio of 1 from the start the output is the input.
    """

    def __init__(self, rate: int, channels: int, config: StretchConfig | None = None) -> None:
        if rate < 4000 or channels < 1:
            raise ValueError(f"rate {rate} Hz, {channels} channels: give at least 4000 Hz and one channel")
        self.rate, self.channels, self.config = rate, channels, config or StretchConfig()
        ms = rate / 1000.0
        self._block = max(1, round(5.0 * ms))
        self._unit = max(1, round(2.0 * ms))  # of power, to see attacks
        self._fade = round(self.config.fade_ms * ms)
        self._threshold = self.config.threshold_ms * ms
        self._shortest = round(self.config.shortest_ms * ms)
        self._overshoot = self.config.overshoot_ms * ms
        # The farthest a lag can reach: drift goes on while splices wait for a place without an attack.
        self._longest = round(4.0 * self._threshold + self._overshoot)
        self._apart = round(self.config.apart_ms * ms)
        self._past = self._longest + 6 * self._unit
        self._ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(self._fade) + 0.5) / self._fade))[:, None]
        self.reset()

    @property
    def delay_samples(self) -> int:
        """Input that may be held back while a splice is sought."""
        return self._longest + self._fade + self._unit + self._block

    def reset(self) -> None:
        self._buffer: Samples = np.zeros((self._past, self.channels), np.float32)
        self._base = -self._past  # input position of the buffer's first sample
        self._input = 0
        self._read = 0  # next input sample to be copied
        self._wanted = 0  # output position wanted for input position `_decided`, in 2**-32 samples
        self._decided = 0  # input up to here is copied or decided on
        self._ratios: tuple[tuple[int, int], ...] = ()  # (input end, ratio) of what is not decided on
        self._free = 0  # no splice before this input position
        self.offset = self._oldest_offset = 0  # the latter: before the first splice remembered
        self.splices: tuple[Splice, ...] = ()
        self.splice_count = 0

    def snapshot(self) -> tuple[object, ...]:
        """Everything that decides the samples to come."""
        return (
            self._buffer.copy(), self._base, self._input, self._read, self._wanted, self._decided, self._ratios,
            self._free, self.offset, self._oldest_offset, self.splices, self.splice_count,
        )  # fmt: skip

    def restore(self, snap: tuple[object, ...]) -> None:
        """Go on from a snapshot bit-exactly."""
        buffer, *rest = snap
        self._buffer = np.array(buffer, np.float32)
        self._base, self._input, self._read, self._wanted, self._decided = cast("list[int]", rest[:5])
        self._ratios, self._free, self.offset, self._oldest_offset = cast("list[Any]", rest[5:9])
        self.splices, self.splice_count = cast("list[Any]", rest[9:])

    # --- positions ----------------------------------------------------------------------------------------------

    @property
    def input_position(self) -> int:
        """Samples taken in."""
        return self._input

    @property
    def output_position(self) -> int:
        """Samples given out."""
        return self._read - self.offset

    @property
    def wanted_position(self) -> float:
        """Where in the output the next input sample should come, by the ratios so far."""
        wanted, at = self._wanted, self._decided
        for end, ratio in self._ratios:
            wanted, at = wanted + (end - at) * ratio, end
        return wanted / _ONE

    def input_of(self, output: int) -> int:
        """Input sample heard at an output sample (within a splice the louder); the last 256 splices are known."""
        offset = self._oldest_offset
        for splice in self.splices:
            if splice.output + self._fade // 2 <= output:
                offset = splice.offset
        return output + offset

    def output_of(self, input_sample: int) -> int:
        """First output sample at which an input sample or, if it was dropped, a later one is heard."""
        offset = self._oldest_offset
        for splice in self.splices:
            middle = splice.output + self._fade // 2
            if input_sample - offset < middle:
                return input_sample - offset
            offset = splice.offset
            if input_sample - offset < middle:
                return middle
        return input_sample - offset

    # --- samples ------------------------------------------------------------------------------------------------

    def push(self, pcm: Samples, ratio: float = 1.0) -> Samples:
        """Take [n, channels] in, to last `ratio` times as long; give what is ready. ValueError: shape or ratio."""
        if pcm.ndim != 2 or pcm.shape[1] != self.channels:
            raise ValueError(f"pcm has shape {pcm.shape}: give [samples, {self.channels}]")
        if not abs(ratio - 1.0) <= self.config.limit + 1e-9:
            raise ValueError(f"ratio {ratio}: give {1 - self.config.limit} to {1 + self.config.limit}")
        self._buffer = np.concatenate([self._buffer, pcm.astype(np.float32, copy=False)])
        self._input += len(pcm)
        if len(pcm):
            self._ratios = (*self._ratios, (self._input, round(ratio * _ONE)))
        out: list[Samples] = []
        while self._decide(out, last=False):
            pass
        return self._given(out)

    def flush(self) -> Samples:
        """What is held back, at the end of the input."""
        out: list[Samples] = []
        while self._decide(out, last=True):
            pass
        return self._given(out)

    def _given(self, out: list[Samples]) -> Samples:
        drop = self._read - self._past - self._base
        if drop > 0:
            self._buffer = self._buffer[drop:].copy()
            self._base += drop
        return np.concatenate(out) if out else np.zeros((0, self.channels), np.float32)

    def _decide(self, out: list[Samples], *, last: bool) -> bool:
        """Go on by up to one block; False if there is nothing left or a splice waits for its input."""
        if self._decided % self._block == 0 and self._decided >= self._free:
            late = self._wanted / _ONE - (self._decided - self.offset)
            if abs(late) >= self._threshold and not last:
                if self._input < self._decided + self._longest + self._fade + self._unit:
                    return False
                if self._splice(late, out):
                    return True
        end = min(self._input, (self._decided // self._block + 1) * self._block)
        if end == self._decided:
            return False
        self._copy(end, out)
        return True

    def _advance(self, end: int) -> None:
        """Input up to `end` is decided on: count where it should come."""
        while self._decided < end:
            until, ratio = self._ratios[0]
            step = min(until, end)
            self._wanted += (step - self._decided) * ratio
            self._decided = step
            if step == until:
                self._ratios = self._ratios[1:]

    def _copy(self, end: int, out: list[Samples]) -> None:
        if end > self._read:
            out.append(self._slice(self._read, end))
            self._read = end
        self._advance(end)

    def _slice(self, start: int, end: int) -> Samples:
        return self._buffer[start - self._base : end - self._base]

    def _splice(self, late: float, out: list[Samples]) -> bool:
        """Go back (late > 0: the sound should last longer) or ahead here, if the sound allows it."""
        at, fade = self._decided, self._fade
        longest = min(self._longest, int(abs(late) + self._overshoot))
        lags = range(self._shortest, longest + 1)
        back = late > 0
        first, end = (at - longest, at - self._shortest) if back else (at + self._shortest, at + longest)
        old = self._slice(at, at + fade)
        likeness = _likeness(old, self._slice(first, end + fade))
        index = int(np.argmax(likeness))
        lag = lags[len(lags) - 1 - index] if back else lags[index]
        alike = float(likeness[index])
        if alike < next((least for least, times in reversed(_STEPS) if abs(late) >= times * self._threshold), 2.0):
            return False
        if self._attack(at - lag if back else at, at + fade + (0 if back else lag)) and (
            abs(late) < 2.2 * self._threshold
        ):
            return False
        start = at - lag if back else at + lag
        new = self._slice(start, start + fade)
        ramp, rho = self._ramp, max(0.0, alike)
        gain = 1.0 / np.sqrt(ramp**2 + (1.0 - ramp) ** 2 + 2.0 * rho * ramp * (1.0 - ramp))
        out.append((gain * ((1.0 - ramp) * old + ramp * new)).astype(np.float32))
        output = at - self.offset
        self.offset = start - output
        self._read = start + fade
        # Back: the input decided on is what was heard before, and counts once. Ahead: the dropped counts too.
        self._free = self._read + self._apart
        self._advance(self._read)
        splice = Splice(output=output, offset=self.offset, likeness=alike)
        if len(self.splices) == _KEPT_SPLICES:
            self._oldest_offset, self.splices = self.splices[0].offset, self.splices[1:]
        self.splices = (*self.splices, splice)
        self.splice_count += 1
        return True

    def _attack(self, start: int, end: int) -> bool:
        """Whether power rises suddenly between two input positions."""
        unit = self._unit
        before = start - 5 * unit
        count = (end - before) // unit + 1
        pcm = self._slice(before - 1, before + count * unit).astype(np.float64)
        power = np.diff(pcm, axis=0)
        power = np.sum((power * power)[: len(power) // unit * unit].reshape(-1, unit * self.channels), axis=1)
        past = np.convolve(power, np.full(4, 0.25), "valid")[:-1]
        return bool(np.any(power[4:] > _ATTACK * past + 1e-9 * unit))


def _likeness(old: Samples, region: Samples) -> npt.NDArray[np.float64]:
    """Correlation [-1, 1] of `old` [n, channels] with every n samples of `region`."""
    count = len(region) - len(old) + 1
    dot, power = np.zeros(count), np.zeros(count)
    for channel in range(old.shape[1]):
        wide = region[:, channel].astype(np.float64)
        dot += np.correlate(wide, old[:, channel].astype(np.float64), "valid")
        total = np.concatenate([[0.0], np.cumsum(wide * wide)])
        power += total[len(old) :] - total[: -len(old)]
    scale = np.sqrt(np.maximum(power, 0.0) * float(np.sum(old.astype(np.float64) ** 2)))
    # Silence is like silence: any lag will do.
    return np.where(scale > 1e-9, dot / np.maximum(scale, 1e-9), 1.0)
