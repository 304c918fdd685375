"""Steps of several takes, made together: one leads, those that wait anyway ride along.

Between the planner of the take whose turn it is and what runs lanes together (engine/batch.py,
engine/native_lane.py). Riders are not waited for: it stops when the
lead is done, and what goes wrong in a rider is left to the rider's own turn, which meets it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .generator import ConditionSource, Sampling
from .runtime import StepLane


class Stepper(Protocol):
    """Steps takes together. Decode thread."""

    def may(self, generator: object) -> bool:
        """Whether this take's steps can be made here."""
        ...

    def plan(self, parts: Sequence[Part], max_steps: int) -> list[int]:
        """As `plan_together`."""
        ...


@runtime_checkable
class Together(Protocol):
    """Runs prepared lanes together, up to `takes`. Decode thread."""

    @property
    def takes(self) -> int: ...

    def run(self, lanes: Sequence[StepLane]) -> None:
        """Compute what the lanes, two or more, are prepared for; each gets its own."""
        ...


class Stepping(Protocol):
    """A generator whose steps can be computed among others'. Decode thread."""

    @property
    def frontier(self) -> int: ...

    def open_step(
        self, source: ConditionSource, sampling: Sampling, fetched: dict[int, npt.NDArray[np.float32]]
    ) -> StepLane:
        """Write the next step into its lane; a step that is not closed never was."""
        ...

    def close_step(self) -> None:
        """Go on from what the lane has drawn."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one take wants: steps until the frontier has reached a frame."""

    generator: Stepping
    until_frame: int
    source: ConditionSource
    sampling: Sampling


@dataclass(frozen=True)
class LaneStepper:
    """A Stepper over lanes of the CPU's."""

    stepper: Together

    def may(self, generator: object) -> bool:
        """See Stepper: all can."""
        return True

    def plan(self, parts: Sequence[Part], max_steps: int) -> list[int]:
        """See Stepper."""
        return plan_together(self.stepper, parts, max_steps)


def plan_together(stepper: Together, parts: Sequence[Part], max_steps: int) -> list[int]:
    """Steps of the first part, and of the others beside it, until the first is done; how many each had.

    Each has the tokens it would have had alone. Parts beyond the stepper's places, or whose steps fail, have fewer
    steps or none. Raises what a step of the first raises.
    """
    ran = [0] * len(parts)
    fetched: list[dict[int, npt.NDArray[np.float32]]] = [{} for _ in parts]
    failed: set[int] = set()
    for _ in range(max_steps):
        if parts[0].generator.frontier >= parts[0].until_frame:
            break
        lanes: dict[int, StepLane] = {}
        for index, part in enumerate(parts):
            if index in failed or part.generator.frontier >= part.until_frame or len(lanes) == stepper.takes:
                continue
            try:
                lane = part.generator.open_step(part.source, part.sampling, fetched[index])
            except Exception:
                if index == 0:
                    raise
                failed.add(index)
                continue
            lanes[index] = lane
        if len(lanes) > 1:
            stepper.run(list(lanes.values()))
        else:
            lanes[0].execute()
        _close(parts, list(lanes), ran, failed)
    return ran


def _close(parts: Sequence[Part], stepped: Sequence[int], ran: list[int], failed: set[int]) -> None:
    """Riders first, so that an error of the first part, which is raised, takes nothing from them."""
    for index in reversed(stepped):
        try:
            parts[index].generator.close_step()
        except Exception:
            if index == 0:
                raise
            failed.add(index)
        else:
            ran[index] += 1
