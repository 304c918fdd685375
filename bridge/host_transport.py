"""The virtual host's transport: play head, tempo, meter and loop, in rational time, and the actions that move them.

Advanced by the virtual host (bridge/virtual_host.py) block by block; says of each what a host says, in doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from attacca.bridge.client_config import HostBlock


@dataclass(frozen=True, kw_only=True)
class Play:
    """Start from where the play head stands."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Stop; the play head stays."""


@dataclass(frozen=True, kw_only=True)
class Seek:
    """Move the play head."""

    ppq: Fraction


@dataclass(frozen=True, kw_only=True)
class Tempo:
    """Change the tempo from here on."""

    bpm: Fraction


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Change the meter; the bar under the play head keeps its start."""

    num: int
    den: int


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Loop [start, end) in quarter notes; both None: no loop."""

    start_ppq: Fraction | None
    end_ppq: Fraction | None


Action = Play | Stop | Seek | Tempo | Meter | Loop


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """A project: where it starts and how it is rendered."""

    sample_rate: int
    block_samples: int
    channels: int = 1
    bpm: Fraction = Fraction(120)
    meter: tuple[int, int] = (4, 4)
    start_ppq: Fraction = Fraction(0)
    playing: bool = True

    def __post_init__(self) -> None:
        if not 8000 <= self.sample_rate <= 384000:
            raise ValueError(f"sample_rate {self.sample_rate} is outside 8000..384000")
        if not 1 <= self.block_samples <= 65536:
            raise ValueError(f"block_samples {self.block_samples} is outside 1..65536")
        if self.channels not in (1, 2):
            raise ValueError(f"channels {self.channels} is neither 1 nor 2")
        if not 1 <= self.bpm <= 1000:
            raise ValueError(f"bpm {float(self.bpm):g} is outside 1..1000")
        if not (1 <= self.meter[0] <= 64 and self.meter[1] in (1, 2, 4, 8, 16, 32)):
            raise ValueError(f"meter {self.meter[0]}/{self.meter[1]}: 1..64 over a power of two up to 32")


class HostTransport:
    """Play head, tempo, meter and loop, exact. Advanced by the host only."""

    def __init__(self, config: HostConfig) -> None:
        self._rate = config.sample_rate
        self.bpm = config.bpm
        self.meter = config.meter
        self.playing = config.playing
        self.loop: tuple[Fraction, Fraction] | None = None
        self._anchor_ppq = config.start_ppq  # play head at `_since` samples ago
        self._since = 0
        self._bars_from_ppq = Fraction(0)

    @property
    def ppq(self) -> Fraction:
        """Play head in quarter notes."""
        return self._anchor_ppq + (self._since * self.ppq_per_sample if self.playing else 0)

    @property
    def ppq_per_sample(self) -> Fraction:
        """Quarter notes that pass in one sample while playing."""
        return self.bpm / (60 * self._rate)

    @property
    def bar_ppq(self) -> Fraction:
        """Length of a bar in quarter notes."""
        return Fraction(4 * self.meter[0], self.meter[1])

    @property
    def bar_start_ppq(self) -> Fraction:
        """Start of the bar under the play head."""
        return self._bars_from_ppq + (self.ppq - self._bars_from_ppq) // self.bar_ppq * self.bar_ppq

    def samples_to_loop_end(self) -> int | None:
        """Samples until the first one that lies at or past the loop's end; None if none will."""
        if self.loop is None or not self.playing or self.ppq >= self.loop[1]:
            return None
        return max(1, -((self.ppq - self.loop[1]) // self.ppq_per_sample))

    def advance(self, samples: int) -> None:
        """Let time pass; a loop that ends just here wraps, and keeps the fraction of a sample it overshot."""
        before = self.ppq if self.loop is not None else None
        self._since += samples if self.playing else 0
        if self.loop is not None and before is not None and before < self.loop[1] <= self.ppq:
            self._jump(self.ppq - (self.loop[1] - self.loop[0]))

    def act(self, action: Action) -> None:
        """Apply one action at the play head."""
        match action:
            case Play():
                self._jump(self.ppq)
                self.playing = True
            case Stop():
                self._jump(self.ppq)
                self.playing = False
            case Seek(ppq=ppq):
                self._jump(ppq)
            case Tempo(bpm=bpm):
                self._jump(self.ppq)
                self.bpm = bpm
            case Meter(num=num, den=den):
                self._bars_from_ppq = self.bar_start_ppq
                self.meter = (num, den)
            case Loop(start_ppq=None):
                self.loop = None
            case Loop(start_ppq=start, end_ppq=end):
                if start is None or end is None or end <= start:
                    raise ValueError(f"loop from {start} to {end}")
                self.loop = (start, end)

    def block(self, *, non_realtime: bool) -> HostBlock:
        """What the host says of the block that begins at the play head, in a host's own doubles."""
        ppq, bar_ppq = self.ppq, self.bar_ppq
        bar_start = self._bars_from_ppq + (ppq - self._bars_from_ppq) // bar_ppq * bar_ppq
        return HostBlock(
            ppq=float(ppq),
            bpm=float(self.bpm),
            meter_num=self.meter[0],
            meter_den=self.meter[1],
            bar_start_ppq=float(bar_start),
            playing=self.playing,
            loop=None if self.loop is None else (float(self.loop[0]), float(self.loop[1])),
            non_realtime=non_realtime,
        )

    def _jump(self, ppq: Fraction) -> None:
        self._anchor_ppq, self._since = ppq, 0
