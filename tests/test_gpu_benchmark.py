"""benchmarks/gpu.py rehearsed on the CPU at toy size: parts, resumption, report, wheels; and its plan."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from attacca.training.gpu_parts import split
from benchmarks import gpu
from benchmarks.gpu_models import CASES

pytestmark = pytest.mark.train


def test_the_plan_fits_into_a_call_and_measures_what_is_promised() -> None:
    for backend in ("cuda", "tensorrt"):
        parts = gpu.plan(Path("RUN"), backend, toy=False)
        assert sum(part.minutes for part in parts) < 9.9
        names = {part.name for part in parts}
        assert "path.ostinato" in names
        assert {f"steps.{case}.standard.operator" for case in CASES} <= names
        assert {f"correct.{case}.standard.operator" for case in CASES} <= names
        assert {f"takes.{case}.standard.operator" for case in ("ostinato", "ostinato-delay", "small")} <= names
        assert "engine.ostinato" in names
        assert all(part.optional for part in parts[1:])
    shapes = {name: (case.layers, case.dim, case.heads) for name, case in CASES.items()}
    assert shapes["small"] == (24, 1024, 16)
    assert shapes["medium"] == (48, 1536, 24)


def test_a_part_of_each_kind_at_toy_size(tmp_path: Path) -> None:
    def do(name: str) -> object:
        assert gpu.main(["--root", str(tmp_path), "--backend", "host", "--toy", "--part", name]) == 0
        return json.loads((tmp_path / "parts" / f"{name}.json").read_text())

    for case in ("ostinato", "small"):
        found = do(f"correct.{case}.standard.operator")
        assert found["tokens_equal_fp32"] == 1.0
        assert found["logits_rms_fp32"] < 1e-5 < found["logits_rms"] < 5e-3
    whole = do("path.ostinato")
    assert (whole["bundle"], whole["codec"][:3]) in (("tiny", "CPU"), ("tiny", "dev"))
    assert whole["logits_rms"] < 0.01
    assert 0.0 < whole["chunk_ms"]["p50"] <= whole["chunk_ms"]["max"]
    row = do("steps.ostinato-delay.onnxruntime.plain")
    assert row["rtf"] == pytest.approx(row["queued_ms"]["p50"] * 50 / 1e3)
    assert row["launch_gap_ms"] == pytest.approx(row["queued_ms"]["p50"] - row["device_ms"])
    stacked = do("steps.small-stacked.standard.operator")
    assert stacked["case"] == "small-stacked"
    for case in ("small", "ostinato"):
        rows = do(f"takes.{case}.standard.operator")
        assert [row["takes"] for row in rows] == [1, 2, 4]
        for row in rows:
            assert row["takes_in_real_time"] == pytest.approx(row["takes"] / row["rtf_each"])
            assert row["steps_per_s"] == pytest.approx(1e3 * row["takes"] / row["step_ms"]["p50"])
    weights = {path.name for path in (tmp_path / "graphs").glob("*.data")}
    assert {"small-fp16.data", "ostinato-fp16.data"} <= weights  # once for graphs of 1, 2 and 4 takes
    for row in do("host"):
        assert row["takes_in_real_time"] == pytest.approx(20.0 / row["host_ms_each"])
    served = do("engine.ostinato")
    assert [row["takes"] for row in served] == [1, 3]
    for row in served:
        assert row["first_audio_beside_ms"] > 0.0
        assert (row["shared_steps"] > 0) <= row["pays"]


def test_ratios_are_of_the_same_flavour_and_number_of_takes() -> None:
    steps = [
        {"case": "ostinato", "flavour": "a", "rtf": 0.3},
        {"case": "ostinato-delay", "flavour": "a", "rtf": 0.2},
        {"case": "small-stacked", "flavour": "b", "rtf": 0.5},
        {"case": "small", "flavour": "a", "rtf": 0.5},
    ]
    takes = [
        {"case": "ostinato", "flavour": "a", "takes": 4, "rtf_each": 0.6},
        {"case": "ostinato-delay", "flavour": "a", "takes": 4, "rtf_each": 0.5},
        {"case": "ostinato-delay", "flavour": "a", "takes": 8, "failed": "out of memory"},
    ]
    found = gpu.ratios({"steps": steps, "takes": takes})
    assert [(row["of"], row["over"], row["takes"], row["by"]) for row in found] == [
        ("ostinato", "ostinato-delay", 1, "steps"),
        ("ostinato", "ostinato-delay", 4, "takes"),
    ]
    assert [row["ratio"] for row in found] == pytest.approx([1.5, 1.2])


def test_the_picture_shows_steps_and_takes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.gpu_plot import draw

    steps = [{"case": "small", "flavour": "fp16", "device_ms": 0.4, "launch_gap_ms": 0.1}]
    takes = [{"case": "small", "takes": n, "rtf_each": 0.02 * n} for n in (1, 2)]
    engine = [{"bundle": "ostinato", "takes": n, "rtf": 0.1 * n} for n in (1, 8)]
    told = {"environment": None, "steps": steps, "takes": [*takes, {"case": "small", "takes": 4, "failed": "x"}]}
    sizes = []
    for served in ([], engine):
        draw(told | {"engine": served}, tmp_path / "gpu.png")
        sizes.append((tmp_path / "gpu.png").stat().st_size)
    assert 5_000 < sizes[0] < sizes[1]


def test_a_run_goes_on_where_it_was_and_tells_what_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = gpu.plan
    chosen = ["environment", "correct.small.standard.operator", "steps.none.standard.operator"]

    def few(root: Path, backend: str, *, toy: bool) -> list[object]:
        parts = plan(root, backend, toy=toy)
        kept = [part for part in parts if part.name in chosen[:2]]
        broken = ("-c", "raise SystemExit('no such case')")
        return [
            *kept,
            type(parts[0])(
                name=chosen[2], command=broken, result=root / "none", minutes=0.1, ends="whole", optional=True
            ),
        ]

    monkeypatch.setattr(gpu, "plan", few)
    flags = ["--root", str(tmp_path), "--backend", "host", "--toy", "--limit-s", "60"]
    code = gpu.main(flags)
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert told["environment"]["gpu"] == "host memory"
    assert [row["case"] for row in told["correct"]] == ["small-4"]
    assert told["not_done"] == {"steps.none.standard.operator": "no such case"}
    assert code == 75
    capsys.readouterr()
    assert gpu.main(flags) == 0  # a measurement that failed twice is given up
    assert "correct.small" not in capsys.readouterr().out  # not done again


def test_wheels_are_installed_whole_or_from_parts(tmp_path: Path) -> None:
    wheels = tmp_path / "carried"
    for name in ("one", "two"):
        wheels.mkdir(exist_ok=True)
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}.py", "x = 1\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
    two = wheels / "two-1.0-py3-none-any.whl"
    split(two, wheels / "parts", part_bytes=200)
    two.unlink()
    root = tmp_path / "run"
    root.mkdir()
    surroundings = gpu.install(wheels, root)
    assert {"one.py", "two.py"} <= {path.name for path in (root / "site").iterdir()}
    first, *rest = surroundings["PYTHONPATH"].split(":")
    assert first == str(root / "site")
    assert str(root / "links") in rest
    assert (root / "links" / "attacca" / "engine").resolve() == gpu.REPOSITORY / "engine"
    next((wheels / "parts").glob("*.000")).write_bytes(b"damaged")
    assert gpu.main(["--root", str(tmp_path / "other"), "--backend", "host", "--wheels", str(wheels)]) == 1


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert gpu.main(["--root", str(tmp_path), "--limit-s", "60"]) == 1
    assert "no NVIDIA" in capfd.readouterr().err
    assert "no NVIDIA" in json.loads((tmp_path / "gpu.json").read_text())["not_done"]["environment"]
