"""What goes into the reference client: its configuration, and what a host hands over with each block. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field

from attacca.bridge.params import BY_NAME
from attacca.bridge.protocol import Midi, Param, Release, Trigger

Event = Midi | Trigger | Release | Param


@dataclass(frozen=True, kw_only=True)
class HostBlock:
    """What the host says of a block's first sample, in its own floats."""

    ppq: float
    bpm: float
    meter_num: int = 4
    meter_den: int = 4
    bar_start_ppq: float = 0.0
    playing: bool = True
    loop: tuple[float, float] | None = None  # start and end, quarter notes
    non_realtime: bool = False


@dataclass(frozen=True, kw_only=True)
class At:
    """Something that happens within a block. Positions and take ids inside `event` are filled in by the client."""

    offset: int  # samples from the block's start
    event: Event


@dataclass(frozen=True, kw_only=True)
class NoteTriggers:
    """Which notes start and end takes (the engine's own zone); all others go to the engine as MIDI."""

    channel: int | None = None  # 0..15; None: every channel
    low: int = int(BY_NAME["trigger_low"].default)
    high: int = int(BY_NAME["trigger_high"].default)

    def __post_init__(self) -> None:
        if self.channel is not None and not 0 <= self.channel <= 15:
            raise ValueError(f"NoteTriggers.channel {self.channel} is outside 0..15")
        if not 0 <= self.low <= self.high <= 127:
            raise ValueError(f"NoteTriggers {self.low}..{self.high} is not a range within 0..127")

    def pressed(self, data: bytes) -> bool | None:
        """True for a note-on that triggers, False for a note-off that releases, None for everything else."""
        kind, channel = data[0] & 0xF0, data[0] & 0x0F
        if kind not in (0x80, 0x90) or len(data) != 3 or not self.low <= data[1] <= self.high:
            return None
        if self.channel is not None and channel != self.channel:
            return None
        return kind == 0x90 and data[2] > 0


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What is heard of dry and wet. Gains are linear."""

    dry: float = 1.0
    wet: float = 1.0
    solo: bool = False  # the dry signal is muted while the take sounds

    def __post_init__(self) -> None:
        if not (0.0 <= self.dry <= 4.0 and 0.0 <= self.wet <= 4.0):
            raise ValueError(f"Mix dry {self.dry:g}, wet {self.wet:g}: gains are 0..4")


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """How a client is set up."""

    sample_rate: int
    channels: int = 1
    name: str = "attacca client"
    model: str = ""
    ring_s: float = 20.0
    history_s: float = 16.0  # longest bar that a fallback can repeat
    wait_s: float = 10.0  # longest wait for a block's audio while the host is not in real time
    inline: bool = False  # no network thread: every exchange happens inside the calls (deterministic)
    note_triggers: NoteTriggers | None = field(default_factory=NoteTriggers)
    trigger: Trigger = field(default_factory=lambda: Trigger(take=0, position=0))  # what a note-on starts
    release_quantized: bool = False

    def __post_init__(self) -> None:
        if not 8000 <= self.sample_rate <= 384000:
            raise ValueError(f"ClientConfig.sample_rate {self.sample_rate} is outside 8000..384000")
        if self.channels not in (1, 2):
            raise ValueError(f"ClientConfig.channels {self.channels} is neither 1 nor 2")
        for name, low, high in (("ring_s", 0.1, 120.0), ("history_s", 0.01, 120.0), ("wait_s", 0.0, 600.0)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"ClientConfig.{name} {getattr(self, name):g} is outside {low:g}..{high:g} s")
