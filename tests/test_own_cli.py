"""`attacca train` where the training extra is not installed: one line that names it. Runs without torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from attacca.bridge.cli import app


@pytest.mark.parametrize(
    ("flags", "missing", "named"),
    [
        (["--dry-run"], {"librosa", "torch"}, "librosa"),
        ([], {"torch", "onnx"}, "torch, onnx"),
        ([], {"librosa", "scipy", "torch", "onnx"}, "librosa, scipy, torch, onnx"),
    ],
)
def test_a_missing_extra_is_named(
    flags: list[str],
    missing: set[str],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = find_spec("json")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in missing else there)
    code = app(["train", "--data", str(tmp_path), *flags], standalone_mode=False)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err == f"attacca: {named}: not installed; install with: pip install 'attacca[train]'\n"
