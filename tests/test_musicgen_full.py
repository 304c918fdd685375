"""MusicGen at the size of the published small checkpoint, random weights: logits and tokens of transformers."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

from musicgen_fixtures import generated_codes, make_musicgen, save, text_config  # noqa: E402
from test_musicgen import NoConditions  # noqa: E402

from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder, PromptBox  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.engine.prompted import Prompt, PromptedRuntime  # noqa: E402
from attacca.export.musicgen import MusicgenExport, build_prompt  # noqa: E402
from attacca.export.musicgen_bundle import ConvertOptions, write_step  # noqa: E402
from attacca.export.musicgen_checkpoint import read_musicgen  # noqa: E402
from attacca.export.shapes import musicgen_manifest  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.slow]
SMALL = {
    "vocab_size": 2048,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "ffn_dim": 4096,
}
CODES, FRAMES, WINDOW = 2048, 8, 64


def written(folder: Path) -> dict[str, Any]:
    """Save a checkpoint; what transformers makes of one prompt. The model is gone afterwards: it is large."""
    tokens = {"pad_token_id": CODES, "bos_token_id": CODES}
    model = make_musicgen(text=text_config(d_model=768), **SMALL, **tokens)
    save(model, folder, max_shard_size="500MB")
    ids = torch.arange(3, 11)[None]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        states = model.text_encoder(ids).last_hidden_state[0].numpy()
        logits = []
        first = torch.full((4, 1), CODES)
        for given in (mask, torch.zeros_like(mask)):
            found = model(input_ids=ids, attention_mask=given, decoder_input_ids=first).logits
            logits.append(found[:, 0].numpy())
        (codes,) = generated_codes(model, FRAMES, input_ids=ids, attention_mask=mask, guidance_scale=3.0)
    return {"states": states, "codes": codes, "first": logits[1] + 3.0 * (logits[0] - logits[1])}


def test_the_published_small_size(tmp_path: Path) -> None:
    expected = written(tmp_path / "checkpoint")
    gc.collect()
    checkpoint = read_musicgen(tmp_path / "checkpoint")
    shape = checkpoint.shape
    assert len(checkpoint.decoder) == 4 * 2 + 24 * 16 + 2 + 2
    write_step(tmp_path, checkpoint.decoder, shape, ConvertOptions(window_frames=WINDOW), None)
    assert (tmp_path / "decoder.onnx.data").stat().st_size > 1.4e9
    gc.collect()
    prompts = build_prompt(checkpoint.decoder, shape, MusicgenExport(window_frames=WINDOW)).SerializeToString()
    session = onnxruntime.InferenceSession(prompts)
    mask = np.ones(len(expected["states"]), np.float32)
    values = session.run(None, {"states": expected["states"], "mask": mask})
    names = [value.name for value in session.get_outputs()]
    runtime = PromptedRuntime(str(tmp_path / "decoder.onnx"), musicgen_manifest(shape, window=WINDOW))
    prompt = Prompt.of(dict(zip(names, values, strict=True)), mask)
    lane = runtime.lane()
    lane.prompt, lane.guidance[0] = prompt, 3.0
    first = np.full((1, 4), CODES)
    lane.run(first, np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 0), np.float32), slot=0)
    assert np.std(expected["first"]) > 1.0
    assert np.abs(lane.logits - expected["first"]).max() < 1e-4 * max(1.0, float(np.std(expected["first"])))
    decoder = MusicgenDecoder(runtime, make_pattern("delay", 4), PromptBox(prompt))
    decoder.end_at(FRAMES)
    decoder.plan(FRAMES, NoConditions(), Sampling(temperature=0.0, guidance=3.0))
    assert np.array_equal(decoder.read(0, FRAMES), expected["codes"])
