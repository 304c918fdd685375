"""How far ahead of the play head a take commits: measured, not guessed. Read by takes, fed by takes and bridge."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

_WINDOW = 64
_STEP_WINDOW = 16


@dataclass(frozen=True, kw_only=True)
class LookAheadConfig:
    """Bounds of the look-ahead, in milliseconds."""

    min_ms: float = 60.0
    control_latency_ms: float = 500.0  # bound of (look-ahead + one chunk)
    initial_chunk_ms: float = 120.0  # compute time of a chunk, until it was measured
    margin_ms: float = 5.0  # what a sample needs on top of the round trip to be playable

    def __post_init__(self) -> None:
        for name in ("min_ms", "control_latency_ms", "initial_chunk_ms", "margin_ms"):
            if not 0.0 <= getattr(self, name) <= 10000.0:
                raise ValueError(f"LookAheadConfig.{name} {getattr(self, name)} is outside 0..10000 ms")
        if self.min_ms > self.control_latency_ms:
            raise ValueError(f"LookAheadConfig.min_ms {self.min_ms} is above control_latency_ms")


def p95(values: Iterable[float]) -> float:
    """95th percentile, nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[ceil(0.95 * len(ordered)) - 1] if ordered else 0.0


class LookAhead:
    """One session's measure. Decode thread.

    target = p95(chunk compute) + p95(round trip) + one chunk + the host's reporting step, so that a chunk begun
    when the look-ahead falls below it is there before the play head is (after StreamMUSE's law); bounded so that
    control latency holds, but never below what the host takes in one step, where it could only starve.
    """

    def __init__(self, host_rate: int, config: LookAheadConfig | None = None) -> None:
        self._config = config or LookAheadConfig()
        self._host_rate = host_rate
        self._compute_s: deque[float] = deque(maxlen=_WINDOW)
        self._round_trip_s: deque[float] = deque(maxlen=_WINDOW)
        self._steps: deque[int] = deque(maxlen=_STEP_WINDOW)
        self._position: int | None = None
        self.override_samples: int | None = None  # set by the user: the least, under the same bounds
        self.realtime = True  # False: the host waits for audio, so nothing can come too late

    def chunk_took(self, seconds: float) -> None:
        """A chunk was ready so long after it was begun."""
        self._compute_s.append(max(0.0, seconds))

    def round_trip_took(self, seconds: float) -> None:
        """A ping was answered after so long."""
        self._round_trip_s.append(max(0.0, seconds))

    def head_at(self, position: int) -> None:
        """The host reported its play head."""
        if self._position is not None and position < self._position:
            self._steps.clear()  # a new session is told again what was before it
        elif self._position is not None and 0 < position - self._position <= self._host_rate:
            self._steps.append(position - self._position)
        self._position = position

    @property
    def step_samples(self) -> int:
        """Largest recent stride between two reports of the play head."""
        return max(self._steps, default=0)

    @property
    def margin_samples(self) -> int:
        """A sample closer than this to the play head cannot be there in time."""
        if not self.realtime:
            return 0
        seconds = p95(self._round_trip_s) + self._config.margin_ms / 1000.0
        return self.step_samples + ceil(seconds * self._host_rate)

    @property
    def remake_samples(self) -> int:
        """With at least this much sent and unplayed, a chunk begun now is there in time."""
        return self._turnaround_samples + self.margin_samples

    @property
    def _turnaround_samples(self) -> int:
        if not self.realtime:  # constant: what is committed when must not hang on how fast this machine is
            return ceil(self._config.initial_chunk_ms / 1000.0 * self._host_rate)
        compute = p95(self._compute_s) if self._compute_s else self._config.initial_chunk_ms / 1000.0
        return ceil((compute + p95(self._round_trip_s)) * self._host_rate)

    def target_samples(self, chunk_samples: int) -> int:
        """Commit the next chunk while less than this is sent and unplayed; host samples."""
        needed = self._turnaround_samples + chunk_samples + self.step_samples
        needed = max(needed, self.override_samples or 0)
        highest = int(self._config.control_latency_ms / 1000.0 * self._host_rate) - chunk_samples
        lowest = int(self._config.min_ms / 1000.0 * self._host_rate)
        return max(min(max(needed, lowest), highest), self.step_samples + chunk_samples)
