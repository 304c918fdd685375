"""A bundle's decoder read back for training: logits as its graph's, and the same graph when exported again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from attacca.engine.bundle import find_bundle, load_bundle  # noqa: E402
from attacca.engine.manifest import read_manifest  # noqa: E402
from attacca.export.bundle_weights import dequantize_blockwise, read_weights  # noqa: E402
from attacca.export.decoder import DecoderExport, build_decoder  # noqa: E402
from attacca.export.graph import quantize_blockwise  # noqa: E402
from attacca.export.tiny import random_decoder  # noqa: E402
from attacca.export.verify import BeatSource, compare_decoder, made_up_frames  # noqa: E402
from attacca.training.own.weights import read_decoder  # noqa: E402

pytestmark = pytest.mark.train
TINY = Path(__file__).parent / "data" / "tiny"


def numpy_weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_the_tiny_bundle_read_back_has_its_graphs_logits_and_bytes() -> None:
    model, bundle = read_decoder(TINY), load_bundle(TINY)
    source = BeatSource(bundle.conditioning)
    codes = made_up_frames(bundle.runtime, bundle.pattern, source, 60)
    found = compare_decoder(model, bundle.runtime, codes, source)
    assert found.max_error < 1e-4
    assert found.top_1_agreement == 1.0
    options = DecoderExport(heads=2, window_frames=model.config.window_frames)
    again = build_decoder(numpy_weights(model), options).SerializeToString(deterministic=True)
    assert again == (TINY / "decoder.onnx").read_bytes()


def test_the_shipped_bundle_read_back_is_the_same_graph_when_exported_again() -> None:
    folder = find_bundle("ostinato")
    manifest, model = read_manifest(folder), read_decoder(folder)
    assert manifest.decoder.kv_bits == 32
    options = DecoderExport(
        heads=manifest.decoder.heads, window_frames=manifest.window_frames, precision=manifest.decoder.precision
    )
    again = build_decoder(numpy_weights(model), options)
    before = onnx.load(folder / manifest.files["decoder"].path)
    old, new = ({t.name: t.SerializeToString() for t in graph.graph.initializer} for graph in (before, again))
    assert [name for name in old if name in new and old[name] != new[name]] == []
    kept, restored = (read_weights(graph, num_codebooks=manifest.num_codebooks) for graph in (before, again))
    for name, values in kept.items():  # a bundle of before has finer codes in its layers than are written now
        step = np.abs(values).max(axis=-1, keepdims=True) / 64 if f"{name}.q8" in old and "layers" in name else 0.0
        assert (np.abs(values - restored[name]) <= 0.501 * step).all(), name
    bundle = load_bundle(folder)
    source = BeatSource(bundle.conditioning)
    codes = made_up_frames(bundle.runtime, bundle.pattern, source, 40)
    found = compare_decoder(model, bundle.runtime, codes, source)
    assert found.rms_error < 0.05 * found.rms  # the graph rounds activations to 8 bits, torch does not
    assert found.top_1_agreement > 0.9


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_every_precision_read_back_is_the_same_graph_when_exported_again(precision: str) -> None:
    sizes = {"layers": 2, "dim": 64, "hidden": 176, "num_codebooks": 3, "codebook_size": 20}
    weights = random_decoder(**sizes, conditioning_width=51, seed=4)
    options = DecoderExport(heads=4, window_frames=32, precision=precision)
    graph = build_decoder(weights, options)
    read = read_weights(graph, num_codebooks=3)
    assert {name: value.shape for name, value in read.items()} == {n: v.shape for n, v in weights.items()}
    assert build_decoder(read, options) == graph
    if precision == "fp32":
        assert all(np.array_equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("bits", "columns"), [(8, 64), (8, 40), (4, 64), (4, 40)])
def test_dequantised_blocks_lie_within_half_a_step(bits: int, columns: int) -> None:
    weight = np.random.default_rng(bits).standard_normal((5, columns)).astype(np.float32)
    packed, scales = quantize_blockwise(weight, bits=bits, block=16)
    found = dequantize_blockwise(packed, scales, bits=bits, columns=columns)
    step = np.abs(scales).reshape(5, -1).repeat(16, axis=1)[:, :columns]
    assert (np.abs(found - weight) <= step * 1.0001).all()  # the twin of the largest value is a step away
    assert np.mean(np.abs(found - weight) <= step * 0.5001) > 0.9


def test_a_graph_that_lacks_a_matrix_is_named() -> None:
    graph = onnx.load(TINY / "decoder.onnx")
    kept = [tensor for tensor in graph.graph.initializer if tensor.name != "norm.weight"]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    with pytest.raises(ValueError, match=r"lacks 'norm\.weight'"):
        read_weights(graph, num_codebooks=4)
