"""Integer products of a decoder's layers: rows do not see each other, sums are exact, nothing saturates."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx")

from attacca.export.graph import GraphBuilder, quantize_by_outputs  # noqa: E402

pytestmark = pytest.mark.train

INPUTS, OUTPUTS = 200, 96


def product(weight: np.ndarray) -> onnxruntime.InferenceSession:
    b = GraphBuilder("product")
    x = b.input("x", np.float32, [2, "rows", weight.shape[1]])
    b.nodes("Identity", [b.linear_by_rows(x, "w", weight)], ["y"])
    b.output("y", np.float32, [2, "rows", len(weight)])
    return onnxruntime.InferenceSession(b.model().SerializeToString(), providers=["CPUExecutionProvider"])


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_row_is_the_same_to_the_bit_in_any_company() -> None:
    weight, x = drawn(OUTPUTS, INPUTS), drawn(2, 16, INPUTS)
    x[:, 3] *= 1000.0  # a loud neighbour
    session = product(weight)
    whole = session.run(None, {"x": x})[0]
    for rows in (1, 2, 3, 7):
        for first in range(0, 16 - rows, rows):
            part = slice(first, first + rows)
            np.testing.assert_array_equal(session.run(None, {"x": x[:, part]})[0], whole[:, part])
    exact = x @ weight.T
    error = np.sqrt(np.mean((whole - exact) ** 2, axis=2) / np.mean(exact**2, axis=2))
    assert 0.0 < error.max() < 0.02


def test_nothing_in_is_nothing_out() -> None:
    weight, x = drawn(OUTPUTS, INPUTS), drawn(2, 4, INPUTS)
    weight[5] = 0.0
    x[1, 2] = 0.0
    found = product(weight).run(None, {"x": x})[0]
    assert np.isfinite(found).all()
    assert not found[1, 2].any() and not found[:, :, 5].any() and found[0].any(axis=1).all()


def test_sums_of_the_largest_codes_are_exact() -> None:
    """Two products of 255 and 64 fit into 16 bits, which is where processors without VNNI add them."""
    weight = np.where(np.arange(OUTPUTS)[:, None] % 2, 0.5, -0.5).astype(np.float32).repeat(INPUTS, axis=1)
    codes, _ = quantize_by_outputs(weight)
    assert np.abs(codes.astype(np.int64)).max() * 255 * 2 <= np.iinfo(np.int16).max
    found = product(weight).run(None, {"x": np.ones((2, 3, INPUTS), np.float32)})[0]
    np.testing.assert_allclose(found, np.broadcast_to(weight.sum(axis=1), found.shape), rtol=1e-6)


def test_codes_give_back_what_they_stand_for() -> None:
    weight = drawn(OUTPUTS, INPUTS)
    codes, scales = quantize_by_outputs(weight)
    restored = (codes * scales).T
    assert (np.abs(restored - weight) <= 0.501 * scales[:, None]).all()
    again = quantize_by_outputs(restored)
    np.testing.assert_array_equal(again[0], codes)
    np.testing.assert_array_equal(again[1], scales)
