"""MusicGen weights to begin training with: a checkpoint's folder, or the graphs of a bundle made of one.

Before training/musicgen_model.py. What a bundle has in halves or quantised comes back as the values that it stands
for: training is better begun at an fp32 bundle or at the checkpoint itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from msgspec import UNSET

from attacca.engine.manifest import DECODER_ROLE, MUSICGEN, Manifest, ManifestError, read_manifest
from attacca.export.bundle_weights import Stored, read_musicgen
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_checkpoint import read_musicgen as read_files

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
    found = read_files(folder)
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
    if manifest.text is UNSET:
        raise ManifestError(f"{manifest.name} has no text encoder: begin with its checkpoint's folder instead")
    graph = onnx.load(bundle / manifest.files[DECODER_ROLE].path)
    layers, heads = manifest.decoder.layers, manifest.decoder.heads
    weights, shape = read_musicgen(graph, layers=layers, heads=heads, num_codebooks=manifest.num_codebooks)
    channels = manifest.codec["audio_channels"]
    assert isinstance(channels, int)
    return Start(
        shape=replace(shape, audio_channels=channels, text_dim=manifest.text.dim),
        weights=weights | _across(bundle, manifest),
        pattern=manifest.pattern.name,
        p=manifest.pattern.p,
    )


def _across(bundle: Path, manifest: Manifest) -> Weights:
    """Keys and values of the attention across, from the prompt graph, where the keys are scaled."""
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
