"""MusicGen under other patterns: torch equals transformers, the exported graph equals torch and plays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

import onnxruntime  # noqa: E402
from musicgen_fixtures import CODES, make_melody, make_musicgen, save, save_tokenizer  # noqa: E402
from test_musicgen import WINDOW, Exported, NoConditions, random_codes, token_ids  # noqa: E402

from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.manifest import PatternSection  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder, PromptBox  # noqa: E402
from attacca.engine.pattern import Pattern, make_pattern  # noqa: E402
from attacca.engine.prompted import Prompt  # noqa: E402
from attacca.engine.rolling import RollingDecoder  # noqa: E402
from attacca.engine.scoring import Forcing, run_forced  # noqa: E402
from attacca.engine.stacked import StackedRuntime, positions  # noqa: E402
from attacca.export.musicgen import MusicgenExport, build_prompt  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402
from attacca.export.musicgen_stacked import build_stacked_step  # noqa: E402
from attacca.export.shapes import musicgen_manifest  # noqa: E402
from attacca.training.decoder_model import LayoutTensors  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402
from attacca.training.musicgen_model import MusicgenModel  # noqa: E402
from attacca.training.musicgen_weights import read_bundle, read_checkpoint  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
FRAMES = 24


class Stacked:
    """A checkpoint under a stack pattern with levels that count: torch, graphs, and its text's states."""

    def __init__(self, folder: Path, *, channels: int, p: int) -> None:
        self.original = make_musicgen(channels=channels)
        start = read_checkpoint(save(self.original, folder))
        self.shape = start.shape
        self.pattern = make_pattern("stack-delay", self.shape.num_codebooks, p=p)
        self.model = MusicgenModel(self.shape, self.pattern, window_frames=WINDOW).eval()
        self.model.start(start.weights)
        with torch.no_grad():
            self.model.level_emb.normal_(generator=torch.Generator().manual_seed(5))
        weights, export = self.model.weights(), MusicgenExport(window_frames=WINDOW)
        graph = build_stacked_step(weights, self.shape, export).SerializeToString()
        self.runtime = StackedRuntime(graph, stacked_manifest(self.shape, p))
        self.prompts = onnxruntime.InferenceSession(build_prompt(weights, self.shape, export).SerializeToString())

    def states(self, ids: Any) -> Any:
        with torch.no_grad():
            return self.original.text_encoder(ids[None]).last_hidden_state

    def prompt(self, ids: Any) -> Prompt:
        mask = np.ones(len(ids), np.float32)
        found = self.prompts.run(None, {"states": self.states(ids)[0].numpy(), "mask": mask})
        return Prompt.of({o.name: v for o, v in zip(self.prompts.get_outputs(), found, strict=True)}, mask)

    def decoder(self, prompt: Prompt) -> MusicgenDecoder:
        return MusicgenDecoder(self.runtime, self.pattern, PromptBox(prompt))


def stacked_manifest(shape: Any, p: int) -> Any:
    import msgspec

    plain = musicgen_manifest(shape, window=WINDOW)
    codec: dict[str, object] = {"audio_channels": shape.audio_channels}
    return msgspec.structs.replace(plain, pattern=PatternSection(name="stack-delay", p=p), codec=codec)


def torch_logits(
    model: Any, pattern: Pattern, codes: np.ndarray, text: Any, guidance: float, **layout: Any
) -> dict:
    """Guided logits [V] by (t, k)."""
    found = build_layout(pattern, len(codes), layout.get("prefix", 0), WINDOW)
    tensors = LayoutTensors(found, torch.device("cpu"), torch.float32)
    tokens = torch.from_numpy(codes.astype(np.int64))[None]
    logits: dict[tuple[int, int], np.ndarray] = {}
    with torch.no_grad():
        both = [model.forward_layout(tokens, text, torch.full(text.shape[:2], on), tensors)[0] for on in (1.0, 0.0)]
        for k, (rows, times) in enumerate(zip(found.target_rows, found.target_timesteps, strict=True)):
            on, off = (model.logits(outputs[rows], k).numpy() for outputs in both)
            guided = off + guidance * (on - off)
            logits |= {(int(t), k): row for t, row in zip(times, guided, strict=True)}
    return logits


@pytest.fixture(scope="module", params=[(1, 3), (1, 1), (2, 2)], ids=["mono-p3", "mono-p1", "stereo-p2"])
def stacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stacked:
    channels, p = request.param
    return Stacked(tmp_path_factory.mktemp("stacked"), channels=channels, p=p)


def test_the_exported_graph_played_step_by_step_equals_torch_at_once(stacked: Stacked) -> None:
    ids, codes = token_ids(1, 7), random_codes(2, FRAMES, stacked.shape.num_codebooks)
    expected = torch_logits(stacked.model, stacked.pattern, codes, stacked.states(ids), 3.0)
    decoder, found = stacked.decoder(stacked.prompt(ids)), Forcing(codes, CODES)
    decoder.choose = found
    run_forced(decoder, found, FRAMES, 0, 3.0)
    assert len(expected) > 0.6 * codes.size and np.std(list(expected.values())) > 1.0
    assert max(float(np.abs(found.logits[cell] - row).max()) for cell, row in expected.items()) < 1e-4


