"""Which backend plays: the fastest that computes what the CPU computes, else the CPU and a line that says why."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from decoder_fixtures import SAMPLING, TINY, Source
from fake_gpu import TINY_GPU, FakeDriver, FakeTensorrt

from attacca.bridge import loading
from attacca.bridge.config import Settings
from attacca.engine import tensorrt_device
from attacca.engine.backends import (
    CPU_BACKENDS,
    backend_of,
    choose,
    find_spec,
    gpu_folders,
    open_cuda,
    open_tensorrt,
)
from attacca.engine.bundle import load_bundle
from attacca.engine.device import DeviceError, NotAvailable, OutOfMemory
from attacca.engine.device_trial import self_test
from attacca.engine.generator import Sampling
from attacca.engine.gpu_spec import manifest_sha256
from attacca.engine.manifest import ManifestError, read_manifest
from attacca.engine.offline import continue_offline
from attacca.engine.ort_device import OrtMaker
from attacca.engine.tensorrt_device import TensorrtMaker, engine_key
from attacca.engine.trial import TOLERANCE

MODEL = load_bundle(TINY)
Spoil = Callable[[Mapping[str, np.ndarray]], None]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The tiny bundle with graphs for GPUs."""
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    shutil.copytree(TINY_GPU, folder / "gpu")
    return folder


def fake_cuda(folder: Path, spec: Any, driver: FakeDriver) -> Any:
    return OrtMaker(folder / spec.graphs[0].path, driver)


def fake_tensorrt(spoil: Spoil | None = None) -> Any:
    def opened(folder: Path, spec: Any, driver: FakeDriver) -> Any:
        engine = (folder / spec.graphs[0].path).read_bytes()
        return TensorrtMaker(engine, driver, FakeTensorrt(driver, spoil))

    return opened


def stay(codec: Any, files: Any, driver: Any) -> Any:
    return codec


def chosen(
    bundle: Path, backend: str, openers: dict[str, Any], *, driver: Any = FakeDriver
) -> tuple[str, list[str]]:
    said: list[str] = []
    times = itertools.count()
    model = choose(
        MODEL,
        bundle,
        backend,
        say=said.append,
        driver=driver,
        openers=openers,
        clock=lambda: float(next(times)),
        move_codec=stay,
    )
    decoder = model.decoder()
    decoder.plan(20, Source(), SAMPLING)  # whatever was chosen plays
    exact = MODEL.decoder()
    exact.plan(20, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(0, 20), exact.read(0, 20))
    return backend_of(model), said


def test_a_backend_that_was_asked_for_plays_if_it_passes(bundle: Path) -> None:
    openers = {"cuda": fake_cuda, "tensorrt": fake_tensorrt()}
    assert chosen(bundle, "cuda", openers) == ("cuda", [])
    assert chosen(bundle, "tensorrt", openers) == ("tensorrt", [])
    assert chosen(bundle, "cpu", {}) == ("cpu", [])


@pytest.mark.parametrize(("slow", "wanted"), [("cuda", "tensorrt"), ("tensorrt", "cuda")])
def test_auto_takes_the_fastest(bundle: Path, slow: str, wanted: str) -> None:
    now = {"seconds": 0.0}

    def opener(name: str) -> Any:
        def spoil(views: Mapping[str, np.ndarray]) -> None:
            now["seconds"] += 2.0 if name == slow else 1.0

        return fake_tensorrt(spoil)

    openers = {name: opener(name) for name in ("cuda", "tensorrt")}
    said: list[str] = []
    model = choose(
        MODEL,
        bundle,
        "auto",
        say=said.append,
        driver=FakeDriver,
        openers=openers,
        clock=lambda: now["seconds"],
        move_codec=stay,
    )
    assert (backend_of(model), said) == (wanted, [])


def test_auto_goes_on_with_what_is_left(bundle: Path) -> None:
    def none(*_: Any) -> Any:
        raise NotAvailable("TensorRT is not installed")

    assert chosen(bundle, "auto", {"cuda": fake_cuda, "tensorrt": none}) == ("cuda", [])


def not_finite(views: Mapping[str, np.ndarray]) -> None:
    views["logits"][:] = np.nan


def shifted(views: Mapping[str, np.ndarray]) -> None:
    views["logits"] += 1.0


def forgetful(views: Mapping[str, np.ndarray]) -> None:
    views["history.out"][:] = 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (not_finite, "its logits are not finite"),
        (shifted, "its logits differ from the CPU's by "),
        (forgetful, "steps queued on it draw other tokens than steps made one by one"),
    ],
)
def test_what_computes_something_else_does_not_play(bundle: Path, spoil: Spoil, reason: str) -> None:
    backend, said = chosen(bundle, "tensorrt", {"tensorrt": fake_tensorrt(spoil)})
    assert backend == "cpu"
    assert len(said) == 1
    assert said[0].startswith(f"backend tensorrt: {reason}")
    assert said[0].endswith("; the CPU plays")


