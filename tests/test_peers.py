"""The peers' benchmark: torch's tokens are ours, steps and chunks are counted, and a toy run leaves its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from test_bench import ASKED  # noqa: E402

from attacca.bridge.bench_rows import ONNXRUNTIME, OURS  # noqa: E402
from attacca.bridge.bench_steps import Constant, fill, random_codes  # noqa: E402
from attacca.engine import native  # noqa: E402
from attacca.engine.decoder import PatternDecoder  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.export import shapes  # noqa: E402
from attacca.export.shapes import Shape  # noqa: E402
from benchmarks import peers, peers_ours, peers_transformers  # noqa: E402
from benchmarks.peers_torch import TorchRuntime  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
SHAPES = {"ours": peers.TINY.ours, "musicgen": peers.TINY.musicgen}
WINDOW, KNOWN, UNTIL = 40, 20, 70


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_torch_draws_the_tokens_that_the_graph_draws(shape: Shape, tmp_path: Path) -> None:
    weights, pattern = shapes.random_weights(shape), peers_ours.pattern_of(shape)
    written = shapes.write_shape(shape, tmp_path, precision="fp32", window=WINDOW, weights=weights)
    plain: Any = TorchRuntime(weights, shape, WINDOW)
    source, sampling = Constant(50.0, shape.layout), Sampling(seed=3, guidance=2.0, top_k=10)
    found = []
    for decoder in (shapes.decoder_of(written.load(), pattern), PatternDecoder(plain, pattern)):
        fill(decoder, random_codes(KNOWN, shape.num_codebooks, shape.codebook_size), source)
        decoder.plan(UNTIL, source, sampling)
        found.append(decoder.read(KNOWN, UNTIL))
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) > 10


def test_random_weights_are_the_same_for_everyone() -> None:
    shape = SHAPES["musicgen"]
    weights = shapes.random_weights(shape)
    model = peers_transformers.build(shape, peers_transformers.ENCODEC_TINY)
    name = "layers.1.fc1.weight"
    theirs = dict(model.decoder.named_parameters())[f"model.decoder.{name}"].detach().numpy()
    assert np.array_equal(theirs, weights[name])
    assert np.array_equal(weights[name], shapes.random_weights(shape)[name])
    assert len(weights) == len(dict(shapes.musicgen_shape(shape).tensors()))
    stamps = peers_transformers.Stamps()
    peers_transformers.generate(model, known=5, steps=6, stamps=stamps)
    assert len(stamps.spent_ns()) == 5 and min(stamps.spent_ns()) > 0
    heard: list[int] = []
    decode = model.audio_encoder.decode

    def hear(codes: Any, *more: Any, **named: Any) -> Any:
        heard.append(codes.shape[-1])
        return decode(codes, *more, **named)

    model.audio_encoder.decode = hear
    done = peers_transformers.stream(model, chunk_frames=5, chunks=3, frame_s=0.01)
    assert heard[:3] == [5, 10, 15]  # all from the beginning, every time
    assert done.seconds == pytest.approx([0.05, 0.1, 0.15])
    assert all(chunk > part > 0 for chunk, part in zip(done.chunk_ns, done.decode_ns, strict=True))


def test_a_toy_run_leaves_a_whole_report() -> None:
    names = ["ours-fp32-32", "ours-fp32-8", "ours-int4-8", "torch-musicgen"]
    told = json.loads(json.dumps(peers.run(replace(peers.TINY, path_s=0.4), names, apart=False)))
    assert all(set(row) >= ASKED for row in told["rows"])
    assert {"ratios", "machine", "versions", "commit", "target", "growth"} <= set(told)
    assert told["versions"]["transformers"]
    assert told["logit_distance"]["fp32"] == 0.0
    assert (
        0.0 < told["logit_distance"]["fp32, cache int8"] < 0.03 < told["logit_distance"]["int4, cache int8"] < 0.3
    )
    assert told["target"]["precision"] == "int4, cache int8"
    assert told["target"]["met"] == (told["target"]["rtf"] < 1.0)
    sizes = {row["precision"]: row["bytes_per_step"] for row in told["rows"] if row["bytes_per_step"]}
    cache = 2 * 2 * 2 * 128 * 60  # keys and values, both branches, two layers
    assert sizes["fp32"] - sizes["fp32, cache int8"] == 3 * cache - 2 * 2 * 128 * 4  # and its scales
    assert list(told["ratios"]) == ["MusicGen-small shape, decoder step: torch eager"]
    assert told["notes"] == [] and told["memory_mb"]["ours-fp32-32"] > 10


def test_ratios_compare_equal_threads_and_a_failure_is_a_note() -> None:
    def row(backend: str, rtf: float, threads: int = 1) -> dict[str, Any]:
        return {"name": "decoder step", "model": "m", "backend": backend, "threads": threads, "rtf": rtf}

    rows = [row("onnxruntime-cpu", 0.5), row("onnxruntime-cpu", 0.4), row("onnxruntime-cpu", 0.1, 2)]
    assert peers.ratios([*rows, row("torch eager", 2.0), row("other", 9.0, 3)]) == {
        "m, decoder step: torch eager": 5.0
    }
    rows.append(row("native", 0.25))  # of one thread, beside any number of them
    assert peers.ratios([*rows, row("torch eager", 2.0), row("other", 9.0, 3)]) == {
        "m, decoder step: torch eager": 8.0,
        "m, decoder step: other": 36.0,
    }
    told = peers.run(replace(peers.TINY, compiler="no such compiler"), ["torch-compiled-our-shape"], apart=False)
    assert (told["rows"], told["target"]) == ([], {})
    assert "torch-compiled-our-shape gave no figure" in told["notes"][0]


def test_a_budget_ends_rows_and_leaves_out_what_has_no_time() -> None:
    options = peers.TINY.within(15.0)
    assert (options.minutes, options.limit_s, options.steps) == (15.0, 6.0, peers.TINY.steps)
    now = iter((0.0, 0.0, 890.0, 899.0))  # the run begins, then the time before each part
    short = replace(peers.TINY, minutes=15.0, path_s=0.4)
    names = ["our-shape", "torch-our-shape", "streamer"]
    told = peers.run(short, names, apart=False, clock=lambda: next(now))
    assert {row["backend"] for row in told["rows"]} == set(OURS if native.built() else (ONNXRUNTIME,))
    assert told["notes"] == [f"{name} was left out: the 15 minutes were over" for name in names[1:]]
