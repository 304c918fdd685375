"""Melody models as exported equal transformers: the tokens of `.generate` under text and chroma."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

import soundfile  # noqa: E402
from musicgen_fixtures import generated_codes, make_melody, save, save_tokenizer  # noqa: E402
from test_musicgen import GREEDY, WINDOW, NoConditions, random_codes, token_ids  # noqa: E402
from transformers.audio_utils import chroma_filter_bank  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from attacca.bridge.cli import app  # noqa: E402
from attacca.engine.bundle import load_bundle  # noqa: E402
from attacca.engine.chroma import chord_rows, chroma_filters, chroma_of, one_hot, phrase_rows  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.melody import MelodyDecoder, MelodyRuntime  # noqa: E402
from attacca.engine.musicgen import PromptBox  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.engine.piece import make_piece  # noqa: E402
from attacca.engine.prompt_track import PromptTrack  # noqa: E402
from attacca.engine.prompted import Prompt  # noqa: E402
from attacca.export.musicgen import MusicgenExport, build_prefix, build_step  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402
from attacca.export.musicgen_checkpoint import read_musicgen  # noqa: E402
from attacca.export.shapes import musicgen_manifest  # noqa: E402

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
        self.runtime = MelodyRuntime(graph, musicgen_manifest(shape, window=WINDOW))
        prefix = build_prefix(checkpoint.decoder, shape, options).SerializeToString()
        self.prefix = onnxruntime.InferenceSession(prefix)

    def prompt(self, ids: Any, chroma: np.ndarray) -> Prompt:
        with torch.no_grad():
            states = self.torch.text_encoder(ids[None]).last_hidden_state[0].numpy()
        given = {"states": states, "mask": np.ones(len(states), np.float32), "chroma": chroma}
        return Prompt({"prefix": self.prefix.run(None, given)[0]})

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


@pytest.mark.parametrize("change", [0, 9])
def test_another_melody_counts_from_the_next_step_on(exported: Exported, change: int) -> None:
    """As does a text that is not longer: its last rows are zeros then, as masked words are."""
    sampling = Sampling(seed=3, guidance=2.0)
    old = exported.prompt(token_ids(3, 6), random_chroma(1))
    for new in (exported.prompt(token_ids(3, 6), random_chroma(2)), exported.prompt(token_ids(7, 4), NO_MELODY)):
        told = exported.decoder(old)
        told.plan(change, NoConditions(), sampling)
        told.tell(new, 25)
        start, begin = told.snapshot(), told.next_row
        told.plan(FRAMES, NoConditions(), sampling)
        codes = told.read(0, FRAMES)
        never = exported.decoder(old)
        never.plan(FRAMES, NoConditions(), sampling)
        assert np.array_equal(never.read(0, FRAMES)[:begin, 0], codes[:begin, 0])
        assert not np.array_equal(never.read(0, FRAMES), codes)
        same_past = exported.decoder(old)
        same_past.restore(dataclasses.replace(start, track=PromptTrack(new)))
        same_past.plan(FRAMES, NoConditions(), sampling)
        assert np.array_equal(same_past.read(0, FRAMES), codes)
        for reached, to in ((change + 3, change), (FRAMES, 4), (20, 0)):
            told.plan(reached, NoConditions(), sampling)
            told.rollback(min(to, told.frontier))
        fork = told.fork()
        for decoder in (told, fork):
            decoder.plan(FRAMES, NoConditions(), sampling)
            assert np.array_equal(decoder.read(0, FRAMES), codes)


def test_a_longer_text_waits_for_a_sequence_that_begins(exported: Exported) -> None:
    short, long = (exported.prompt(token_ids(3, size), random_chroma(1)) for size in (4, 6))
    told, never = exported.decoder(short), exported.decoder(short)
    for decoder in (told, never):
        decoder.plan(5, NoConditions(), GREEDY)
    told.tell(long)
    for decoder in (told, never):
        decoder.plan(FRAMES, NoConditions(), GREEDY)
    assert np.array_equal(told.read(0, FRAMES), never.read(0, FRAMES))
    told.reset()
    told.plan(FRAMES, NoConditions(), GREEDY)
    begun = exported.decoder(long)
    begun.plan(FRAMES, NoConditions(), GREEDY)
    assert np.array_equal(told.read(0, FRAMES), begun.read(0, FRAMES))


def test_notes_written_as_chroma() -> None:
    assert chord_rows([7, 0, 4, 7], 8).argmax(axis=1).tolist() == [0, 4, 7, 0, 4, 7, 0, 4]
    assert chord_rows([11], 3).tolist() == [[0.0] * 11 + [1.0]] * 3
    row_s = 4096 / 32000
    starts, notes = [0.05, 0.05 + 3 * row_s, 1.0, 2.0], [None, 9, None, 2]
    phrase = phrase_rows(starts, notes, 2.0 + 2 * row_s)
    first = starts[1]
    times = first + row_s * np.arange(len(phrase))
    assert len(phrase) == np.ceil((2.0 + 2 * row_s - first) / row_s)
    assert phrase.argmax(axis=1).tolist() == [
        9 if time < 2.0 else 2 for time in times
    ]  # silence is the note before
    assert (phrase.sum(axis=1) == 1).all() and phrase.dtype == np.float32
    for nothing in (phrase_rows([], [], 1.0), phrase_rows([0.0], [None], 1.0), phrase_rows([1.0], [3], 1.0)):
        assert nothing.shape == (0, 12)
    with pytest.raises(ValueError, match="a chord of no notes has no rows"):
        chord_rows([], 3)


def test_chroma_equals_transformers() -> None:
    """Their filters, and their frames as torch makes them; their extractor itself needs torchaudio."""
    expected = chroma_filter_bank(num_frequency_bins=16384, num_chroma=12, sampling_rate=32000, tuning=0)
    assert np.allclose(chroma_filters(), expected, rtol=0, atol=1e-9)
    time_s = np.arange(70000) / 32000
    notes = np.repeat([0, 4, 7, 9], 17500)
    pcm = np.sin(2 * np.pi * np.cumsum(261.6256 * 2 ** (notes / 12)) / 32000).astype(np.float32) + 0.01 * time_s
    window = torch.hann_window(16384)
    spectrum = torch.stft(torch.from_numpy(pcm).float(), 16384, 4096, window=window, return_complex=True).abs() ** 2
    strongest = torch.from_numpy(expected).float() @ spectrum
    found = chroma_of(pcm.astype(np.float32))
    assert np.array_equal(found.argmax(axis=1), strongest.argmax(dim=0).numpy())
    assert (found.sum(axis=1) == 1).all() and set(found.argmax(axis=1)) == {0, 4, 7, 9}
    assert len(chroma_of(np.ones(100, np.float32))) == 5
    with pytest.raises(ValueError, match=r"allowed: 0\.\.11"):
        one_hot(np.array([12]))


def test_a_bundle_follows_text_and_melody(exported: Exported, tmp_path: Path) -> None:
    source = save(exported.torch, tmp_path / "source")
    tokenizer = save_tokenizer(source)
    manifest = convert_musicgen(source, tmp_path / "bundle", ConvertOptions(window_frames=96))
    assert manifest.decoder.kind == "musicgen-melody" and manifest.text.melody_rows == CHROMA_ROWS
    model = load_bundle(tmp_path / "bundle")
    ids = torch.tensor(tokenizer.encode("slow drums").ids)
    for text, chroma in (("slow drums", random_chroma(1)), ("slow drums", None)):
        model.tell(text, chroma)
        piece = make_piece(model, frames=FRAMES, sampling=GREEDY)
        decoder = exported.decoder(exported.prompt(ids, NO_MELODY if chroma is None else chroma))
        decoder.end_at(FRAMES)
        decoder.plan(FRAMES, NoConditions(), GREEDY)
        assert np.array_equal(piece.codes, decoder.read(0, FRAMES))
    soundfile.write(tmp_path / "hum.wav", np.sin(np.arange(9000) * 0.2), 8000)
    flags = [
        "generate",
        "--model",
        str(tmp_path / "bundle"),
        "--frames",
        "9",
        "--melody",
        str(tmp_path / "hum.wav"),
    ]
    result = CliRunner().invoke(app, [*flags, "--codes", str(tmp_path / "codes.npy")])
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "codes.npy").shape == (exported.runtime.shape.num_codebooks, 9)
