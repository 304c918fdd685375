"""Whether a processor can play a model (benchmarks/in_time.py): a toy, along the same path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from benchmarks.in_time import Options, lines, run

pytestmark = pytest.mark.train

TOY = Options(tiny=True, window=60, seconds=2.0, steps=21)


@pytest.mark.parametrize(("wanted", "used"), [("on", "with a second core"), ("off", "on one core")])
def test_a_toy_is_played_and_told(tmp_path: Path, wanted: str, used: str) -> None:
    told = run(replace(TOY, second_core=wanted), tmp_path)
    step, path = told["rows"]
    assert told["in_time"] == (told["rtf"] < 1.0) and told["second_core"] == (wanted == "on")
    assert told["least_step_ms"] < step["p50_ms"] <= step["p99_ms"] and path["audio_ms"] == 160.0
    assert 0.0 < told["decode_thread_s_per_s"] <= told["processor_s_per_s"]
    assert told["heard_again_per_frame"] == 0.5  # a third of a window, once in two thirds
    first = lines(told)[0]
    assert used in first and f"RTF {told['rtf']:.2f}" in first and ("NOT" in first) != told["in_time"]
