"""What goes into the engine and what comes out of it: the take request, the events, and what a model must offer.

Sits between the bridge, which knows transport and messages, and the decode thread's service. Data only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .conditioning import ConditioningLayout, Controls
from .generator import Codes, Generator, Sampling

Pcm = npt.NDArray[np.float32]  # [samples] mono, or [samples, channels] at the engine's edge

MAX_TAKE_BARS = 64


class TakeMode(StrEnum):
    """What a take does between its start and its end."""

    CONTINUE = "continue"  # until release
    FILL = "fill"  # until end_position
    VAMP = "vamp"  # a phrase of N bars again and again, each pass a variation
    ANSWER = "answer"  # goes on listening nearly until start_position, then plays until end_position


class LatePolicy(StrEnum):
    """What happens if audio cannot be there by the start."""

    JOIN = "join"  # enter in phase at the first position that can still be there
    WAIT = "wait"  # at the next launch position


class Controller(Protocol):
    """Implemented by the bridge, one per session: knows transport, held notes and parameters."""

    def controls(self, positions: npt.NDArray[np.float64]) -> Controls:
        """Commands at fractional host stream positions [n]. Decode thread. Never raises."""
        ...


class CodecEncoder(Protocol):
    """Streaming audio -> codes at model rate; frame t covers model samples from t * hop on.

    It is complete when sample (t + 1) * hop + `look_ahead_samples` is known.
    """

    @property
    def look_ahead_samples(self) -> int: ...

    def push(self, pcm: Pcm, /) -> Codes:
        """Mono float32 [n] -> the frames complete by now, [m, K]."""
        ...

    def reset(self) -> None: ...
    def snapshot(self) -> Any: ...
    def restore(self, state: Any, /) -> None: ...


class CodecDecoder(Protocol):
    """Streaming codes -> audio; output sample i is model time i - `delay_samples`, hop samples a frame."""

    @property
    def delay_samples(self) -> int: ...

    def push(self, codes: Codes, /) -> Pcm: ...
    def reset(self) -> None: ...
    def snapshot(self) -> Any: ...
    def restore(self, state: Any, /) -> None: ...


class Codec(Protocol):
    """Makes streams; each session and each take has its own."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def hop_samples(self) -> int: ...
    @property
    def num_codebooks(self) -> int: ...
    @property
    def audio_channels(self) -> int:
        """1: samples are [n]; 2: [n, 2]."""
        ...

    def encoder(self) -> CodecEncoder: ...
    def decoder(self) -> CodecDecoder: ...


class Model(Protocol):
    """A loaded bundle, or a fake."""

    @property
    def codec(self) -> Codec: ...
    @property
    def conditioning(self) -> ConditioningLayout:
        """What its generators can be told; the width of their condition rows."""
        ...

    def generator(self) -> Generator: ...


