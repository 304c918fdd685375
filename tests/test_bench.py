"""The bench's arithmetic, exactly: rows on fakes and a clock they move, bytes of a real graph, a whole report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacca.bridge import bench_growth, bench_path, bench_steps
from attacca.bridge.bench_bytes import cache_bytes, weight_bytes
from attacca.bridge.bench_rows import Subject, as_json, summarise
from attacca.bridge.bench_steps import Constant, StepJob
from attacca.engine.bundle import load_bundle
from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout
from attacca.engine.decoder import PatternDecoder
from attacca.engine.fake import FakeConfig
from attacca.engine.fake import FakeModel as FakeEngineModel
from attacca.engine.generator import Sampling
from attacca.engine.onnx_weights import initializers
from attacca.engine.pattern import make_pattern
from attacca.engine.runtime import StepLane

TINY = Path(__file__).parent / "data" / "tiny"
SUBJECT = Subject(
    model="m", pattern="stack-delay p=3", backend="b", precision="int8", threads=1, rows=10, context=48
)
ASKED = {
    *("name", "model", "pattern", "backend", "precision", "threads", "rows", "context"),
    *("p50_ms", "p99_ms", "p999_ms", "max_ms", "rtf", "bytes_per_step", "bandwidth_fraction"),
}


class Clock:
    """Time that passes only in calls."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def seconds(self) -> float:
        return self.now_ns / 1e9


@dataclass
class FakeModel:
    """Codec and generator of a model in one: every call costs a fixed time, the first ten times as much."""

    clock: Clock
    sample_rate: int = 32000
    hop_samples: int = 640
    num_codebooks: int = 4
    audio_channels: int = 1
    conditioning: ConditioningLayout = DEFAULT_LAYOUT
    frontier: int = 0
    longest: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def spend(self, name: str, milliseconds: float) -> None:
        first = self.calls.setdefault(name, 0) == 0
        self.calls[name] += 1
        self.clock.now_ns += round(milliseconds * 1e6 * (10 if first else 1))

    @property
    def codec(self) -> FakeModel:
        return self

    def generator(self) -> FakeModel:
        return self

    def encoder(self) -> Part:
        return Part(self, "encode")

    def decoder(self) -> Part:
        return Part(self, "decode")

    def listen(self, codes: np.ndarray, conditions: np.ndarray) -> None:
        assert len(codes) == len(conditions)
        self.spend("listen", 1.0 * len(codes))
        self.frontier += len(codes)

    def plan(self, until: int, source: object, sampling: Sampling, *, max_steps: int | None = None) -> int:
        assert until > self.frontier
        steps = until - self.frontier if max_steps is None else max_steps
        for _ in range(steps):
            self.spend("step", 4.0)
        self.frontier += steps
        self.longest = max(self.longest, self.frontier)
        return steps

    def rollback(self, to_frame: int) -> None:
        self.spend("rollback", 7.0)
        self.frontier = to_frame


@dataclass
class Part:
    """One direction of the codec."""

    model: FakeModel
    name: str

    def push(self, block: np.ndarray) -> np.ndarray:
        if self.name == "encode":
            assert block.shape == ((8 * 640,) if self.model.audio_channels == 1 else (8 * 640, 2))
            assert np.isfinite(block).all()
            self.model.spend("encode", 16.0)
            return np.zeros((8, 4), np.uint16)
        self.model.spend("decode", 3.0 * len(block))
        return np.zeros(len(block) * 640, np.float32)


def fakes(model: FakeModel) -> Any:
    return model


@pytest.mark.parametrize("channels", [1, 2])
def test_every_codec_row_is_what_it_cost(channels: int) -> None:
    clock = Clock()
    model = FakeModel(clock, audio_channels=channels)
    rows = bench_path.codec_rows(fakes(model), SUBJECT, frames=400, clock_ns=clock)
    assert [row.name for row in rows] == ["codec encode", "prefill", "codec decode"]
    for row, cost_ms in zip(rows, (16.0, 8.0, 24.0), strict=True):
        assert row.p50_ms == row.p99_ms == row.p999_ms == row.max_ms == cost_ms
        assert row.first_ms == 10 * cost_ms
        assert (row.audio_ms, row.calls) == (160.0, 30)
        assert row.rtf == pytest.approx(cost_ms / 160.0, rel=1e-12)
    assert rows[1].subject == SUBJECT
    assert (rows[0].subject.pattern, rows[0].subject.rows) == ("", 0)


