"""`attacca export`: what it writes can be played by a backend, and what it lacks is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from decoder_fixtures import TINY
from fake_gpu import FakeDriver

from attacca.bridge.cli import app
from attacca.engine.backends import backend_of, choose, find_spec
from attacca.engine.bundle import load_bundle
from attacca.engine.manifest import read_manifest
from attacca.engine.ort_device import OrtMaker

pytestmark = pytest.mark.train
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attacca(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process: (exit code, stdout, stderr)."""

    def run(*args: object) -> tuple[int, str, str]:
        code = app([str(arg) for arg in args], standalone_mode=False)
        return code, *capsys.readouterr()

    return run


def test_what_is_written_where_serve_looks_plays(
    attacca: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, err = attacca("export", "--model", TINY, "--json")
    assert (code, err) == (0, "")
    folder, spec = find_spec(TINY, read_manifest(TINY))
    assert folder.is_relative_to(tmp_path)
    names = {name for graph in spec.graphs for name in (graph.path, graph.data)}
    assert json.loads(out)["files"] == {str(folder / name): (folder / name).stat().st_size for name in names}
    assert {(graph.dialect, graph.takes) for graph in spec.graphs} == {
        (dialect, takes) for dialect in ("onnxruntime", "standard") for takes in (1, 4, 16)
    }
    assert len(names) == 7  # the weights are written once
    openers = {"cuda": lambda where, given, driver: OrtMaker(where / given.graphs[0].path, driver)}
    said: list[str] = []
    model = choose(
        load_bundle(TINY),
        TINY,
        "cuda",
        say=said.append,
        driver=FakeDriver,
        openers=openers,
        move_codec=lambda codec, *_: codec,
    )
    assert (backend_of(model), said) == ("cuda", [])


def test_an_engine_for_a_gpu_that_is_not_here(attacca: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs tensorrt-rtx-cu13-libs and -bindings")
    flags = ("--tensorrt", "--capability", "8.6", "--gpu", "NVIDIA A10", "--effort", 0, "--out", tmp_path)
    code, out, _ = attacca("export", "--model", TINY, *flags, "--takes", "4")
    assert code == 0
    engines = sorted((tmp_path / "engines").glob("*_nvidia-a10_sm86_*.engine"))
    assert [engine.stem.rsplit("_", 1)[-1] for engine in engines] == ["t1", "t4"]
    assert all(str(engine) in out.replace("\n", "") for engine in engines)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--precision", "int8"), "precision is 'int8', allowed: fp32, fp16"),
        (("--takes", "4,99"), "--takes is '4,99', allowed: numbers of 1..64"),
        (("--capability", "8.6"), "--capability, --gpu and --tensorrt go together"),
        (("--tensorrt", "--gpu", "x", "--capability", "eight"), "--capability is 'eight'"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    attacca: Run, flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs tensorrt-rtx-cu13-libs and -bindings")
    code, out, err = attacca("export", "--model", TINY, "--out", tmp_path, *flags)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
