"""T5's encoder as one ONNX graph: token ids of a text in, a state per token out.

Run once per prompt, before the graph that makes keys and values of the states (export/musicgen.py). Written node by
node from transformers' tensor names; the bias by relative position is a table over distances, worked out here
(Raffel et al. 2020, "Exploring the limits of transfer learning", section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from attacca.export.graph import MICROSOFT, GraphBuilder
from attacca.export.tensors import CheckpointError, Tensors, named

PROJECTIONS = ("relu", "gated-gelu")
_TABLES = ("shared.weight", "encoder.embed_tokens.weight")  # one and the same; files hold either or both
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


@dataclass(frozen=True, kw_only=True)
class T5Shape:
    """Sizes of an encoder; defaults are those that transformers leaves out of config.json."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"

    def __post_init__(self) -> None:
        if self.feed_forward_proj not in PROJECTIONS:
            raise CheckpointError(
                f"T5's feed_forward_proj is {self.feed_forward_proj!r}, allowed: {', '.join(PROJECTIONS)}"
            )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> T5Shape:
        """From config.json's table. CheckpointError if it is no T5's or a value has another type."""
        if config.get("model_type", "t5") != "t5":
            raise CheckpointError(f"the text encoder is a {config['model_type']!r}, allowed: t5")
        values = {name: config[name] for name in cls.__dataclass_fields__ if name in config}
        for name, value in values.items():
            if not isinstance(value, (str, int, float)) or (not isinstance(value, str) and value <= 0):
                raise CheckpointError(f"T5's {name} is {value!r}, not understood")
        return cls(**values)

    @property
    def inner(self) -> int:
        """Width of the attention's heads together."""
        return self.num_heads * self.d_kv

    @property
    def inputs_of_ffn(self) -> tuple[str, ...]:
        return ("wi_0", "wi_1") if self.feed_forward_proj == "gated-gelu" else ("wi",)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, but for the table of tokens."""
        yield _BIAS, (self.relative_attention_num_buckets, self.num_heads)
        yield "encoder.final_layer_norm.weight", (self.d_model,)
        for layer in range(self.num_layers):
            prefix = f"encoder.block.{layer}.layer."
            for part in "qkv":
                yield f"{prefix}0.SelfAttention.{part}.weight", (self.inner, self.d_model)
            yield f"{prefix}0.SelfAttention.o.weight", (self.d_model, self.inner)
            yield from ((f"{prefix}{i}.layer_norm.weight", (self.d_model,)) for i in (0, 1))
            for part in self.inputs_of_ffn:
                yield f"{prefix}1.DenseReluDense.{part}.weight", (self.d_ff, self.d_model)
            yield f"{prefix}1.DenseReluDense.wo.weight", (self.d_model, self.d_ff)


def check_t5(tensors: Tensors, shape: T5Shape) -> None:
    """CheckpointError names the tensors that are missing or have another shape."""
    missing = [name for name, _ in shape.tensors() if name not in tensors]
    if not any(name in tensors for name in _TABLES):
        missing.insert(0, _TABLES[0])
    if missing:
        raise CheckpointError(f"the text encoder lacks {len(missing)} tensors: {named(missing)}")
    sizes = dict(shape.tensors()) | {name: (shape.vocab_size, shape.d_model) for name in _TABLES if name in tensors}
    wrong = [f"{n} {tensors.shape(n)} in place of {size}" for n, size in sizes.items() if tensors.shape(n) != size]
    if wrong:
        raise CheckpointError(f"the text encoder has tensors of other shapes: {named(wrong)}")


def save_t5(path: Path, tensors: Tensors, shape: T5Shape, *, precision: str = "fp32") -> None:
    """Check the tensors and write build_t5's graph to one file."""
    check_t5(tensors, shape)
    path.write_bytes(build_t5(tensors, shape, precision=precision).SerializeToString(deterministic=True))


def build_t5(tensors: Mapping[str, npt.NDArray[np.float32]], shape: T5Shape, *, precision: str) -> onnx.ModelProto:
    """Graph of the encoder: `ids` int64 [P] -> `states` float32 [P, d_model]. The text is not padded."""
    b = GraphBuilder("attacca_t5")
    b.input("ids", np.int64, ["tokens"])
    stored = "fp32" if precision == "fp32" else "fp16"
    table = tensors[next(name for name in _TABLES if name in tensors)]
    halves = table.astype(np.float32 if stored == "fp32" else np.float16)
    rows = b.node("Gather", [b.constant("shared", halves), "ids"], axis=0)
    residual = rows if stored == "fp32" else b.node("Cast", [rows], to=onnx.TensorProto.FLOAT)
    bias = _position_bias(b, tensors[_BIAS], shape)
    delta = ""
    for layer in range(shape.num_layers):
        prefix = f"encoder.block.{layer}.layer."
        normed, residual = _norm(b, residual, delta, f"{prefix}0.layer_norm.weight", tensors, shape)
        delta = _attention(b, normed, bias, f"{prefix}0.SelfAttention.", tensors, shape, precision)
        normed, residual = _norm(b, residual, delta, f"{prefix}1.layer_norm.weight", tensors, shape)
        delta = _feed_forward(b, normed, f"{prefix}1.DenseReluDense.", tensors, shape, precision)
    states, _ = _norm(b, residual, delta, "encoder.final_layer_norm.weight", tensors, shape)
    b.node("Identity", [states], out="states")
    b.output("states", np.float32, ["tokens", shape.d_model])
    return b.model()


