"""Sessions on a device that is not there share steps, after a test on loading, and play what they play alone."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")

from decoder_fixtures import TINY
from fake_gpu import FakeDriver, FakeTensorrt
from test_company import played

from attacca.engine.backends import affordable, backend_of, choose, find_spec
from attacca.engine.bundle import Model, load_bundle
from attacca.engine.company import Batch, company_of
from attacca.engine.device import NotAvailable
from attacca.engine.manifest import read_manifest
from attacca.engine.ort_device import OrtMaker
from attacca.engine.tensorrt_device import TensorrtMaker
from attacca.export.gpu_bundle import write_graphs

pytestmark = pytest.mark.train
MODEL = load_bundle(TINY)
Spoil = Callable[[Mapping[str, np.ndarray]], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with graphs of one, two and four takes, whose weights lie in one file."""
    folder = tmp_path_factory.mktemp("several") / "tiny"
    shutil.copytree(TINY, folder)
    spec = write_graphs(folder, folder / "gpu", precision="fp32", takes=(1, 2, 4), dialects=("onnxruntime",))
    assert {graph.data for graph in spec.graphs} == {"weights-fp32.data"}
    assert sum(path.stat().st_size for path in (folder / "gpu").iterdir()) < 200_000
    return folder


def opened(folder: Path, spec: Any, driver: FakeDriver, takes: int = 1) -> Any:
    return OrtMaker(next(folder / graph.path for graph in spec.graphs if graph.takes == takes), driver)


def tensorrt(spoil: Spoil | None) -> Any:
    def opened_so(folder: Path, spec: Any, driver: FakeDriver, takes: int = 1) -> Any:
        graph = next(folder / graph.path for graph in spec.graphs if graph.takes == takes)
        return TensorrtMaker(_whole(graph), driver, FakeTensorrt(driver, spoil))

    return opened_so


def _whole(path: Path) -> bytes:
    """The graph with its weights in it, as an engine has them."""
    import onnx

    return onnx.load(path).SerializeToString()


def chosen(bundle: Path, opener: Any, *, memory: int = 1 << 34) -> tuple[Model, list[str]]:
    said: list[str] = []
    ticks = itertools.count()
    driver = FakeDriver()
    info = driver.info()
    object.__setattr__(info, "memory_bytes", memory)
    driver.info = lambda: info  # type: ignore[method-assign]
    model = choose(
        MODEL,
        bundle,
        "tensorrt",
        say=said.append,
        driver=lambda: driver,
        openers={"tensorrt": opener},
        clock=lambda: float(next(ticks)),
        move_codec=lambda codec, *_: codec,
        several=True,
    )
    assert backend_of(model) == "tensorrt"
    return model, said


@pytest.mark.parametrize("opener", [opened, tensorrt(None)], ids=["onnxruntime", "tensorrt"])
def test_sessions_on_a_device_share_and_play_what_the_cpu_plays_alone(bundle: Path, opener: Any) -> None:
    model, said = chosen(bundle, opener)
    assert said == []
    assert isinstance(model.batch, Batch)
    assert model.batch.pace.cost == (1.0, 1.0, 1.0, 1.0)  # the clock says so
    alone, _ = played(MODEL)
    shared, steps = played(model)
    assert steps > 20
    assert sum(map(len, alone.values())) > 20
    for number, chunks in alone.items():
        for one, other in zip(chunks, shared[number], strict=True):
            np.testing.assert_array_equal(one.codes, other.codes)
            np.testing.assert_array_equal(one.pcm, other.pcm)


def louder(views: Mapping[str, np.ndarray]) -> None:
    if len(views["tokens"]) == 4:
        views["logits"][1:] += 1.0


def jealous(views: Mapping[str, np.ndarray]) -> None:
    """The first take's tokens hang on whether the second one steps."""
    if len(views["tokens"]) == 2 and views["temperature"][1] > 0.0:
        views["tokens"][0] = (views["tokens"][0] + 1) % 16
        views["history.out"][0, -4:] = views["tokens"][0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (louder, "logits of a take among 4 differ from those alone by "),
        (jealous, "a take among 2 draws other tokens beside others than beside none"),
    ],
)
def test_what_is_not_the_same_in_company_is_not_shared(bundle: Path, spoil: Spoil, reason: str) -> None:
    model, said = chosen(bundle, tensorrt(spoil))
    assert len(said) == 1
    assert said[0].startswith(f"backend tensorrt: takes do not share steps: {reason}")
    assert model.batch is None
    assert company_of(model, lambda: 0.0) is None
    assert played(model)[1] == 0  # and it plays


def test_an_engine_that_is_missing_is_said_and_takes_go_alone(bundle: Path) -> None:
    def some(folder: Path, spec: Any, driver: FakeDriver, takes: int = 1) -> Any:
        if takes > 1:
            raise NotAvailable("no TensorRT engine t2.engine")
        return opened(folder, spec, driver)

    model, said = chosen(bundle, some)
    assert said == ["backend tensorrt: takes do not share steps: no TensorRT engine t2.engine"]
    assert model.batch is None


def test_what_memory_does_not_hold_is_not_opened(bundle: Path) -> None:
    folder, spec = find_spec(bundle, read_manifest(bundle))
    seat = 2 * 2 * 2 * spec.capacity * 2 * 16 * 4  # layers, key and value, branches, slots, heads, size, floats
    assert affordable([2, 4], folder, spec, 0) == [2, 4]
    assert affordable([2, 4], folder, spec, 1 << 30) == [2, 4]
    assert affordable([2, 4], folder, spec, 2 * (8 * seat)) == [2]  # two for each take, and one
    assert affordable([2, 4], folder, spec, 2 * (5 * seat)) == []
    prompted = msgspec.structs.replace(spec, prompt_tokens=512)
    assert [affordable([2, 4], folder, each, 1 << 23) for each in (spec, prompted)] == [[2, 4], [2]]
    assert chosen(bundle, opened, memory=1 << 20)[0].batch is None
