"""`attacca train --init`: delay weights and a folder become a stack-delay bundle that plays what torch computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from own_music import make_music

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import soundfile  # noqa: E402
from musicgen_fixtures import make_musicgen, save, save_tokenizer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from attacca.bridge.cli import app  # noqa: E402
from attacca.engine.bundle import PromptedModel, load_bundle  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.offline import continue_offline  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.engine.scoring import forced_logits  # noqa: E402
from attacca.engine.stacked import StackedRuntime  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402
from attacca.training.decoder_model import LayoutTensors  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402
from attacca.training.musicgen_model import MusicgenModel, codebook_bits  # noqa: E402
from attacca.training.musicgen_weights import read_bundle, read_checkpoint  # noqa: E402
from attacca.training.own.musicgen_data import Heard, Texts, split  # noqa: E402
from attacca.training.own.musicgen_release import torch_logits  # noqa: E402
from attacca.training.own.musicgen_run import InitOptions, train_init  # noqa: E402
from attacca.training.own.musicgen_tune import BEST, Tuner  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
UPDATES, CROP = 6, 48


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(make_musicgen(), tmp_path_factory.mktemp("init") / "source")
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    for index in range(3):
        noise = np.random.default_rng(index).normal(0.0, 0.3, 16000)
        soundfile.write(folder / f"{index}.wav", make_music(bpm=120.0, seconds=2.0, rate=8000) + noise, 8000)
    (folder / "1.txt").write_text("slow drums\n", encoding="utf-8")
    soundfile.write(folder / "short.wav", np.full(500, 0.1), 8000)
    return folder


def options(source: Path, music: Path, out: Path) -> InitOptions:
    return InitOptions(
        data=music,
        init=str(source),
        out=str(out),
        text="jazz",
        updates=UPDATES,
        batch=2,
        crop_frames=CROP,
        learning_rate=2e-3,
        precision="fp32",
        device="cpu",
        heldout=0.4,
    )


def run(asked: InitOptions) -> dict[str, dict[str, float]]:
    return train_init(asked, lambda stage, share, remark: None, show=lambda rows, splits: None).scorecard


def test_an_interrupted_run_goes_on_to_the_same_bundle(
    source: Path, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = run(options(source, music, tmp_path / "whole"))
    assert card["after"]["bits_per_frame"] < card["start"]["bits_per_frame"] - 0.5
    assert card["before"]["pattern"] == "delay" and card["before"]["bits_per_frame"] > 4.0
    assert card == json.loads((tmp_path / "whole.training" / "scorecard.json").read_text())
    update, parts = Tuner.update, options(source, music, tmp_path / "parts")

    def interrupted(tuner: Tuner) -> float:
        bits = update(tuner)
        tuner.stopping = tuner.updates == 3
        return bits

    monkeypatch.setattr(Tuner, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(parts)
    assert not parts.bundle.exists()
    assert run(parts)["after"]["bits"] == card["after"]["bits"]
    one, other = (
        torch.load(tmp_path / f"{name}.training" / BEST, weights_only=True)["average"]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="was begun with p 3, now it is 2"):
        run(replace(parts, p=2))
    _plays(parts.bundle, tmp_path)


def _plays(bundle: Path, folder: Path) -> None:
    """The bundle gives torch's logits, takes with a host, and pieces."""
    model = load_bundle(bundle)
    assert isinstance(model, PromptedModel) and isinstance(model.runtime, StackedRuntime)
    assert model.pattern.name == "stack-delay" and model.manifest.provenance["trained_from"] == "source 1"
    start = read_bundle(bundle)  # and training can go on from it
    assert start.pattern == "stack-delay" and start.p == 3 and float(np.abs(start.weights["level_emb"]).max()) > 0.0
    trained = MusicgenModel(start.shape, model.pattern, window_frames=model.manifest.window_frames).eval()
    trained.start(start.weights)
    codes = np.random.default_rng(0).integers(0, 64, (30, 4)).astype(np.uint16)
    found, expected = forced_logits(model, codes), torch_logits(trained, codes)
    assert max(float(np.abs(found[cell] - row).max()) for cell, row in expected.items()) < 1e-4
    model.tell("slow jazz")
    heard = np.random.default_rng(1).normal(0, 0.2, (6000, 2)).astype(np.float32)
    made = continue_offline(model, heard, 16000, seconds=0.4, sampling=Sampling(seed=4, guidance=3.0))
    assert made.pcm.shape == (6400, 2) and np.isfinite(made.pcm).all()
    flags = ["--frames", "20", "--text", "slow drums", "--codes", str(folder / "c.npy")]
    assert CliRunner().invoke(app, ["generate", "--model", str(bundle), *flags]).exit_code == 0
    assert np.load(folder / "c.npy").shape == (4, 20)