def buckets(shape: T5Shape) -> npt.NDArray[np.int64]:
    """Bucket of every distance -M..M from a token to one that it attends to; beyond M they stay the same."""
    furthest, half = shape.relative_attention_max_distance, shape.relative_attention_num_buckets // 2
    distance = np.arange(-furthest, furthest + 1)
    size, exact = np.abs(distance), half // 2
    # In float32 like the models were trained: on whole powers the last bit decides.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(furthest / exact)
    )
    far = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    found: npt.NDArray[np.int64] = np.where(size < exact, size, far) + half * (distance > 0)
    return found


def _position_bias(b: GraphBuilder, weight: npt.NDArray[np.float32], shape: T5Shape) -> str:
    """[heads, P, P], added to every layer's scores."""
    furthest = shape.relative_attention_max_distance
    table = b.constant("bias_of_distance", weight[buckets(shape)])
    zero, one = (b.constant(f"scalar_{i}", np.array(i, np.int64)) for i in (0, 1))
    axes = [b.constant(f"axis_{i}", np.array([i], np.int64)) for i in (0, 1)]
    count = b.node("Squeeze", [b.node("Shape", ["ids"]), axes[0]])
    places = b.node("Range", [zero, count, one])
    distance = b.node("Sub", [b.node("Unsqueeze", [places, axes[0]]), b.node("Unsqueeze", [places, axes[1]])])
    limits = [
        b.constant(name, np.array(value, np.int64)) for name, value in (("near", -furthest), ("far", furthest))
    ]
    index = b.node("Sub", [b.node("Clip", [distance, *limits]), limits[0]])
    return b.node("Transpose", [b.node("Gather", [table, index], axis=0)], perm=[2, 0, 1])


def _norm(
    b: GraphBuilder, residual: str, delta: str, name: str, tensors: Mapping[str, Any], shape: T5Shape
) -> tuple[str, str]:
    """RMS norm of residual + delta; returns (normed, sum). An empty delta adds nothing."""
    total = b.node("Add", [residual, delta]) if delta else residual
    attributes = {"axis": -1, "epsilon": shape.layer_norm_epsilon, "stash_type": 1}
    return b.node("SimplifiedLayerNormalization", [total, b.constant(name, tensors[name])], **attributes), total


def _attention(
    b: GraphBuilder, x: str, bias: str, prefix: str, tensors: Mapping[str, Any], shape: T5Shape, precision: str
) -> str:
    per_head = b.constant("per_head", np.array([0, shape.num_heads, shape.d_kv], np.int64))
    parts = {}
    for part, order in (("q", [1, 0, 2]), ("k", [1, 2, 0]), ("v", [1, 0, 2])):
        rows = b.linear(x, f"{prefix}{part}", tensors[f"{prefix}{part}.weight"], precision)
        parts[part] = b.node("Transpose", [b.node("Reshape", [rows, per_head])], perm=order)
    scores = b.node("Add", [b.node("MatMul", [parts["q"], parts["k"]]), bias])  # T5 does not scale them
    mixed = b.node("MatMul", [b.node("Softmax", [scores], axis=-1), parts["v"]])
    joined = b.constant("joined", np.array([0, shape.inner], np.int64))
    rows = b.node("Reshape", [b.node("Transpose", [mixed], perm=[1, 0, 2]), joined])
    return b.linear(rows, f"{prefix}o", tensors[f"{prefix}o.weight"], precision)


def _feed_forward(
    b: GraphBuilder, x: str, prefix: str, tensors: Mapping[str, Any], shape: T5Shape, precision: str
) -> str:
    inner = [b.linear(x, f"{prefix}{n}", tensors[f"{prefix}{n}.weight"], precision) for n in shape.inputs_of_ffn]
    if len(inner) == 1:
        hidden = b.node("Relu", inner)
    else:
        hidden = b.node("Mul", [b.node("FastGelu", [inner[0]], domain=MICROSOFT), inner[1]])
    return b.linear(hidden, f"{prefix}wo", tensors[f"{prefix}wo.weight"], precision)
