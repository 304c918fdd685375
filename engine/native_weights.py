"""From an exported step graph to a model of our kernels: which weight is which, and how it is stored.

Between a bundle's ONNX file (engine/onnx_weights.py) and engine/native.py. The tables below are the names that
export/decoder.py, export/musicgen.py and export/musicgen_stacked.py write. A graph that is not understood to the
last operator is refused, for onnxruntime to play.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import MELODY, MUSICGEN, STACKED, Manifest
from .native import VERSION, Kind, NativeError, NativeModel, Role, Sizes, Weight
from .onnx_weights import GraphFile, read_graph

_NORM_EPSILON = 1e-5  # of every norm that the writers write
_LEVELS = "level_emb"

_VECTORS = frozenset(
    {
        *(Role.NORM1, Role.NORM1_BIAS, Role.NORM_CROSS, Role.NORM_CROSS_BIAS, Role.NORM2, Role.NORM2_BIAS),
        *(Role.KEY_SCALE, Role.VALUE_SCALE, Role.NORM, Role.NORM_BIAS),
    }
)
_CACHE_SCALES = {Role.KEY_SCALE: "key_scale_{layer}", Role.VALUE_SCALE: "value_scale_{layer}"}

# Operators of which every graph may be made; each family adds its own.
_PRODUCTS = {"MatMul", "MatMulNBits", "MatMulIntegerToFloat", "QuantizeLinear", "ReduceMax", "Abs", "Div", "Cast"}
_SHARED = _PRODUCTS | {
    *(
        "Add",
        "ArgMax",
        "Concat",
        "Gather",
        "GreaterOrEqual",
        "GroupQueryAttention",
        "Mul",
        "ReduceMin",
        "ReduceSum",
    ),
    *("Split", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where"),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of graph: the names of its weights, and what its kernels are told."""

    once: Mapping[Role, str]
    layer: Mapping[Role, str]
    heads: str  # `{book}` where each codebook has its own
    needed: frozenset[str]  # operators without which it is another kind
    known: frozenset[str]
    layer_norm: bool
    gated: bool
    rotary: bool
    cross: bool


DECODER = Family(
    once={Role.TOKENS: "tok_emb", Role.LEVELS: _LEVELS, Role.CONDITIONS: "cond.weight", Role.NORM: "norm.weight"},
    layer={
        Role.NORM1: "layers.{layer}.norm1.weight",
        Role.QKV: "layers.{layer}.qkv.weight",
        Role.OUT: "layers.{layer}.out.weight",
        Role.NORM2: "layers.{layer}.norm2.weight",
        Role.IN: "layers.{layer}.ffn_in.weight",
        Role.FFN_OUT: "layers.{layer}.ffn_out.weight",
    },
    heads="heads.{book}",
    needed=frozenset({"GroupQueryAttention", "RotaryEmbedding", "SimplifiedLayerNormalization", "QuickGelu"}),
    known=frozenset(
        _SHARED
        | {"RotaryEmbedding", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "QuickGelu"}
    ),
    layer_norm=False,
    gated=True,
    rotary=True,
    cross=False,
)
_MUSICGEN_ONCE = {Role.TOKENS: "embed_tokens", Role.NORM: "layer_norm.weight", Role.NORM_BIAS: "layer_norm.bias"}
_MUSICGEN_LAYER = {
    Role.NORM1: "layers.{layer}.self_attn_layer_norm.weight",
    Role.NORM1_BIAS: "layers.{layer}.self_attn_layer_norm.bias",
    Role.QKV: "layers.{layer}.self_attn.qkv",
    Role.OUT: "layers.{layer}.self_attn.out_proj.weight",
    Role.NORM2: "layers.{layer}.final_layer_norm.weight",
    Role.NORM2_BIAS: "layers.{layer}.final_layer_norm.bias",
    Role.IN: "layers.{layer}.fc1.weight",
    Role.FFN_OUT: "layers.{layer}.fc2.weight",
}
_CROSS_LAYER = {
    Role.NORM_CROSS: "layers.{layer}.encoder_attn_layer_norm.weight",
    Role.NORM_CROSS_BIAS: "layers.{layer}.encoder_attn_layer_norm.bias",
    Role.CROSS_QUERY: "layers.{layer}.encoder_attn.q_proj.weight",
    Role.CROSS_OUT: "layers.{layer}.encoder_attn.out_proj.weight",
}
_MUSICGEN_OPERATORS = frozenset({"GroupQueryAttention", "LayerNormalization", "Gelu"})
_MUSICGEN_KNOWN = frozenset(_SHARED | _MUSICGEN_OPERATORS | {"Reshape", "Sum"})
_CROSS_KNOWN = _MUSICGEN_KNOWN | {"Max", "Mod", "Range", "Shape", "Softmax"}
MELODY_FAMILY = Family(
    once=_MUSICGEN_ONCE,
    layer=_MUSICGEN_LAYER,
    heads="lm_heads",
    needed=_MUSICGEN_OPERATORS,
    known=_MUSICGEN_KNOWN,
    layer_norm=True,
    gated=False,
    rotary=False,
    cross=False,
)
MUSICGEN_FAMILY = Family(
    once=_MUSICGEN_ONCE,
    layer=_MUSICGEN_LAYER | _CROSS_LAYER,
    heads="lm_heads",
    needed=_MUSICGEN_OPERATORS | {"Softmax"},
    known=_CROSS_KNOWN,
    layer_norm=True,
    gated=False,
    rotary=False,
    cross=True,
)
STACKED_FAMILY = replace(
    MUSICGEN_FAMILY, once=_MUSICGEN_ONCE | {Role.LEVELS: _LEVELS}, heads="lm_heads.{book}.weight"
)


