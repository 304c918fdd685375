"""The bench's arithmetic, exactly, on a model and a clock that are fakes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pytest

from attacca.bridge import bench
from attacca.bridge.bench import BenchOptions, Row, measure, ratios, report, subject_of, summarise
from attacca.bridge.cli import app
from attacca.engine.bundle import load_bundle
from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout
from attacca.engine.fake import FakeConfig
from attacca.engine.fake import FakeModel as FakeEngineModel
from attacca.engine.generator import Sampling

TINY = Path(__file__).parent / "data" / "tiny"


class Clock:
    """Time that passes only in calls."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


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

    def plan(self, until: int, source: object, sampling: Sampling, *, max_steps: int) -> int:
        assert max_steps == 1
        assert until > self.frontier
        self.spend("step", 4.0)
        self.frontier += 1
        return 1


@dataclass
class Part:
    """One direction of the codec."""

    model: FakeModel
    name: str

    def push(self, block: np.ndarray) -> np.ndarray:
        if self.name == "encode":
            assert block.shape == ((640,) if self.model.audio_channels == 1 else (640, 2))
            assert np.isfinite(block).all()
            self.model.spend("encode", 2.0)
            return np.zeros((1, 4), np.uint16)
        self.model.spend("decode", 3.0 * len(block))
        return np.zeros(len(block) * 640, np.float32)


def measured() -> dict[str, Row]:
    clock = Clock()
    rows = measure(FakeModel(clock), BenchOptions(steps=200, codec_frames=500), Sampling(), clock_ns=clock)  # type: ignore[arg-type]
    return {row.name: row for row in rows}


def test_every_row_is_what_it_cost() -> None:
    rows = measured()
    assert list(rows) == ["codec encode", "prefill", "decoder step", "codec decode"]
    wanted = {"codec encode": (2.0, 20.0), "prefill": (5.0, 100.0), "decoder step": (4.0, 20.0)}
    wanted["codec decode"] = (15.0, 100.0)
    for name, (cost_ms, audio_ms) in wanted.items():
        row = rows[name]
        assert row.p50_ms == row.p99_ms == row.p999_ms == row.max_ms == cost_ms
        assert row.first_ms == 10 * cost_ms
        assert row.audio_ms == audio_ms
        assert row.rtf == pytest.approx(cost_ms / audio_ms, rel=1e-12)
    assert rows["decoder step"].calls == 180
    assert ratios(list(rows.values())) == {
        "rtf_decoder": pytest.approx(0.2),
        "rtf_codec": pytest.approx(0.15),
        "rtf_total": pytest.approx(0.35),
        "rtf_listening": pytest.approx(0.15),
    }


def test_a_codec_of_two_channels_is_fed_both() -> None:
    clock = Clock()
    model = FakeModel(clock, audio_channels=2)
    rows = measure(model, BenchOptions(steps=200, codec_frames=500), Sampling(), clock_ns=clock)  # type: ignore[arg-type]
    assert [row.name for row in rows] == list(measured())


def test_tails_are_of_steady_calls_only() -> None:
    spent_ns = [10**9] * 5 + list(range(1_000_000, 1_001_000_000, 1_000_000))
    row = summarise("x", "call", 10.0, spent_ns, warm_up=5)
    assert row.calls == 1000
    assert row.first_ms == 1000.0
    assert row.max_ms == 1000.0
    assert row.p50_ms == pytest.approx(500.5)
    assert row.p99_ms == pytest.approx(990.01)
    assert row.p999_ms == pytest.approx(999.001)
    assert row.rtf == pytest.approx(50.05)


def test_the_report_is_json_with_all_that_a_figure_hangs_on() -> None:
    model = load_bundle(TINY)
    subject = subject_of(model, "m", threads=1, sampling=Sampling(guidance=2.0))
    told = json.loads(json.dumps(report(list(measured().values()), subject, options=bench.QUICK)))
    assert {"rows", "ratios", "machine", "versions", "commit", "model", "threads", "options"} == set(told)
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["onnxruntime"]
    assert len(told["rows"]) == 4
    asked = {"name", "p50_ms", "p99_ms", "p999_ms", "max_ms", "rtf", *asdict(subject)}
    assert all(asked <= set(row) for row in told["rows"])
    shape = model.manifest
    assert (subject.pattern, subject.precision) == ("stack-delay", shape.decoder.precision)
    assert (subject.rows, subject.context) == (2 * (shape.num_codebooks + 1), shape.window_frames)
    alone = subject_of(model, "m", threads=1, sampling=Sampling(guidance=1.0))
    assert alone.rows == shape.num_codebooks + 1


def test_the_fake_is_named_as_such() -> None:
    subject = subject_of(FakeEngineModel(manifest=FakeConfig()), "fake", threads=1, sampling=Sampling())
    assert (subject.backend, subject.rows) == ("fake", 0)


def test_options_without_a_steady_part_are_refused() -> None:
    with pytest.raises(ValueError, match="steps 20 is spent by the warm-up"):
        BenchOptions(steps=20)
    with pytest.raises(ValueError, match="context_s 0"):
        BenchOptions(context_s=0.0)


def test_the_constant_source_commands_120_bpm() -> None:
    source = bench.Constant(50.0, DEFAULT_LAYOUT)
    rows = source.rows(0, 100)
    assert rows.shape[0] == 100
    np.testing.assert_array_equal(rows, source.rows(100, 100))  # a bar of 4/4 is 100 frames
    assert not np.array_equal(rows[0], rows[1])


def test_a_real_bundle_is_measured_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Path(__file__).parent / "data" / "tiny"
    assert app(["bench", "--quick", "--json", "--model", str(tiny)], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == ["codec encode", "prefill", "decoder step", "codec decode"]
    for row in told["rows"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"] <= row["max_ms"]
        assert row["rtf"] > 0
    assert app(["bench", "--quick", "--model", str(tiny)], standalone_mode=False) == 0
    assert "decoder step" in capsys.readouterr().out
