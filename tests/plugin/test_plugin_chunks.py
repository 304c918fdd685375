"""The plugin's network half taking in chunks: against the reference client's, and garbage."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_network import RATE, RING, Bench, open_session, welcome

from attacca.bridge import protocol
from attacca.bridge.client_network import Due, NetworkHalf
from attacca.bridge.protocol import ENGINE_TAKES_FROM, Chunk, Hello, Status
from attacca.bridge.ring import PositionRing

pytestmark = pytest.mark.plugin


@pytest.fixture
def bench(native: Native) -> Iterator[Bench]:
    with Bench(native.library, ring=RING) as made:
        yield made


def a_chunk(**changes: object) -> Chunk:
    fields: dict[str, object] = {
        "session": 1, "epoch": 1, "take": 1, "seq": 0, "position": 0, "ppq": 0.0, "samples": 10, "channels": 1,
        "first_frame": 0, "frames": 1, "committed": True,
    }  # fmt: skip
    return Chunk(**(fields | changes))  # type: ignore[arg-type]


def test_garbage_only_costs_counters(bench: Bench) -> None:
    open_session(bench)
    chance = random.Random(1)
    good = [bytes(frame) for frame in protocol.encode(a_chunk(), bytes(40))]
    for _ in range(2000):
        frames = [bytearray(frame) for frame in good]
        if chance.random() < 0.5:
            frames = [bytearray(chance.randbytes(chance.randrange(80))) for _ in range(chance.randrange(4))]
        elif frames[0]:
            for _ in range(chance.randrange(1, 5)):
                frames[0][chance.randrange(len(frames[0]))] = chance.randrange(256)
        bench.raw(*[bytes(frame) for frame in frames])
        bench.pump()
    bench.pump()
    assert bench.meters["bad_messages"] > 1000
    bench.feed(Status(session=1, state="listening"))
    bench.pump()
    assert bench.text("state") in ("listening", "")


class Silent:
    """A link with nobody at the other end."""

    def __init__(self) -> None:
        self.coming: list[list[bytes]] = []

    def send(self, frames: object) -> bool:
        return True

    def receive(self, timeout_s: float) -> list[bytes] | None:
        return self.coming.pop(0) if self.coming else None

    def reopen(self) -> None: ...
    def close(self) -> None: ...


CHUNKS = st.builds(
    a_chunk,
    session=st.sampled_from([1, 1, 1, 1, 2]),
    epoch=st.integers(1, 2),
    take=st.sampled_from([1, 2, ENGINE_TAKES_FROM]),
    seq=st.integers(0, 6),
    position=st.integers(0, 3000),
    samples=st.integers(0, 400),
    channels=st.sampled_from([1, 1, 1, 2]),
    committed=st.booleans(),
    last=st.booleans(),
)
STEPS = st.one_of(
    st.tuples(st.just("chunk"), CHUNKS, st.booleans()),
    st.tuples(st.just("due"), st.integers(1, 4), st.sampled_from([(1, 1), (1, 2), (2, 1), (1, ENGINE_TAKES_FROM)])),
    st.tuples(st.just("read"), st.integers(1, 300), st.none()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=40))
def test_chunks_are_taken_in_as_the_reference_takes_them(native: Native, steps: list[tuple]) -> None:
    ring, link = PositionRing(capacity_samples=RING, channels=1), Silent()
    hello = Hello(client="x", sample_rate=RATE, channels=1)
    reference = NetworkHalf(link, hello, ring, lambda: 0.0)
    link.coming.append([bytes(frame) for frame in protocol.encode(welcome())])
    reference.pump(0.0)
    with Bench(native.library, ring=RING) as bench:
        open_session(bench)
        notes = bench.notes()
        position, generation = 0, 0
        for kind, value, more in steps:
            if kind == "chunk":
                samples = (np.arange(value.samples * value.channels) + value.seq * 1000 + 1).astype("<f4")
                if not more and value.samples > 300:
                    samples[7] = np.nan if value.samples % 2 else -3e38
                frames = [bytes(frame) for frame in protocol.encode(value, samples.tobytes())]
                link.coming.append(frames)
                bench.raw(*frames)
            elif kind == "due":
                generation += 1
                reference.due = (*reference.due[-7:], Due(generation=generation, epoch=more[0], take=more[1]))
                bench.call("due", generation, *more)
                bench.pump()
                reference.pump(0.0)  # held chunks are placed before the cut in both
                ring.cut(position + value, generation)
                assert bench.call("cut", position + value, generation)
            else:
                ours, sources = bench.read(position, value)
                theirs = ring.read(position, value)
                np.testing.assert_array_equal(ours, theirs.samples)
                np.testing.assert_array_equal(sources, theirs.sources)
                position += value
            reference.pump(0.0)
            bench.pump()
            notes += bench.notes()
        meters, counts = bench.meters, reference.counts
        for name in ("lost_chunks", "disordered_chunks", "bad_messages"):
            assert meters[name] == counts[name], name
        foreign = counts["stale_chunks"] + counts["foreign_chunks"] + counts["broken_chunks"]
        assert meters["stale_chunks"] + meters["broken_chunks"] == foreign
        assert meters["chunks"] == reference.arrived
        ended = [(note.epoch, note.take, note.position) for note in notes if note.kind == "ended"]
        assert ended == list(reference.ended)
        claimed = dict.fromkeys((chunk.epoch, chunk.take) for chunk in reference.unclaimed)
        assert [(n.epoch, n.take) for n in notes if n.kind == "unclaimed"] == list(claimed)
        firsts = [(n.generation, n.position) for n in notes if n.kind == "first"]
        assert firsts[-1:] == ([] if reference.first_committed is None else [reference.first_committed])
