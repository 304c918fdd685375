"""A bundle of random weights below a megabyte: real graphs, real formats, no music. Tests run on it without torch.

`python -m attacca.export.tiny tests/data/tiny` writes the one that is committed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attacca.engine.conditioning import full_layout
from attacca.engine.manifest import (
    DECODER_ROLE,
    ConditioningSection,
    DecoderSection,
    Manifest,
    PatternSection,
    SamplingDefaults,
)
from attacca.export.bundle import write_bundle
from attacca.export.decoder import DecoderExport, save_decoder

DECODER_FILE = "decoder.onnx"
LAYERS, HEADS, DIM, HIDDEN, WINDOW_FRAMES = 2, 2, 32, 64, 48
LAYOUT = full_layout(8)  # another number of styles than models trained here have: nothing may take that for granted


def random_decoder(
    *,
    layers: int,
    dim: int,
    hidden: int,
    num_codebooks: int,
    codebook_size: int,
    conditioning_width: int,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of a decoder that nobody trained, under the names of training/decoder_model.py.

    Scaled so that attention, conditions and earlier tokens all move the logits by their own size.
    """
    generator = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> npt.NDArray[np.float32]:
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    weights = {
        "tok_emb": normal(num_codebooks, codebook_size + 1, dim, scale=num_codebooks**-0.5),
        "level_emb": normal(num_codebooks + 1, dim, scale=1.0),
        "cond.weight": normal(dim, conditioning_width, scale=0.3),
        "norm.weight": 1.0 + normal(dim, scale=0.1),
        "heads": normal(num_codebooks, dim, codebook_size, scale=2.0 * dim**-0.5),
    }
    for layer in range(layers):
        prefix = f"layers.{layer}."
        weights |= {
            prefix + "norm1.weight": 1.0 + normal(dim, scale=0.1),
            prefix + "qkv.weight": normal(3 * dim, dim, scale=1.5 * dim**-0.5),
            prefix + "out.weight": normal(dim, dim, scale=dim**-0.5),
            prefix + "norm2.weight": 1.0 + normal(dim, scale=0.1),
            prefix + "ffn_in.weight": normal(2 * hidden, dim, scale=dim**-0.5),
            prefix + "ffn_out.weight": normal(dim, hidden, scale=hidden**-0.5),
        }
    return weights


def write_tiny(folder: Path, *, pattern: str = "stack-delay", p: int = 3, seed: int = 0) -> Manifest:
    """Write the tiny bundle into `folder`; the codec's part comes from export/codec.py."""
    from attacca.export.codec import DECODER_FILE as CODEC_DECODER_FILE
    from attacca.export.codec import ENCODER_FILE as CODEC_ENCODER_FILE
    from attacca.export.codec import export_tiny_codec

    codec = export_tiny_codec(folder, seed=seed)
    sizes = {name: codec[name] for name in ("sample_rate", "hop_samples", "num_codebooks", "codebook_size")}
    weights = random_decoder(
        layers=LAYERS,
        dim=DIM,
        hidden=HIDDEN,
        num_codebooks=int(str(sizes["num_codebooks"])),
        codebook_size=int(str(sizes["codebook_size"])),
        conditioning_width=LAYOUT.width,
        seed=seed,
    )
    save_decoder(folder / DECODER_FILE, weights, DecoderExport(heads=HEADS, window_frames=WINDOW_FRAMES))
    return write_bundle(
        folder,
        {
            "name": "tiny",
            "version": "1",
            "licence": "Apache-2.0",
            "window_frames": WINDOW_FRAMES,
            "pattern": PatternSection(name=pattern, p=p),
            "conditioning": ConditioningSection.of(LAYOUT),
            "decoder": DecoderSection(layers=LAYERS, heads=HEADS, head_dim=DIM // HEADS, dim=DIM),
            "codec": codec,
            "sampling": SamplingDefaults(guidance=1.5),
            "provenance": {"weights": "random", "seed": seed, "command": "python -m attacca.export.tiny"},
            **sizes,
        },
        {DECODER_ROLE: DECODER_FILE, "codec_encoder": CODEC_ENCODER_FILE, "codec_decoder": CODEC_DECODER_FILE},
    )


def main() -> None:
    """Command line: the folder to write into."""
    parser = argparse.ArgumentParser(description="Write the tiny random-weight bundle.")
    parser.add_argument("folder", type=Path)
    write_tiny(parser.parse_args().folder)


if __name__ == "__main__":
    main()
