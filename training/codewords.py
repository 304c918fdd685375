"""A decoder whose tokens share what their codewords have in common; between the codec's quantiser and the trainer.

A code of a residual quantiser is a vector, and near vectors sound alike. So a token's embedding is a learned row of
its own plus a learned linear map of its codeword, and its logit likewise: what is learned of one code is learned
of its neighbours, where a plain table must meet each of K x 1024 codes often enough. Only while training: `fold`
leaves the plain tables, so graph, bundle and runtime know nothing of it. What it gains: docs/LOG.md, "Decoder v1".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacca.training.codec_train import State
from attacca.training.decoder_model import Decoder, DecoderConfig

# As the plain tables start, so that either half begins at the scale that the other would have alone.
_TOKEN_SCALE, _HEAD_SCALE = 0.1, 0.02
_ADDED = ("codewords", "tok_map", "head_map")


def codewords_of(codec_run: Path) -> Tensor:
    """Codewords float [K, V, D] of a codec run, each codebook centred and at a root mean square of 1.

    Raises OSError, and ValueError where the run has no quantiser yet.
    """
    quantizer = State.load(codec_run / "codec.pt").quantizer
    if quantizer is None:
        raise ValueError(f"the codec in {codec_run} has no quantiser yet: run its training up to stage `fit` first")
    centred = quantizer.codebooks.float() - quantizer.codebooks.float().mean(1, keepdim=True)
    return centred / centred.square().mean((1, 2), keepdim=True).sqrt()


class SharingDecoder(Decoder):
    """The decoder with maps from codewords beside its tables."""

    codewords: Tensor

    def __init__(self, config: DecoderConfig, codewords: Tensor) -> None:
        """codewords float [K, V, D]. ValueError where they are not the config's codes."""
        super().__init__(config)
        books, size, width = codewords.shape
        if (books, size) != (config.num_codebooks, config.codebook_size):
            raise ValueError(
                f"codewords are of {books} x {size} codes, the decoder has {config.num_codebooks} x "
                f"{config.codebook_size}"
            )
        self.register_buffer("codewords", codewords.clone())
        self.tok_map = nn.Parameter(torch.randn(books, width, config.dim) * _TOKEN_SCALE * width**-0.5)
        self.head_map = nn.Parameter(torch.randn(books, config.dim, width) * _HEAD_SCALE * width**-0.5)

    def token_table(self) -> Tensor:
        """[K, V + 1, d]: what a plain decoder has as `tok_emb`; the mask has no codeword."""
        return self.tok_emb + F.pad(self.codewords @ self.tok_map, (0, 0, 0, 1))

    def head(self, codebook: int) -> Tensor:
        """[d, V]: what a plain decoder has as `heads[codebook]`."""
        return self.heads[codebook] + self.head_map[codebook] @ self.codewords[codebook].T


def fold(config: DecoderConfig, state: dict[str, Tensor]) -> Decoder:
    """A plain decoder from a plain or a sharing one's state: the same function of its inputs."""
    plain = Decoder(config)
    rest = {name: weight for name, weight in state.items() if name not in _ADDED}
    if "codewords" in state:
        codewords = state["codewords"]
        rest["tok_emb"] = rest["tok_emb"] + F.pad(codewords @ state["tok_map"], (0, 0, 0, 1))
        rest["heads"] = rest["heads"] + state["head_map"] @ codewords.transpose(1, 2)
    plain.load_state_dict(rest)
    return plain
