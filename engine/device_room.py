"""Seats on a device and the graphs over them: of one seat each, and of the first two, four, ... of a room.

Between lanes (engine/device_lane.py), each on a seat, and engine/device_step.py. Takes that are to step together
are moved to a room's first seats, which copies a cache once for as long as they stay; a seat's contents and all
that is computed from them do not hang on where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .device import DeviceError, ProgramMaker
from .device_memory import SeatMemory
from .device_step import DeviceStep
from .gpu_spec import GpuSpec


class Room:
    """Memory of some seats and the bound graphs over them, by how many takes each has."""

    def __init__(self, makers: Mapping[int, ProgramMaker], spec: GpuSpec) -> None:
        """`makers` by number of takes, 1 among them."""
        self._makers, self.spec = dict(sorted(makers.items())), spec
        self.most = max(makers)  # takes of a step
        self.seats = 1 if self.most == 1 else seats_for(self.most) - 1
        self.memory = SeatMemory(makers[1].driver, spec, 1 if self.most == 1 else seats_for(self.most))
        self._steps: dict[tuple[int, int], DeviceStep] = {}
        self.taken: dict[int, Seat] = {}

    def step(self, first: int, takes: int = 1) -> DeviceStep:
        """The graph over the seats from `first` on, bound when it is first asked for: that takes a while."""
        key = first, takes
        if key not in self._steps:
            self._steps[key] = DeviceStep(self._makers[takes], self.spec, takes, self.memory, first=first)
        return self._steps[key]

    def warm(self) -> None:
        """Bind all that can be asked for, so that nothing is bound while takes play."""
        for number in range(self.seats):
            self.step(number)
        for takes in self._makers:
            self.step(0, takes)

    def free(self) -> int | None:
        """The first free seat."""
        return next((number for number in range(self.seats) if number not in self.taken), None)

    def holds(self, takes: int) -> int:
        """Takes of the smallest graph that has room for so many."""
        return next(count for count in self._makers if count >= takes)

    def settle(self, number: int) -> None:
        """Nothing is queued for a seat alone any more; waits if something is."""
        step = self._steps.get((number, 1))
        if step is not None and step.queued:
            step.collect()

    def close(self) -> None:
        """Give all memory back."""
        for step in self._steps.values():
            step.close()
        self._steps.clear()
        self.memory.close()


def seats_for(takes: int) -> int:
    """Seats in memory for graphs of so many takes: as many for what does not step with them, as listeners and
    windows to come, and one through which two are exchanged."""
    return 2 * takes + 1


class Seat:
    """A lane's place; where it is can change between steps."""

    def __init__(self, room: Room, number: int) -> None:
        """On a free seat, whose cache is cleared."""
        self.room, self.number = room, number
        step = room.step(number)
        room.taken[number] = self
        room.memory.clear(number)
        step.collect()

    @property
    def step(self) -> DeviceStep:
        """The graph over this seat alone."""
        return self.room.step(self.number)

    def move(self, room: Room, number: int) -> None:
        """To a free seat, with all that lies here."""
        self.room.settle(self.number)
        room.settle(number)
        room.memory.copy_from(number, self.room.memory, self.number)
        self.leave()
        self.room, self.number = room, number
        room.taken[number] = self

    def exchange(self, other: Seat) -> None:
        """Each is where the other was."""
        self.room.settle(self.number)
        other.room.settle(other.number)
        spare = self.room.seats  # beyond those that can be taken
        self.room.memory.copy_from(spare, self.room.memory, self.number)
        self.room.memory.copy_from(self.number, other.room.memory, other.number)
        other.room.memory.copy_from(other.number, self.room.memory, spare)
        self.room, self.number, other.room, other.number = other.room, other.number, self.room, self.number
        self.room.taken[self.number], other.room.taken[other.number] = self, other

    def leave(self) -> None:
        """The seat is free."""
        del self.room.taken[self.number]


def gather(seats: Sequence[Seat], *, least: int = 1) -> tuple[DeviceStep, list[int]]:
    """The smallest graph that holds these and each one's place in it, -1 for those beyond the largest.

    They are brought to the first seats of the first one's room, from other rooms too; who sits there makes way.
    `least`: a graph of at least so many takes.
    """
    room = seats[0].room
    wanted = list(seats[: room.most])
    takes = room.holds(max(len(wanted), least))
    for seat in wanted:
        if seat.room is room and seat.number < takes:
            continue
        number = next(n for n in range(takes) if room.taken.get(n) not in wanted)
        stranger = room.taken.get(number)
        if stranger is None:
            seat.move(room, number)
        else:
            seat.exchange(stranger)
    return room.step(0, takes), [seat.number if seat in wanted else -1 for seat in seats]


def open_room(makers: Mapping[int, ProgramMaker], spec: GpuSpec) -> Room:
    """A new room. DeviceError if the device's memory is full: then nothing stays allocated."""
    room = Room(makers, spec)
    try:
        room.step(0)
    except DeviceError:
        room.close()
        raise
    return room
