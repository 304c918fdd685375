"""Our own kernels: built where there is a compiler, bound as the header says, and chosen only if they pass."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, Source, tiny_runtime

from attacca.bridge import loading
from attacca.bridge.config import Settings
from attacca.bridge.doctor import Verdict, check_kernels
from attacca.engine import native, native_trial
from attacca.engine.backends import backend_of, kernels_of
from attacca.engine.bundle import Model, find_bundle, load_bundle
from attacca.engine.decoder import PatternDecoder
from attacca.engine.manifest import read_manifest
from attacca.engine.native import NativeError, Role
from attacca.engine.native_lane import NativeBatch, NativeKernels
from attacca.engine.native_trial import compare
from attacca.engine.native_weights import native_model
from attacca.engine.runtime import StepRuntime
from attacca.engine.trial import apart, forced

ROOT = Path(__file__).resolve().parent.parent
HEADER = (ROOT / "kernels" / "step.h").read_text(encoding="utf-8")
COMPILERS = ("c++", "g++", "clang++", "cl")
GRAPH = (TINY / "decoder.onnx").read_bytes()
needs_kernels = pytest.mark.skipif(native.built() is None, reason="the kernels were not built: no C++ compiler")


def test_the_kernels_are_built_where_there_is_a_compiler() -> None:
    there = [name for name in COMPILERS if shutil.which(name)]
    assert native.built() is not None or not there, f"{there} could build the kernels: pip install -e . again"


# --- the header ---


def body(kind: str, name: str) -> str:
    """What stands in the braces of a struct or an enum, without comments."""
    pattern = rf"typedef struct \{{([^}}]*)\}} {name};" if kind == "struct" else rf"enum {name} \{{([^}}]*)\}};"
    found = re.search(pattern, HEADER)
    assert found is not None, name
    return re.sub(r"//[^\n]*", "", found[1])


def struct_fields(name: str) -> Iterator[tuple[str, Any]]:
    plain = {"int32_t": ctypes.c_int32, "float": ctypes.c_float}
    for line in filter(str.strip, body("struct", name).split(";")):
        base = re.match(r"\s*(?:const )?(\w+)", line)
        assert base is not None
        for part in line.split(","):
            field = re.findall(r"\w+", part)[-1]
            yield field, ctypes.c_void_p if "*" in part else plain[base[1]]


@pytest.mark.parametrize(("name", "mirror"), [("attacca_sizes", native.Sizes), ("attacca_call", native.Call)])
def test_structs_are_those_of_the_header(name: str, mirror: type[ctypes.Structure]) -> None:
    assert list(struct_fields(name)) == list(mirror._fields_)


@pytest.mark.parametrize(("name", "mirror"), [("attacca_role", native.Role), ("attacca_kind", native.Kind)])
def test_numbers_are_those_of_the_header(name: str, mirror: Any) -> None:
    pairs = re.findall(r"ATTACCA_(\w+) = (\d+)", body("enum", name))
    assert [(entry, int(value)) for entry, value in pairs] == [(each.name, each.value) for each in mirror]
    assert re.search(rf"#define ATTACCA_VERSION {native.VERSION}\b", HEADER)


def test_functions_are_those_of_the_header() -> None:
    flat = " ".join(re.sub(r"//[^\n]*", "", HEADER).split())
    found = re.findall(r"ATTACCA_API ([\w ]+?[ *]+)(attacca_\w+)\(([^)]*)\);", flat)
    assert {name for _, name, _ in found} == set(native.FUNCTIONS)
    plain = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64}
    for result, name, listed in found:
        arguments = [] if listed.strip() in ("", "void") else listed.split(",")
        returned, wanted = native.FUNCTIONS[name]
        assert len(arguments) == len(wanted), name
        for argument, kind in zip(arguments, wanted, strict=True):
            assert ("*" in argument) == (kind not in plain.values()), (name, argument)
        kinds = {"constchar*": ctypes.c_char_p, "void": None} | plain
        assert kinds.get(result.replace(" ", ""), ctypes.c_void_p) is returned, name


# --- what is built is what is asked for ---


@needs_kernels
def test_there_are_always_portable_kernels() -> None:
    names = native.kernels()
    assert names[-1] == "portable"
    assert native.NativeModel(sizes()).kernels == names[0]
    assert native.NativeModel(sizes(), "portable").kernels == "portable"
    with pytest.raises(NativeError):
        native.NativeModel(sizes(), "abacus")


def sizes(**changes: int) -> native.Sizes:
    plain = {"layers": 1, "dim": 32, "heads": 1, "head_dim": 32, "hidden": 64, "codebooks": 1, "codebook_size": 8}
    more = {"table_rows": 9, "window": 8, "kv_bits": 32, "joined_heads": 1}
    return native.Sizes(version=native.VERSION, norm_epsilon=1e-5, **plain | more | changes)


@needs_kernels
@pytest.mark.parametrize("wrong", [{"version": 99}, {"layers": 0}, {"dim": 33}, {"kv_bits": 7}, {"window": 0}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    sized = sizes()
    for name, value in wrong.items():
        setattr(sized, name, value)
    with pytest.raises(NativeError, match=r"\w"):
        native.NativeModel(sized)


@needs_kernels
def test_a_weight_that_is_missing_or_of_another_shape_is_named() -> None:
    model = native.NativeModel(sizes())
    with pytest.raises(NativeError):
        model.finish()
    norm = native.Weight(kind=native.Kind.FLOAT, inputs=1, outputs=31, codes=np.zeros(31, np.float32))
    with pytest.raises(NativeError, match="NORM1 of layer 0"):
        model.set(Role.NORM1, 0, norm)
    norm = dataclasses.replace(norm, outputs=32, codes=np.zeros(32, np.float32))
    with pytest.raises(NativeError, match="NORM1 of layer 7"):
        model.set(Role.NORM1, 7, norm)
    model.set(Role.NORM1, 0, norm)


@needs_kernels
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"QuickGelu", b"QuickGelo", r"it has \['QuickGelo'\], it lacks \['QuickGelu'\]"),
        (b"layers.1.qkv.weight", b"layers.1.qkw.weight", "no weight 'layers.1.qkv.weight'"),
        (b"tok_emb", b"tok_emd", "no weight 'tok_emb'"),
    ],
)
def test_a_graph_that_is_not_understood_is_refused(old: bytes, new: bytes, words: str) -> None:
    assert old in GRAPH
    with pytest.raises(NativeError, match=words):
        native_model(GRAPH.replace(old, new), read_manifest(TINY))


@needs_kernels
@pytest.mark.parametrize("graph", [b"", GRAPH[: len(GRAPH) // 2], TINY / "nothing.onnx"])
def test_a_graph_that_is_none_is_refused(graph: Any) -> None:
    with pytest.raises(NativeError, match="the weights of tiny"):
        native_model(graph, read_manifest(TINY))


@needs_kernels
def test_a_model_says_what_it_holds() -> None:
    held, stored = native_model(GRAPH, read_manifest(TINY)).nbytes, len(GRAPH)
    assert 0.5 * stored < held < 2.0 * stored


@needs_kernels
def test_threads_step_beside_one_another() -> None:
    runtime = on_kernels(tiny_runtime())
    model = load_bundle(TINY)

    def played(seed: int, into: dict[int, np.ndarray]) -> None:
        decoder = PatternDecoder(runtime, model.pattern)
        decoder.plan(60, Source(), dataclasses.replace(SAMPLING, seed=seed))
        into[seed] = decoder.read(0, 60)

    alone: dict[int, np.ndarray] = {}
    beside: dict[int, np.ndarray] = {}
    for seed in range(3):
        played(seed, alone)
    threads = [threading.Thread(target=played, args=(seed, beside)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        np.testing.assert_array_equal(beside[seed], alone[seed])


def on_kernels(runtime: StepRuntime) -> StepRuntime:
    return runtime.on_kernels(NativeKernels(model=native_model(GRAPH, runtime.manifest)))


# --- the shipped model ---


@needs_kernels
def test_the_shipped_model_plays_on_them() -> None:
    theirs, ours = (load_bundle(find_bundle("ostinato"), steps=steps) for steps in ("cpu", "native"))
    assert (backend_of(theirs), backend_of(ours)) == ("cpu", "native")
    assert kernels_of(ours) == native.kernels()[0]
    assert ours.runtime.session is None
    wanted, found = (forced(model.decoder(), model.manifest, steps=12).logits for model in (theirs, ours))
    assert apart(found, wanted) < 0.03  # in 8 bits, what lies at the edge between two codes may round to the other
    assert np.median(np.abs(found - wanted)) < 0.03 * np.std(wanted)


# --- the choice ---


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As installed without a compiler."""
    monkeypatch.setattr(native, "MODULE", "attacca.engine._not_built")
    native.library.cache_clear()
    yield
    monkeypatch.undo()
    native.library.cache_clear()