def test_tails_are_of_steady_calls_only() -> None:
    spent_ns = [10**9] * 5 + list(range(1_000_000, 1_001_000_000, 1_000_000))
    row = summarise(
        "x", spent_ns, group="g", call="c", subject=SUBJECT, audio_ms=10.0, warm_up=5, bytes_per_step=10**9,
        bandwidth=4e9,
    )  # fmt: skip
    assert row.calls == 1000
    assert row.first_ms == 1000.0
    assert row.max_ms == 1000.0
    assert row.p50_ms == pytest.approx(500.5)
    assert row.p99_ms == pytest.approx(990.01)
    assert row.p999_ms == pytest.approx(999.001)
    assert row.rtf == pytest.approx(50.05)
    assert row.bandwidth_fraction == pytest.approx(1.0 / 0.5005 / 4.0)
    assert set(as_json(row)) >= ASKED
    with pytest.raises(ValueError, match="x: nothing was measured"):
        summarise("x", [], group="g", call="c", subject=SUBJECT, audio_ms=None)


def test_a_short_context_is_held_and_a_full_window_runs_on() -> None:
    clock = Clock()
    model = FakeModel(clock)
    common: dict[str, Any] = {
        "window": 100,
        "codebook_size": 16,
        "source": Constant(50.0, DEFAULT_LAYOUT),
        "sampling": Sampling(),
        "clock_ns": clock,
    }
    delay = make_pattern("delay", 4)
    spent = bench_steps.time_steps(fakes(model), StepJob(pattern=delay, context=40, steps=200), **common)
    assert (len(spent), set(spent[1:])) == (200, {4_000_000})
    assert (model.longest, model.calls["rollback"]) == (40 + 64, 3)
    full = FakeModel(Clock())
    bench_steps.time_steps(fakes(full), StepJob(pattern=delay, context=500, steps=200), **common)
    assert (full.longest, full.calls.get("rollback")) == (100 + 200, None)
    flat = FakeModel(Clock())
    bench_steps.time_steps(fakes(flat), StepJob(pattern=make_pattern("flat", 4), context=40, steps=30), **common)
    assert flat.longest == 10 + 30  # a frame fills four slots
    cut = StepJob(pattern=delay, context=500, steps=10_000, limit_s=1.0)
    assert len(bench_steps.time_steps(fakes(FakeModel(clock)), cut, **common)) == pytest.approx(241, abs=1)
    least = StepJob(pattern=delay, context=40, steps=10_000, limit_s=0.0)
    assert len(bench_steps.time_steps(fakes(FakeModel(clock)), least, **common)) == 40
    with pytest.raises(ValueError, match="20 steps at context 5"):
        StepJob(pattern=delay, context=5, steps=20)


def test_step_rows_count_rows_bytes_and_audio() -> None:
    model = load_bundle(TINY)
    shape = model.runtime.shape
    tensors = {tensor.name: tensor for tensor in initializers(TINY / "decoder.onnx")}
    k, v, dim = shape.num_codebooks, shape.codebook_size, shape.heads * shape.head_dim
    assert tensors["tok_emb"].elements == k * (v + 1) * dim
    assert tensors["layers.1.ffn_in.weight"].read_bytes == 4 * 2 * 64 * dim
    assert sum(tensors[f"heads.{i}"].elements for i in range(k)) == k * v * dim
    matrices = [t for name, t in tensors.items() if name.startswith(("layers", "heads", "norm", "cond"))]
    whole = weight_bytes(list(tensors.values()))
    assert 0 <= whole - sum(t.read_bytes for t in matrices) < 1000  # and a few indices
    assert cache_bytes(shape, 7) == 7 * (2 * 2 * shape.layers * dim * 4)
    for name, p, rows, share in (("stack-delay", 3, 2 * (k + 1), 1), ("delay", 1, 2, 1), ("flat", 1, 2, k)):
        pattern = make_pattern(name, k, p=p)
        row = bench_steps.step_row(
            model.runtime,
            StepJob(pattern=pattern, context=20, steps=25),
            SUBJECT,
            weights=whole,
            cache_slot=cache_bytes(shape, 1),
            frame_ms=20.0,
            source=Constant(50.0, model.conditioning),
            sampling=Sampling(),
            bandwidth=1e9,
        )
        assert (row.subject.rows, row.subject.context, row.audio_ms) == (rows, 20, 20.0 / share)
        assert row.bytes_per_step == whole + cache_bytes(shape, 20)
        assert row.bandwidth_fraction == pytest.approx(row.bytes_per_step / row.p50_ms / 1e6)