def test_what_differs_within_the_tolerance_plays(bundle: Path) -> None:
    def nearly(views: Mapping[str, np.ndarray]) -> None:
        views["logits"] *= np.float32(1.0 + TOLERANCE / 2)

    said: list[str] = []
    model = choose(
        MODEL,
        bundle,
        "tensorrt",
        say=said.append,
        driver=FakeDriver,
        openers={"tensorrt": fake_tensorrt(nearly)},
        move_codec=stay,
    )
    assert (backend_of(model), said) == ("tensorrt", [])
    assert self_test(MODEL, model) == pytest.approx(TOLERANCE / 2, rel=0.01)


def test_memory_that_is_full_is_said(bundle: Path) -> None:
    driver = FakeDriver()
    driver.memory_left = 10_000
    backend, said = chosen(bundle, "auto", {"cuda": fake_cuda, "tensorrt": fake_tensorrt()}, driver=lambda: driver)
    assert backend == "cpu"
    assert said == [
        "backend tensorrt: cuMemAlloc_v2 answers 2: out of memory; "
        "backend cuda: cuMemAlloc_v2 answers 2: out of memory; the CPU plays"
    ]


def no_driver() -> Any:
    raise NotAvailable("this machine has no NVIDIA driver (libcuda.so.1 is not found)")


def test_a_machine_without_a_gpu_is_told_so_only_if_it_was_asked_for_one(bundle: Path) -> None:
    assert chosen(bundle, "auto", {}, driver=no_driver) == ("cpu", [])
    backend, said = chosen(bundle, "cuda", {}, driver=no_driver)
    assert backend == "cpu"
    assert said == ["backend cuda: this machine has no NVIDIA driver (libcuda.so.1 is not found); the CPU plays"]


def test_a_bundle_without_graphs_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend, said = chosen(TINY, "cuda", {"cuda": fake_cuda})
    assert backend == "cpu"
    assert said == [f"backend cuda: tiny has no graphs for GPUs: attacca export --model {TINY}; the CPU plays"]


def test_graphs_lie_in_the_bundle_or_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    manifest = read_manifest(TINY)
    own, cache = gpu_folders(TINY, manifest)
    assert (own, cache) == (TINY / "gpu", tmp_path / "attacca" / "gpu" / f"tiny-{manifest_sha256(manifest)[:16]}")
    shutil.copytree(TINY_GPU, cache)
    assert find_spec(TINY, manifest)[0] == cache


def test_graphs_that_changed_or_belong_to_another_bundle_are_refused(bundle: Path) -> None:
    graph = next((bundle / "gpu").glob("*.onnx"))
    spec = find_spec(bundle, MODEL.manifest)[1]
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ManifestError, match=r"has sha256 .*: make it anew with attacca export"):
        open_cuda(bundle / "gpu", spec, FakeDriver())
    graph.unlink()
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        open_cuda(bundle / "gpu", spec, FakeDriver())
    listed = bundle / "gpu" / "gpu.json"
    text = listed.read_text()
    for wrong, message in (
        (text.replace(spec.manifest_sha256, "0" * 64), "was made from another state of tiny"),
        (text.replace('"version": 2', '"version": 1'), "has version 1, allowed: 2"),
        (text[:-5], "is not understood"),
    ):
        listed.write_text(wrong)
        with pytest.raises(ManifestError, match=message):
            find_spec(bundle, MODEL.manifest)


def test_an_onnxruntime_without_cuda_is_told_what_to_install(bundle: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    driver = FakeDriver()
    driver.kind = "cuda"
    with pytest.raises(NotAvailable, match=r"has no CUDA provider: pip install 'attacca\[gpu\]'"):
        open_cuda(bundle / "gpu", find_spec(bundle, MODEL.manifest)[1], driver)


def test_a_tensorrt_engine_is_looked_for_by_what_it_fits(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, spec = FakeDriver(), find_spec(bundle, MODEL.manifest)[1]
    module = FakeTensorrt(driver)
    monkeypatch.setattr(tensorrt_device, "load_tensorrt", lambda: module)
    with pytest.raises(
        NotAvailable, match=r"no TensorRT engine trt10.16.0_nvidia-toy-1_sm86_.*: attacca export --tensorrt"
    ):
        open_tensorrt(bundle / "gpu", spec, driver)
    name = engine_key(module, driver.info(), spec.manifest_sha256, precision=spec.precision, takes=1)
    (bundle / "gpu" / "engines").mkdir()
    shutil.copy(bundle / "gpu" / spec.graphs[0].path, bundle / "gpu" / "engines" / f"{name}.engine")
    backend, said = chosen(bundle, "tensorrt", {"tensorrt": open_tensorrt}, driver=lambda: driver)
    assert (backend, said) == ("tensorrt", [])


def test_an_unknown_name_is_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="backend is 'rocm', allowed: auto, native, cpu, cuda, tensorrt"):
        choose(MODEL, bundle, "rocm", say=print)


def test_a_graph_that_onnxruntime_cannot_read_or_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="onnxruntime cannot load the graph"):
        OrtMaker(b"not a graph", FakeDriver())
    from attacca.engine.ort_device import failure

    full = failure(RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "onnxruntime cannot run the step")
    assert isinstance(full, OutOfMemory)
    assert str(full) == "onnxruntime cannot run the step: CUDA failure 2: out of memory ; GPU=0"
    assert not isinstance(failure(RuntimeError("CUBLAS failure 13"), "x"), OutOfMemory)


