"""Speed's tables: every figure in a document comes from a run's JSON, blocks of a run that is not given stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed_report

ROOT = Path(__file__).resolve().parent.parent


def row(name: str, group: str, **changes: Any) -> dict[str, Any]:
    found = {
        "name": name, "group": group, "call": "step", "calls": 9876, "takes": 1, "busy": 0, "audio_ms": 20.0,
        "p50_ms": 4.125, "p99_ms": 5.5, "p999_ms": 6.25, "max_ms": 7.75, "rtf": 0.2125,
        "bytes_per_step": 12_300_000, "bandwidth_fraction": 0.375, "model": "m", "pattern": "delay",
        "backend": "onnxruntime-cpu",
        "precision": "int8", "threads": 2, "rows": 2, "context": 304,
    }  # fmt: skip
    return found | changes


COMMON = {
    "machine": {"cpu": "Some CPU", "cores": 2, "load": 0.25},
    "versions": {"onnxruntime": "1.31", "numpy": "2.4"},
    "commit": "0123456789abcdef",
    "bandwidth": {"1": {"read": 12.5e9}},
}
BENCH = COMMON | {
    "quick": True,
    "rows": [
        row("decoder step", "step"),
        row("codec decode", "codec", bytes_per_step=None, bandwidth_fraction=None),
        row("whole path", "path", busy=2, takes=1),
        row("TTFA, cold", "live", rtf=None, calls=3),
    ],
    "figures": [{"name": "memory", "value": 245.5, "unit": "MB", "of": "engine"}],
    "ratios": {"stack against delay": 1.25},
    "chunks": [
        {
            "busy": 1, "threads": 1, "chunks": 1006, "chunk_ms": 160.0, "p50": 0.25, "p99": 0.5, "p999": 1.125,
            "max": 1.5, "in_time": False,
        }
    ],
    "lines": [
        {
            "model": "m", "backend": "b", "precision": "int8", "context": 304, "shared_ms": 2.0, "row_ms": 0.125,
            "row_macs": 5_750_000, "core_gmacs": 50.5, "delay_rows": 4, "stack_rows": 14, "ratio": 1.5,
            "wanted_row_ms": 0.0625,
        }
    ],
    "growth": [{"against": "take length", "unit": "s", "of": "frame", "x": [1.0, 600.0], "p50_ms": [4.0, 4.5]}],
}  # fmt: skip
PEERS = COMMON | {
    "tiny": False,
    "options": {"threads": 2},
    "rows": [
        row("decoder step", "step", model="MusicGen-small shape"),
        row("decoder step", "step", model="MusicGen-small shape", precision="fp32", rtf=0.9),
        row("decoder step", "step", model="MusicGen-small shape", threads=1, rtf=0.1),
        row("decoder step", "step", model="MusicGen-small shape", backend="torch eager", rtf=0.85)
        | {"bytes_per_step": None},
    ],
    "ratios": {"MusicGen-small shape, decoder step: torch eager": 4.0},
    "growth": [],
    "logit_distance": {"int8": 0.0125},
    "target": {
        "model": "MusicGen-small shape", "context": 500, "precision": "int4", "threads": 2, "rtf": 0.875,
        "met": True,
    },
}  # fmt: skip


def test_tables_hold_the_figures_of_the_run() -> None:
    steps = speed_report.steps_table(BENCH)
    wanted = "| m | delay | onnxruntime-cpu | int8 | 2 | 2 | 304 | 9876 | 4.12 | 5.50 | 6.25 | 7.75 | 0.212 |"
    assert f"{wanted} 12.3 | 0.38 |" in steps and len(steps.splitlines()) == 3
    assert "1, 2 busy neighbours" in speed_report.path_table(BENCH)
    assert "| memory | 245.5 MB | engine |" in speed_report.live_table(BENCH)
    assert "| take length | 1 to 600 s | frame | 4.00 to 4.50 | 1.12 |" in speed_report.growth_table(BENCH)
    assert "| stack against delay | 1.25 |" in speed_report.ratios_table(BENCH)
    assert "| 1 | 1006 | 160 | 0.25 | 0.50 | 1.12 | 1.50 | **no** |" in speed_report.chunks_table(BENCH)
    lines = speed_report.lines_table(BENCH)
    assert "| m | b | int8 | 304 | 2.00 | 0.125 | 5.8 | 46 | 50 | 4 / 14 | 1.50 | 0.062 | 92 |" in lines
    assert "decoder step, delay (2 rows)" in speed_report.parts_table(BENCH)
    line = speed_report.machine_line(BENCH)
    assert "Some CPU, 2 cores, load 0.25" in line and "12.5 GB/s" in line and "a quick run" in line
    assert "commit 0123456789ab;" in line


def test_peers_stand_beside_our_best_of_as_many_threads() -> None:
    lines = speed_report.peers_table(PEERS).splitlines()[2:]
    assert lines == [
        "| MusicGen-small shape | decoder step | torch eager | 4.1 | 0.85 | 4.0 |",
        "| MusicGen-small shape | decoder step | **Attacca**, int8, onnxruntime-cpu | 4.1 | 0.21 | 1 |",
    ]
    target = speed_report.target_table(PEERS)
    assert "| MusicGen-small shape | onnxruntime-cpu | int8 | 2 | 4.1 | 0.21 | 12 | 0.38 | 1.2 % |" in target
    assert "RTF **0.88**, wanted below 1: met" in target


def test_documents_are_filled_where_they_say_so(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "speed.md"
    document.parent.mkdir()
    blocks = "".join(f"<!-- speed: {name} -->\nold {name}\n<!-- end -->\n" for name in ("growth", "peers"))
    document.write_text(f"before\n{blocks}after\n")
    files = []
    for name, report in (("b", BENCH), ("p", PEERS)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(report))
    speed_report.main([document], bench=files[0], peers=None, images=tmp_path / "img")
    text = document.read_text()
    assert "old peers" in text and "old growth" not in text and "![growth](../img/speed-growth.png)" in text
    speed_report.main([document], bench=files[0], peers=files[1], images=tmp_path / "img")
    twice = document.read_text()
    assert "old peers" not in twice and twice.startswith("before\n") and twice.endswith("after\n")
    assert {path.name for path in (tmp_path / "img").iterdir()} == {
        "speed-growth.png", "speed-steps.png", "speed-peers.png"
    }  # fmt: skip
    with pytest.raises(ValueError, match="block 'nonsense' is unknown, known are"):
        speed_report.filled("<!-- speed: nonsense -->\n<!-- end -->", BENCH, None)


@pytest.mark.parametrize("name", ["README.md", "docs/speed.md"])
def test_blocks_of_our_documents_are_known(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- speed: " in text
    speed_report.filled(text, None, None)
