"""Decoders of random weights in the sizes that speed is asked of: graphs for timing, no music.

Beside the export; `attacca bench` and benchmarks/peers.py look it up by name. Weights are drawn tensor by tensor as
the writer asks for them, so a size whose floats would not fit into memory can be written in 4 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout
from attacca.engine.decoder import PatternDecoder
from attacca.engine.manifest import (
    MUSICGEN,
    ConditioningSection,
    DecoderSection,
    Manifest,
    PatternSection,
)
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.pattern import Pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.runtime import StepRuntime
from attacca.export.decoder import DecoderExport, build_decoder
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_checkpoint import MusicgenShape

Floats = npt.NDArray[np.float32]
HEAD_DIM = 64
NO_CONDITIONS = ConditioningLayout(groups=())
TEXT_TOKENS = 16  # of the prompt that a MusicGen step attends to
_KV_SCALE = np.float32(6.0 / 127.0)  # of random weights, whose keys and values are of unit size
_SINGLE_BYTES = 1 << 30  # of a graph with its weights in it
_GRAPH_FILE, _DATA_FILE = "decoder.onnx", "decoder.onnx.data"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a decoder; `musicgen` attends across to a prompt, others are of the kind that is trained here."""

    name: str
    layers: int
    dim: int
    hidden: int
    num_codebooks: int = 4
    codebook_size: int = 1024
    sample_rate: int = 32000
    hop_samples: int = 640
    musicgen: bool = False

    @property
    def heads(self) -> int:
        return self.dim // HEAD_DIM

    @property
    def layout(self) -> ConditioningLayout:
        """What its steps are told."""
        return NO_CONDITIONS if self.musicgen else DEFAULT_LAYOUT


def swiglu(dim: int) -> int:
    """Width of a SwiGLU layer: 8/3 dim, rounded to 64."""
    return max(64, round(dim * 8 / 3 / 64) * 64)


OSTINATO = Shape(
    name="ostinato shape",
    layers=6,
    dim=256,
    hidden=swiglu(256),
    num_codebooks=6,
    sample_rate=48000,
    hop_samples=960,
)
SHAPES = {
    "ostinato": OSTINATO,
    "300m": Shape(name="300M shape", layers=24, dim=1024, hidden=swiglu(1024)),
    "musicgen-small": Shape(
        name="MusicGen-small shape", layers=24, dim=1024, hidden=4096, codebook_size=2048, musicgen=True
    ),
    "musicgen-medium": Shape(
        name="MusicGen-medium shape", layers=48, dim=1536, hidden=6144, codebook_size=2048, musicgen=True
    ),
}


def with_codebooks(shape: Shape, num_codebooks: int) -> Shape:
    """The same with another number of codebooks, which its name tells."""
    return replace(shape, name=f"{shape.name} K={num_codebooks}", num_codebooks=num_codebooks)


class RandomWeights(Mapping[str, Floats]):
    """Tensors by name, drawn when asked for and the same each time."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> None:
        self._shapes, self._seed = dict(shapes), seed

    def __getitem__(self, name: str) -> Floats:
        shape = self._shapes[name]
        if len(shape) == 1:
            return np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
        generator = np.random.default_rng((self._seed, crc32(name.encode())))
        drawn = generator.standard_normal(shape, dtype=np.float32)
        fan_in = shape[-2] if name == "heads" else shape[-1]
        drawn *= np.float32(1.0 if "emb" in name else fan_in**-0.5)
        return drawn

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def random_weights(shape: Shape, seed: int = 0) -> RandomWeights:
    """Of a shape, under the names that the writers read."""
    return RandomWeights(dict(musicgen_shape(shape).tensors()) if shape.musicgen else _stacked_tensors(shape), seed)


def musicgen_shape(shape: Shape, text_dim: int = 768) -> MusicgenShape:
    """As the MusicGen writer reads it."""
    return MusicgenShape(
        layers=shape.layers,
        dim=shape.dim,
        heads=shape.heads,
        hidden=shape.hidden,
        num_codebooks=shape.num_codebooks,
        codebook_size=shape.codebook_size,
        audio_channels=1,
        text_dim=text_dim,
    )


def _stacked_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    books, size, dim, hidden = shape.num_codebooks, shape.codebook_size, shape.dim, shape.hidden
    tensors: dict[str, tuple[int, ...]] = {
        "tok_emb": (books, size + 1, dim),
        "level_emb": (books + 1, dim),
        "cond.weight": (dim, shape.layout.width),
        "norm.weight": (dim,),
        "heads": (books, dim, size),
    }
    for layer in range(shape.layers):
        prefix = f"layers.{layer}."
        tensors |= {
            prefix + "norm1.weight": (dim,),
            prefix + "qkv.weight": (3 * dim, dim),
            prefix + "out.weight": (dim, dim),
            prefix + "norm2.weight": (dim,),
            prefix + "ffn_in.weight": (2 * hidden, dim),
            prefix + "ffn_out.weight": (dim, hidden),
        }
    return tensors


@dataclass(frozen=True, kw_only=True)
class Written:
    """A graph on disk and what it is."""

    path: Path
    shape: Shape
    manifest: Manifest

    def load(self, *, threads: int = 1, spinning: bool = False) -> StepRuntime:
        """The loaded graph; MusicGen's steps attend to a prompt of TEXT_TOKENS tokens of nothing."""
        kind = PromptedRuntime if self.shape.musicgen else StepRuntime
        single = not (self.path.parent / _DATA_FILE).exists()
        graph = self.path.read_bytes() if single else str(self.path)
        return kind(graph, self.manifest, threads=threads, spinning=spinning)


