"""The fit of code levels finds a law that is there, and is written for a codec as its bundle carries it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attacca.engine.bundle import load_bundle  # noqa: E402
from attacca.engine.code_levels import CodeLevels  # noqa: E402
from attacca.export.code_levels import fit, heard_levels, second_error_db, write_code_levels  # noqa: E402

pytestmark = pytest.mark.train
TINY = Path(__file__).parent / "data" / "tiny"


def test_it_finds_a_soft_maximum_of_linear_components() -> None:
    rng = np.random.default_rng(0)
    words = rng.normal(0, 1, (3, 64, 8)).astype(np.float32)
    tables = words @ rng.normal(0, 2.0, (8, 2))
    codes = rng.integers(0, 64, (6000, 3))
    truth = CodeLevels(tables, [-30.0, -24.0]).measure(codes)[0]
    found = CodeLevels(*fit(codes[:5000], truth[:5000], words)).measure(codes[5000:])[0]
    assert np.sqrt(np.mean((found - truth[5000:]) ** 2)) < 0.15 * truth.std()


def test_levels_of_a_codec_are_written_for_its_bundle(tmp_path: Path) -> None:
    model = load_bundle(TINY)
    rng = np.random.default_rng(1)
    books, size = model.manifest.num_codebooks, model.manifest.codebook_size
    for number in range(5):
        np.save(tmp_path / f"{number:05d}.npy", rng.integers(0, size, (120, books)).astype(np.uint16))
    words = rng.normal(0, 1, (books, size, size)).astype(
        np.float32
    )  # as many dimensions as codes: any law is linear
    figures = write_code_levels(tmp_path / "levels.npz", model.codec, words, tmp_path)
    levels = CodeLevels.load(tmp_path / "levels.npz")
    assert levels.tables.shape[:2] == (books, size)
    codes, wanted = heard_levels(model.codec, [np.load(tmp_path / "00004.npy")], seed=1)
    assert figures["code_levels_error_db"] == pytest.approx(
        second_error_db(levels.tables, levels.bias, codes, wanted), rel=1e-3
    )
    assert figures["code_levels_error_db"] < 3.0
    with pytest.raises(ValueError, match="holds 0 songs"):
        write_code_levels(tmp_path / "none.npz", model.codec, words, tmp_path / "nowhere")
