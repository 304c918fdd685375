"""MusicGen checkpoints: every layout gives the same tensors, and what is missing or wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("transformers")

from musicgen_fixtures import audiocraft_state, make_melody, make_musicgen, save  # noqa: E402

from attacca.export.musicgen_checkpoint import MusicgenCheckpoint, read_musicgen  # noqa: E402
from attacca.export.tensors import CheckpointError, Tensors, read_safetensors, read_tensors  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def model(request: pytest.FixtureRequest) -> Any:
    return make_musicgen(channels=request.param)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model, tmp_path_factory.mktemp("checkpoint"))


def equal(left: Tensors, right: Tensors) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


def rewritten(folder: Path, to: Path, change: Any) -> Path:
    """The checkpoint with its tensors passed through `change`."""
    to.mkdir(exist_ok=True)
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    state = {name: value.clone() for name, value in safetensors.load_file(folder / "model.safetensors").items()}
    safetensors.save_file(change(state), to / "model.safetensors")
    return to


def audiocraft(model: Any, path: Path, state: dict[str, Any], settings: str) -> MusicgenCheckpoint:
    torch.save(
        {"best_state": state, "xp.cfg": settings, "version": "1.0", "exported": True}, path / "state_dict.bin"
    )
    return read_musicgen(path)


def settings_of(model: Any) -> str:
    return f"transformer_lm:\n  dim: 128\n  num_heads: {model.config.decoder.num_attention_heads}\n"


def test_transformers_own_tensors(model: Any, folder: Path) -> None:
    found = read_musicgen(folder)
    state = model.decoder.state_dict()
    assert set(found.decoder) == set(dict(found.shape.tensors()))
    for name in found.decoder:
        prefixes = ("model.decoder.", "")
        kept = next((state[p + name] for p in prefixes if p + name in state), None)
        expected = model.state_dict()[name] if kept is None else kept
        assert np.array_equal(found.decoder[name], expected.numpy())
        assert found.decoder[name].shape == found.decoder.shape(name)
    decoder = model.config.decoder
    assert (found.shape.heads, found.shape.layers) == (decoder.num_attention_heads, decoder.num_hidden_layers)
    assert (found.shape.num_codebooks, found.shape.audio_channels) == (
        decoder.num_codebooks,
        decoder.audio_channels,
    )
    assert "encoder.final_layer_norm.weight" in found.text_encoder


def test_shards_and_torch_files_hold_the_same(model: Any, folder: Path, tmp_path: Path) -> None:
    whole = read_musicgen(folder)
    sharded = save(model, tmp_path / "sharded", max_shard_size="200KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    assert equal(read_musicgen(sharded).decoder, whole.decoder)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(model.state_dict(), tmp_path / "torch" / "pytorch_model.bin")
    assert equal(read_musicgen(tmp_path / "torch").decoder, whole.decoder)
    next(sharded.glob("model-00002-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="names files that are not there: model-00002"):
        read_musicgen(sharded)


def test_halves_are_widened(folder: Path, tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        halved = rewritten(folder, tmp_path / str(dtype)[6:], lambda s, d=dtype: {n: v.to(d) for n, v in s.items()})
        state = safetensors.load_file(halved / "model.safetensors")
        found = read_tensors(halved)
        assert all(np.array_equal(found[name], state[name].float().numpy()) for name in state)


def test_older_names(folder: Path, tmp_path: Path) -> None:
    def older(state: dict[str, Any]) -> dict[str, Any]:
        return state | {"decoder.model.decoder.embed_positions.weights": torch.zeros(16, 128)}

    assert equal(read_musicgen(rewritten(folder, tmp_path, older)).decoder, read_musicgen(folder).decoder)


def test_audiocraft_holds_the_same(model: Any, folder: Path, tmp_path: Path) -> None:
    whole = read_musicgen(folder)
    found = audiocraft(model, tmp_path, audiocraft_state(model), settings_of(model))
    assert found.shape == whole.shape and found.source == "audiocraft"
    assert equal(found.decoder, whole.decoder)
    assert equal(read_musicgen(tmp_path / "state_dict.bin").decoder, whole.decoder)


def test_of_both_layouts_the_one_with_the_text_encoder_is_read(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "state_dict.bin").write_bytes(b"never opened")
    assert read_musicgen(tmp_path).source == read_musicgen(folder).source == "transformers"


def test_missing_tensors_are_named(model: Any, folder: Path, tmp_path: Path) -> None:
    def without(state: dict[str, Any]) -> dict[str, Any]:
        gone = ("decoder.lm_heads.2.weight", "enc_to_dec_proj.bias")
        return {name: value for name, value in state.items() if name not in gone}

    with pytest.raises(CheckpointError, match=r"lacks 2 tensors.*: lm_heads\.2\.weight, enc_to_dec_proj\.bias$"):
        read_musicgen(rewritten(folder, tmp_path, without))
    state = audiocraft_state(model)
    del state["transformer.layers.1.cross_attention.in_proj_weight"]
    expected = ", ".join(rf"layers\.1\.encoder_attn\.{part}_proj\.weight" for part in "qkv")
    (tmp_path / "audiocraft").mkdir()
    with pytest.raises(CheckpointError, match=f"lacks 3 tensors.*: {expected}$"):
        audiocraft(model, tmp_path / "audiocraft", state, settings_of(model))


def test_tensors_of_another_shape_or_name_are_named(folder: Path, tmp_path: Path) -> None:
    def reshaped(state: dict[str, Any]) -> dict[str, Any]:
        return state | {"decoder.model.decoder.layers.0.fc1.weight": torch.zeros(255, 128)}

    with pytest.raises(CheckpointError, match=r"layers\.0\.fc1\.weight \(255, 128\) in place of \(256, 128\)"):
        read_musicgen(rewritten(folder, tmp_path, reshaped))

    def longer(state: dict[str, Any]) -> dict[str, Any]:
        return state | {"decoder.model.decoder.layers.3.fc1.weight": torch.zeros(256, 128)}

    with pytest.raises(CheckpointError, match=r"1 tensors that the decoder does not: layers\.3\.fc1\.weight"):
        read_musicgen(rewritten(folder, tmp_path, longer))


def test_other_checkpoints_are_refused(model: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither config\.json nor state_dict\.bin"):
        read_musicgen(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bark"}))
    with pytest.raises(CheckpointError, match="is a 'bark' checkpoint"):
        read_musicgen(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"has no weights: needed is model\.safetensors"):
        read_musicgen(tmp_path)
    state = audiocraft_state(model) | {"condition_provider.conditioners.genre.embed.weight": torch.zeros(3, 4)}
    with pytest.raises(CheckpointError, match="conditioners genre are not supported, allowed: description and"):
        audiocraft(model, tmp_path, state, settings_of(model))


def test_musicgen_style_is_refused_by_what_is_missing(tmp_path: Path) -> None:
    """Under the names that audiocraft's StyleConditioner gives: MERT's states in, a quantised style out."""
    model, style = make_melody(), "condition_provider.conditioners.self_wav."
    shapes = {
        "embed.weight": (8, 768),
        "embed.bias": (8,),
        "output_proj.weight": (128, 8),
        "output_proj.bias": (128,),
    }
    shapes |= {f"batch_norm.running_{part}": (8,) for part in ("mean", "var")}
    shapes |= {"batch_norm.num_batches_tracked": (), "rvq.vq.layers.0._codebook.embed": (16, 8)}
    shapes |= {
        f"transformer.layers.0.{name}.weight": (8, 8) for name in ("self_attn.out_proj", "linear1", "linear2")
    }
    shapes |= {"transformer.layers.0.self_attn.in_proj_weight": (24, 8), "transformer.layers.0.norm1.weight": (8,)}
    state = audiocraft_state(model) | {f"{style}{name}": torch.zeros(shape) for name, shape in shapes.items()}
    missing = r"musicgen-style checkpoint.*batch_norm, embed, rvq, transformer are not supported.*MERT-v1-95M"
    with pytest.raises(CheckpointError, match=missing):
        audiocraft(model, tmp_path, state, settings_of(model))


@pytest.mark.parametrize("channels", [1, 2])
def test_audiocrafts_melody_checkpoint_holds_the_same(tmp_path: Path, channels: int) -> None:
    melody = make_melody(channels=channels)
    whole = read_musicgen(save(melody, tmp_path / "transformers"))
    state = audiocraft_state(melody)
    assert not any("cross_attention" in name for name in state)
    found = audiocraft(melody, tmp_path, state, settings_of(melody))
    assert found.shape == whole.shape and not found.shape.cross and found.shape.num_chroma == 12
    assert equal(found.decoder, whole.decoder) and "audio_enc_to_dec_proj.bias" in found.decoder
    del state["condition_provider.conditioners.self_wav.output_proj.bias"]
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors.*: audio_enc_to_dec_proj\.bias$"):
        audiocraft(melody, tmp_path, state, settings_of(melody))


def test_pickles_execute_nothing(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"best_state": {"emb.0.weight": Harmful()}}, tmp_path / "state_dict.bin")
    with pytest.raises(CheckpointError, match="is no torch file of plain tensors"):
        read_musicgen(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", ["cut", "header", "offsets", "text"])
def test_damaged_files_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "header":
        data = (1 << 60).to_bytes(8, "little") + data[8:]
    elif damage == "offsets":
        data = data[:8] + data[8 : 8 + length].replace(b'"shape":[', b'"shape":[7,', 1) + data[8 + length :]
    else:
        data = b"<html>not found</html>"
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_safetensors(tmp_path / "model.safetensors")
