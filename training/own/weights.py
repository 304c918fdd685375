"""The trainable decoder inside a bundle: the exact inverse of export/decoder.py.

First step of fine-tuning, since a bundle holds no checkpoint. Tables come back as they are stored, quantised
matrices as the values that their codes stand for: exported again at the same precision, the graph is the same.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch

from attacca.engine.manifest import DECODER_ROLE, Manifest, ManifestError, read_manifest
from attacca.export.bundle_weights import Stored, dequantize_blockwise, read_weights
from attacca.training.decoder_model import ROTARY_BASE, Decoder, DecoderConfig

__all__ = ["Stored", "config_of", "dequantize_blockwise", "read_decoder", "read_weights"]


def config_of(manifest: Manifest, ffn_dim: int) -> DecoderConfig:
    """Sizes of a bundle's decoder; `ffn_dim` stands in the graph alone. ManifestError if we cannot train it."""
    if manifest.decoder.rotary_base != ROTARY_BASE:
        raise ManifestError(
            f"{manifest.name}: decoder.rotary_base is {manifest.decoder.rotary_base}, can be trained: {ROTARY_BASE}"
        )
    return DecoderConfig(
        num_codebooks=manifest.num_codebooks,
        codebook_size=manifest.codebook_size,
        dim=manifest.decoder.dim,
        layers=manifest.decoder.layers,
        heads=manifest.decoder.heads,
        ffn_dim=ffn_dim,
        cond_width=manifest.conditioning.width,
        pattern=manifest.pattern.name,
        p=manifest.pattern.p,
        window_frames=manifest.window_frames,
    )


def read_decoder(bundle: Path) -> Decoder:
    """The decoder of a verified bundle as a torch module, float32, for evaluation or training.

    ManifestError or ValueError if it is not a graph of export/decoder.py.
    """
    manifest = read_manifest(bundle)
    graph = onnx.load(bundle / manifest.files[DECODER_ROLE].path)
    weights = read_weights(graph, num_codebooks=manifest.num_codebooks)
    model = Decoder(config_of(manifest, weights["layers.0.ffn_out.weight"].shape[1]))
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"the decoder graph of {bundle} does not fit its manifest: {error}") from None
    return model.eval()
