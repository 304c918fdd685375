"""From a checkpoint to `attacca generate`: the tokens of transformers, in files; sessions play it; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import soundfile  # noqa: E402
from musicgen_fixtures import (  # noqa: E402
    audiocraft_state,
    generated_codes,
    make_musicgen,
    save,
    save_tokenizer,
)
from typer.testing import CliRunner  # noqa: E402

from attacca.bridge.cli import app  # noqa: E402
from attacca.bridge.config import Settings  # noqa: E402
from attacca.bridge.loading import load_model  # noqa: E402
from attacca.engine.bundle import PromptedModel, load_bundle, verify_bundle  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.manifest import ManifestError, check_manifest, encode_manifest, parse_manifest  # noqa: E402
from attacca.engine.offline import continue_offline  # noqa: E402
from attacca.engine.piece import heard_codes, make_piece  # noqa: E402
from attacca.export import musicgen_bundle  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen  # noqa: E402
from attacca.export.tensors import CheckpointError  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
TEXT, FRAMES = "slow jazz piano", 30
GREEDY = Sampling(temperature=0.0, guidance=3.0)


class Converted:
    """A checkpoint, the torch model that wrote it, and its bundle."""

    def __init__(self, root: Path, channels: int) -> None:
        self.torch = make_musicgen(channels=channels)
        self.source = save(self.torch, root / "source")
        self.tokenizer = save_tokenizer(self.source)
        self.bundle = root / "bundle"
        convert_musicgen(self.source, self.bundle, ConvertOptions(window_frames=96))
        model = load_bundle(self.bundle)
        assert isinstance(model, PromptedModel)
        self.model = model

    def expected(self, frames: int, **inputs: Any) -> np.ndarray:
        """Codes [frames, K] by transformers under TEXT, greedy, guidance 3."""
        ids = torch.tensor([self.tokenizer.encode(TEXT).ids])
        mask = torch.ones_like(ids)
        (codes,) = generated_codes(
            self.torch, frames, input_ids=ids, attention_mask=mask, guidance_scale=3.0, **inputs
        )
        return codes


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("converted"), request.param)


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(tmp_path_factory.mktemp("mono"), 1)


def generate(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["generate", *map(str, arguments)])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return result.output


def test_the_command_writes_transformers_tokens(converted: Converted, tmp_path: Path) -> None:
    codes, wav = tmp_path / "codes.npy", tmp_path / "piece.wav"
    flags = ("--model", converted.bundle, "--frames", FRAMES, "--greedy", "--guidance", 3)
    said = generate(*flags, "--text", TEXT, "--codes", codes, "--wav", wav)
    assert f"{FRAMES} frames" in said and "greedy" in said
    found, codec = np.load(codes), converted.model.codec
    assert found.dtype == np.uint16 and found.shape == (codec.num_codebooks, FRAMES)
    assert np.array_equal(found.T, converted.expected(FRAMES))
    pcm, rate = soundfile.read(wav)
    assert rate == codec.sample_rate and len(pcm) == FRAMES * codec.hop_samples
    assert pcm.ndim == codec.audio_channels
    with torch.no_grad():
        given = torch.from_numpy(found.astype(np.int64))
        sides = [given[side :: codec.audio_channels][None, None] for side in range(codec.audio_channels)]
        decoded = [converted.torch.audio_encoder.decode(side, [None]).audio_values[0, 0].numpy() for side in sides]
    assert np.abs(pcm.reshape(len(pcm), -1).T - np.clip(np.stack(decoded), -1, 1)).max() < 1e-4


def test_an_audio_prompt_goes_on_as_transformers_goes_on(converted: Converted, tmp_path: Path) -> None:
    codec = converted.model.codec
    noise = np.random.default_rng(7).normal(0.0, 0.4, (12 * codec.hop_samples + 17, codec.audio_channels))
    sound = np.clip(noise, -1.0, 1.0).astype(np.float32)
    soundfile.write(tmp_path / "prompt.wav", sound, codec.sample_rate, subtype="FLOAT")
    flags = ("--model", converted.bundle, "--frames", FRAMES, "--greedy", "--text", TEXT)
    generate(*flags, "--audio-prompt", tmp_path / "prompt.wav", "--codes", tmp_path / "codes.npy")
    known = heard_codes(converted.model, sound, codec.sample_rate)
    given = torch.from_numpy(sound.T.copy())[None]
    expected = converted.expected(
        FRAMES, input_values=given, decoder_input_ids=torch.from_numpy(known.T.astype(int))
    )
    assert len(known) == 13 and len(np.unique(known)) > 4
    with torch.no_grad():
        sides = [converted.torch.audio_encoder.encode(side[None]).audio_codes[0, 0] for side in given[0][:, None]]
    for side, codes in enumerate(sides):
        assert np.array_equal(known[:, side :: codec.audio_channels].T, codes.numpy())
    assert np.array_equal(np.load(tmp_path / "codes.npy").T, expected)


def test_a_seed_gives_one_piece_and_another_another(mono: Converted, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.npy"
        generate("--model", mono.bundle, "--frames", 20, "--seed", seed, "--text", TEXT, "--codes", path)
        made.append(np.load(path))
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_a_session_plays_it(converted: Converted) -> None:
    codec = converted.model.codec
    converted.model.tell("loud drums")
    heard = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)
    made = continue_offline(converted.model, heard, 16000, seconds=0.5, sampling=Sampling(seed=4))
    assert made.pcm.shape == (8000, 2) and np.isfinite(made.pcm).all() and made.pcm.std() > 0
    assert made.codes.shape[1] == codec.num_codebooks


def test_texts_are_told_to_all_streams_and_made_once(mono: Converted) -> None:
    model, text = mono.model, mono.model.text
    assert text is not None
    assert text.prompt(TEXT) is text.prompt(TEXT) and text.prompt(" ").text == ""
    pieces = {}
    for told in (TEXT, "loud techno", ""):
        model.tell(told)
        pieces[told] = make_piece(model, frames=FRAMES, sampling=GREEDY).codes
    assert np.array_equal(pieces[TEXT], mono.expected(FRAMES))
    assert not np.array_equal(pieces[TEXT], pieces["loud techno"])
    assert not np.array_equal(pieces[TEXT], pieces[""])
    with pytest.raises(ValueError, match=r"the text has 301 tokens, allowed: 1\.\.256"):
        model.tell("drums " * 300)


@pytest.mark.parametrize(("precision", "kv_bits"), [("fp16", 32), ("int8", 8), ("int4", 32)])
def test_coarser_bundles_play(mono: Converted, tmp_path: Path, precision: str, kv_bits: int) -> None:
    options = ConvertOptions(precision=precision, kv_bits=kv_bits, window_frames=96)
    manifest = convert_musicgen(mono.source, tmp_path, options)
    assert manifest.decoder.precision == precision and manifest.decoder.kv_bits == kv_bits
    model = load_bundle(tmp_path)
    assert isinstance(model, PromptedModel)
    model.tell(TEXT)
    piece = make_piece(model, frames=12, sampling=GREEDY)
    assert len(np.unique(piece.codes)) > 3 and np.isfinite(piece.pcm).all()


def test_weights_beside_a_graph_are_the_same_weights(
    mono: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(musicgen_bundle, "MAX_SINGLE_BYTES", 1000)
    manifest = convert_musicgen(mono.source, tmp_path, ConvertOptions(window_frames=96))
    assert manifest.files["decoder_data"].bytes > 10 * manifest.files["decoder"].bytes
    assert verify_bundle(tmp_path) == []
    found = [
        make_piece(load_bundle(folder), frames=12, sampling=GREEDY).codes for folder in (tmp_path, mono.bundle)
    ]
    assert np.array_equal(*found)


def test_audiocraft_needs_a_text_encoder_from_elsewhere(mono: Converted, tmp_path: Path) -> None:
    folder, t5 = tmp_path / "audiocraft", tmp_path / "t5"
    folder.mkdir()
    torch.save({"best_state": audiocraft_state(mono.torch), "xp.cfg": "num_heads: 2"}, folder / "state_dict.bin")
    mono.torch.text_encoder.save_pretrained(t5)
    save_tokenizer(t5)
    mono.torch.audio_encoder.save_pretrained(folder)  # the codec in transformers' layout, beside it
    with_text = convert_musicgen(folder, tmp_path / "a", ConvertOptions(window_frames=96, text_encoder=t5))
    original = parse_manifest((mono.bundle / "manifest.json").read_bytes())
    for role in ("decoder", "text_encoder", "prompt", "tokenizer"):
        assert with_text.files[role].sha256 == original.files[role].sha256
    model = load_bundle(tmp_path / "a")
    assert isinstance(model, PromptedModel) and model.text is not None
    convert_musicgen(folder, tmp_path / "b", ConvertOptions(window_frames=96, codec_precision="int8"))
    without = load_bundle(tmp_path / "b")
    assert isinstance(without, PromptedModel)
    without.tell("")
    assert without.manifest.provenance["codec_precision"] == "int8"
    assert without.manifest.files["codec_decoder"].bytes < model.manifest.files["codec_decoder"].bytes
    with pytest.raises(ValueError, match="audiocraft has no text encoder: it cannot be told 'drums'"):
        without.tell("drums")


def test_what_does_not_fit_is_refused(mono: Converted, tmp_path: Path) -> None:
    manifest = parse_manifest((mono.bundle / "manifest.json").read_bytes())
    assert parse_manifest(encode_manifest(manifest)) == manifest
    table = json.loads((mono.bundle / "manifest.json").read_text())

    def edited(**changes: Any) -> bytes:
        return json.dumps(table | changes).encode()

    wrong = {
        "decoder.kind is 'other', allowed: stacked, musicgen": {"decoder": table["decoder"] | {"kind": "other"}},
        "has a text encoder, allowed where": {
            "decoder": {k: v for k, v in table["decoder"].items() if k != "kind"}
        },
        r"conditioning\.width is 13, allowed: 0": {"conditioning": {"width": 13, "groups": [["chord", 12]]}},
        r"text\.max_tokens is 0": {"text": table["text"] | {"max_tokens": 0}},
        "files lacks tokenizer": {"files": {k: v for k, v in table["files"].items() if k != "tokenizer"}},
        "channels is 3, must divide": {"pattern": table["pattern"] | {"channels": 3}},
    }
    for message, changes in wrong.items():
        with pytest.raises(ManifestError, match=message):
            parse_manifest(edited(**changes))
    check_manifest(manifest)
    (mono.source / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    try:
        with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
            convert_musicgen(mono.source, tmp_path / "out")
    finally:
        (tmp_path / "tokenizer.json").rename(mono.source / "tokenizer.json")


def test_the_command_refuses_what_it_cannot_do(mono: Converted, tmp_path: Path) -> None:
    def refused(*arguments: Any) -> str:
        result = CliRunner().invoke(app, ["generate", *map(str, arguments)])
        assert result.exit_code != 0
        return f"{result.output} {result.exception}"

    assert "nothing to write" in refused("--model", mono.bundle, "--frames", 5)
    codes = ("--codes", tmp_path / "x.npy")
    tiny = Path(__file__).parent / "data" / "tiny"
    assert "reads no text" in refused("--model", tiny, "--frames", 5, "--text", "drums", *codes)
    assert "must end in .npy" in refused("--model", mono.bundle, "--frames", 5, "--codes", tmp_path / "x.bin")
    soundfile.write(tmp_path / "long.wav", np.ones(8000) * 0.1, 8000)
    long = ("--audio-prompt", tmp_path / "long.wav")
    assert "--frames 5 must be more" in refused("--model", mono.bundle, "--frames", 5, *long, *codes)
    assert not (tmp_path / "x.npy").exists()
    generate("--model", tiny, "--frames", 5, *codes)  # any bundle makes pieces, text or no text
    assert np.load(tmp_path / "x.npy").shape[1] == 5


def test_a_setting_is_told(mono: Converted) -> None:
    model = load_model(Settings(model=str(mono.bundle), text="slow jazz"))
    assert isinstance(model, PromptedModel) and model.box.prompt.text == "slow jazz"
    with pytest.raises(ValueError, match="this model reads no text"):
        load_model(Settings(model=str(Path(__file__).parent / "data" / "tiny"), text="drums"))
