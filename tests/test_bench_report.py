"""The bench as a whole: ratios, live figures, neighbours, the memory probe, a plan carried out, the command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bench import ASKED, SUBJECT, TINY

from attacca.bridge import bench, bench_growth, bench_line, bench_live
from attacca.bridge.bench_bandwidth import probe
from attacca.bridge.bench_neighbours import Neighbours
from attacca.bridge.bench_plan import QUICK, BenchOptions, Plan, Report, subject_of
from attacca.bridge.bench_rows import Row, summarise
from attacca.bridge.bench_steps import Constant
from attacca.bridge.cli import app
from attacca.engine import native
from attacca.engine.bundle import load_bundle
from attacca.engine.conditioning import DEFAULT_LAYOUT
from attacca.engine.fake import FakeConfig
from attacca.engine.fake import FakeModel as FakeEngineModel
from attacca.engine.generator import Sampling


def test_the_probe_counts_the_bytes_it_moves() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    found = probe([1], buffer_bytes=3 << 20, clock=clock)["1"]
    assert found == {
        "read": pytest.approx((1 << 20) / 0.001, rel=0.01),
        "copy": pytest.approx((2 << 20) / 0.001, rel=0.01),
        "triad": pytest.approx((5 << 20) / 0.001, rel=0.01),
    }
    both = probe([2, 1, 2], buffer_bytes=3 << 20)
    assert list(both) == ["1", "2"] and all(value > 0 for value in both["2"].values())


def test_neighbours_are_there_and_then_gone() -> None:
    with Neighbours(2) as there:
        processes = there.processes
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.poll() is not None for process in processes)
    with pytest.raises(ValueError, match=r"neighbours -1 is outside 0\.\.256"):
        Neighbours(-1)


def row(name: str, rtf: float, *, takes: int = 1, busy: int = 0, **subject: Any) -> Row:
    spent_ns = [round(rtf * 20e6)]
    return summarise(
        name, spent_ns, group="step", call="", subject=replace(SUBJECT, **subject), audio_ms=20.0, takes=takes,
        busy=busy,
    )  # fmt: skip


def test_ratios_compare_what_differs_in_one_thing() -> None:
    rows = [
        row("decoder step", 0.3),
        row("decoder step", 0.2, pattern="delay", rows=2),
        row("decoder step", 0.15, threads=2),
        row("decoder step", 0.6, backend="other"),
        row("decoder step", 0.45, backend="other", threads=3),
        row("decoder step", 0.1, context=24),
        row("whole path", 0.4),
        row("whole path", 0.8, takes=2),
        row("whole path", 0.6, busy=2),
    ]
    flat = bench_growth.Series(against="take length", unit="s", of="frame", x=[1.0, 2.0], p50_ms=[4.0, 5.0])
    assert bench.ratios(rows, [flat]) == {
        "stack-delay p=3 against delay": 1.5,
        "b against other": 0.5,
        "2 threads against 1": 0.5,
        "3 threads against 1": 0.75,
        "whole path, 2 takes against one take alone": 2.0,
        "whole path, 2 busy neighbours against one take alone": 1.5,
        "end of the longest take against its beginning": 1.25,
    }
    assert bench.totals(rows) == {"rtf_decoder": pytest.approx(0.3), "rtf_total": pytest.approx(0.4)}
    takes, context = bench_growth.series_of(rows)
    assert (takes.x, context.x) == ([1.0, 2.0], [24.0, 48.0])
    assert context.p50_ms == [pytest.approx(2.0), pytest.approx(6.0)]


def test_live_figures_come_from_what_was_heard() -> None:
    def heard(ttfa: float | None, error: int | None, holes: int, sound: float | None) -> bench_live.Run:
        told = {"ttfa_ms": ttfa, "start_error_samples": error, "underruns": {"callbacks": holes}}
        return bench_live.Run(measures=told, sound_ms=sound, played_s=60.0)

    found = bench_live.Found()
    runs = [heard(100.0, 0, 0, 130.0), heard(120.0, -2, 0, 150.0), heard(None, None, 0, None)]
    options = bench_live.LiveOptions(engine_arguments=(), runs=3, lead_s=1.0, play_s=1.0, long_s=1.0, busy=2)
    bench_live._durations(found, SUBJECT, runs, runs, runs)
    bench_live._counts(found, options, runs, runs, [heard(1.0, 0, 3, 9.0)], [heard(None, None, 0, None)])
    rows = {row.name: row for row in found.rows}
    assert rows["TTFA, cold"].p50_ms == pytest.approx(110.0)
    assert rows["trigger to sound, immediate"].max_ms == 150.0
    assert "control latency" not in rows
    assert "TTFA, cold: 1 of 3 runs gave no figure" in found.left_out
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures == {
        "trigger-to-audio jitter": 10.0,
        "alignment error": 2.0,
        "underruns": 180.0,
        "underruns, 2 neighbours": None,
    }


def test_the_subject_is_read_from_the_bundle_and_the_fake_is_named_as_such() -> None:
    model = load_bundle(TINY)
    subject = subject_of(model, "m", threads=1)
    shape = model.manifest
    assert (subject.pattern, subject.precision) == ("stack-delay p=3", shape.decoder.precision)
    assert (subject.rows, subject.context) == (2 * (shape.num_codebooks + 1), shape.window_frames)
    fake = subject_of(FakeEngineModel(manifest=FakeConfig()), "fake", threads=1)
    assert (fake.backend, fake.rows) == ("fake", 0)
    with pytest.raises(ValueError, match="bench parts nonsense, allowed: steps"):
        BenchOptions(parts=("steps", "nonsense"))


def test_a_plan_measures_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model, options = load_bundle(TINY), replace(QUICK, steps=22, buffer_bytes=1 << 20)
    options = replace(
        options,
        codec_frames=40,
        calls=4,
        path_s=0.5,
        growth_s=1.0,
        parts=("steps", "path", "growth"),
        chunks=3,
        line_rounds=2,
    )
    plan = Plan(model, "tiny", Sampling(), options, threads=1, cores=2, folder=TINY, reload=lambda *asked: model)
    report = Report()
    for job in plan.jobs():
        job.do(report)
    told = json.loads(json.dumps(bench.as_report(report, plan.subject, options)))
    assert {"rows", "ratios", "machine", "versions", "commit"} <= set(told)
    assert (told["quick"], told["options"]["steps"]) == (True, 22)
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["onnxruntime"]
    assert all(set(row) >= ASKED for row in told["rows"])
    steps = [row for row in told["rows"] if row["group"] == "step"]
    patterns = [f"stack-delay p={p}" for p in (3, 3, 3)] + ["delay", "flat", "stack"]
    assert [row["pattern"] for row in steps] == [*patterns, "stack-delay p=1", "stack-delay p=2", "stack-delay p=3"]
    assert [row["context"] for row in steps[:4]] == [48, 24, 12, 48]
    assert steps[-1]["threads"] == 2
    assert all(0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"] <= row["max_ms"] for row in told["rows"])
    assert [(row["takes"], row["busy"]) for row in told["rows"] if row["name"] == "whole path"] == [
        (1, 0), (2, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert [series["against"] for series in told["growth"]] == ["take length", "takes at once", "context"]
    assert told["ratios"]["stack-delay p=3 against delay"] > 0
    assert [(chunk["busy"], chunk["chunks"] >= 3) for chunk in told["chunks"]] == [(0, True), (1, True), (2, True)]
    assert all(chunk["in_time"] == (chunk["p999"] < 1.0) for chunk in told["chunks"])
    (line,) = told["lines"]
    assert (line["delay_rows"], line["stack_rows"]) == (4, 2 * (model.manifest.num_codebooks + 1))
    assert len(line["rows"]) == len(line["p50_ms"]) and line["core_gmacs"] > 0
    assert set(told["bandwidth"]) == {"1", "2"}


@pytest.mark.skipif(native.built() is None, reason="the kernels were not built: no C++ compiler")
def test_rows_say_which_kernels_ran_and_onnxruntime_stands_beside_ours() -> None:
    ours, asked = load_bundle(TINY, steps="native"), []

    def reload(threads: int, backend: str) -> Any:
        asked.append((threads, backend))
        return load_bundle(TINY, threads=threads)

    options = replace(QUICK, steps=22, buffer_bytes=1 << 20, parts=("steps",), line_rounds=2)
    plan = Plan(ours, "tiny", Sampling(), options, threads=1, cores=2, folder=TINY, reload=reload)
    report = Report()
    for job in plan.jobs():
        job.do(report)
    told = bench.as_report(report, plan.subject, options)
    found = [(row["backend"], row["threads"], row["pattern"]) for row in told["rows"]]
    pattern = "stack-delay p=3"
    assert found[0] == ("native", 1, pattern)
    assert found[-2:] == [("onnxruntime-cpu", 1, pattern), ("onnxruntime-cpu", 2, pattern)]
    assert all(backend == "native" for backend, *_ in found[:-2]) and len(found) > 8
    assert asked == [(1, "cpu"), (2, "cpu")]
    assert told["ratios"]["native against onnxruntime-cpu"] > 0.0
    assert told["ratios"]["2 threads against 1"] > 0.0
    assert told["lines"][0]["backend"] == "native"
    assert told["lines"][0]["delay_rows"] == 2  # a single row is as good as several


def test_a_budget_cuts_lengths_and_says_so() -> None:
    whole, cut = BenchOptions(), BenchOptions().within(20.0)
    assert (cut.minutes, cut.steps, cut.chunks) == (20.0, whole.steps, whole.chunks)
    assert whole.step_limit_s is None and cut.step_limit_s == pytest.approx(44.0)
    assert cut.shape_limit_s is not None and cut.context_limit_s is not None
    assert cut.shape_limit_s < cut.context_limit_s < cut.step_limit_s
    assert cut.growth_s < whole.growth_s and cut.live_runs < whole.live_runs and cut.long_s < whole.long_s
    assert json.loads(json.dumps(asdict(cut), allow_nan=False))["minutes"] == 20.0
    with pytest.raises(ValueError, match="bench minutes 2 is below 5"):
        whole.within(2.0)


def test_a_line_says_what_a_row_may_cost() -> None:
    line = bench_line.Line(
        model="m", backend="b", precision="int8", context=8, rows=[4, 14], p50_ms=[1.4, 2.4], shared_ms=1.0,
        row_ms=0.1, row_macs=6_000_000, core_gmacs=50.0, delay_rows=4, stack_rows=14, ratio=1.714,
    )  # fmt: skip
    wanted = line.wanted_row_ms
    assert (1.0 + 14 * wanted) / (1.0 + 4 * wanted) == pytest.approx(1.35)


def test_the_constant_source_commands_120_bpm() -> None:
    source = Constant(50.0, DEFAULT_LAYOUT)
    rows = source.rows(0, 100)
    assert rows.shape[0] == 100
    np.testing.assert_array_equal(rows, source.rows(100, 100))  # a bar of 4/4 is 100 frames
    assert not np.array_equal(rows[0], rows[1])


def test_the_command_writes_json_and_pictures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(
        QUICK, steps=21, codec_frames=40, calls=4, path_s=0.3, growth_s=0.5, line_rounds=2, buffer_bytes=1 << 20
    )
    monkeypatch.setattr(bench, "QUICK", small)
    flags = ["bench", "--quick", "--model", str(TINY), "--only", "steps", "--only", "growth"]
    file, plots = tmp_path / "b.json", tmp_path / "plots"
    assert app([*flags, "--json", str(file), "--plot", str(plots)], standalone_mode=False) == 0
    told = json.loads(file.read_text())
    assert told["model"] == "tiny" and asdict(small)["steps"] == told["options"]["steps"]
    assert {path.name for path in plots.iterdir()} == {"growth.png", "steps.png"}
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in plots.iterdir())
    assert "stack-delay p=3" in capsys.readouterr().out
    assert app([*flags, "--json", "-"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out)["rows"]


@pytest.mark.slow
def test_the_live_part_plays_an_engine_in_real_time() -> None:
    flags = ("--fake", "--log-level", "warning")
    options = bench_live.LiveOptions(engine_arguments=flags, runs=2, lead_s=1.0, play_s=1.5, long_s=2.0, busy=1)
    found = bench_live.measure_live(options, SUBJECT)
    rows = {row.name: row for row in found.rows}
    assert {"TTFA, cold", "TTFA, listening, immediate", "TTFA, listening, on the bar"} <= set(rows)
    assert 0 < rows["TTFA, listening, immediate"].p50_ms < 5000
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["alignment error"] == 0.0
    assert figures["underruns"] is not None and figures["underruns, 1 neighbours"] is not None
    assert figures["memory"] is None or figures["memory"] > 20
