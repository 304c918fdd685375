"""Random MusicGen checkpoints in transformers' classes and files, scaled down, and what they generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)
from transformers.models.musicgen_melody.configuration_musicgen_melody import MusicgenMelodyDecoderConfig

WORDS = ("slow", "jazz", "trio", "loud", "drums", "techno", "piano")
CODES, TEXT_DIM, VOCABULARY = 64, 48, 96


def text_config(**changes: Any) -> T5Config:
    sizes = {"vocab_size": VOCABULARY, "d_model": TEXT_DIM, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    return T5Config(**(sizes | changes))


def codec_config() -> EncodecConfig:
    return EncodecConfig(
        target_bandwidths=[2.4],
        sampling_rate=8000,
        audio_channels=1,
        num_filters=4,
        hidden_size=16,
        codebook_size=CODES,
        codebook_dim=16,
        upsampling_ratios=[10, 8],
        num_lstm_layers=1,
        use_causal_conv=False,
        use_conv_shortcut=False,
    )


def decoder_sizes(channels: int) -> dict[str, int]:
    """Head size 64 as published, everything else small."""
    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "ffn_dim": 256}
    books = {"num_codebooks": 4 * channels, "audio_channels": channels}
    return sizes | books | {"vocab_size": CODES, "pad_token_id": CODES, "bos_token_id": CODES}


def begins_with_mask(model: Any) -> Any:
    """`generate` begins and pads with the token that no code is."""
    for name in ("decoder_start_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, name, CODES)
    return model


def make_musicgen(
    *, channels: int = 1, seed: int = 0, text: T5Config | None = None, **decoder: Any
) -> MusicgenForConditionalGeneration:
    """A model whose every part moves its logits."""
    config = MusicgenConfig(
        text_encoder=text or text_config(),
        audio_encoder=codec_config(),
        decoder=MusicgenDecoderConfig(**(decoder_sizes(channels) | decoder)),
    )
    torch.manual_seed(seed)  # of the codec's weights
    model = MusicgenForConditionalGeneration(config).eval()
    scatter(model.decoder, seed)
    scatter(model.text_encoder, seed + 1)
    scatter(model.enc_to_dec_proj, seed + 2)
    generator = torch.Generator().manual_seed(seed + 3)
    for layer in model.audio_encoder.quantizer.layers:  # zeros as transformers makes them
        layer.codebook.embed.copy_(0.05 * torch.randn(layer.codebook.embed.shape, generator=generator))
    return begins_with_mask(model)


def make_melody(*, channels: int = 1, seed: int = 0, chroma_length: int = 11) -> Any:
    """A melody model of the same sizes; chroma rows are few, so that the prefix is longer than one prefill."""
    config = MusicgenMelodyConfig(
        text_encoder=text_config(),
        audio_encoder=codec_config(),
        decoder=MusicgenMelodyDecoderConfig(**decoder_sizes(channels)),
        chroma_length=chroma_length,
    )
    torch.manual_seed(seed)
    model = MusicgenMelodyForConditionalGeneration(config).eval()
    for i, part in enumerate(
        (model.decoder, model.text_encoder, model.enc_to_dec_proj, model.audio_enc_to_dec_proj)
    ):
        scatter(part, seed + i)
    return begins_with_mask(model)


@torch.no_grad()
def scatter(module: torch.nn.Module, seed: int) -> None:
    """Weights large enough that attention is not flat and no two logits are near each other."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.copy_((1.0 if "norm" in name and "weight" in name else 0.0) + 0.1 * noise)
        else:
            parameter.copy_(
                noise * (1.0 if "embed" in name or "shared" in name else 1.3 * parameter.shape[-1] ** -0.5)
            )


def save(model: MusicgenForConditionalGeneration, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


@torch.no_grad()
def generated_codes(model: MusicgenForConditionalGeneration, frames: int, **inputs: Any) -> list[np.ndarray]:
    """Codes [frames, K] of each of the batch as `.generate` finds them, greedy, before its codec decodes them."""
    found: list[torch.Tensor] = []

    def decode(codes: torch.Tensor, **_: Any) -> Any:
        found.append(codes[0])
        return type("Decoded", (), {"audio_values": torch.zeros(codes.shape[1], 1, 1)})()

    kept, model.audio_encoder.decode = model.audio_encoder.decode, decode  # type: ignore[method-assign]
    try:
        known = inputs["decoder_input_ids"].shape[-1] if "decoder_input_ids" in inputs else 0
        channels = model.config.decoder.audio_channels
        steps = frames - known + model.decoder.num_codebooks // channels - 1
        model.generate(**inputs, do_sample=False, max_new_tokens=steps)
    finally:
        model.audio_encoder.decode = kept  # type: ignore[method-assign]
    if len(found) == 1:
        return [codes.T.numpy().astype(np.uint16) for codes in found[0]]
    left, right = (codes.numpy() for codes in found)
    both = np.stack([left, right], axis=2).reshape(left.shape[0], -1, left.shape[2])  # left and right alternate
    return [codes.T.astype(np.uint16) for codes in both]


def audiocraft_state(model: Any) -> dict[str, torch.Tensor]:
    """The decoder's tensors as audiocraft names and fuses them; a melody model's chroma as it lies in its file."""
    state = {name.removeprefix("model.decoder."): value for name, value in model.decoder.state_dict().items()}
    found = {f"emb.{k}.weight": state[f"embed_tokens.{k}.weight"] for k in range(model.decoder.num_codebooks)}
    found |= {f"linears.{k}.weight": state[f"lm_heads.{k}.weight"] for k in range(model.decoder.num_codebooks)}
    norms = {"norm1": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm", "norm2": "final_layer_norm"}
    attentions = {"self_attn": "self_attn", "cross_attention": "encoder_attn"}
    melody = not any("encoder_attn" in name for name in state)
    if melody:  # conditions stand before the tokens: nothing is attended across
        del norms["norm_cross"], attentions["cross_attention"]
    for layer in range(model.config.decoder.num_hidden_layers):
        ours, theirs = f"layers.{layer}.", f"transformer.layers.{layer}."
        for new, old in attentions.items():
            parts = [state[f"{ours}{old}.{part}_proj.weight"] for part in "qkv"]
            found[f"{theirs}{new}.in_proj_weight"] = torch.cat(parts)
            found[f"{theirs}{new}.out_proj.weight"] = state[f"{ours}{old}.out_proj.weight"]
        found |= {f"{theirs}linear{i}.weight": state[f"{ours}fc{i}.weight"] for i in (1, 2)}
        for new, old in norms.items():
            found |= {f"{theirs}{new}.{part}": state[f"{ours}{old}.{part}"] for part in ("weight", "bias")}
    conditioners = "condition_provider.conditioners."
    for part in ("weight", "bias"):
        found[f"out_norm.{part}"] = state[f"layer_norm.{part}"]
        found[f"{conditioners}description.output_proj.{part}"] = getattr(model.enc_to_dec_proj, part).detach()
        if melody:
            projection = getattr(model.audio_enc_to_dec_proj, part).detach()
            found[f"{conditioners}self_wav.output_proj.{part}"] = projection
    if melody:
        found[f"{conditioners}self_wav.chroma.fbanks"] = torch.zeros(12, 8193)
        found[f"{conditioners}self_wav.chroma.spec.window"] = torch.zeros(16384)
    return found


def save_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer.json that knows a few words and ends every text as T5's does."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: 3 + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
