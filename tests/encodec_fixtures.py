"""Random EnCodecs for tests: as transformers' own module, and as files of every published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EncodecConfig as TheirConfig
from transformers import EncodecModel

from attacca.export.encodec_checkpoint import random_checkpoint
from attacca.export.encodec_plan import EncodecConfig

SMALL = EncodecConfig(num_filters=4, hidden=16, codebook_size=64)


def their_config(config: EncodecConfig, **changes: Any) -> TheirConfig:
    bits = int(np.ceil(np.log2(config.codebook_size))) * -(-config.sample_rate // config.hop_samples)
    settings = {
        "sampling_rate": config.sample_rate,
        "num_filters": config.num_filters,
        "num_residual_layers": config.num_residual_layers,
        "upsampling_ratios": list(config.ratios),
        "kernel_size": config.kernel,
        "last_kernel_size": config.last_kernel,
        "residual_kernel_size": config.residual_kernel,
        "dilation_growth_rate": config.dilation_growth,
        "compress": config.compress,
        "num_lstm_layers": config.lstm_layers,
        "use_conv_shortcut": config.conv_shortcut,
        "pad_mode": config.pad_mode,
        "hidden_size": config.hidden,
        "codebook_size": config.codebook_size,
        "target_bandwidths": [config.num_codebooks * bits / 1000],
        "use_causal_conv": False,
    }
    return TheirConfig(**(settings | changes))


def make_model(config: EncodecConfig = SMALL, *, seed: int = 0) -> EncodecModel:
    """Transformers' module with the weights of `random_checkpoint`."""
    model = EncodecModel(their_config(config)).eval()
    state = {}
    for name, array in random_checkpoint(config, seed=seed).weights.items():
        value = torch.from_numpy(array)
        if name.endswith(".conv.weight"):
            stem = name.removesuffix("weight") + "parametrizations.weight.original"
            state[f"{stem}0"] = value.flatten(1).norm(dim=1)[:, None, None]
            state[f"{stem}1"] = 1.7 * value  # the direction alone counts
        else:
            state[name] = value
    unknown = model.load_state_dict(state, strict=False)
    assert not unknown.unexpected_keys
    return model


@torch.no_grad()
def their_codes(model: EncodecModel, pcm: np.ndarray) -> np.ndarray:
    """Samples [n] or [n, 2] -> codes [frames, K] or [frames, 2 K], left and right in turn."""
    sides = pcm.reshape(len(pcm), -1).T
    codes = [model.encode(torch.from_numpy(side.copy())[None, None]).audio_codes[0, 0].numpy().T for side in sides]
    return np.stack(codes, axis=2).reshape(len(codes[0]), -1)


@torch.no_grad()
def their_samples(model: EncodecModel, codes: np.ndarray, channels: int = 1) -> np.ndarray:
    """Codes [frames, channels * K] -> samples [n], or [n, 2]."""
    sides = [torch.from_numpy(codes[:, side::channels].astype(np.int64).T[None, None]) for side in range(channels)]
    made = [model.decode(side, [None]).audio_values[0, 0].numpy() for side in sides]
    return made[0] if channels == 1 else np.stack(made, axis=1)


@torch.no_grad()
def their_ties(model: EncodecModel, pcm: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Bool [frames, K]: where a mono stream's two nearest codewords lie within 1e-5, or an earlier level's did."""
    residual = model.encoder(torch.from_numpy(pcm)[None, None])[0].T.double()
    ties = []
    for level, chosen in zip(model.quantizer.layers, codes.T, strict=False):
        book = level.codebook.embed.double()
        nearest = torch.cdist(residual, book).square().topk(2, largest=False).values
        ties.append((nearest[:, 1] - nearest[:, 0]).numpy() < 1e-5)
        residual = residual - book[torch.from_numpy(chosen.astype(np.int64))]
    return np.logical_or.accumulate(np.stack(ties, axis=1), axis=1)


def audiocraft_name(name: str) -> str:
    """A key of transformers as audiocraft and older torch spell it."""
    name = name.replace(".layers.", ".model.", 1) if not name.startswith("quantizer") else name
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    number = name.split(".")[2]
    turned = name.startswith("decoder.") and name.endswith(("conv.weight_g", "conv.weight_v", "conv.bias"))
    if turned and ".block." not in name and ".shortcut." not in name and number in ("3", "6", "9", "12"):
        name = name.replace(".conv.", ".convtr.convtr.")
    else:
        name = name.replace(".conv.", ".conv.conv.")
    return name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")


AUDIOCRAFT_SETTINGS = """
sample_rate: 32000
channels: 1
compression_model: encodec
optim:
  lr: ${{does.not.exist}}
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${{sample_rate}}
  channels: ${{channels}}
  causal: false
  renormalize: false
seanet:
  dimension: {hidden}
  channels: ${{channels}}
  causal: ${{encodec.causal}}
  n_filters: {num_filters}
  n_residual_layers: 1
  ratios: [8, 5, 4, 4]
  activation: ELU
  activation_params: {{alpha: 1.0}}
  norm: weight_norm
  norm_params: {{}}
  kernel_size: 7
  residual_kernel_size: 3
  last_kernel_size: 7
  dilation_base: 2
  pad_mode: {pad_mode}
  true_skip: true
  compress: 2
  lstm: 2
  disable_norm_outer_blocks: 0
  decoder: {{trim_right_ratio: 1.0, final_activation: null, final_activation_params: null}}
  encoder: {{}}
rvq: {{n_q: {num_codebooks}, q_dropout: false, bins: {codebook_size}, decay: 0.99}}
"""


def audiocraft_package(model: EncodecModel, config: EncodecConfig = SMALL) -> dict[str, Any]:
    """What compression_state_dict.bin holds."""
    settings = AUDIOCRAFT_SETTINGS.format(
        hidden=config.hidden,
        num_filters=config.num_filters,
        pad_mode=config.pad_mode,
        num_codebooks=config.num_codebooks,
        codebook_size=config.codebook_size,
    )
    state = {audiocraft_name(name): value for name, value in model.state_dict().items()}
    return {"xp.cfg": settings, "best_state": state, "version": "1.0.0", "exported": True}


def write_audiocraft(package: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(package, folder / "compression_state_dict.bin")
    return folder
