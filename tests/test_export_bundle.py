"""From checkpoints to a bundle that loads: what is written was compared with torch, and says how it compared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from attacca.engine.bundle import load_bundle, verify_bundle  # noqa: E402
from attacca.engine.conditioning import ConditioningLayout, full_layout  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.manifest import SamplingDefaults  # noqa: E402
from attacca.export import export_bundle  # noqa: E402
from attacca.export.codec import tiny_codec  # noqa: E402
from attacca.export.export_bundle import ExportError, export  # noqa: E402
from attacca.export.verify import BeatSource  # noqa: E402
from attacca.training.codec_train import State  # noqa: E402
from attacca.training.decoder_model import Decoder, DecoderConfig  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


def write_runs(
    folder: Path, codebook_size: int = 16, layout: ConditioningLayout | None = None
) -> tuple[Path, Path]:
    """A codec run and a decoder run of random weights; without a layout in the checkpoint, as old ones were."""
    net, quantizer = tiny_codec()
    (folder / "codec").mkdir()
    (folder / "decoder").mkdir()
    State(net=net, stage="done", quantizer=quantizer).save(folder / "codec" / "codec.pt")
    config = DecoderConfig(
        num_codebooks=4,
        codebook_size=codebook_size,
        dim=64,
        layers=1,
        heads=1,
        ffn_dim=64,
        cond_width=43 if layout is None else layout.width,
        pattern="stack-delay",
        p=3,
        window_frames=40,
    )
    torch.manual_seed(0)
    model = Decoder(config)
    checkpoint = {
        "config": config.as_dict(),
        "recipe": {"minutes": 1.0, "prefixes": (0, 16), "seed": 0},
        "ema": {k: v + 0.1 * torch.randn_like(v) for k, v in model.state_dict().items()},
        "updates": 7,
        "elapsed_s": 90.0,
        "history": [{"bits_per_frame": 30.5}],
    }
    if layout is not None:
        checkpoint["conditioning"] = asdict(layout)
    torch.save(checkpoint, folder / "decoder" / "decoder.pt")
    return folder / "codec", folder / "decoder"


@pytest.mark.parametrize(("precision", "kv_bits"), [("fp32", 32), ("int8", 32), ("int8", 8)])
def test_bundle_plays_and_says_how_near_it_is(tmp_path: Path, precision: str, kv_bits: int) -> None:
    codec, decoder = write_runs(tmp_path)
    out = tmp_path / "bundle"
    manifest = export(
        codec, decoder, out, precision=precision, kv_bits=kv_bits, sampling=SamplingDefaults(guidance=1.5)
    )
    assert verify_bundle(out) == []
    model = load_bundle(out)
    assert model.manifest == manifest
    assert (manifest.decoder.precision, manifest.decoder.kv_bits) == (precision, kv_bits)
    assert manifest.sampling.guidance == 1.5
    found = manifest.provenance
    assert found["heldout_bits_per_frame"] == 30.5
    assert found["decoder_minutes"] == 1.5
    assert float(found["logits_fp32_max_error"] or 0) < 1e-4
    assert float(found["codec_codes_equal"] or 0) > 0.95
    assert 0.0 <= float(found["kl_bits_per_codebook"] or 0) < 0.05
    generator = model.generator()
    generator.plan(30, BeatSource(model.conditioning), Sampling())
    assert np.isfinite(model.codec.decoder().push(generator.read(0, 30))).all()


@pytest.mark.parametrize("layout", [None, full_layout(3, ("dub", "waltz", "drone"))])
def test_the_manifest_states_the_layout_of_the_checkpoint(
    tmp_path: Path, layout: ConditioningLayout | None
) -> None:
    codec, decoder = write_runs(tmp_path, layout=layout)
    export(codec, decoder, tmp_path / "bundle", precision="fp32")
    assert load_bundle(tmp_path / "bundle").conditioning == (layout or full_layout(8))


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, decoder = write_runs(tmp_path)
    monkeypatch.setattr(export_bundle, "MAX_LOGIT_ERROR", 1e-12)
    with pytest.raises(ExportError, match="fp32 logits differ from torch by"):
        export(codec, decoder, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_codec_and_decoder_must_agree(tmp_path: Path) -> None:
    codec, decoder = write_runs(tmp_path, codebook_size=32)
    with pytest.raises(ExportError, match="codec has 4 x 16 codes, decoder 4 x 32"):
        export(codec, decoder, tmp_path / "bundle")
