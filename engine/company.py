"""Which takes step together: the one whose turn it is leads, those that wait for tokens too ride along.

Between the service, which knows deadlines, and the planners, which know what they want. A batch is formed of takes
that wait already and of no others; a take that would miss its deadline by sharing goes alone; riders come by their
deadlines, the earliest first. What each take plays is the same in company and alone (engine/sharing.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from .decoder import PatternDecoder
from .generator import ConditionSource, Generator, Sampling
from .pace import Pace
from .rolling import RollingDecoder
from .sharing import LaneStepper, Part, Stepper, Together

MARGIN_S = 0.05  # for what follows the tokens: a chunk's decoding, its way to the client


class Several(Protocol):
    """What steps several takes of a model at once."""

    def stepper(self) -> Stepper | Together:
        """For one decode thread."""
        ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What steps several takes of a model, on the CPU or a device, and what that is worth here."""

    runtime: Several
    pace: Pace


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """Steps that a take still wants. Holds nothing that holds the generator: a take that ended is let go."""

    until_frame: int
    source: ConditionSource


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a plan was: the lead's steps, its share of the seconds, and seconds as if it had been alone."""

    steps: int
    seconds: float
    alone_s: float


class Company:
    """All takes of one model. Decode thread."""

    def __init__(self, batch: Batch, *, clock: Callable[[], float] = time.perf_counter) -> None:
        stepper = batch.runtime.stepper()
        self._stepper: Stepper = LaneStepper(stepper) if isinstance(stepper, Together) else stepper
        self._pace = batch.pace
        self._clock = clock
        self._wishes: WeakKeyDictionary[Generator, Wish] = WeakKeyDictionary()
        self._rode: WeakKeyDictionary[Generator, tuple[float, int]] = WeakKeyDictionary()
        self._slack_s = 0.0
        self._waiting: Sequence[tuple[Generator, Sampling]] = ()
        self.shared_steps = 0  # steps that more than one take had part in

    def turn(self, slack_s: float, waiting: Sequence[tuple[Generator, Sampling]]) -> None:
        """The take that works next has so much time; these, drawn so, wait meanwhile, the most urgent first."""
        self._slack_s, self._waiting = slack_s, waiting

    def wish(self, generator: Generator, wish: Wish) -> None:
        """What a take will want when it is its turn again."""
        self._wishes[generator] = wish

    def collect(self, generator: Generator) -> tuple[float, int]:
        """Seconds and frames that a take has had beside others since it was last asked."""
        return self._rode.pop(generator, (0.0, 0))

    def forget(self, generator: Generator) -> None:
        """What this take last wanted holds no more."""
        self._wishes.pop(generator, None)

    def plan(self, generator: Generator, wish: Wish, sampling: Sampling, *, max_steps: int, step_s: float) -> Ran:
        """Run steps for the take whose turn it is, `step_s` each if it is alone, and for those beside it."""
        self.wish(generator, wish)
        riders = self._riders(generator, wish, step_s)
        began = self._clock()
        if not riders:
            steps = generator.plan(wish.until_frame, wish.source, sampling, max_steps=max_steps)
            seconds = self._clock() - began
            return Ran(steps=steps, seconds=seconds, alone_s=seconds)
        takes = [(generator, wish, sampling), *riders]
        before = [take.frontier for take, _, _ in takes]
        cost = self._pace.cost[len(takes) - 1]
        ran = self._stepper.plan([_part(*take) for take in takes], max(1, int(max_steps / cost)))
        seconds = self._clock() - began
        self.shared_steps += ran[0]
        shares = [seconds * steps / max(1, sum(ran)) for steps in ran]
        for (take, _, _), was, share in zip(takes[1:], before[1:], shares[1:], strict=True):
            had_s, had = self._rode.get(take, (0.0, 0))
            self._rode[take] = had_s + share, had + take.frontier - was
        return Ran(steps=ran[0], seconds=shares[0], alone_s=seconds / cost)

    def _riders(self, lead: Generator, wish: Wish, step_s: float) -> list[tuple[Generator, Wish, Sampling]]:
        """As many as are worth it and let the lead be in time."""
        found = [
            (generator, asked, sampling)
            for generator, sampling in self._waiting
            if generator is not lead
            and self._stepper.may(lead)
            and self._stepper.may(generator)
            and (asked := self._wishes.get(generator)) is not None
            and generator.frontier < asked.until_frame
        ]
        self._waiting = ()  # told anew each turn
        missing_s = (wish.until_frame - lead.frontier) * step_s
        count = self._pace.takes(1 + len(found))
        while count > 1 and missing_s * self._pace.cost[count - 1] + MARGIN_S > self._slack_s:
            count = self._pace.takes(count - 1)
        return found[: count - 1]


def company_of(model: object, clock: Callable[[], float]) -> Company | None:
    """Of a model that has a graph of several takes and gains by it."""
    batch = getattr(model, "batch", None)
    return Company(batch, clock=clock) if isinstance(batch, Batch) and batch.pace.pays else None


def _part(generator: Generator, wish: Wish, sampling: Sampling) -> Part:
    if not isinstance(generator, PatternDecoder | RollingDecoder):
        raise TypeError(f"a {type(generator).__name__} cannot be stepped beside others")
    return Part(generator=generator, until_frame=wish.until_frame, source=wish.source, sampling=sampling)
