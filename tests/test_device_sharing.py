"""Takes that share steps on a device that is not there play what each plays alone, on whatever seats they are."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from decoder_fixtures import Source, random_codes, tiny_runtime
from fake_gpu import FakeDriver, FakeTensorrt
from gpu_fixtures import tiny_graph, tiny_manifest, tiny_spec

from attacca.engine.decoder import PatternDecoder
from attacca.engine.device import DeviceError
from attacca.engine.device_decoder import DeviceDecoder
from attacca.engine.device_lane import DeviceRuntime
from attacca.engine.device_room import Room, Seat, gather
from attacca.engine.device_sharing import DeviceStepper
from attacca.engine.generator import Sampling
from attacca.engine.ort_device import OrtMaker
from attacca.engine.pattern import make_pattern
from attacca.engine.sharing import Part
from attacca.engine.tensorrt_device import TensorrtMaker

pytestmark = pytest.mark.train
COUNTS, FAR = (1, 2, 4), 10**6
HEARD = (20, 0, 33, 7, 51)
SAMPLINGS = [
    Sampling(seed=number, temperature=0.6 + 0.1 * number, top_k=3 * number, guidance=1.0 + 0.5 * number)
    for number in range(len(HEARD))
]
STACKED = make_pattern("stack-delay", 4, p=3)


@cache
def graph(name: str, takes: int) -> bytes:
    return tiny_graph(tiny_spec(make_pattern(name, 4)), takes)


def device(
    name: str = "stack-delay", kind: str = "ort", *, counts: tuple[int, ...] = COUNTS, **flaws: Any
) -> DeviceRuntime:
    """The tiny decoder with graphs of one, two and four takes."""
    pattern, driver = make_pattern(name, 4, p=3), FakeDriver()
    module = FakeTensorrt(driver, **flaws)

    def maker(takes: int) -> Any:
        found = graph(name, takes)
        return TensorrtMaker(found, driver, module) if kind == "tensorrt" else OrtMaker(found, driver)

    several = {takes: maker(takes) for takes in counts[1:]}
    return DeviceRuntime(maker(1), tiny_spec(pattern), tiny_manifest(pattern), several=several)


def heard(runtime: DeviceRuntime, count: int = len(HEARD)) -> list[DeviceDecoder]:
    pattern, takes = make_pattern(runtime.manifest.pattern.name, 4, p=3), []
    for number in range(count):
        takes.append(DeviceDecoder(runtime, pattern))
        if HEARD[number]:
            takes[-1].listen(random_codes(HEARD[number], number), Source(number).rows(0, HEARD[number]))
    return takes


def exact(name: str, frames: list[int]) -> list[np.ndarray]:
    """What the CPU's own graph plays up to these frames, each alone."""
    pattern, found = make_pattern(name, 4, p=3), []
    for number, stop in enumerate(frames):
        take = PatternDecoder(tiny_runtime(tiny_manifest(pattern)), pattern)
        if HEARD[number]:
            take.listen(random_codes(HEARD[number], number), Source(number).rows(0, HEARD[number]))
        take.plan(stop, Source(number), SAMPLINGS[number])
        found.append(take.read(max(0, stop - 100), stop))
    return found


def part(take: Any, number: int, until: int = FAR) -> Part:
    return Part(generator=take, until_frame=until, source=Source(number), sampling=SAMPLINGS[number])


Command = tuple[str, int, list[int]]


def script(seed: int) -> list[Command]:
    """Takes join and leave at any step, are rolled back and forked on the way."""
    random, found = np.random.default_rng(seed), []
    for _ in range(9):
        what = str(random.choice(["share", "share", "share", "alone", "rollback", "fork"]))
        who = random.permutation(len(HEARD))[: random.integers(1, 6) if what == "share" else 1].tolist()
        found.append((what, int(random.integers(1, 20)), who))
    return [*found, ("share", 4, [2, 0, 1])]


