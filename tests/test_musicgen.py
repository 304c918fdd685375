"""MusicGen's decoder as exported equals transformers: logits, and tokens of `.generate`, prompted in every way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import CODES, VOCABULARY, generated_codes, make_musicgen, save  # noqa: E402

from attacca.engine.generator import Conditions, Sampling  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder, PromptBox  # noqa: E402
from attacca.engine.pattern import Pattern, make_pattern  # noqa: E402
from attacca.engine.prompted import Prompt, PromptedRuntime  # noqa: E402
from attacca.engine.schedule import context_rows  # noqa: E402
from attacca.export.calibrate import calibrate_cache  # noqa: E402
from attacca.export.musicgen import MusicgenExport, build_prompt, build_step  # noqa: E402
from attacca.export.musicgen_checkpoint import read_musicgen  # noqa: E402
from attacca.export.shapes import musicgen_manifest  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
WINDOW, FRAMES = 96, 40
GREEDY = Sampling(temperature=0.0, guidance=3.0)


class NoConditions:
    def rows(self, first_frame: int, count: int) -> Conditions:
        return np.zeros((count, 0), np.float32)


class Exported:
    """A checkpoint read from its files, its graphs, and the torch model that wrote it."""

    def __init__(self, model: Any, folder: Path, **options: Any) -> None:
        self.model = model
        checkpoint = read_musicgen(folder)
        self.shape = checkpoint.shape
        self.pattern: Pattern = make_pattern("delay", self.shape.num_codebooks, channels=self.shape.audio_channels)
        weights = dict(checkpoint.decoder)
        export = MusicgenExport(window_frames=options.pop("window", WINDOW), **options)
        graph = build_step(weights, self.shape, export)
        self.runtime = PromptedRuntime(
            graph.SerializeToString(), musicgen_manifest(self.shape, window=export.window_frames)
        )
        self.weights = weights
        self.prompts = onnxruntime.InferenceSession(build_prompt(weights, self.shape, export).SerializeToString())

    def prompt(self, ids: Any, mask: Any | None = None) -> Prompt:
        """Of token ids [P], by transformers' own text encoder."""
        ones = torch.ones_like(ids) if mask is None else mask
        with torch.no_grad():
            states = self.model.text_encoder(ids[None], attention_mask=ones[None]).last_hidden_state[0].numpy()
        given = ones.numpy().astype(np.float32)
        found = self.prompts.run(None, {"states": states, "mask": given})
        return Prompt.of({o.name: v for o, v in zip(self.prompts.get_outputs(), found, strict=True)}, given)

    def decoder(self, prompt: Prompt) -> MusicgenDecoder:
        return MusicgenDecoder(self.runtime, self.pattern, PromptBox(prompt))

    def generate(self, prompt: Prompt, frames: int, known: np.ndarray | None = None) -> np.ndarray:
        """Greedy, guidance 3: codes [frames, K]."""
        decoder = self.decoder(prompt)
        if known is not None:
            decoder.listen(known, np.zeros((len(known), 0), np.float32))
        decoder.end_at(frames)
        decoder.plan(frames, NoConditions(), GREEDY)
        return decoder.read(0, frames)


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = make_musicgen(channels=request.param)
    return Exported(model, save(model, tmp_path_factory.mktemp("musicgen")))


def token_ids(seed: int, count: int) -> Any:
    return torch.randint(2, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))


def random_codes(seed: int, frames: int, books: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CODES, (frames, books)).astype(np.uint16)


def torch_logits(exported: Exported, ids: Any, stack: np.ndarray, guidance: float) -> np.ndarray:
    """Guided logits [steps, K, V] of transformers, teacher-forced on rows [steps, K]."""
    books, tokens = stack.shape[1], torch.from_numpy(np.ascontiguousarray(stack.T))
    with torch.no_grad():
        both = []
        for mask in (torch.ones_like(ids), torch.zeros_like(ids)):
            encoded = exported.model.text_encoder(ids[None]).last_hidden_state
            found = exported.model(
                encoder_outputs=(encoded,), attention_mask=mask[None], decoder_input_ids=tokens
            ).logits
            both.append(found.reshape(books, len(stack), -1).transpose(0, 1).numpy())
    return both[1] + guidance * (both[0] - both[1])


