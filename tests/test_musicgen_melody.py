"""Melody models as exported equal transformers: the tokens of `.generate` under text and chroma."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import generated_codes, make_melody, save  # noqa: E402
from test_musicgen import GREEDY, NoConditions, manifest_of, random_codes, token_ids  # noqa: E402

from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.melody import MelodyDecoder, MelodyRuntime, melody_prompt  # noqa: E402
from attacca.engine.musicgen import PromptBox  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.engine.prompted import Prompt  # noqa: E402
from attacca.export.musicgen import MusicgenExport, build_prefix, build_step  # noqa: E402
from attacca.export.musicgen_checkpoint import read_musicgen  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
FRAMES, CHROMA_ROWS = 30, 11


class Exported:
    """A melody checkpoint read from its files, its graphs, and the torch model that wrote it."""

    def __init__(self, channels: int, folder: Any) -> None:
        self.torch = make_melody(channels=channels)
        checkpoint = read_musicgen(save(self.torch, folder))
        shape, options = checkpoint.shape, MusicgenExport(window_frames=96)
        assert not shape.cross and shape.num_chroma == 12
        self.pattern = make_pattern("delay", shape.num_codebooks, channels=channels)
        graph = build_step(checkpoint.decoder, shape, options).SerializeToString()
        self.runtime = MelodyRuntime(graph, manifest_of(shape))
        prefix = build_prefix(checkpoint.decoder, shape, options).SerializeToString()
        self.prefix = onnxruntime.InferenceSession(prefix)

    def prompt(self, ids: Any, chroma: np.ndarray) -> Prompt:
        with torch.no_grad():
            states = self.torch.text_encoder(ids[None]).last_hidden_state[0].numpy()
        given = {"states": states, "mask": np.ones(len(states), np.float32), "chroma": chroma}
        return melody_prompt(self.prefix.run(None, given)[0])

    def decoder(self, prompt: Prompt) -> MelodyDecoder:
        return MelodyDecoder(self.runtime, self.pattern, PromptBox(prompt))


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp("melody"))


def random_chroma(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(0, 12, CHROMA_ROWS)
    return np.eye(12, dtype=np.float32)[rows]


NO_MELODY = np.eye(12, dtype=np.float32)[[0] * CHROMA_ROWS]


@pytest.mark.parametrize("melody", [True, False])
@pytest.mark.parametrize("heard", [0, 12])
def test_the_tokens_of_generate(exported: Exported, melody: bool, heard: int) -> None:
    ids, chroma = token_ids(3, 6), random_chroma(1) if melody else NO_MELODY
    inputs = {"input_features": torch.from_numpy(chroma)[None]} if melody else {}
    books = exported.runtime.shape.num_codebooks
    known = random_codes(5, heard, books)
    if heard:
        inputs["decoder_input_ids"] = torch.from_numpy(known.T.astype(np.int64))
    mask = torch.ones_like(ids[None])
    (expected,) = generated_codes(
        exported.torch, FRAMES, input_ids=ids[None], attention_mask=mask, guidance_scale=3.0, **inputs
    )
    decoder = exported.decoder(exported.prompt(ids, chroma))
    decoder.listen(known, np.zeros((heard, 0), np.float32))
    decoder.end_at(FRAMES)
    decoder.plan(FRAMES, NoConditions(), GREEDY)
    assert len(np.unique(expected)) > 8
    assert np.array_equal(decoder.read(0, FRAMES), expected)


def test_rolling_back_and_forking_change_nothing(exported: Exported) -> None:
    prompt, sampling = exported.prompt(token_ids(4, 6), random_chroma(2)), Sampling(seed=3, guidance=2.0)
    whole = exported.decoder(prompt)
    whole.plan(FRAMES, NoConditions(), sampling)
    codes = whole.read(0, FRAMES)
    again = exported.decoder(prompt)
    again.plan(9, NoConditions(), sampling)
    again.rollback(0)
    again.listen(codes[:7], np.zeros((7, 0), np.float32))
    again.plan(20, NoConditions(), Sampling(seed=77, guidance=2.0))
    again.rollback(7)
    fork = again.fork()
    for decoder in (again, fork):
        decoder.plan(FRAMES, NoConditions(), sampling)
        assert np.array_equal(decoder.read(0, FRAMES), codes)
    with pytest.raises(TypeError, match="allowed: a MelodyDecoder's snapshot"):
        fork.restore(whole.snapshot().decoder)


def test_the_melody_counts(exported: Exported) -> None:
    found = []
    for seed in (1, 2):
        decoder = exported.decoder(exported.prompt(token_ids(3, 6), random_chroma(seed)))
        decoder.plan(FRAMES, NoConditions(), GREEDY)
        found.append(decoder.read(0, FRAMES))
    assert not np.array_equal(*found)