@pytest.mark.usefixtures("missing")
def test_without_them_onnxruntime_plays(capsys: pytest.CaptureFixture[str]) -> None:
    auto = loading.load_model(Settings(model=str(TINY)))
    assert (backend_of(auto), capsys.readouterr().err) == ("cpu", "")
    asked = loading.load_model(Settings(model=str(TINY), backend="native"))
    assert backend_of(asked) == "cpu"
    assert capsys.readouterr().err == (
        "attacca: backend native: the kernels were not built: install attacca where there is a C++ compiler; "
        "onnxruntime plays\n"
    )
    assert isinstance(asked, Model)
    decoder = asked.decoder()
    decoder.plan(4, Source(), SAMPLING)
    (finding,) = check_kernels()
    assert (finding.verdict, finding.name) == (Verdict.LACK, "kernels")
    assert "compiler" in finding.found


def test_a_library_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.so"
    wrong.write_bytes(b"no library")
    monkeypatch.setattr(native, "built", lambda: str(wrong))
    native.library.cache_clear()
    with pytest.raises(NativeError, match="cannot be loaded"):
        native.library()
    native.library.cache_clear()


@needs_kernels
def test_the_backend_that_was_asked_for_plays(capsys: pytest.CaptureFixture[str]) -> None:
    for backend in ("native", "cpu"):
        model = loading.load_model(Settings(model=str(TINY), backend=backend))
        assert backend_of(model) == backend
        assert (kernels_of(model) == "") == (backend == "cpu")
    assert capsys.readouterr().err == ""
    (finding,) = check_kernels()
    assert finding.verdict is Verdict.OK
    assert native.kernels()[0] in finding.found


