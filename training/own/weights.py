"""The trainable decoder inside a bundle: the exact inverse of export/decoder.py.

First step of fine-tuning, since a bundle holds no checkpoint. Tables come back as they are stored, quantised
matrices as the values that their codes stand for: exported again at the same precision, the graph is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

from attacca.engine.manifest import DECODER_ROLE, Manifest, ManifestError, read_manifest
from attacca.training.decoder_model import ROTARY_BASE, Decoder, DecoderConfig

Array = npt.NDArray[Any]
_CODES = {"q8": 8, "q4": 4}  # suffix of a quantised matrix -> bits


def dequantize_blockwise(packed: Array, scales: Array, *, bits: int, columns: int) -> npt.NDArray[np.float32]:
    """MatMulNBits' B [out, blocks, block * bits / 8] and scales [out * blocks] -> float32 [out, columns]."""
    rows, blocks, _ = packed.shape
    if bits == 4:  # two to a byte, the earlier in the low half
        packed = np.stack([packed & 15, packed >> 4], axis=-1)
    centred = packed.reshape(rows, blocks, -1).astype(np.float32) - np.float32(1 << (bits - 1))
    values = centred * scales.reshape(rows, blocks, 1).astype(np.float32)
    return np.ascontiguousarray(values.reshape(rows, -1)[:, :columns])


def read_weights(graph: onnx.ModelProto, *, num_codebooks: int) -> dict[str, npt.NDArray[np.float32]]:
    """State dict of training/decoder_model.py from a decoder graph. ValueError where a matrix is missing."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    columns = {
        node.input[1]: attribute.i
        for node in graph.graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "K"
    }

    def array(name: str) -> Array:
        if name not in stored:
            raise ValueError(f"the decoder graph lacks {name!r}")
        return numpy_helper.to_array(stored[name])

    def matrix(name: str) -> npt.NDArray[np.float32]:
        for suffix, bits in _CODES.items():
            codes = f"{name}.{suffix}"
            if codes in stored:
                return dequantize_blockwise(array(codes), array(f"{name}.scale"), bits=bits, columns=columns[codes])
        return np.ascontiguousarray(array(name).T.astype(np.float32))

    level = array("level_emb").astype(np.float32)
    weights = {
        "tok_emb": array("tok_emb").astype(np.float32).reshape(num_codebooks, -1, level.shape[1]),
        "level_emb": level,
        "cond.weight": matrix("cond.weight"),
        "norm.weight": array("norm.weight").astype(np.float32),
        "heads": np.stack([matrix(f"heads.{k}").T for k in range(num_codebooks)]),
    }
    layer = 0
    while f"layers.{layer}.norm1.weight" in stored:
        for part in ("norm1", "norm2"):
            weights[f"layers.{layer}.{part}.weight"] = array(f"layers.{layer}.{part}.weight").astype(np.float32)
        for part in ("qkv", "out", "ffn_in", "ffn_out"):
            weights[f"layers.{layer}.{part}.weight"] = matrix(f"layers.{layer}.{part}.weight")
        layer += 1
    return weights


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
