"""transformers' MusicGen with random weights: `generate`, and a streamer that decodes the whole prefix every chunk.

Peers of `python -m benchmarks.peers`. The decoder's weights are those that our graphs are written from. Steps are
timed from inside `generate`, by a stopping criterion that stops nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers import (
    EncodecConfig,
    EncoderDecoderCache,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    StaticCache,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
)

from attacca.export.shapes import TEXT_TOKENS, Shape, random_weights

TOP_K, GUIDANCE = 250, 3.0
_VOCABULARY, _TEXT_DIM = 128, 64  # of the text encoder, which speaks once and is not timed


@dataclass(frozen=True, kw_only=True)
class CodecShape:
    """EnCodec's sizes, as both sides need them."""

    filters: int
    hidden: int
    ratios: tuple[int, ...]
    lstm_layers: int
    bandwidth: float  # kbit/s, which says how many codebooks there are


ENCODEC_32K = CodecShape(filters=64, hidden=128, ratios=(8, 5, 4, 4), lstm_layers=2, bandwidth=2.2)
ENCODEC_TINY = CodecShape(filters=4, hidden=16, ratios=(10, 8), lstm_layers=1, bandwidth=2.4)


def build(shape: Shape, codec: CodecShape) -> Any:
    """The model; its decoder has the shape's random weights."""
    settings = {
        "target_bandwidths": [codec.bandwidth],
        "sampling_rate": shape.sample_rate,
        "audio_channels": 1,
        "num_filters": codec.filters,
        "hidden_size": codec.hidden,
        "codebook_size": shape.codebook_size,
        "codebook_dim": codec.hidden,
        "upsampling_ratios": list(codec.ratios),
        "num_lstm_layers": codec.lstm_layers,
        "use_causal_conv": False,
        "use_conv_shortcut": False,
    }
    config = MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=_VOCABULARY, d_model=_TEXT_DIM, d_kv=16, d_ff=96, num_layers=2, num_heads=4
        ),
        audio_encoder=EncodecConfig(**settings),
        decoder=MusicgenDecoderConfig(
            vocab_size=shape.codebook_size,
            hidden_size=shape.dim,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            ffn_dim=shape.hidden,
            num_codebooks=shape.num_codebooks,
            audio_channels=1,
            pad_token_id=shape.codebook_size,
            bos_token_id=shape.codebook_size,
        ),
    )
    torch.manual_seed(0)
    model = MusicgenForConditionalGeneration(config).eval()
    _fill(model, random_weights(shape))
    settings_of = model.generation_config
    settings_of.decoder_start_token_id = settings_of.bos_token_id = settings_of.pad_token_id = shape.codebook_size
    return model


@torch.no_grad()
def _fill(model: Any, weights: Any) -> None:
    """Put our weights into the decoder, and something else than zeros into the codec's codebooks."""
    named = dict(model.decoder.named_parameters())
    for name in weights:
        key = name if name.startswith("lm_heads") else f"model.decoder.{name}"
        if key in named:  # the projection of the text is of another size here
            named.pop(key).copy_(torch.from_numpy(weights[name]))
    if named:
        raise ValueError(f"no weights for {', '.join(sorted(named))}")
    generator = torch.Generator().manual_seed(0)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.copy_(0.05 * torch.randn(layer.codebook.embed.shape, generator=generator))


class Stamps(StoppingCriteria):
    """Notes when each step ended, and lets `after` do something with the tokens so far."""

    def __init__(self, after: Callable[[torch.Tensor], None] | None = None) -> None:
        self.at_ns: list[int] = []
        self._after = after

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        if self._after is not None:
            self._after(input_ids)
        self.at_ns.append(time.perf_counter_ns())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    def spent_ns(self) -> list[int]:
        """Of each step but the first, which has the prompt's prefill in it."""
        return [after - before for before, after in pairwise(self.at_ns)]


def generate(model: Any, *, known: int, steps: int, stamps: Stamps, sampled: bool = True, **more: Any) -> Any:
    """`generate` with guidance after `known` random frames, so that a step's context is what it is for ours."""
    ids = torch.randint(2, _VOCABULARY, (1, TEXT_TOKENS), generator=torch.Generator().manual_seed(1))
    books, size = model.decoder.num_codebooks, model.config.decoder.vocab_size
    prompt: dict[str, Any] = {}
    if known:
        codes = torch.randint(0, size, (books, known), generator=torch.Generator().manual_seed(2))
        prompt["decoder_input_ids"] = codes
    return model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        guidance_scale=GUIDANCE,
        do_sample=sampled,
        top_k=TOP_K if sampled else None,
        max_new_tokens=steps,
        stopping_criteria=StoppingCriteriaList([stamps]),
        **prompt,
        **more,
    )


def static_cache(model: Any, slots: int) -> EncoderDecoderCache:
    """Of fixed size. `generate` ignores cache_implementation="static" for MusicGen: it has to be handed one."""
    config = model.config.decoder
    own = StaticCache(config=config, max_cache_len=slots)
    return EncoderDecoderCache(own, StaticCache(config=config, max_cache_len=TEXT_TOKENS))


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What a re-decoding streamer did: a chunk's time, of which decoding, and the audio there was by then."""

    chunk_ns: list[int]
    decode_ns: list[int]
    seconds: list[float]


def stream(model: Any, *, chunk_frames: int, chunks: int, frame_s: float) -> Streamed:
    """Generate, and after every chunk decode all frames from the beginning, as streamers for MusicGen do."""
    books = model.decoder.num_codebooks
    size = model.config.decoder.vocab_size
    ends_ns, decode_ns, seconds = [time.perf_counter_ns()], [], []

    def redecode(ids: torch.Tensor) -> None:
        frames = ids.shape[-1] - books
        if frames <= 0 or frames % chunk_frames:
            return
        rows = ids.reshape(-1, books, ids.shape[-1])[0]
        codes = torch.stack([rows[k, k + 1 : k + 1 + frames] for k in range(books)]).clamp(0, size - 1)
        began = time.perf_counter_ns()
        model.audio_encoder.decode(codes[None, None], [None])
        ends_ns.append(time.perf_counter_ns())
        decode_ns.append(ends_ns[-1] - began)
        seconds.append(frames * frame_s)

    generate(model, known=0, steps=chunks * chunk_frames + books - 1, stamps=Stamps(redecode))
    chunk_ns = [after - before for before, after in pairwise(ends_ns)]
    return Streamed(chunk_ns=chunk_ns, decode_ns=decode_ns, seconds=seconds)