def test_logits_of_every_step(exported: Exported) -> None:
    ids, codes = token_ids(1, 7), random_codes(2, FRAMES, exported.shape.num_codebooks)
    stack, level, timestep = context_rows(exported.pattern, CODES, codes)
    expected = torch_logits(exported, ids, stack, 3.0)
    lane = exported.runtime.lane()
    lane.prompt, lane.guidance[0], lane.temperature[0] = exported.prompt(ids), 3.0, 0.0
    conditions = np.zeros((1, 0), np.float32)
    apart = 0.0
    for i in range(len(stack)):
        lane.run(stack[i : i + 1], level[i : i + 1], timestep[i : i + 1], conditions, slot=lane.cache.count)
        lane.cache.keep([i])
        apart = max(apart, float(np.abs(lane.logits - expected[i]).max()))
    assert np.std(expected) > 1.0  # so that the bound below means something
    assert apart < 1e-4


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_tokens_of_generate_under_text(exported: Exported, batch: int) -> None:
    """Prompts of several lengths, padded on the right as transformers' tokenizer pads them."""
    lengths = [6, 9, 3][:batch]
    ids, mask = (
        torch.zeros(batch, max(lengths), dtype=torch.long),
        torch.zeros(batch, max(lengths), dtype=torch.long),
    )
    for row, length in enumerate(lengths):
        ids[row, :length], mask[row, :length] = token_ids(row, length), 1
    expected = generated_codes(exported.model, FRAMES, input_ids=ids, attention_mask=mask, guidance_scale=3.0)
    for row in range(batch):
        assert len(np.unique(expected[row])) > 8
        assert np.array_equal(exported.generate(exported.prompt(ids[row], mask[row]), FRAMES), expected[row])
        shorter = exported.prompt(ids[row, : lengths[row]])
        assert np.array_equal(exported.generate(shorter, FRAMES), expected[row])


@pytest.mark.parametrize("batch", [1, 2])
def test_the_tokens_of_generate_after_audio(exported: Exported, batch: int) -> None:
    books = exported.shape.num_codebooks
    ids = torch.stack([token_ids(row, 5) for row in range(batch)])
    heard = np.stack([random_codes(row, 20, books) for row in range(batch)])
    given = torch.from_numpy(heard.astype(np.int64)).transpose(1, 2).reshape(batch * books, -1)
    mask = torch.ones_like(ids)
    expected = generated_codes(
        exported.model, FRAMES, input_ids=ids, attention_mask=mask, guidance_scale=3.0, decoder_input_ids=given
    )
    for row in range(batch):
        assert np.array_equal(expected[row][:20], heard[row])
        assert np.array_equal(exported.generate(exported.prompt(ids[row]), FRAMES, heard[row]), expected[row])


def test_the_tokens_of_generate_without_a_prompt(exported: Exported) -> None:
    inputs = exported.model.get_unconditional_inputs(num_samples=1)
    expected = generated_codes(
        exported.model,
        FRAMES,
        encoder_outputs=inputs.encoder_outputs,
        attention_mask=inputs.attention_mask,
        guidance_scale=1.0,
    )
    assert np.array_equal(exported.generate(Prompt.silent(exported.runtime.shape), FRAMES), expected[0])


def test_listening_in_pieces_rolling_back_and_forking_change_nothing(exported: Exported) -> None:
    prompt = exported.prompt(token_ids(4, 6))
    whole = exported.decoder(prompt)
    whole.plan(FRAMES, NoConditions(), Sampling(seed=3, guidance=2.0))
    codes = whole.read(0, FRAMES)
    again = exported.decoder(prompt)
    for start in (0, 1, 9):
        stop = {0: 1, 1: 9, 9: 17}[start]
        again.listen(codes[start:stop], np.zeros((stop - start, 0), np.float32))
    again.plan(30, NoConditions(), Sampling(seed=99, guidance=2.0))
    again.rollback(12)
    fork = again.fork()
    for decoder in (again, fork):
        decoder.plan(FRAMES, NoConditions(), Sampling(seed=3, guidance=2.0))
        assert np.array_equal(decoder.read(0, FRAMES), codes)


@pytest.mark.parametrize(
    ("precision", "kv_bits", "bound"), [("int8", 32, 0.1), ("int8", 8, 0.15), ("fp16", 32, 0.01)]
)
def test_coarser_weights_and_caches_stay_near(tmp_path: Path, precision: str, kv_bits: int, bound: float) -> None:
    """The RMS distance of guided logits after forced frames, as a share of their own RMS."""
    exact = Exported(make_musicgen(), save(make_musicgen(), tmp_path))
    scales = calibrate_cache(exact.runtime, exact.pattern, NoConditions(), frames=64) if kv_bits == 8 else None
    options = MusicgenExport(window_frames=WINDOW, precision=precision, kv_bits=kv_bits)
    graph = build_step(exact.weights, exact.shape, options, scales).SerializeToString()
    coarse = PromptedRuntime(graph, musicgen_manifest(exact.shape, window=WINDOW, kv_bits=kv_bits))
    prompt, codes = exact.prompt(token_ids(1, 7)), random_codes(2, FRAMES, 4)
    stack, level, timestep = context_rows(exact.pattern, CODES, codes)
    found = []
    for runtime in (exact.runtime, coarse):
        lane = runtime.lane()
        lane.prompt = prompt
        for i in range(len(stack)):
            row = slice(i, i + 1)
            lane.run(stack[row], level[row], timestep[row], np.zeros((1, 0), np.float32), slot=lane.cache.count)
            lane.cache.keep([i])
        found.append(lane.logits.copy())
    apart = np.sqrt(np.mean((found[1] - found[0]) ** 2) / np.mean(found[0] ** 2))
    assert 0.0 < apart < bound