def test_positions_are_the_delay_models() -> None:
    level, timestep = np.array([4, 3, 2, 1, 0, 4]), np.array([7, 6, 6, 6, 8, -1])
    assert positions(timestep, level, 4, 1).tolist() == [8, 9, 8, 7, 8, 0]
    assert positions(timestep, level, 4, 2).tolist() == [8, 7, 7, 6, 8, 0]


def test_it_begins_as_the_delay_model_where_rows_are_the_same(tmp_path: Path) -> None:
    """With levels of zeros: (0, 0) and (0, 1) are drawn from the same input after the same rows, later ones not."""
    start = read_checkpoint(save(make_musicgen(), tmp_path))
    text, codes = torch.randn(1, 5, start.shape.text_dim), random_codes(3, FRAMES, 4)
    logits = {}
    for name, p in (("delay", 1), ("stack-delay", 1), ("stack-delay", 3), ("stack", 1)):
        pattern = make_pattern(name, 4, p=p)
        model = MusicgenModel(start.shape, pattern, window_frames=WINDOW).eval()
        model.start(start.weights)
        logits[name, p] = torch_logits(model, pattern, codes, text, 1.0)
    delay = logits.pop(("delay", 1))
    for found in logits.values():
        apart = {cell: float(np.abs(row - delay[cell]).max()) for cell, row in found.items() if cell in delay}
        assert apart[0, 0] < 1e-4 and apart[0, 1] < 1e-4
        assert min(value for cell, value in apart.items() if cell not in ((0, 0), (0, 1))) > 0.01


@pytest.mark.parametrize("channels", [1, 2])
def test_under_delay_torch_is_transformers_model(tmp_path: Path, channels: int) -> None:
    exported = Exported(make_musicgen(channels=channels), save(make_musicgen(channels=channels), tmp_path))
    model = MusicgenModel(exported.shape, exported.pattern, window_frames=WINDOW).eval()
    model.start(exported.weights)
    ids, codes = token_ids(1, 6), random_codes(2, FRAMES, exported.shape.num_codebooks)
    with torch.no_grad():
        text = exported.model.text_encoder(ids[None]).last_hidden_state
    found = torch_logits(model, exported.pattern, codes, text, 3.0, prefix=4)
    decoder, expected = (
        exported.decoder(exported.prompt(ids)),
        Forcing(codes, CODES),
    )  # equal to theirs: test_musicgen
    decoder.choose = expected
    run_forced(decoder, expected, FRAMES, 0, 3.0)
    assert min(t for t, _ in found) <= 4 and len(found) > 0.6 * codes.size
    sure = {cell: row for cell, row in found.items() if cell[0] >= 4}
    assert max(float(np.abs(expected.logits[cell] - row).max()) for cell, row in sure.items()) < 1e-4


def test_takes_without_end_and_rollback(stacked: Stacked) -> None:
    prompt, sampling = stacked.prompt(token_ids(4, 6)), Sampling(seed=3, guidance=2.0)

    def rolling() -> RollingDecoder:
        books = stacked.shape.num_codebooks
        return RollingDecoder(lambda: stacked.decoder(prompt), horizon=40, keep=14, num_codebooks=books)

    whole, again = rolling(), rolling()
    for decoder in (whole, again):
        decoder.plan(60, NoConditions(), sampling)
    again.plan(75, NoConditions(), Sampling(seed=8, guidance=2.0))
    for decoder in (whole, again):
        decoder.rollback(60)  # where a pattern is taken back, it begins anew
        decoder.plan(90, NoConditions(), sampling)
    assert np.array_equal(again.read(55, 90), whole.read(55, 90)) and len(np.unique(whole.read(55, 90))) > 8


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_gives_back_its_weights(tmp_path: Path, precision: str) -> None:
    source = save(make_musicgen(), tmp_path / "source")
    save_tokenizer(source)
    convert_musicgen(source, tmp_path / "bundle", ConvertOptions(window_frames=96, precision=precision))
    expected, found = read_checkpoint(source), read_bundle(tmp_path / "bundle")
    assert found.shape == expected.shape and found.pattern == "delay"
    assert set(found.weights) == set(expected.weights)
    for name, value in expected.weights.items():
        bound = 1e-6 if precision == "fp32" else 0.02 * float(np.abs(value).max())
        assert np.abs(found.weights[name] - value).max() <= bound, name


def test_melody_is_refused(tmp_path: Path) -> None:
    source = save(make_melody(), tmp_path / "source")
    save_tokenizer(source)
    with pytest.raises(ValueError, match="is a melody checkpoint"):
        read_checkpoint(source)
    convert_musicgen(source, tmp_path / "bundle", ConvertOptions(window_frames=96))
    with pytest.raises(ValueError, match="no MusicGen decoder that reads text"):
        read_bundle(tmp_path / "bundle")
