"""How many bytes a decoder step must read: the weights in its graph, and the cache that it attends to.

Beside the path, for `attacca bench`. What is stored as halves is widened by onnxruntime on loading and counts so.
"""

from __future__ import annotations

from collections.abc import Sequence

from attacca.engine.onnx_weights import Initializer
from attacca.engine.runtime import BRANCHES, StepShape

TABLES = ("tok_emb", "level_emb", "embed_tokens")  # of which a step reads single rows


def weight_bytes(tensors: Sequence[Initializer]) -> int:
    """Bytes of all that a step reads whole: every tensor but the embedding tables."""
    return sum(tensor.read_bytes for tensor in tensors if tensor.name not in TABLES)


def cache_bytes(shape: StepShape, context: int) -> int:
    """Keys and values of `context` slots in every layer and guidance branch."""
    slot = 2 * BRANCHES * shape.layers * shape.heads * shape.head_dim * shape.kv_bits // 8
    return context * slot