@pytest.mark.parametrize("graph", [b"", b"\x00" * 40, b"\x3a\x03\x2a\x01\x08", b"\x3a\x7f\x2a", b"\x0c\x00"])
def test_what_is_no_graph_is_refused(graph: bytes) -> None:
    with pytest.raises(ValueError, match=r"no graph|no protobuf|beyond its message|is of type"):
        initializers(graph)


def test_halves_are_read_as_the_floats_they_become() -> None:
    tensor = b"\x08\x03\x08\x05\x10\x0a\x42\x01w"  # dims 3, 5; type float16; name w
    (found,) = initializers(b"\x3a" + bytes([len(tensor) + 2]) + b"\x2a" + bytes([len(tensor)]) + tensor)
    assert (found.name, found.elements, found.item_bytes, found.read_bytes) == ("w", 15, 2, 60)


def test_a_slowed_runtime_shows_up_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_bundle(TINY)
    job = StepJob(pattern=model.pattern, context=10, steps=40)

    def median() -> float:
        decoder = PatternDecoder(model.runtime, model.pattern)
        source = Constant(50.0, model.conditioning)
        spent = bench_steps.time_steps(
            decoder, job, window=48, codebook_size=16, source=source, sampling=Sampling()
        )
        return float(np.median(spent[job.warm_up :])) / 1e6

    plain, run = median(), StepLane.run

    def slowed(*args: Any, **rest: Any) -> None:
        time.sleep(0.01)
        run(*args, **rest)

    monkeypatch.setattr(StepLane, "run", slowed)
    assert median() >= 10.0 > plain


def test_the_whole_path_of_many_takes_costs_what_their_steps_cost() -> None:
    clock = Clock()

    def cost(steps: int) -> None:
        clock.now_ns += 2_000_000 * steps

    rows = []
    for takes in (1, 3):
        model = FakeEngineModel(manifest=FakeConfig(cost=cost))
        rows.append(
            bench_path.whole_path_row(fakes(model), SUBJECT, Sampling(), seconds=4.0, takes=takes, clock_ns=clock)
        )
    alone, three = rows
    assert alone.rtf is not None and three.rtf is not None
    assert 0.1 <= alone.rtf < 0.12  # 2 ms a frame of 20 ms, and what the beginning costs
    assert three.rtf == pytest.approx(3 * alone.rtf, rel=0.02)
    assert (alone.p50_ms, three.p50_ms) == (16.0, pytest.approx(48.0, abs=16.0))  # a chunk of 8 frames
    assert (alone.audio_ms, three.takes) == (pytest.approx(160.0, abs=0.1), 3)
    assert bench_path.takes_that_fit([alone, three]) == 3


def test_queue_wire_and_resampler_are_crossed() -> None:
    model = fakes(FakeEngineModel(manifest=FakeConfig()))
    rows = [bench_path.queue_row(SUBJECT, calls=30), bench_path.wire_row(SUBJECT, calls=30)]
    rows += bench_path.resample_rows(model, SUBJECT, calls=30)
    assert [row.name for row in rows] == ["queue", "wire", "resample in", "resample out"]
    assert [row.calls for row in rows] == [15] * 4
    assert all(row.p50_ms > 0 for row in rows)
    assert [row.audio_ms for row in rows[2:]] == [pytest.approx(512e3 / 44100), pytest.approx(160.0)]


def test_a_take_that_grows_dearer_is_seen_to() -> None:
    clock = Clock()
    model = FakeModel(clock)
    plan: Callable[..., int] = model.plan

    def dearer(*args: Any, **rest: Any) -> int:
        clock.now_ns += model.frontier * 80_000
        return plan(*args, **rest)

    common: dict[str, Any] = {
        "heard_frames": 40, "num_codebooks": 4, "codebook_size": 16, "frame_s": 0.02, "seconds": 4.0,
        "source": Constant(50.0, DEFAULT_LAYOUT), "sampling": Sampling(), "clock_ns": clock,
    }  # fmt: skip
    flat = bench_growth.take_length(fakes(model), **common)
    assert (flat.x[0], flat.x[-1], len(flat.x)) == (0.48, 4.0, 10)  # whole chunks of 8 frames
    assert set(flat.p50_ms[1:]) == {4.0}
    assert bench_growth.growth(flat) == 1.0
    model.plan = dearer  # type: ignore[method-assign]
    grown = bench_growth.growth(bench_growth.take_length(fakes(model), **common))
    assert grown is not None and grown > 1.2
