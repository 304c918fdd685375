"""A MusicGen bundle on a device that is not there: from the checkpoint to pieces and takes, to the token."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for name in ("onnx", "transformers", "tokenizers"):
    pytest.importorskip(name)

from fake_gpu import FakeDriver  # noqa: E402
from musicgen_fixtures import make_melody, make_musicgen, save, save_tokenizer  # noqa: E402

from attacca.engine.backends import backend_of, choose  # noqa: E402
from attacca.engine.bundle import PromptedModel, load_bundle  # noqa: E402
from attacca.engine.encodec import Encodec  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.offline import continue_offline  # noqa: E402
from attacca.engine.ort_device import OrtMaker  # noqa: E402
from attacca.engine.sharing import Part  # noqa: E402
from attacca.export.gpu_bundle import write_graphs  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
SAMPLING = Sampling(seed=3, temperature=1.0, top_k=20, guidance=3.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In stereo: codebooks of both sides lie in one step."""
    root = tmp_path_factory.mktemp("musicgen")
    source = save(make_musicgen(channels=2), root / "source")
    save_tokenizer(source)
    convert_musicgen(source, root / "bundle", ConvertOptions(window_frames=96))
    write_graphs(root / "bundle", root / "bundle" / "gpu", precision="fp32", dialects=("onnxruntime",))
    return root / "bundle"


def on_device(model: Any, bundle: Path, *, several: bool = False) -> Any:
    def opened(folder: Path, spec: Any, driver: Any, takes: int = 1) -> Any:
        return OrtMaker(next(folder / graph.path for graph in spec.graphs if graph.takes == takes), driver)

    ticks = itertools.count()
    options: dict[str, Any] = {"openers": {"cuda": opened}, "move_codec": lambda codec, *_: codec}
    options |= {"clock": lambda: float(next(ticks)), "several": several}
    found = choose(model, bundle, "cuda", say=pytest.fail, driver=FakeDriver, **options)
    assert backend_of(found) == "cuda"
    return found


def test_a_take_told_a_text_is_the_cpus_past_its_window(bundle: Path) -> None:
    found = []
    for place in (lambda model: model, lambda model: on_device(model, bundle)):
        loaded = load_bundle(bundle)
        assert isinstance(loaded, PromptedModel)
        model = place(loaded)
        model.tell("slow jazz piano")
        generator = model.generator()
        for frame in range(0, 140, 20):
            generator.plan(frame + 20, Nothing(), SAMPLING)
            if frame == 60:
                generator.tell(model.prompt("loud techno drums"), 12)
        generator.rollback(100)
        generator.plan(140, Nothing(), SAMPLING)
        found.append(generator.read(90, 140))
    np.testing.assert_array_equal(*found)
    assert len(np.unique(found[0])) > 20


def test_a_melody_bundle_is_the_cpus_and_its_takes_share_steps(tmp_path: Path) -> None:
    source = save(make_melody(chroma_length=5), tmp_path / "source")
    save_tokenizer(source)
    convert_musicgen(source, tmp_path / "bundle", ConvertOptions(window_frames=72))
    several = (1, 2)
    write_graphs(
        tmp_path / "bundle", tmp_path / "bundle" / "gpu", precision="fp32", dialects=("onnxruntime",), takes=several
    )
    loaded = load_bundle(tmp_path / "bundle")
    model = on_device(loaded, tmp_path / "bundle", several=True)
    assert isinstance(loaded, PromptedModel)
    assert model.batch is not None
    takes = []
    for each in (loaded, model):
        each.tell("slow jazz piano", np.eye(12, dtype=np.float32)[[0, 4, 7, 4, 0]])
        takes.append([each.generator() for _ in range(2)])
    for number, take in enumerate(takes[0]):
        take.plan(24, Nothing(), replace(SAMPLING, seed=number))
    parts = [
        Part(generator=take, until_frame=24, source=Nothing(), sampling=replace(SAMPLING, seed=number))
        for number, take in enumerate(takes[1])
    ]
    assert min(model.batch.runtime.stepper().plan(parts, 99)) >= 24
    for alone, shared in zip(*takes, strict=True):
        np.testing.assert_array_equal(alone.read(0, 24), shared.read(0, 24))


class Nothing:
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return np.zeros((count, 0), np.float32)


def test_a_session_sounds_the_same(bundle: Path) -> None:
    model = load_bundle(bundle)
    assert isinstance(model.codec, Encodec)
    sound = (0.2 * np.random.default_rng(2).standard_normal((8000, 1))).astype(np.float32)
    wanted, found = (
        continue_offline(each, sound, 8000, seconds=0.6, sampling=SAMPLING)
        for each in (model, on_device(model, bundle))
    )
    np.testing.assert_array_equal(wanted.codes, found.codes)
    np.testing.assert_array_equal(wanted.pcm, found.pcm)


def test_encodecs_graphs_on_a_device_are_the_cpus(bundle: Path) -> None:
    from attacca.engine import device_codec

    model = load_bundle(bundle)
    files = {role: bundle / entry.path for role, entry in model.manifest.files.items()}
    moved = device_codec.on_device(model.codec, files, FakeDriver())
    codes = np.random.default_rng(1).integers(0, 64, (20, model.codec.num_codebooks)).astype(np.uint16)
    wanted, found = (codec.decoder().push(codes) for codec in (model.codec, moved))
    np.testing.assert_array_equal(wanted, found)
    np.testing.assert_array_equal(*(codec.encoder().push(wanted) for codec in (model.codec, moved)))