def test_the_command_begins_at_a_bundle_and_reports(source: Path, music: Path, tmp_path: Path) -> None:
    convert_musicgen(source, tmp_path / "base", ConvertOptions(window_frames=96, precision="int8"))
    flags = ["train", "--data", str(music), "--init", str(tmp_path / "base"), "--out", str(tmp_path / "new")]
    flags += ["--pattern", "delay", "--updates", "2", "--batch", "1", "--crop-frames", str(CROP), "--text", "jazz"]
    looked = CliRunner().invoke(app, [*flags, "--dry-run"])
    assert looked.exit_code == 0 and "slow drums" in looked.output and "skipped: too short" in looked.output
    assert not (tmp_path / "new.training").exists()
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    assert "as published (delay)" in result.output and "is ready: attacca serve --model" in result.output
    card = json.loads((tmp_path / "new.training" / "scorecard.json").read_text())
    assert card["start"]["bits"] == card["before"]["bits"]  # the same weights under the same pattern
    assert load_bundle(tmp_path / "new").manifest.window_frames == 96
    refused = CliRunner().invoke(app, [*flags[:5], "--out", str(tmp_path / "base")])
    assert refused.exit_code != 0 and "was not made by attacca train --init" in refused.output


def test_layers_that_are_computed_again_give_the_same_gradients(source: Path) -> None:
    start = read_checkpoint(source)
    gradients = []
    codes = torch.randint(0, 64, (2, 20, 4), generator=torch.Generator().manual_seed(1))
    text, mask = torch.ones(2, 3, start.shape.text_dim), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for recompute in (False, True):
        model = MusicgenModel(start.shape, make_pattern("stack-delay", 4), window_frames=96).train()
        model.start(start.weights)
        model.recompute = recompute
        layout = LayoutTensors(build_layout(model.pattern, 20, 4, 96), torch.device("cpu"), torch.float32)
        codebook_bits(model, codes, text, mask, layout, until=20).sum().backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_texts_and_splits(source: Path, music: Path, tmp_path: Path) -> None:
    convert_musicgen(source, tmp_path / "base", ConvertOptions(window_frames=96))
    texts = Texts(tmp_path / "base")
    assert texts.states("").mask.tolist() == [0.0] and texts.states("slow jazz").states.shape == (3, 48)
    assert len(texts.states("drums " * 400).mask) == 256
    heard = [Heard(name=name, key=name) for name in "abcdef"] + [Heard(name="g", problem="silent")]
    first = split(heard, tmp_path, share=0.3, seed=0)
    assert list(first.values()).count("heldout") == 2 and "g" not in first
    more = [*heard, Heard(name="h", key="h")]
    assert split(more, tmp_path, share=0.3, seed=0) == first | {"h": "train"}
    with pytest.raises(ValueError, match="1 of 2 files can be used, needed: 2"):
        split(heard[-2:], tmp_path / "other", share=0.3, seed=0)
    for wrong, message in (("pattern", "pattern is 'x', allowed: stack-delay, stack, delay"), ("p", "p is 17")):
        with pytest.raises(ValueError, match=message):
            replace(options(source, music, tmp_path / "out"), **{wrong: "x" if wrong == "pattern" else 17})
