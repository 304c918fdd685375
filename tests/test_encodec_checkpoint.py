"""EnCodec checkpoints: each published layout gives the same weights; what is wrong or partial is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("yaml")
safetensors = pytest.importorskip("safetensors.torch")

from encodec_fixtures import SMALL, audiocraft_package, make_model, write_audiocraft  # noqa: E402

from attacca.export.encodec_checkpoint import EncodecCheckpoint, random_checkpoint, read_encodec  # noqa: E402
from attacca.export.encodec_plan import EncodecConfig, needed_weights  # noqa: E402
from attacca.export.tensors import CheckpointError  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model()


@pytest.fixture(scope="module")
def state(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def write(folder: Path, state: dict[str, torch.Tensor], config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    return folder


def within_musicgen(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Beside other parts, as in MusicGen's one file."""
    return {f"audio_encoder.{name}": value for name, value in state.items()} | {"decoder.x": torch.zeros(3)}


def assert_expected(found: EncodecCheckpoint) -> None:
    expected = random_checkpoint(SMALL)
    assert found.config == SMALL
    assert set(found.weights) == set(expected.weights)
    for name, array in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], array, rtol=1e-5, atol=1e-7, err_msg=name)


def test_transformers_own_folder(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert_expected(read_encodec(tmp_path))


def test_within_a_musicgen_folder(model: Any, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    config = {"model_type": "musicgen", "audio_encoder": model.config.to_dict()}
    assert_expected(read_encodec(write(tmp_path, within_musicgen(state), config)))


def test_the_older_spelling_of_weight_norm(model: Any, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in state.items()
    }
    assert any(name.endswith("weight_g") for name in older)
    assert_expected(read_encodec(write(tmp_path, older, model.config.to_dict())))


def test_audiocraft_as_folder_and_as_file(model: Any, tmp_path: Path) -> None:
    folder = write_audiocraft(audiocraft_package(model), tmp_path)
    assert_expected(read_encodec(folder))
    assert_expected(read_encodec(folder / "compression_state_dict.bin"))
    (folder / "state_dict.bin").write_bytes(b"the token model, which is not looked into")
    assert_expected(read_encodec(folder / "state_dict.bin"))
    (folder / "config.json").write_text("{}")  # alone it says nothing
    assert_expected(read_encodec(folder))


def test_of_both_layouts_the_one_that_needs_no_torch_is_read(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert_expected(read_encodec(write_audiocraft({"pretrained": "facebook/encodec_32khz"}, tmp_path)))


def test_missing_tensors_are_named(model: Any, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    lost = "decoder.layers.1.lstm.weight_hh_l1", "encoder.layers.0.conv.parametrizations.weight.original0"
    partial = {name: value for name, value in state.items() if name not in lost}
    with pytest.raises(CheckpointError, match="lacks 2 tensors") as raised:
        read_encodec(write(tmp_path, partial, model.config.to_dict()))
    assert all(name in str(raised.value) for name in lost)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(CheckpointError, match=r"neither config\.json nor"):
        read_encodec(tmp_path)
    wanted = len(needed_weights(SMALL))
    with pytest.raises(CheckpointError, match=r"lacks \d+ tensors of EnCodec: encoder.layers.0") as raised:
        read_encodec(write(tmp_path, {"x": torch.zeros(2)}, model.config.to_dict()))
    assert int(str(raised.value).split(" lacks ")[1].split()[0]) > wanted  # two parts of each normed weight


def test_another_shape_is_refused(model: Any, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    name = "quantizer.layers.2.codebook.embed"
    with pytest.raises(CheckpointError, match=r"embed has shape \(64, 15\), needed: \(64, 16\)"):
        read_encodec(write(tmp_path, state | {name: state[name][:, :15]}, model.config.to_dict()))


def test_values_that_are_not_finite_are_refused(model: Any, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    name = "encoder.layers.0.conv.bias"
    with pytest.raises(CheckpointError, match="not finite"):
        read_encodec(write(tmp_path, state | {name: state[name] / 0}, model.config.to_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_causal_conv": True}, "use_causal_conv is True, allowed: False"),
        ({"norm_type": "time_group_norm"}, "norm_type is 'time_group_norm'"),
        ({"chunk_length_s": 1.0}, "chunk_length_s is 1.0"),
        ({"normalize": True}, "normalize is True"),
        ({"audio_channels": 2}, "audio_channels is 2"),
        ({"model_type": "dac"}, "model_type is 'dac'"),
        ({"num_filters": "many"}, "num_filters is 'many'"),
        ({"kernel_size": 6}, "kernel is 6, allowed: odd"),
        ({"upsampling_ratios": []}, "ratios"),
        ({"pad_mode": "replicate"}, "pad_mode is 'replicate', allowed: reflect, constant"),
    ],
)
def test_what_cannot_be_streamed_exactly_is_refused(
    model: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError) as raised:
        read_encodec(write(tmp_path, {"x": torch.zeros(1)}, model.config.to_dict() | change))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("causal: false", "causal: true", "seanet.causal is True"),
        ("norm: weight_norm", "norm: time_group_norm", "seanet.norm is 'time_group_norm'"),
        ("final_activation: null", "final_activation: Tanh", "seanet.decoder is"),
        ("seanet:\n", "seanet: [\n", "not readable YAML"),
        ("rvq: ", "rvx: ", "no section 'rvq'"),
        ("sample_rate: 32000", "sample_rate: ${sample_rate}", "leads in a circle"),
    ],
)
def test_audiocraft_settings_not_understood_are_refused(
    model: Any, tmp_path: Path, old: str, new: str, message: str
) -> None:
    package = audiocraft_package(model)
    assert old in package["xp.cfg"]
    package["xp.cfg"] = package["xp.cfg"].replace(old, new)
    with pytest.raises(CheckpointError) as raised:
        read_encodec(write_audiocraft(package, tmp_path))
    assert message in str(raised.value)


def test_a_pointer_to_another_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"only points to another checkpoint, 'facebook/encodec_32khz'"):
        read_encodec(write_audiocraft({"pretrained": "facebook/encodec_32khz", "exported": True}, tmp_path))
    with pytest.raises(CheckpointError, match=r"best_state and xp\.cfg"):
        read_encodec(write_audiocraft({"something": 1}, tmp_path))


def test_the_published_sizes() -> None:
    needed = needed_weights(EncodecConfig())
    assert EncodecConfig().hop_samples == 640
    assert needed["encoder.layers.12.conv.weight"] == (1024, 512, 16)
    assert needed["decoder.layers.12.conv.weight"] == (128, 64, 8)
    assert needed["encoder.layers.13.lstm.weight_ih_l1"] == (4096, 1024)
    assert needed["quantizer.layers.3.codebook.embed"] == (2048, 128)
    assert 55e6 < sum(np.prod(shape) for shape in needed.values()) < 65e6
