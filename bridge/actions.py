"""What a trigger asks for, and what then is to be done with takes: values, between whoever decides and the session.

Asked for by messages (bridge/session.py) and keys (bridge/keyboard.py), decided by bridge/triggers.py, done by the
session with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .protocol import Late, Mode, Trigger
from .transport import quantum_of


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a trigger asks for. `bars_quantum` None: the grid is `quarters_quantum` quarter notes; 0 is at once."""

    take: int
    position: int
    bars_quantum: Fraction | None = Fraction(1)
    quarters_quantum: Fraction = Fraction(0)
    mode: Mode = Mode.CONTINUE
    bars: int = 4
    late: Late = Late.JOIN
    seed: int | None = None  # None: chosen
    temperature: float | None = None  # None: as the parameter says
    variation: float | None = None

    @property
    def quantum(self) -> Fraction:
        return self.quarters_quantum if self.bars_quantum is None else self.bars_quantum

    @property
    def needs_bars(self) -> bool:
        """Whether it can only be placed while the host plays."""
        return self.quantum != 0 or self.mode is not Mode.CONTINUE


def ask_of(message: Trigger) -> Ask:
    """What a trigger message asks for."""
    bars = message.quantum_bars
    return Ask(
        take=message.take,
        position=message.position,
        bars_quantum=None if bars is None else quantum_of(bars),
        quarters_quantum=quantum_of(message.quantum_ppq),
        mode=message.mode,
        bars=message.bars,
        late=message.late,
        seed=message.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Start:
    """Begin a take: sound from `start_position`, until `end_position` (None: until released)."""

    ask: Ask
    start_position: int
    end_position: int | None


@dataclass(frozen=True, kw_only=True)
class End:
    """A take's audio ends at `position`, exclusive."""

    take: int
    position: int


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """A take ends now; None: all of them."""

    take: int | None


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A take that was armed until the host plays, so that the engine has never had it, is over."""

    take: int


@dataclass(frozen=True, kw_only=True)
class Replan:
    """What is planned from `position` on no longer holds: the beat has moved."""

    position: int


@dataclass(frozen=True, kw_only=True)
class Move:
    """A take that does not sound yet starts, and ends, elsewhere: the grid has moved."""

    take: int
    start_position: int
    end_position: int | None


Action = Start | Move | End | Cancel | Drop | Replan
