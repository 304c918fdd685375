"""The weights inside a bundle's graph, read back: the inverse of export/decoder.py and export/musicgen.py.

Before graphs for GPUs (export/gpu_bundle.py) and training that begins at a bundle (training/musicgen_weights.py,
training/own), since a bundle holds no checkpoint.
Tables come back as they are stored, quantised matrices as the values that their codes stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import LEVELS

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]
_CODES = {"q8": 8, "q4": 4}  # suffix of a quantised matrix -> bits


class Stored:
    """Tables and matrices of a graph, by the names that its builder gave them."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.operators = {node.op_type for node in graph.graph.node}
        self._stored = {tensor.name: tensor for tensor in graph.graph.initializer}
        self._columns = {
            node.input[1]: attribute.i
            for node in graph.graph.node
            if node.op_type == "MatMulNBits"
            for attribute in node.attribute
            if attribute.name == "K"
        }

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def array(self, name: str) -> Array:
        """As it is stored. ValueError if there is none."""
        if name not in self._stored:
            raise ValueError(f"the decoder graph lacks {name!r}")
        return numpy_helper.to_array(self._stored[name])

    def matrix(self, name: str) -> npt.NDArray[np.float32]:
        """What `GraphBuilder.linear` was given, [out, in]."""
        if f"{name}.q7" in self._stored:  # of `linear_by_rows`
            return np.ascontiguousarray((self.array(f"{name}.q7") * self.array(f"{name}.step")).T)
        for suffix, bits in _CODES.items():
            codes = f"{name}.{suffix}"
            if codes in self._stored:
                packed = self.array(codes)
                return dequantize_blockwise(
                    packed, self.array(f"{name}.scale"), bits=bits, columns=self._columns[codes]
                )
        return np.ascontiguousarray(self.array(name).T.astype(np.float32))


def dequantize_blockwise(packed: Array, scales: Array, *, bits: int, columns: int) -> npt.NDArray[np.float32]:
    """MatMulNBits' B [out, blocks, block * bits / 8] and scales [out * blocks] -> float32 [out, columns]."""
    rows, blocks, _ = packed.shape
    if bits == 4:  # two to a byte, the earlier in the low half
        packed = np.stack([packed & 15, packed >> 4], axis=-1)
    centred = packed.reshape(rows, blocks, -1).astype(np.float32) - np.float32(1 << (bits - 1))
    values = centred * scales.reshape(rows, blocks, 1).astype(np.float32)
    return np.ascontiguousarray(values.reshape(rows, -1)[:, :columns])


def read_weights(graph: onnx.ModelProto, *, num_codebooks: int) -> Weights:
    """State dict of training/decoder_model.py from a decoder graph. ValueError where a matrix is missing."""
    stored = Stored(graph)
    level = stored.array("level_emb").astype(np.float32)
    weights = {
        "tok_emb": stored.array("tok_emb").astype(np.float32).reshape(num_codebooks, -1, level.shape[1]),
        "level_emb": level,
        "cond.weight": stored.matrix("cond.weight"),
        "norm.weight": stored.array("norm.weight").astype(np.float32),
        "heads": np.stack([stored.matrix(f"heads.{k}").T for k in range(num_codebooks)]),
    }
    layer = 0
    while f"layers.{layer}.norm1.weight" in stored:
        for part in ("norm1", "norm2"):
            weights[f"layers.{layer}.{part}.weight"] = stored.array(f"layers.{layer}.{part}.weight").astype(
                np.float32
            )
        for part in ("qkv", "out", "ffn_in", "ffn_out"):
            weights[f"layers.{layer}.{part}.weight"] = stored.matrix(f"layers.{layer}.{part}.weight")
        layer += 1
    return weights


def read_musicgen(
    graph: onnx.ModelProto, *, layers: int, heads: int, num_codebooks: int, melody: bool = False
) -> tuple[Weights, MusicgenShape]:
    """A step graph of MusicGen, of either pattern, as weights under the checkpoint's names; and their shape.

    What a step graph does not tell is taken as one audio channel and a text encoder of the decoder's size, and keys
    and values of the attention across stand in the prompt graph. ValueError where a matrix is missing: a melody
    model's graph lacks `encoder_attn`, which `melody` says.
    """
    stored = Stored(graph)
    table = np.split(stored.array("embed_tokens").astype(np.float32), num_codebooks)
    if LEVELS in stored:
        lm_heads = [stored.matrix(f"lm_heads.{k}.weight") for k in range(num_codebooks)]
    else:
        lm_heads = np.split(stored.matrix("lm_heads"), num_codebooks)
    weights: Weights = {f"embed_tokens.{k}.weight": part for k, part in enumerate(table)}
    weights |= {f"lm_heads.{k}.weight": part for k, part in enumerate(lm_heads)}
    if LEVELS in stored:
        weights[LEVELS] = stored.array(LEVELS).astype(np.float32)
    norms = ["layer_norm"]
    for layer in range(layers):
        prefix = f"layers.{layer}."
        across = () if melody else ("encoder_attn",)
        norms += [f"{prefix}{part}_layer_norm" for part in ("self_attn", *across, "final")]
        each = np.split(stored.matrix(f"{prefix}self_attn.qkv"), 3)
        weights |= {f"{prefix}self_attn.{part}_proj.weight": each[i] for i, part in enumerate("qkv")}
        projections = [f"{part}.{each}_proj" for part in across for each in ("q", "out")]
        for part in ("self_attn.out_proj", *projections, "fc1", "fc2"):
            weights[f"{prefix}{part}.weight"] = stored.matrix(f"{prefix}{part}.weight")
    weights |= {f"{name}.{part}": stored.array(f"{name}.{part}") for name in norms for part in ("weight", "bias")}
    size, dim = lm_heads[0].shape
    shape = MusicgenShape(
        layers=layers,
        dim=dim,
        heads=heads,
        hidden=weights["layers.0.fc1.weight"].shape[0],
        num_codebooks=num_codebooks,
        codebook_size=size,
        audio_channels=1,
        text_dim=dim,
        activation="relu" if "Relu" in stored.operators else "gelu",
        cross=not melody,
    )
    return weights, shape
