"""Takes of several sessions share steps, and play what each would have played alone."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY
from stream_fakes import FixedController

pytest.importorskip("onnx")

from attacca.engine import native
from attacca.engine.batch import BatchRuntime
from attacca.engine.bundle import Model, load_bundle, verify_bundle
from attacca.engine.company import MARGIN_S, Batch, Company, Wish, company_of
from attacca.engine.condition_rows import ConditionRows
from attacca.engine.decoder import PatternDecoder
from attacca.engine.events import ChunkEvent, TakeEnded, TakeRequest
from attacca.engine.generator import Sampling
from attacca.engine.manifest import DECODER_BATCH_ROLE, read_manifest
from attacca.engine.native_lane import NativeBatch
from attacca.engine.pace import Pace, measure_pace
from attacca.engine.service import Engine
from attacca.export.batch import build_decoder_batch, save_batch
from attacca.export.bundle import write_bundle
from attacca.export.decoder import DecoderExport, save_decoder
from attacca.export.tiny import DIM, HEADS, HIDDEN, LAYERS, LAYOUT, WINDOW_FRAMES, random_decoder

pytestmark = pytest.mark.train

needs_kernels = pytest.mark.skipif(native.built() is None, reason="the kernels were not built: no C++ compiler")
RATE, TAKES = 48000, 4
PAYS = Pace(cost=(1.0, 1.2, 1.4, 1.6))


@cache
def tiny_weights() -> dict[str, np.ndarray]:
    """Those of the committed tiny bundle."""
    return random_decoder(
        layers=LAYERS, dim=DIM, hidden=HIDDEN, num_codebooks=4, codebook_size=16, conditioning_width=LAYOUT.width
    )


@cache
def model(pace: Pace | None, steps: str = "cpu") -> Model:
    loaded = load_bundle(TINY, steps=steps)
    if pace is None:
        return loaded
    if steps == "native":
        return replace(loaded, batch=Batch(runtime=NativeBatch(loaded.runtime, TAKES), pace=pace))
    graph = build_decoder_batch(tiny_weights(), DecoderExport(heads=HEADS, window_frames=WINDOW_FRAMES), TAKES)
    runtime = BatchRuntime(graph.SerializeToString(), loaded.runtime)
    return replace(loaded, batch=Batch(runtime=runtime, pace=pace))


def played(found: Model, *, sessions: int = 3, step_s: float = 0.0) -> tuple[dict[int, list[ChunkEvent]], int]:
    """Committed chunks of a take per session over two seconds, with changes on the way; steps that were shared."""
    now = [0.0]

    def clock() -> float:
        now[0] += step_s
        return now[0]

    engine = Engine(found, clock=clock)
    chunks: dict[int, list[ChunkEvent]] = defaultdict(list)
    for number in range(1, sessions + 1):
        engine.open(number, sample_rate=RATE, channels=1, controller=FixedController())
        noise = np.random.default_rng(number).standard_normal(RATE // 2 + 480 * number).astype(np.float32)
        engine.listen(number, 0, 0.1 * noise)
        start = len(noise) + RATE // 4
        sampling = Sampling(seed=number, guidance=1.0 + number)
        request = TakeRequest(take=7, epoch=0, position=len(noise), start_position=start, sampling=sampling)
        engine.advance(number, len(noise))
        engine.start(number, request)
    for tick in range(40):
        while events := engine.work():
            for event in events:
                assert not (isinstance(event, TakeEnded) and event.reason.startswith("error")), event
                if isinstance(event, ChunkEvent) and event.committed:
                    chunks[event.session].append(event)
        if tick == 15:
            engine.set_sampling(1, temperature=0.5)
        if tick == 20:
            engine.replan(2, None)
        if tick == 25 and sessions > 2:
            engine.cancel(3)
        for number in range(1, sessions + 1):
            engine.advance(number, RATE // 2 + 480 * number + (tick + 1) * RATE // 20)
    return chunks, 0 if engine._company is None else engine._company.shared_steps


@pytest.mark.parametrize("steps_by", ["cpu", pytest.param("native", marks=needs_kernels)])
def test_sessions_that_share_play_what_they_play_alone(steps_by: str) -> None:
    alone, none = played(model(None, steps_by))
    shared, steps = played(model(PAYS, steps_by))
    assert none == 0 and steps > 20
    assert len(alone) == 3 and sum(map(len, alone.values())) > 20
    for number, chunks in alone.items():
        assert [(c.position, c.seq) for c in chunks] == [(c.position, c.seq) for c in shared[number]]
        for one, other in zip(chunks, shared[number], strict=True):
            np.testing.assert_array_equal(one.codes, other.codes)
            np.testing.assert_array_equal(one.pcm, other.pcm)


def test_one_take_shares_with_no_one() -> None:
    assert played(model(PAYS), sessions=1)[1] == 0


def wished(company: Company, number: int, frames: int) -> tuple[PatternDecoder, Wish]:
    """A take that has asked once, alone."""
    layout = model(None).conditioning
    decoder = model(None).decoder()
    rows = ConditionRows(FixedController(), TimelineStub(), layout)
    wish = Wish(until_frame=frames, source=rows)
    company.turn(0.0, [])
    company.plan(decoder, wish, SAMPLING, max_steps=1, step_s=0.01)
    return decoder, wish


class TimelineStub:
    def positions(self, first: int, count: int) -> np.ndarray:
        return np.arange(first, first + count, dtype=np.float64)


def ride(slack_s: float, pace: Pace = PAYS, count: int = 4) -> list[int]:
    """Frames that each of some takes has after a turn of the first with so much time."""
    company = Company(Batch(runtime=model(PAYS).batch.runtime, pace=pace))
    takes = [wished(company, number, 30) for number in range(count)]
    company.turn(slack_s, [(decoder, SAMPLING) for decoder, _ in reversed(takes)])
    company.plan(*takes[0], SAMPLING, max_steps=24, step_s=0.01)
    return [decoder.frontier for decoder, _ in takes]


def test_only_what_pays_and_is_in_time_is_shared() -> None:
    """30 frames of 10 ms: alone 0.3 s, by four 0.48, by two 0.36; the most urgent ride first."""
    alone = ride(0.30 + MARGIN_S)
    assert alone[0] > 0 and alone[1:] == [0, 0, 0]
    assert [frames > 0 for frames in ride(0.49 + MARGIN_S)] == [True, True, True, True]
    assert [frames > 0 for frames in ride(0.37 + MARGIN_S)] == [True, False, False, True]
    pairs = Pace(cost=(1.0, 1.5, 3.0, 4.0))
    assert [frames > 0 for frames in ride(9.0, pairs)] == [True, False, False, True]
    assert ride(9.0, Pace(cost=(1.0, 1.9, 2.8, 3.7)))[1:] == [0, 0, 0]
    assert ride(9.0, replace(PAYS, equal=False))[1:] == [0, 0, 0]


def test_what_a_rider_had_is_counted_once() -> None:
    company = Company(model(PAYS).batch)
    (lead, wish), (rider, _) = wished(company, 0, 30), wished(company, 1, 30)
    company.turn(9.0, [(rider, SAMPLING)])
    ran = company.plan(lead, wish, SAMPLING, max_steps=12, step_s=0.01)
    seconds, frames = company.collect(rider)
    assert ran.steps == 10 and company.shared_steps == 10  # 12 steps' time at 1.2 each
    assert frames == rider.frontier > 0 and 0 < seconds <= ran.seconds * 1.01
    assert company.collect(rider) == (0.0, 0)
    company.forget(rider)
    company.turn(9.0, [(rider, SAMPLING)])
    company.plan(lead, wish, SAMPLING, max_steps=1, step_s=0.01)
    assert company.shared_steps == 10


def test_who_has_company() -> None:
    assert company_of(model(None), lambda: 0.0) is None
    assert company_of(object(), lambda: 0.0) is None
    assert company_of(model(Pace(cost=(1.0, 2.0))), lambda: 0.0) is None
    assert company_of(model(PAYS), lambda: 0.0) is not None
    with pytest.raises(ValueError, match="above 0"):
        Pace(cost=(1.0, 0.0))


def test_pace_is_measured_with_the_bits() -> None:
    batch, single = model(PAYS).batch.runtime, model(PAYS).runtime
    pace = measure_pace(single, batch, rows=5)
    assert len(pace.cost) == TAKES and pace.cost[0] == 1.0 and pace.equal
    weights = {name: 1.01 * array for name, array in tiny_weights().items()}
    graph = build_decoder_batch(weights, DecoderExport(heads=HEADS, window_frames=WINDOW_FRAMES), TAKES)
    assert not measure_pace(single, BatchRuntime(graph.SerializeToString(), single), rows=5).equal


def bundle_with(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    """The tiny bundle with a graph of several takes that says it is over its weights."""
    shutil.copytree(TINY, folder)
    written = read_manifest(folder)
    save_decoder(folder / "other.onnx", weights, DecoderExport(heads=HEADS, window_frames=WINDOW_FRAMES))
    graph = build_decoder_batch(weights, DecoderExport(heads=HEADS, window_frames=WINDOW_FRAMES), TAKES)
    save_batch(graph, folder / "other.onnx")
    fields = {name: getattr(written, name) for name in msgspec.structs.asdict(written)}
    del fields["format_version"], fields["files"]
    files = {role: entry.path for role, entry in written.files.items()}
    write_bundle(folder, fields, {**files, DECODER_BATCH_ROLE: "decoder_batch.onnx", "weights": "other.onnx"})
    return folder


def test_a_bundle_is_served_by_what_it_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Pace] = []

    def measure(*given: Any, **named: Any) -> Pace:
        measured.append(replace(measure_pace(*given, **named), cost=PAYS.cost))
        return measured[-1]

    monkeypatch.setattr("attacca.engine.bundle.measure_pace", measure)
    folder = bundle_with(tmp_path / "own", tiny_weights())
    assert verify_bundle(folder) == []
    assert load_bundle(folder).batch is None and measured == []  # one take: nothing is loaded or measured
    assert load_bundle(TINY, several=True).batch is None and measured == []
    shared = load_bundle(folder, several=True).batch
    assert shared is not None and shared.pace.equal and shared.runtime.takes == TAKES
    strangers = bundle_with(tmp_path / "foreign", {name: 1.01 * w for name, w in tiny_weights().items()})
    assert load_bundle(strangers, several=True).batch is None and not measured[-1].equal
