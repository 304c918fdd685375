"""Each precision's distance on random weights: `python -m benchmarks.precisions`, `attacca models score` of them.

A checkpoint in the published layout, scaled down, is made by transformers' classes and scored at every precision.
Random weights say how rounding spreads through such layers, not how a trained model sounds: who has published
weights scores those.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from attacca.bridge.scoring import ScoreOptions, score
from attacca.bridge.scoring_table import print_report

CODES = 256


@torch.no_grad()
def write_checkpoint(folder: Path, *, layers: int, dim: int, seed: int) -> Path:
    """A random checkpoint whose every part moves its logits, with a tokenizer of three words."""
    torch.manual_seed(seed)
    text = {"vocab_size": 32, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4}
    codec = {"target_bandwidths": [2.4], "sampling_rate": 8000, "audio_channels": 1, "num_filters": 4}
    codec |= {"hidden_size": 16, "codebook_size": CODES, "codebook_dim": 16, "upsampling_ratios": [10, 8]}
    codec |= {"num_lstm_layers": 1, "use_causal_conv": False, "use_conv_shortcut": False}
    decoder = {"vocab_size": CODES, "hidden_size": dim, "num_hidden_layers": layers, "num_codebooks": 3}
    decoder |= {"num_attention_heads": dim // 64, "ffn_dim": 4 * dim, "pad_token_id": CODES, "bos_token_id": CODES}
    config = MusicgenConfig(
        text_encoder=T5Config(**text),
        audio_encoder=EncodecConfig(**codec),
        decoder=MusicgenDecoderConfig(**decoder),
    )
    model = MusicgenForConditionalGeneration(config).eval()
    for name, weight in model.decoder.named_parameters():
        if weight.dim() == 2:
            weight.normal_(std=1.0 if "embed" in name else 1.3 * weight.shape[1] ** -0.5)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_(std=0.05)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "slow": 1, "jazz": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder


def main(
    layers: Annotated[int, typer.Option()] = 6,
    dim: Annotated[int, typer.Option(help="A multiple of 64.")] = 256,
    seconds: Annotated[float, typer.Option(help="Of the built-in riff.")] = 3.0,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Writes the figures.")] = None,
) -> None:
    """Score random weights at every precision."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = write_checkpoint(Path(place) / "random", layers=layers, dim=dim, seed=seed)
        options = ScoreOptions(models=(str(folder),), text="slow jazz", seconds=seconds, seed=seed)
        report = score(options, lambda share: None)
    print_report(report, as_json=False)
    if out is not None:
        out.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