@needs_kernels
@pytest.mark.parametrize(("slower", "wanted"), [("ours", "cpu"), ("theirs", "native")])
def test_auto_takes_what_is_faster(monkeypatch: pytest.MonkeyPatch, slower: str, wanted: str) -> None:
    times = {"ours_s": 1.0, "theirs_s": 1.0} | {f"{slower}_s": 2.0}
    verdict = native_trial.Verdict(apart=0.0, **times)
    monkeypatch.setattr(native_trial, "compare", lambda *parts, **options: verdict)
    assert backend_of(load_bundle(TINY, steps="auto")) == wanted
    assert backend_of(load_bundle(TINY, steps="native")) == "native"


@needs_kernels
def test_kernels_that_compute_something_else_do_not_play(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*parts: Any) -> Any:
        model, dim = native_model(*parts), 32
        zeros = np.zeros((64, dim), np.float32)
        weight = native.Weight(kind=native.Kind.FLOAT, inputs=64, outputs=dim, codes=zeros)
        model.set(Role.FFN_OUT, 1, weight)
        return model

    monkeypatch.setattr(native_trial, "native_model", spoilt)
    said: list[str] = []
    assert backend_of(load_bundle(TINY, steps="auto", say=said.append)) == "cpu"
    assert not said
    assert backend_of(load_bundle(TINY, steps="native", say=said.append)) == "cpu"
    assert re.fullmatch(r"backend native: the kernels' logits differ .* allowed: 0.01; onnxruntime plays", said[0])


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="'magic', allowed: cpu, native, auto"):
        load_bundle(TINY, steps="magic")


@needs_kernels
def test_a_trial_of_a_large_model_is_cut_short() -> None:
    plain = tiny_runtime()
    ticks = iter(np.arange(0.0, 1e5, 0.25))
    verdict = compare(plain, on_kernels(plain), load_bundle(TINY).pattern, clock=lambda: float(next(ticks)))
    assert verdict.apart < 1e-5
    assert float(next(ticks)) <= 0.25 * 2 * (2 * 5 + 1)  # of each a few steps


@needs_kernels
def test_takes_share_steps_without_a_graph_for_it() -> None:
    assert "decoder_batch" not in read_manifest(TINY).files
    model = load_bundle(TINY, steps="native", several=True)
    assert model.batch is None or isinstance(model.batch.runtime, NativeBatch)
    assert NativeBatch(model.runtime).stepper().takes == 4
