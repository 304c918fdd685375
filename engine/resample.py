"""Streaming resampler between the host's rate and the model's, both ways; sits in front of encoder and chunker.

Own code because a take must be snapshotted, rolled back and replayed bit-exactly, which no packaged resampler
offers. A polyphase windowed sinc (Kaiser); every output sample is one dot product of fixed length over its own
window of input, so that the result does not depend on how the input was cut into pieces.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

MIN_RATE_HZ = 8000
MAX_RATE_HZ = 384000

_ZERO_CROSSINGS = 40  # each side, at the lower rate
_BETA = 9.0  # Kaiser: 90 dB of stop band
_CUTOFF = 0.94  # of the lower Nyquist frequency: flat to 0.87, down by 1.01
_MAX_TABLE_SAMPLES = 500_000  # kernels of all phases are kept up to this size; above it they are interpolated
# Linear interpolation between this many phases of a sample at the lower rate errs by -140 dB; where the input runs
# faster, its kernels are as much wider and need as many fewer.
_INTERPOLATED_PHASES = 2048
_BLOCK_ROWS = 512

Samples = npt.NDArray[np.float32]
ResamplerState = tuple[int, int, Samples]


def _kernel_rows(phases: npt.NDArray[np.float64], half_taps: int, ratio: float) -> Samples:
    """Kernels for outputs `phases` (0..1) of a sample past their input index: float32 [phases, 2 half_taps]."""
    scale = min(1.0, ratio)
    taps = np.arange(1 - half_taps, half_taps + 1, dtype=np.float64)
    tau = taps[None, :] - phases[:, None]
    inside = np.clip(1.0 - (tau * scale / _ZERO_CROSSINGS) ** 2, 0.0, None)
    window = np.where(inside > 0.0, np.i0(_BETA * np.sqrt(inside)), 0.0)
    rows = np.sinc(tau * scale * _CUTOFF) * window
    # Unit gain at DC in every phase, otherwise a constant would carry a tone at the phase rate.
    kernels: Samples = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    return kernels


def _keeps_all_phases(up: int, half_taps: int) -> bool:
    return up * 2 * half_taps <= _MAX_TABLE_SAMPLES


@lru_cache(maxsize=16)
def _table(up: int, down: int) -> tuple[int, Samples, npt.NDArray[np.int64]]:
    """(half taps, kernels in output order, input offset of each output) of a cycle of whole periods of `up`."""
    half_taps = -(-_ZERO_CROSSINGS * max(up, down) // up)
    periods = -(-_BLOCK_ROWS // up)
    outputs = np.arange(periods * up, dtype=np.int64)
    if _keeps_all_phases(up, half_taps):
        rows = _kernel_rows(np.arange(up) / up, half_taps, up / down)
        kernels = rows[(outputs * down) % up]
    else:
        phases = -(-_INTERPOLATED_PHASES * min(up, down) // down)
        kernels = _kernel_rows(np.linspace(0.0, 1.0, phases + 1), half_taps, up / down)
    return half_taps, kernels, outputs * down // up


class Resampler:
    """One stream. Output sample n is the input at time n * input_rate / output_rate, without offset.

    Linear phase. Not thread-safe; decode thread. Any integer rates within 8000..384000 Hz. Samples are [n] where
    `channels` is 1, else [n, channels].
    """

    def __init__(self, input_rate: int, output_rate: int, *, channels: int = 1) -> None:
        if channels < 1:
            raise ValueError(f"Resampler channels is {channels}, allowed: 1 or more")
        self._frame: tuple[int, ...] = () if channels == 1 else (channels,)
        for name, rate in (("input_rate", input_rate), ("output_rate", output_rate)):
            if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
                raise ValueError(f"Resampler {name} {rate} Hz is outside {MIN_RATE_HZ}..{MAX_RATE_HZ}")
        divisor = gcd(input_rate, output_rate)
        self._up, self._down = output_rate // divisor, input_rate // divisor
        self._identity = self._up == self._down
        self._half_taps, self._kernels, self._offsets = (
            (0, np.ones((1, 1), np.float32), np.zeros(1, np.int64))
            if self._identity
            else _table(self._up, self._down)
        )
        self.reset()

    @property
    def latency_samples(self) -> int:
        """Input samples that must follow an instant before its output comes out."""
        return self._half_taps

    @property
    def table_samples(self) -> int:
        """Size of the kernel table, which is what opening a stream costs."""
        return int(self._kernels.size)

    @property
    def next_output(self) -> int:
        """Index of the next output sample."""
        return self._next

    @property
    def next_input(self) -> int:
        """Index of the next input sample."""
        return self._base + len(self._buffer)

    def reset(self, input_index: int = 0) -> None:
        """Start anew: the next input sample has this index (may be negative), all before it are zeros."""
        self._buffer: Samples = np.zeros((2 * self._half_taps, *self._frame), np.float32)
        self._base = input_index - len(self._buffer)
        self._next = -(-input_index * self._up // self._down)

    def skip_to(self, output: int) -> None:
        """Leave out the output samples before this index; no effect if they are past."""
        self._next = max(self._next, output)

    def push(self, pcm: Samples) -> Samples:
        """Input float32 [n] -> every output sample that is complete by now, float32 [m]; or [n, C] -> [m, C]."""
        self._buffer = np.concatenate([self._buffer, pcm])
        stop = -(-(self.next_input - self._half_taps) * self._up // self._down)
        if stop <= self._next:
            self._trim()
            return np.zeros((0, *self._frame), np.float32)
        if self._identity:
            output = self._buffer[self._next - self._base :].copy()
        else:
            output = np.empty((stop - self._next, *self._frame), np.float32)
            for place in np.ndindex(self._frame):
                self._fill(self._buffer[:, *place], output[:, *place])
        self._next = stop
        self._trim()
        return output

    def flush(self) -> Samples:
        """The outputs that lie within the input so far, as if silence followed; `reset` before going on."""
        return self.push(np.zeros((self._half_taps, *self._frame), np.float32))

    def snapshot(self) -> ResamplerState:
        """The whole state, immutable."""
        return self._base, self._next, self._buffer

    def restore(self, state: ResamplerState) -> None:
        """Continue bit-exactly from a snapshot of a resampler of the same rates."""
        self._base, self._next, self._buffer = state

    def _fill(self, buffer: Samples, output: Samples) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(buffer, 2 * self._half_taps)
        cycle = len(self._offsets)
        done = 0
        while done < len(output):
            period, row = divmod(self._next + done, cycle)
            rows = min(len(output) - done, cycle - row, _BLOCK_ROWS)
            first = period * (cycle // self._up) * self._down - self._half_taps + 1 - self._base
            picked = windows[self._offsets[row : row + rows] + first]
            np.einsum("ij,ij->i", picked, self._rows(row, rows), out=output[done : done + rows])
            done += rows

    def _rows(self, row: int, rows: int) -> Samples:
        if _keeps_all_phases(self._up, self._half_taps):
            return self._kernels[row : row + rows]
        phases = np.arange(row, row + rows, dtype=np.int64) * self._down % self._up * (len(self._kernels) - 1)
        index = phases // self._up
        fraction = ((phases % self._up) / self._up).astype(np.float32)[:, None]
        kernels: Samples = self._kernels[index] * (1 - fraction) + self._kernels[index + 1] * fraction
        return kernels

    def _trim(self) -> None:
        start = self._next * self._down // self._up - self._half_taps + 1
        surplus = min(max(start - self._base, 0), len(self._buffer))
        self._buffer = self._buffer[surplus:].copy()
        self._base += surplus
