"""MusicGen weights to begin training with: a checkpoint's folder, or the graphs of a bundle made of one.

Before training/musicgen_model.py. What a bundle has in halves or quantised comes back as the values that it stands
for: training is better begun at an fp32 bundle or at the checkpoint itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from msgspec import UNSET

from attacca.engine.manifest import DECODER_ROLE, MUSICGEN, Manifest, ManifestError, read_manifest
from attacca.export.bundle_weights import Stored
from attacca.export.musicgen_checkpoint import MusicgenShape, read_musicgen
from attacca.export.musicgen_stacked import LEVELS

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Weights under a checkpoint's names, and the pattern that they were trained with."""

    shape: MusicgenShape
    weights: Weights
    pattern: str = "delay"
    p: int = 1


def read_checkpoint(folder: Path) -> Start:
    """Of a checkpoint's folder. CheckpointError says what is wrong, ValueError that it is a melody model's."""
    found = read_musicgen(folder)
    if not found.shape.cross:
        raise ValueError(
            f"{folder} is a melody checkpoint: its conditions stand before the tokens, not trained here"
        )
    return Start(shape=found.shape, weights={name: np.array(found.decoder[name]) for name in found.decoder})


def read_bundle(bundle: Path) -> Start:
    """Of a verified bundle. ManifestError if it is not one of a MusicGen checkpoint without melody."""
    manifest = read_manifest(bundle)
    if manifest.decoder.kind != MUSICGEN:
        raise ManifestError(f"{manifest.name} has no MusicGen decoder that reads text: --init cannot begin with it")
    step = Stored(onnx.load(bundle / manifest.files[DECODER_ROLE].path))
    books, dim = manifest.num_codebooks, manifest.decoder.dim
    table = step.array("embed_tokens").astype(np.float32).reshape(books, -1, dim)
    weights: Weights = {f"embed_tokens.{k}.weight": table[k] for k in range(books)}
    stacked = LEVELS in step
    if stacked:
        weights[LEVELS] = step.array(LEVELS).astype(np.float32)
        weights |= {f"lm_heads.{k}.weight": step.matrix(f"lm_heads.{k}.weight") for k in range(books)}
    else:
        heads = step.matrix("lm_heads").reshape(books, -1, dim)
        weights |= {f"lm_heads.{k}.weight": heads[k] for k in range(books)}
    for layer in range(manifest.decoder.layers):
        weights |= _layer(step, f"layers.{layer}.")
    weights |= {f"layer_norm.{part}": step.array(f"layer_norm.{part}") for part in ("weight", "bias")}
    weights |= _across(bundle, manifest)
    activation = "relu" if "Relu" in step.operators else "gelu"
    return Start(
        shape=_shape(manifest, weights, activation),
        weights=weights,
        pattern=manifest.pattern.name,
        p=manifest.pattern.p,
    )


def _layer(step: Stored, prefix: str) -> Weights:
    found: Weights = {}
    queries, keys, values = np.split(step.matrix(f"{prefix}self_attn.qkv"), 3)
    for part, matrix in (("q", queries), ("k", keys), ("v", values)):
        found[f"{prefix}self_attn.{part}_proj.weight"] = matrix
    for name in ("self_attn.out_proj", "encoder_attn.q_proj", "encoder_attn.out_proj", "fc1", "fc2"):
        found[f"{prefix}{name}.weight"] = step.matrix(f"{prefix}{name}.weight")
    for norm in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"):
        for part in ("weight", "bias"):
            found[f"{prefix}{norm}.{part}"] = step.array(f"{prefix}{norm}.{part}")
    return found


def _across(bundle: Path, manifest: Manifest) -> Weights:
    """Keys and values of the attention across, from the prompt graph, where the keys are scaled."""
    if manifest.text is UNSET:
        raise ManifestError(f"{manifest.name} has no text encoder: begin with its checkpoint's folder instead")
    prompt = Stored(onnx.load(bundle / manifest.files["prompt"].path))
    found: Weights = {}
    scale = np.float32(manifest.decoder.head_dim**-0.5)
    for layer in range(manifest.decoder.layers):
        prefix = f"layers.{layer}.encoder_attn."
        found[f"{prefix}k_proj.weight"] = prompt.matrix(f"{prefix}k") / scale
        found[f"{prefix}v_proj.weight"] = prompt.matrix(f"{prefix}v")
    if "enc_to_dec_bias" in prompt:
        found["enc_to_dec_proj.weight"] = prompt.matrix("enc_to_dec_proj")
        found["enc_to_dec_proj.bias"] = prompt.array("enc_to_dec_bias")
    return found


def _shape(manifest: Manifest, weights: Weights, activation: str) -> MusicgenShape:
    assert manifest.text is not UNSET
    channels = manifest.codec["audio_channels"]
    assert isinstance(channels, int)
    return MusicgenShape(
        layers=manifest.decoder.layers,
        dim=manifest.decoder.dim,
        heads=manifest.decoder.heads,
        hidden=weights["layers.0.fc1.weight"].shape[0],
        num_codebooks=manifest.num_codebooks,
        codebook_size=manifest.codebook_size,
        audio_channels=channels,
        text_dim=manifest.text.dim,
        activation=activation,
    )