@pytest.mark.parametrize(
    ("name", "kind", "counts"),
    [("stack-delay", "tensorrt", COUNTS), ("delay", "ort", (1, 2)), ("flat", "ort", (1, 2))],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_in_company_and_alone_a_take_has_the_same_tokens(
    name: str, kind: str, counts: tuple[int, ...], seed: int
) -> None:
    """More takes than the largest graph has; of two takes, in two rooms."""
    runtime = device(name, kind, counts=counts)
    takes, stepper = heard(runtime), DeviceStepper(runtime)
    for what, count, who in script(seed):
        take = takes[who[0]]
        if what == "share":
            ran = stepper.plan([part(takes[n], n) for n in who], count)
            assert ran[0] == count and set(ran) <= {0, count}
            assert sum(steps > 0 for steps in ran) == min(counts[-1], len(who))
        elif what == "alone":
            take.plan(FAR, Source(who[0]), SAMPLINGS[who[0]], max_steps=count)
        elif what == "rollback":
            take.rollback(max(HEARD[who[0]], take.frontier - count))
        else:
            takes[who[0]] = take.fork()
            del take
    frames = [take.frontier for take in takes]
    for take, wanted in zip(takes, exact(name, frames), strict=True):
        np.testing.assert_array_equal(take.read(take.frontier - len(wanted), take.frontier), wanted)


def test_the_lead_is_not_waited_for_and_riders_stop_where_they_are_done() -> None:
    runtime = device()
    takes, wanted = heard(runtime, 3), [HEARD[0] + 30, HEARD[1] + 3, HEARD[2] + 60]
    ran = DeviceStepper(runtime).plan([part(take, n, wanted[n]) for n, take in enumerate(takes)], 99)
    assert takes[0].frontier >= wanted[0] and takes[1].frontier >= wanted[1]
    assert ran[2] == ran[0] > ran[1] and takes[2].frontier < wanted[2]
    for take, codes in zip(takes, exact("stack-delay", [take.frontier for take in takes]), strict=True):
        np.testing.assert_array_equal(take.read(take.frontier - len(codes), take.frontier), codes)


class Broken(Source):
    """Fails from a frame on."""

    def __init__(self, frame: int) -> None:
        super().__init__(1)
        self.frame = frame

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        if first_frame + count > self.frame:
            raise RuntimeError("no conditions")
        return super().rows(first_frame, count)


def test_a_riders_failure_is_its_own() -> None:
    runtime = device()
    takes, stepper = heard(runtime, 3), DeviceStepper(runtime)
    parts = [part(take, n) for n, take in enumerate(takes)]
    parts[1] = Part(generator=takes[1], until_frame=FAR, source=Broken(20), sampling=SAMPLINGS[1])
    ran = stepper.plan(parts, 40)
    assert ran[0] == ran[2] == 40 and 0 < ran[1] < 20
    with pytest.raises(RuntimeError, match="no conditions"):
        stepper.plan([parts[1], parts[0]], 5)
    for take, codes in zip(takes, exact("stack-delay", [take.frontier for take in takes]), strict=True):
        np.testing.assert_array_equal(take.read(take.frontier - len(codes), take.frontier), codes)


def test_logits_that_are_not_finite_are_one_takes_own() -> None:
    left = {"steps": 10**9}

    def spoil(views: dict[str, np.ndarray]) -> None:
        left["steps"] -= 1
        if left["steps"] == 0:
            views["checksum"][1] = np.nan

    runtime = device(kind="tensorrt", spoil=spoil)
    takes, stepper = heard(runtime, 3), DeviceStepper(runtime)
    left["steps"] = 5
    ran = stepper.plan([part(take, n) for n, take in enumerate(takes)], 12)
    assert ran == [12, 12, 12] and takes[1].frontier < takes[0].frontier
    again = stepper.plan([part(take, n) for n, take in enumerate(takes)], 4)
    assert again == [4, 4, 4]
    for take, codes in zip(takes, exact("stack-delay", [take.frontier for take in takes]), strict=True):
        np.testing.assert_array_equal(take.read(take.frontier - len(codes), take.frontier), codes)


def test_a_shared_step_is_one_replay_and_binds_nothing_once_the_room_is_warm() -> None:
    runtime = device(kind="tensorrt")
    runtime.warm()
    takes, driver = heard(runtime, 4), runtime.driver
    assert isinstance(driver, FakeDriver)
    held, done, replays = len(driver.sizes), driver.computed, driver.launches
    DeviceStepper(runtime).plan([part(take, n) for n, take in enumerate(takes)], 24)
    assert (len(driver.sizes), driver.computed, driver.launches) == (held, done, replays + 24)


def test_seats_are_given_back_and_what_is_over_goes_into_another_room() -> None:
    runtime = device("stack-delay", counts=(1, 2))
    driver = runtime.driver
    assert isinstance(driver, FakeDriver)
    takes = heard(runtime)  # five takes, two seats for each of two
    assert [len(room.taken) for room in runtime.rooms] == [4, 1]
    stepper = DeviceStepper(runtime)
    assert stepper.plan([part(takes[n], n) for n in (4, 0)], 6) == [6, 6]  # one of them was brought there
    assert stepper.plan([part(takes[n], n) for n in (1, 4)], 6) == [6, 6]
    for take, codes in zip(takes, exact("stack-delay", [take.frontier for take in takes]), strict=True):
        np.testing.assert_array_equal(take.read(take.frontier - len(codes), take.frontier), codes)
    del takes[1:], take
    gc.collect()
    assert sorted(len(room.taken) for room in runtime.rooms) in ([1], [0, 1])
    del takes
    gc.collect()
    assert [len(room.taken) for room in runtime.rooms] == [0]
    runtime.close()
    assert (driver.sizes, driver.staged) == ({}, 0)


def test_a_seat_whose_take_does_not_step_is_not_touched() -> None:
    """Nor by graphs that are bound over it while it waits."""
    runtime = device()
    takes = heard(runtime, 4)
    lane = takes[2].device_lane
    driver, ring = runtime.driver, lane.cache.config

    def kept() -> np.ndarray:
        tensors = lane.seat.room.memory.tensors(lane.seat.number, 1)
        views = [driver.view(t.address, t.nbytes).view(t.dtype).reshape(t.shape) for t in tensors.values()]
        return np.stack([view[:, :, : ring.period].copy() for view in views])

    before = kept()
    assert np.abs(before).sum() > 0.0
    steps = runtime.rooms[0].step(0, 4), runtime.rooms[0].step(0, 2)
    assert len({id(step) for step in steps}) == 2
    ran = DeviceStepper(runtime).plan([part(takes[n], n) for n in (0, 1, 3)], 30)
    assert ran == [30, 30, 30]
    np.testing.assert_array_equal(kept(), before)


def test_who_is_brought_where() -> None:
    runtime = device()
    room = Room(runtime._makers, runtime.spec)
    seats = [Seat(room, number) for number in range(3)]
    assert (room.seats, room.memory.seats) == (8, 9)
    assert gather(seats[:2])[1] == [0, 1]
    step, places = gather([seats[2], seats[0]])  # the one between makes way
    assert (step.takes, places, seats[1].number) == (2, [1, 0], 2)
    assert gather([seats[1]], least=2)[1] == [0]
    step, places = gather(seats)
    assert (step.takes, sorted(places)) == (4, [0, 1, 2])
    others = Room(runtime._makers, runtime.spec)
    full = [*seats, *(Seat(room, number) for number in range(3, 8))]
    stranger = Seat(others, 3)
    step, places = gather([full[7], stranger, *full[4:7]])  # nothing is free, and one is too many
    assert (step.takes, sorted(places)) == (4, [-1, 0, 1, 2, 3])
    assert places[4] == -1 and stranger.room is room
    assert sorted(seat.number for seat in room.taken.values()) == list(range(8))
    assert [(number, seat.number) for number, seat in others.taken.items()] == [(3, 3)]
    for each in (room, others):
        each.close()


def test_a_device_that_fails_is_noted_and_its_takes_are_not_stepped_with_others() -> None:
    runtime = device(kind="tensorrt")
    takes, stepper = heard(runtime, 2), DeviceStepper(runtime)
    assert isinstance(runtime.driver, FakeDriver)
    stranger = PatternDecoder(tiny_runtime(tiny_manifest(STACKED)), STACKED)
    assert [stepper.may(each) for each in (*takes, stranger)] == [True, True, False]
    runtime.driver.fail["launch"] = DeviceError("cuGraphLaunch answers 700")
    with pytest.raises(DeviceError, match="700"):
        stepper.plan([part(take, n) for n, take in enumerate(takes)], 3)
    assert "700" in runtime.failed