def family_of(manifest: Manifest, graph: GraphFile) -> Family:
    """Which kind of graph a bundle has. NativeError if it is not one that is known here."""
    kind = STACKED if not isinstance(manifest.decoder.kind, str) else manifest.decoder.kind
    prompted = STACKED_FAMILY if _LEVELS in graph.weights else MUSICGEN_FAMILY
    families = {STACKED: DECODER, MUSICGEN: prompted, MELODY: MELODY_FAMILY}
    if kind not in families:
        raise NativeError(f"a decoder of kind {kind!r} has no kernels")
    family = families[kind]
    strange, missing = sorted(graph.operators - family.known), sorted(family.needed - graph.operators)
    if strange or missing:
        raise NativeError(f"no kernels for the graph of {manifest.name}: it has {strange}, it lacks {missing}")
    return family


def native_model(graph: bytes | str | Path, manifest: Manifest, kernels: str | None = None) -> NativeModel:
    """The kernels' model of a bundle's step graph, its bytes or its file. NativeError says why there is none."""
    try:
        file = read_graph(graph)
        return _Reader(file, manifest, family_of(manifest, file)).model(kernels)
    except ValueError as error:
        raise NativeError(f"the weights of {manifest.name}: {error}") from None


class _Reader:
    """One model under construction."""

    def __init__(self, file: GraphFile, manifest: Manifest, family: Family) -> None:
        self._weights, self._manifest, self._family = file.weights, manifest, family
        self._dim = manifest.decoder.heads * manifest.decoder.head_dim

    def model(self, kernels: str | None) -> NativeModel:
        m, family = self._manifest, self._family
        joined = "{book}" not in family.heads
        model = NativeModel(self._sizes(joined), kernels)
        for role, name in family.once.items():
            if role is Role.CONDITIONS and not m.conditioning.width:
                continue
            model.set(role, 0, self._once(role, name))
        names = {**family.layer, **(_CACHE_SCALES if m.decoder.kv_bits == 8 else {})}
        for layer in range(m.decoder.layers):
            for role, template in names.items():
                name = template.format(layer=layer)
                model.set(role, layer, self._vector(name) if role in _VECTORS else self._product(role, name))
        for book in range(1 if joined else m.num_codebooks):
            model.set(Role.HEADS, book, self._product(Role.HEADS, family.heads.format(book=book)))
        model.finish()
        return model

    def _sizes(self, joined: bool) -> Sizes:
        m, family = self._manifest, self._family
        tokens = len(self._array(family.once[Role.TOKENS]))
        if tokens % m.num_codebooks or tokens // m.num_codebooks <= m.codebook_size:
            raise NativeError(f"{tokens} tokens are not those of {m.num_codebooks} codebooks of {m.codebook_size}")
        self._hidden = self._product(Role.IN, family.layer[Role.IN].format(layer=0)).outputs // (1 + family.gated)
        return Sizes(
            version=VERSION,
            layers=m.decoder.layers,
            dim=self._dim,
            heads=m.decoder.heads,
            head_dim=m.decoder.head_dim,
            hidden=self._hidden,
            codebooks=m.num_codebooks,
            codebook_size=m.codebook_size,
            table_rows=tokens // m.num_codebooks,
            conditions=m.conditioning.width if Role.CONDITIONS in family.once else 0,
            window=m.window_frames,
            kv_bits=m.decoder.kv_bits,
            layer_norm=family.layer_norm,
            gated=family.gated,
            rotary=family.rotary,
            cross=family.cross,
            joined_heads=joined,
            norm_epsilon=_NORM_EPSILON,
        )

    def _once(self, role: Role, name: str) -> Weight:
        if role in _VECTORS:
            return self._vector(name)
        return self._product(role, name) if role is Role.CONDITIONS else self._plain(name)

    def _array(self, name: str, *, kind: npt.DTypeLike | None = None, dims: int = 0) -> npt.NDArray[Any]:
        """A weight's numbers. NativeError if it is missing, or not of a kind and so many dimensions."""
        if name not in self._weights:
            raise NativeError(f"the graph of {self._manifest.name} has no weight {name!r}")
        found = self._weights[name].array()
        if (kind is not None and found.dtype != kind) or (dims and found.ndim != dims):
            raise NativeError(f"weight {name!r} is {found.dtype} of {list(found.shape)}, which no kernels read")
        return found

    def _vector(self, name: str) -> Weight:
        found = self._array(name, dims=1).astype(np.float32)
        return Weight(kind=Kind.FLOAT, inputs=1, outputs=len(found), codes=found)

    def _plain(self, name: str) -> Weight:
        """A table, or a product's matrix [in, out], of floats or halves."""
        found = self._array(name, dims=2)
        if found.dtype not in (np.float32, np.float16):
            raise NativeError(f"weight {name!r} is {found.dtype}, which no kernels read")
        kind = Kind.HALF if found.dtype == np.float16 else Kind.FLOAT
        return Weight(kind=kind, inputs=found.shape[0], outputs=found.shape[1], codes=found)

    def _product(self, role: Role, name: str) -> Weight:
        """A matrix in whatever way it is stored."""
        if f"{name}.q7" in self._weights:
            codes = self._array(f"{name}.q7", kind=np.int8, dims=2)
            scales = self._scales(f"{name}.step", codes.shape[1])
            return Weight(
                kind=Kind.ROWS7, inputs=codes.shape[0], outputs=codes.shape[1], codes=codes, scales=scales
            )
        for kind, suffix, packed in ((Kind.BLOCKS8, "q8", 1), (Kind.BLOCKS4, "q4", 2)):
            if f"{name}.{suffix}" in self._weights:
                codes = self._array(f"{name}.{suffix}", kind=np.uint8, dims=3)
                outputs, blocks, block = codes.shape[0], codes.shape[1], codes.shape[2] * packed
                inputs = self._hidden if role is Role.FFN_OUT else self._dim
                if block < 1 or blocks != -(-inputs // block):
                    raise NativeError(f"weight {name!r} has {blocks} blocks of {block} for {inputs} inputs")
                scales = self._scales(f"{name}.scale", outputs * blocks)
                return Weight(kind=kind, inputs=inputs, outputs=outputs, block=block, codes=codes, scales=scales)
        return self._plain(name)

    def _scales(self, name: str, count: int) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._array(name, kind=np.float32).reshape(-1)
        if len(found) != count:
            raise NativeError(f"weight {name!r} has {len(found)} scales, needed: {count}")
        return found