def decoder_of(runtime: StepRuntime, pattern: Pattern) -> PatternDecoder:
    """A fresh stream of a loaded shape."""
    if not isinstance(runtime, PromptedRuntime):
        return PatternDecoder(runtime, pattern)
    outputs = runtime.shape.prompt_outputs().items()
    zeros = {name: np.zeros([size or TEXT_TOKENS for size in sizes], np.float32) for name, sizes in outputs}
    prompt = Prompt.of(zeros, np.ones(TEXT_TOKENS, np.float32))
    return MusicgenDecoder(runtime, pattern, PromptBox(prompt))


def write_shape(
    shape: Shape,
    folder: Path,
    *,
    precision: str,
    kv_bits: int = 32,
    window: int,
    weights: Mapping[str, Floats] | None = None,
    kv_scales: Mapping[str, Floats] | None = None,
) -> Written:
    """Write the step graph of a shape into an empty folder; random weights where none are given."""
    weights = weights if weights is not None else random_weights(shape)
    if kv_bits == 8 and kv_scales is None:
        names = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("key", "value")]
        kv_scales = {name: np.full(shape.dim, _KV_SCALE, np.float32) for name in names}
    scales = kv_scales if kv_bits == 8 else None
    common: dict[str, Any] = {"window_frames": window, "precision": precision, "kv_bits": kv_bits}
    if shape.musicgen:
        graph = build_step(weights, musicgen_shape(shape), MusicgenExport(**common), scales)
    else:
        graph = build_decoder(weights, DecoderExport(heads=shape.heads, **common), scales)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _GRAPH_FILE
    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) <= _SINGLE_BYTES:
        path.write_bytes(graph.SerializeToString())
    else:
        onnx.save_model(graph, path, save_as_external_data=True, location=_DATA_FILE)
    return Written(path=path, shape=shape, manifest=manifest_of(shape, precision, kv_bits, window))


def manifest_of(shape: Shape, precision: str, kv_bits: int, window: int) -> Manifest:
    """Of the graph of a shape."""
    if shape.musicgen:
        found = musicgen_manifest(musicgen_shape(shape), window=window, precision=precision, kv_bits=kv_bits)
        return msgspec.structs.replace(found, sample_rate=shape.sample_rate, hop_samples=shape.hop_samples)
    decoder = DecoderSection(
        layers=shape.layers,
        heads=shape.heads,
        head_dim=HEAD_DIM,
        dim=shape.dim,
        precision=precision,
        kv_bits=kv_bits,
    )
    return manifest_without_bundle(
        decoder,
        codes=(shape.num_codebooks, shape.codebook_size),
        window=window,
        layout=shape.layout,
        rates=(shape.sample_rate, shape.hop_samples),
    )


def musicgen_manifest(shape: MusicgenShape, *, window: int, precision: str = "fp32", kv_bits: int = 32) -> Manifest:
    """Of a MusicGen step graph."""
    decoder = DecoderSection(
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.dim // shape.heads,
        dim=shape.dim,
        precision=precision,
        kv_bits=kv_bits,
        kind=MUSICGEN,
    )
    return manifest_without_bundle(decoder, codes=(shape.num_codebooks, shape.codebook_size), window=window)


def manifest_without_bundle(
    decoder: DecoderSection,
    *,
    codes: tuple[int, int],
    window: int,
    layout: ConditioningLayout = NO_CONDITIONS,
    rates: tuple[int, int] = (32000, 640),
) -> Manifest:
    """Of a step graph that is in no bundle. Its pattern is a delay: which one runs is the decoder's.

    `codes`: codebooks and their size; `rates`: sample rate and hop.
    """
    return Manifest(
        format_version=1,
        name="random",
        version="0",
        licence="none",
        sample_rate=rates[0],
        hop_samples=rates[1],
        num_codebooks=codes[0],
        codebook_size=codes[1],
        window_frames=window,
        pattern=PatternSection(name="delay"),
        conditioning=ConditioningSection.of(layout),
        decoder=decoder,
        codec={},
        files={},
    )
