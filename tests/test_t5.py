"""T5's encoder as exported equals transformers, and texts become prompts once each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import TEXT_DIM, VOCABULARY, scatter, text_config  # noqa: E402
from transformers import T5EncoderModel  # noqa: E402
from transformers.models.t5.modeling_t5 import T5Attention  # noqa: E402

from attacca.export.t5 import T5Shape, buckets, build_t5, check_t5  # noqa: E402
from attacca.export.tensors import CheckpointError, Tensors  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


def made(**changes: Any) -> tuple[Any, Tensors, T5Shape]:
    model = T5EncoderModel(text_config(**changes)).eval()
    scatter(model, 5)
    tensors = Tensors.of({name: value.numpy() for name, value in model.state_dict().items()})
    return model, tensors, T5Shape.of(model.config.to_dict())


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
@pytest.mark.parametrize("tokens", [1, 2, 17, 150])
def test_states_equal_transformers(kind: str, tokens: int) -> None:
    model, tensors, shape = made(feed_forward_proj=kind)
    ids = torch.randint(0, VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(tokens))
    check_t5(tensors, shape)
    session = onnxruntime.InferenceSession(build_t5(tensors, shape, precision="fp32").SerializeToString())
    (states,) = session.run(None, {"ids": ids.numpy()})
    with torch.no_grad():
        expected = model(ids[None]).last_hidden_state[0].numpy()
    assert states.shape == (tokens, TEXT_DIM) and np.std(expected) > 0.3
    assert np.abs(states - expected).max() < 2e-5


@pytest.mark.parametrize(("count", "furthest"), [(32, 128), (16, 64), (32, 100)])
def test_buckets_equal_transformers(count: int, furthest: int) -> None:
    shape = T5Shape(relative_attention_num_buckets=count, relative_attention_max_distance=furthest)
    distance = torch.arange(-3 * furthest, 3 * furthest + 1)
    expected = T5Attention._relative_position_bucket(distance, True, count, furthest).numpy()
    assert np.array_equal(buckets(shape)[np.clip(distance.numpy(), -furthest, furthest) + furthest], expected)


def test_coarser_weights_stay_near() -> None:
    _, tensors, shape = made(d_model=64)
    ids = np.arange(2, 20)
    found = {}
    for precision in ("fp32", "fp16", "int8"):
        graph = build_t5(tensors, shape, precision=precision)
        (found[precision],) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"ids": ids})
    size = np.sqrt(np.mean(found["fp32"] ** 2))
    for precision, bound in (("fp16", 0.005), ("int8", 0.05)):
        assert 0 < np.sqrt(np.mean((found[precision] - found["fp32"]) ** 2)) < bound * size


def test_either_name_of_the_table_of_tokens_is_read_and_what_lacks_is_named() -> None:
    _, tensors, shape = made()
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        only = tensors.renamed(
            lambda n, name=name: (
                n if n == name or n not in ("shared.weight", "encoder.embed_tokens.weight") else None
            )
        )
        if name not in only:
            only = only.merged(Tensors.of({name: tensors["shared.weight"]}))
        check_t5(only, shape)
    gone = ("shared.weight", "encoder.embed_tokens.weight", "encoder.block.1.layer.0.SelfAttention.k.weight")
    with pytest.raises(CheckpointError, match=r"lacks 2 tensors: shared\.weight, encoder\.block\.1.*\.k\.weight$"):
        check_t5(tensors.renamed(lambda name: None if name in gone else name), shape)
    with pytest.raises(CheckpointError, match=r"wo\.weight \(48, 96\) in place of \(48, 128\)"):
        check_t5(tensors, T5Shape.of(text_config(d_ff=128).to_dict()))
    with pytest.raises(CheckpointError, match="feed_forward_proj is 'gated-silu'"):
        T5Shape(feed_forward_proj="gated-silu")
    with pytest.raises(CheckpointError, match="text encoder is a 'bert'"):
        T5Shape.of({"model_type": "bert"})
