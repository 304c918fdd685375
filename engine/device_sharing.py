"""Steps of several takes on a device, made together and queued ahead; where engine/sharing.py's stand on the CPU.

Between a company (engine/company.py) and the device's rooms. A take whose step is not wanted leaves its seat idle,
so takes join and leave at any step; each has the tokens that the same graph would have drawn for it in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .device_decoder import DeviceDecoder, Queued
from .device_lane import DeviceRuntime
from .device_room import gather
from .device_step import DEPTH, DeviceStep
from .rolling import RollingDecoder
from .runtime import Floats
from .sharing import Part


@dataclass(frozen=True)
class SharedDevice:
    """A device's runtime as a company is given it."""

    runtime: DeviceRuntime

    def stepper(self) -> DeviceStepper:
        """For one decode thread."""
        return DeviceStepper(self.runtime)


class DeviceStepper:
    """Steps takes of one model together. Not thread-safe; decode thread."""

    def __init__(self, runtime: DeviceRuntime) -> None:
        self._runtime = runtime
        self._last: DeviceStep | None = None

    def logits(self, generator: object) -> Floats:
        """Guided logits [K, V] of a take in the last step; waits."""
        assert self._last is not None
        found: Floats = self._last.logits()[_decoder(generator, 0)[0].device_lane.seat.number]
        return found

    def may(self, generator: object) -> bool:
        """Whether this take's steps are made here: one that began after the device had failed is on the CPU."""
        decoder = _decoder(generator, 0)[0]
        return isinstance(decoder, DeviceDecoder) and decoder.device_lane.runtime is self._runtime

    def plan(self, parts: Sequence[Part], max_steps: int, *, least: int = 1) -> list[int]:
        """Steps of the first part, and of the others beside it, until the first is done; how many each had.

        Parts beyond the largest graph, or whose steps fail, have fewer steps or none. Raises what a step of the
        first raises. `least`: by a graph of at least so many takes.
        """
        ran = [0] * len(parts)
        fetched: list[dict[int, Floats]] = [{} for _ in parts]
        failed: set[int] = set()
        while ran[0] < max_steps and parts[0].generator.frontier < parts[0].until_frame:
            alive = [
                index
                for index, part in enumerate(parts)
                if index not in failed and part.generator.frontier < part.until_frame
            ]
            batch = _Batch(self._runtime, [parts[i] for i in alive], [fetched[i] for i in alive], least)
            self._last = batch.step
            batch.queue(min(DEPTH, max_steps - ran[0]))
            for index, (steps, error) in zip(alive, batch.collect(), strict=True):
                ran[index] += steps
                if error is not None:
                    if index == 0:
                        raise error
                    failed.add(index)
                elif steps == 0:
                    failed.add(index)  # beyond the largest graph
        return ran


class _Batch:
    """Some steps of takes that are on seats of one graph."""

    def __init__(
        self, runtime: DeviceRuntime, parts: Sequence[Part], fetched: Sequence[dict[int, Floats]], least: int
    ) -> None:
        self._runtime, self._parts = runtime, parts
        self._decoders = [_decoder(part.generator, part.until_frame) for part in parts]
        self.step, self._places = self._seated(least)
        self._queued: list[Queued | None] = [
            None if place < 0 else decoder.open_batch(until, part.source, part.sampling, known)
            for part, (decoder, until), place, known in zip(
                parts, self._decoders, self._places, fetched, strict=True
            )
        ]
        self._errors: list[Exception | None] = [None] * len(parts)

    def _seated(self, least: int) -> tuple[DeviceStep, list[int]]:
        with self._decoders[0][0].device_lane.noting():
            step, places = gather([decoder.device_lane.seat for decoder, _ in self._decoders], least=least)
            if step.queued:
                step.collect()  # of a prefill, which draws nothing that matters
        return step, places

    def queue(self, most: int) -> None:
        """Queue up to `most` steps, until the first part is done; each steps as long as it wants."""
        for _ in range(most):
            lead = self._queued[0]
            if lead is None or self._errors[0] is not None or not lead.wanting:
                return
            for index, queued in enumerate(self._queued):
                if queued is not None and self._errors[index] is None and queued.wanting:
                    self._write(index, queued)
                if self._errors[0] is not None:
                    return
            with self._decoders[0][0].device_lane.noting():
                self.step.submit()

    def _write(self, index: int, queued: Queued) -> None:
        place = self._places[index]
        try:
            self._decoders[index][0].queue_step(queued, self.step.at(place))
        except Exception as error:  # of a source, or of the take itself: it has what was queued before
            self._errors[index] = error
            self.step.idle(place)

    def collect(self) -> list[tuple[int, Exception | None]]:
        """What each had: steps, and what went wrong."""
        with self._decoders[0][0].device_lane.noting():
            results = self.step.collect()
        found: list[tuple[int, Exception | None]] = []
        for index, queued in enumerate(self._queued):
            steps = 0 if queued is None else len(queued.kept)
            if queued is not None and steps:
                place = self._places[index]
                drawn = [(result.tokens[place], float(result.checksum[place])) for result in results[:steps]]
                try:
                    self._decoders[index][0].close_batch(queued, drawn)
                except FloatingPointError as error:
                    self._errors[index] = self._errors[index] or error
                generator: object = self._parts[index].generator
                if isinstance(generator, RollingDecoder):
                    generator.stepped()
            found.append((steps, self._errors[index]))
        return found


def _decoder(generator: object, until_frame: int) -> tuple[Any, int]:
    if isinstance(generator, RollingDecoder):
        return generator.stepping(until_frame)
    return generator, until_frame
