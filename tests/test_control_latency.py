"""Control latency: what the engine says of it is where sound first differs, and a late word of it adds nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from stream_fakes import MODEL_RATE, Host, IndexDecoder, IndexModel, request
from test_beat_take import LooseModel

from attacca.bridge import demo_measure
from attacca.bridge.bench_live import control_s
from attacca.bridge.client_network import Arrival
from attacca.bridge.demo_measure import Trace
from attacca.bridge.protocol import Chunk, Status
from attacca.engine.events import TakeEnded
from attacca.engine.pattern import PATTERN_NAMES, Pattern, make_pattern, simulate
from attacca.engine.stream import Costs, StreamConfig

START = 42000
DELAY = 2048


class MarkDecoder(IndexDecoder):
    """A sample is the mark of its frame and a tenth of that of the frame DELAY later, as where frames overlap."""

    def push(self, codes: np.ndarray) -> np.ndarray:
        fresh = np.repeat(codes[:, 2].astype(np.float32), 640)
        joined = np.concatenate([self.tail, fresh])
        self.tail = joined[len(fresh) :]
        return joined[: len(fresh)] + 0.1 * fresh


@dataclass
class MarkModel(IndexModel):
    delay_samples: int = DELAY

    def decoder(self) -> MarkDecoder:
        return MarkDecoder(DELAY)


@dataclass
class PatternModel(MarkModel):
    """Says how soon a frame that enters is complete."""

    pattern: Pattern = field(default_factory=lambda: make_pattern("stack-delay", 6, p=1))


def played(
    change: int | None, *, late: int = 0, step_s: float = 0.0, model: type[MarkModel] = MarkModel
) -> tuple[Host, int]:
    """A take whose tempo is another from a position on, and what the engine says of that.

    It is told `late` samples after it; where a step takes `step_s`, a plan may be too dear to be dropped.
    """
    host = Host(MODEL_RATE, model=model(), block=320)
    host.engine.set_realtime(1, step_s > 0)
    host.play(MODEL_RATE)
    host.engine.start(1, request(START, position=MODEL_RATE))
    said = 0
    if change is not None:
        host.play(change + late - host.head)
        host.engine._costs.step_s = step_s
        host.controller.bpm = lambda positions: np.full(len(positions), 60.0)
        host.engine.replan(1, change)
        said = host.engine._sessions[1].takes[1].meters.control_latency_samples
    host.play(90000 - host.head)
    return host, said


@pytest.mark.parametrize("late", [0, 1600])
@pytest.mark.parametrize("step_s", [0.0, 0.03])
def test_the_engine_says_where_sound_first_differs(step_s: float, late: int) -> None:
    """Wherever in a chunk the change falls, also if it was told late. A kept plan is counted in, and more."""
    first, before = played(None)[0].heard()
    seen = set()
    for change in range(60000, 60000 + 5120, 640):
        host, said = played(change, late=late, step_s=step_s)
        at, after = host.heard()
        assert at == first
        differs = first + first_differing(before, after)
        assert said == differs - change if step_s == 0.0 else said > differs - change > 7680
        seen.add(said)
    assert len(seen) > 4  # it hangs on where the change falls


def first_differing(before: np.ndarray, after: np.ndarray) -> int:
    """Of two recordings that begin at the same position."""
    count = min(len(before), len(after))
    return int(np.flatnonzero(after[:count] != before[:count])[0])


def test_a_kept_plan_holds_a_change_up_by_what_has_entered_the_pattern() -> None:
    """Of stack-delay p = 1 and six codebooks five frames, not twice as many as any pattern could hold."""
    first, before = played(None)[0].heard()
    for change in range(60000, 60000 + 5120, 640):
        host, said = played(change, step_s=0.03, model=PatternModel)
        differs = first + first_differing(before, host.heard()[1])
        assert 0 <= said - (differs - change) <= 5 * 640


@pytest.mark.parametrize("name", PATTERN_NAMES)
def test_no_frame_past_the_open_ones_has_begun(name: str) -> None:
    """At most one too many is counted."""
    for pattern in (make_pattern(name, 6, p=p) for p in ((1, 2, 3) if name == "stack-delay" else (1,))):
        costs = Costs(0.02, StreamConfig(), pattern=pattern)
        begun, most, left = -1, 0, dict.fromkeys(range(80), pattern.num_codebooks)
        for computed in simulate(pattern, 80):
            begun = max([begun, *(t for t, _ in computed)])
            for t, _ in computed:
                left[t] -= 1
            frontier = next((t for t, missing in left.items() if missing), 80)
            most = max(most, begun - frontier + 1)
        assert costs.open_frames - 1 <= most <= costs.open_frames


def test_a_control_that_changes_while_a_take_begins_anew_does_not_end_it() -> None:
    """Between a new beginning and its first chunk the codec has yet to begin."""
    host = Host(MODEL_RATE, model=LooseModel(tempo=1.035), block=640, slice_s=0.0, max_slice_frames=1)
    host.play(8 * MODEL_RATE)
    host.engine.start(1, request(host.head))
    began: set[int | None] = set()
    while host.head < 20 * MODEL_RATE:
        host.engine.listen(1, host.head, np.zeros((640, 1), np.float32))
        host.head += 640
        host.engine.advance(1, host.head)
        while batch := host.engine.work():
            host.events += batch
            take = host.engine._sessions[1].takes.get(1)
            if take is None or take.committed_end is None or take._chunker.running:
                continue
            if take.committed_end not in began:
                began.add(take.committed_end)
                host.engine.replan(1, None)
    assert began
    assert not [event.reason for event in host.events if isinstance(event, TakeEnded)]
    host.heard()  # and no gap


def arrival(position: int, *, committed: bool, read_end: int) -> Arrival:
    chunk = Chunk(
        session=1, epoch=1, take=1, seq=0, position=position, ppq=0.0, samples=1000, channels=1, first_frame=0,
        frames=0, committed=committed,
    )  # fmt: skip
    return Arrival(
        at_s=0.0, chunk=chunk, kept_samples=1, read_end=read_end, head=np.zeros((4, 1), np.float32), digest=0
    )


def test_a_status_that_comes_late_makes_no_chunk_count_twice() -> None:
    """The engine had just committed, so no plan stood when the control changed; its word came a chunk later."""
    arrivals = [
        arrival(2000, committed=False, read_end=300),
        arrival(2000, committed=True, read_end=490),
        arrival(3000, committed=False, read_end=600),  # made anew, and the first of its place
        arrival(3000, committed=True, read_end=620),
        arrival(4000, committed=False, read_end=700),
        arrival(4000, committed=True, read_end=800),
    ]
    told = Status(session=1, state="play", control_latency_samples=2500)
    trace = Trace(control_position=500, statuses=[(490, Status(session=1, state="play")), (720, told)])
    samples = demo_measure._told_samples(trace)
    assert demo_measure._control_latency_ms(arrivals, 500, 1000, told=samples) == 2500.0


def test_the_bench_changes_its_control_all_over_a_chunk() -> None:
    """Chunks lie where a take starts: one moment after that would be one place in a chunk, over and over."""
    for runs in (6, 20):
        places = np.sort([control_s(2.5, run) % 0.16 for run in range(runs)])
        assert np.diff(places, append=places[0] + 0.16).max() < 2.0 * 0.16 / runs