@dataclass(frozen=True, kw_only=True)
class TakeRequest:
    """Everything the bridge knows of a take at its trigger; positions are host stream positions, int64."""

    take: int
    epoch: int
    position: int  # of the trigger
    start_position: int  # where sound begins
    end_position: int | None = None  # where it ends; None: until release
    sampling: Sampling = field(default_factory=Sampling)
    late: LatePolicy = LatePolicy.JOIN
    # Earliest launch position at or after the given one; needed by WAIT, where a missed start moves there.
    next_launch: Callable[[int], int] | None = None
    mode: TakeMode = TakeMode.CONTINUE
    # (start position, bars) -> position that many bars later on the present grid; needed by VAMP, and by WAIT
    # takes with bars, whose end moves with their start.
    bar_position: Callable[[int, int], Fraction | int | float] | None = None
    # First bar line at or after a position on the present grid: there a vamp begins its phrase again
    # on a new epoch.
    bar_line: Callable[[int], int] | None = None
    bars: int | None = None  # length of a fill or an answer (only to move its end), or of a vamp's phrase
    beats_per_bar: int = 4  # a vamp decides per beat-sized part of a bar
    variation: float = 0.5  # vamp: chance that a beat is generated anew, 0..1

    def __post_init__(self) -> None:
        if self.end_position is not None and self.end_position <= self.start_position:
            raise ValueError(f"TakeRequest.end_position {self.end_position} is not after {self.start_position}")
        if self.late is LatePolicy.WAIT and self.next_launch is None:
            raise ValueError("TakeRequest.next_launch is needed by late=wait")
        if self.mode is TakeMode.VAMP and (self.bar_position is None or self.bars is None):
            raise ValueError("TakeRequest.bar_position and bars are needed by mode=vamp")
        if self.bars is not None and not 1 <= self.bars <= MAX_TAKE_BARS:
            raise ValueError(f"TakeRequest.bars {self.bars} is outside 1..{MAX_TAKE_BARS}")
        if not 1 <= self.beats_per_bar <= 64:
            raise ValueError(f"TakeRequest.beats_per_bar {self.beats_per_bar} is outside 1..64")
        if not 0.0 <= self.variation <= 1.0:
            raise ValueError(f"TakeRequest.variation {self.variation} is outside 0..1")


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkEvent:
    """Consecutive host-rate samples of a take; the first belongs at `position` and nowhere else.

    The chunks of one epoch join without a seam; fading at a take's edges and where an epoch cuts in is the
    client's, over at most 10 ms. A chunk that is not committed may be replaced by a later one at the same
    position. A last chunk may be empty: then the take's audio ends at `position`, whatever was sent beyond.
    """

    session: int
    take: int
    epoch: int
    seq: int  # counts every chunk of the take, planned ones too
    position: int
    pcm: Pcm  # [samples, channels]
    codes: Codes  # [frames, K] that were decoded for it; the audio lags them by the codec's delay
    first_frame: int
    start_position_of_first_frame: float  # host position of that frame's first sample
    committed: bool
    last: bool = False

    @property
    def samples(self) -> int:
        return int(self.pcm.shape[0])

    @property
    def frames(self) -> int:
        return int(self.codes.shape[0])


@dataclass(frozen=True, kw_only=True)
class TakeStarted:
    """Comes just before the first committed chunk; `start_position` is that chunk's position."""

    session: int
    take: int
    epoch: int
    start_position: int
    requested_position: int
    context_frames: int  # frames that were listened to before the first generated one
    seed: int


@dataclass(frozen=True, kw_only=True)
class TakeEnded:
    """The last event of a take. Reason: "end", "cancelled", "closed", "refused: ..." or "error: ..."."""

    session: int
    take: int
    reason: str
    position: int | None = None  # where its audio ends; None if it made none


@dataclass(frozen=True, kw_only=True)
class ListeningRestarted:
    """What was heard so far is forgotten; listening goes on at `position` (None: with the next audio)."""

    session: int
    position: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Measures:
    """How a session does; one after each committed chunk, and on demand."""

    session: int
    take: int | None = None
    rtf_decoder: float = 0.0  # compute time / audio time of the take so far
    rtf_codec: float = 0.0
    rtf_total: float = 0.0  # and listening: resampling in, encoder, prefill; all but the fork
    look_ahead_samples: int = 0  # sent, not yet played
    target_samples: int = 0  # look-ahead aimed at
    control_latency_samples: int = 0  # of the last replan: from the change to the first sample made under it
    late_chunks: int = 0  # chunks that began behind the play head
    gap_samples: int = 0  # silence put into listening, host rate
    overlap_samples: int = 0  # audio dropped as heard before
    bad_samples: int = 0  # NaN or infinite, zeroed
    errors: int = 0
    level_gain_db: float = 0.0  # of the last frame decoded: what holds the take to the level of what was played
    drift_ms: float = 0.0  # of a take held to the beat: how late it is as generated, since it last began
    beat_error_ms: float = 0.0  # how late it is heard
    new_beginnings: int = 0  # at bar lines, where the drift was too much to be corrected


@dataclass(frozen=True, kw_only=True)
class Worked:
    """Ends every slice that did something, so that an empty list means idle."""

    session: int
    take: int | None  # None: listening
    seconds: float


Event = ChunkEvent | TakeStarted | TakeEnded | ListeningRestarted | Measures | Worked
