"""`attacca models score` of a checkpoint: a bundle of every precision, coarser ones further from fp32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from musicgen_fixtures import make_melody, make_musicgen, save, save_tokenizer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from attacca.bridge.cli import app  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


def test_a_checkpoint_is_scored_at_every_precision(tmp_path: Path) -> None:
    source = save(make_musicgen(), tmp_path / "source")
    save_tokenizer(source)
    flags = ("--seconds", "0.4", "--text", "slow jazz", "--keep", str(tmp_path / "kept"), "--json")
    result = CliRunner().invoke(app, ["models", "score", str(source), *flags])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    found = json.loads(result.stdout)
    rows = {(row["precision"], row["kv_bits"]): row for row in found["models"]}
    assert len(rows) == 8 and found["reference"] == "source fp32" and rows["fp32", 32]["logits"] is None
    rms = {key: row["logits"]["rms"] for key, row in rows.items() if row["logits"]}
    assert rms["fp16", 32] < 0.2 * rms["int8", 32] < 0.2 * rms["int4", 32]
    assert rms["fp16", 32] < rms["fp32", 8] < rms["int8", 8]
    kl = {key: sum(row["logits"]["kl_bits"]) for key, row in rows.items() if row["logits"]}
    assert 0.0 < kl["fp16", 32] < kl["int8", 32] < kl["int4", 32]
    assert rows["fp16", 32]["logits"]["top_1"] > rows["int4", 32]["logits"]["top_1"]
    assert rows["fp16", 32]["sampled_same_frames"] >= rows["int4", 32]["sampled_same_frames"]
    assert rows["int4", 32]["sampled_mel_db"] > 0.0 and found["another_seed_mel_db"] > 0.0
    assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"source-int8-kv8", "source-fp32-kv32"}


def test_melody_checkpoints_take_an_8_bit_cache(tmp_path: Path) -> None:
    source = save(make_melody(), tmp_path / "source")
    save_tokenizer(source)
    flags = ("--seconds", "0.2", "--json")
    result = CliRunner().invoke(app, ["models", "score", str(source), *flags])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    rms = {(row["precision"], row["kv_bits"]): row["logits"] for row in json.loads(result.stdout)["models"]}
    assert 0.0 < rms["fp32", 8]["rms"] < rms["int4", 8]["rms"]