def test_what_a_package_raises_in_its_own_way_is_said_too(bundle: Path) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("cudnn")

    assert chosen(bundle, "cuda", {"cuda": broken}) == ("cpu", ["backend cuda: KeyError: 'cudnn'; the CPU plays"])


def test_the_codec_goes_to_a_stream_of_its_own_or_says_why_not(bundle: Path) -> None:
    drivers: list[FakeDriver] = []
    given: dict[str, Any] = {}
    moved = dataclasses.replace(MODEL).codec

    def driver() -> FakeDriver:
        drivers.append(FakeDriver())
        return drivers[-1]

    def move(codec: Any, files: Mapping[str, Path], where: FakeDriver) -> Any:
        given.update(files=files, driver=where)
        return moved

    said: list[str] = []
    parts = {"say": said.append, "driver": driver, "openers": {"cuda": fake_cuda}}
    model = choose(MODEL, bundle, "cuda", move_codec=move, **parts)
    assert (model.codec, said) == (moved, [])
    assert given["driver"] is drivers[1] is not drivers[0]
    assert given["files"] == {role: bundle / entry.path for role, entry in MODEL.manifest.files.items()}
    for error, words in ((DeviceError("it takes 3 ms"), "it takes 3 ms"), (KeyError("lstm"), "KeyError: 'lstm'")):

        def refuse(*_: Any, error: Exception = error) -> Any:
            raise error

        model = choose(MODEL, bundle, "cuda", move_codec=refuse, **parts)
        assert model.codec is MODEL.codec
        assert said.pop() == f"backend cuda: the codec stays on the CPU: {words}"


def test_a_take_of_a_session_sounds_the_same_on_a_device(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = {"openers": {"tensorrt": fake_tensorrt()}, "move_codec": stay}
    driver = FakeDriver()
    device = choose(MODEL, bundle, "tensorrt", say=pytest.fail, driver=lambda: driver, **parts)
    heard = (0.1 * np.random.default_rng(4).standard_normal((24000, 1))).astype(np.float32)
    sampling = Sampling(seed=3, temperature=0.9, top_k=9, guidance=1.5)
    wanted, found = (continue_offline(m, heard, 32000, seconds=1.0, sampling=sampling) for m in (MODEL, device))
    np.testing.assert_array_equal(wanted.codes, found.codes)
    np.testing.assert_array_equal(wanted.pcm, found.pcm)
    replays = driver.launches
    assert replays > 50
    left = {"steps": 30}

    def fail(graph: int) -> None:
        left["steps"] -= 1
        if left["steps"] < 0:
            raise DeviceError("cuGraphLaunch answers 719: unspecified launch failure")
        FakeDriver.launch(driver, graph)

    driver.launch = fail
    with pytest.raises(RuntimeError, match=r"the continuation ended: .*cuGraphLaunch answers 719"):
        continue_offline(device, heard, 32000, seconds=1.0, sampling=sampling)
    done, device_failed = driver.launches, "cuGraphLaunch answers 719"
    assert device_failed in device.device.failed
    with caplog.at_level("WARNING"):
        again = continue_offline(device, heard, 32000, seconds=1.0, sampling=sampling)
    assert driver.launches == done  # its errors last: from the next take on the CPU plays
    assert (
        f"backend tensorrt has failed ({device_failed}: unspecified launch failure); the CPU plays" in caplog.text
    )
    np.testing.assert_array_equal(wanted.pcm, again.pcm)


def test_loading_asks_for_the_backend_and_says_which_one_plays(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake_choice(model: Any, folder: Path, backend: str, *, say: Any, several: bool) -> Any:
        assert not several
        parts = {"driver": FakeDriver, "openers": {"cuda": fake_cuda}, "move_codec": stay}
        return choose(model, folder, backend, say=say, **parts)

    monkeypatch.setattr(loading, "choose", fake_choice)
    assert backend_of(loading.load_model(Settings(model=str(bundle), backend="cuda"))) == "cuda"
    assert capsys.readouterr().err == "attacca: tiny: the decoder plays on cuda\n"
    shutil.rmtree(bundle / "gpu")
    assert backend_of(loading.load_model(Settings(model=str(bundle), backend="cuda"))) in CPU_BACKENDS
    assert capsys.readouterr().err.startswith("attacca: backend cuda: tiny has no graphs for GPUs: attacca export")
